"""The checkpoints that a server offers: those of an experiment by their ids, or those of several experiments in one
folder as ``<experiment>/<id>``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from positronic.errors import MAX_NAME, PositronicError, clipped, did_you_mean, listing
from positronic.storage.place import Place
from positronic.training.checkpoints import Checkpoint, find_checkpoint, list_checkpoints, place_of


def offered(folder: str | Path | Place) -> list[Checkpoint]:
    """Every whole checkpoint in an experiment's folder, smallest step first, or in a folder of experiments, by name."""
    place = place_of(folder)
    own = list_checkpoints(place)
    return own or [_named(name, each) for name in _experiments(place) for each in list_checkpoints(place / name)]


def find_offered(folder: str | Path | Place, wanted: str | int | None = None) -> Checkpoint:
    """The checkpoint with this id; its ``id`` is that of ``offered``. None is the last one of an experiment, and so is
    ``<experiment>`` alone in a folder of several.

    Raises PositronicError, listing what there is, when there is none, and for None in a folder of experiments.
    """
    place = place_of(folder)
    if list_checkpoints(place):
        return find_checkpoint(place, wanted)
    names = list(_experiments(place))
    if not names:
        return find_checkpoint(place, wanted)  # which says what is there instead
    text = "" if wanted is None else str(wanted).strip()
    name = next((each for each in names if text == each or text.startswith(f"{each}/")), None)
    if name is None:
        asked = f"no experiment '{clipped(text, MAX_NAME)}'" if text else "several experiments"
        raise PositronicError(
            f"{place} holds {asked}: type checkpoint=<experiment> for its latest, or <experiment>/<id>. There are: "
            f"{listing(names)}.{did_you_mean(text.partition('/')[0], names)}"
        )
    return _named(name, find_checkpoint(place / name, text.removeprefix(name).strip("/") or None))


def _experiments(place: Place) -> Iterator[str]:
    if place.local is not None and not place.local.is_dir():
        return
    yield from (name for name in sorted(place.entries()) if list_checkpoints(place / name))


def _named(experiment: str, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, id=f"{experiment}/{checkpoint.id}")
