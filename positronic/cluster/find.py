"""Which sweep is meant: a folder, or the newest one."""

from __future__ import annotations

from pathlib import Path

from positronic.cluster.record import SWEEP_FILE
from positronic.errors import PositronicError, listing

LAST = "last"
MULTIRUN = Path("multirun")  # where sweeps begin
EXPECTED = "multirun/<date>/<time>_<name>"


def find_sweep(text: str, multirun: Path = MULTIRUN) -> Path:
    """The folder of the sweep ``text``, or of the newest in ``multirun`` for ``last``.

    Raises PositronicError for a folder that is none, naming the sweep that it belongs to or those that are below it.
    """
    if text == LAST:
        sweeps = _sweeps_in(multirun)
        if not sweeps:
            raise PositronicError(f"There is no sweep in {multirun}/ yet. Type sweep=<folder>, as in {EXPECTED}.")
        return sweeps[-1]
    folder = Path(text)
    if (folder / SWEEP_FILE).is_file():
        return folder
    raise PositronicError(f"sweep={text}: {_what_it_is(folder)}")


def _what_it_is(folder: Path) -> str:
    around = next((above for above in folder.parents if (above / SWEEP_FILE).is_file()), None)
    if around is not None:
        return f"lies inside of a sweep. Type sweep={around}."
    if not folder.exists():
        return f"there is no such folder. Expected one like {EXPECTED}; {_known()}"
    below = _sweeps_in(folder)
    if below:
        return f"is no sweep, but has some below. Type one of them: {listing(map(str, below))}."
    return f"holds no sweep: there is no {SWEEP_FILE}. Expected a folder like {EXPECTED}; {_known()}"


def _known() -> str:
    sweeps = _sweeps_in(MULTIRUN)
    return f"the newest is {sweeps[-1]}." if sweeps else f"there is none in {MULTIRUN}/ yet."


def _sweeps_in(folder: Path) -> list[Path]:
    """The oldest first, as their names say it."""
    found = {file.parent for pattern in ("*", "*/*") for file in folder.glob(f"{pattern}/{SWEEP_FILE}")}
    return sorted(found, key=lambda sweep: sweep.relative_to(folder).parts)
