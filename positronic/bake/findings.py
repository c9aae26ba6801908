"""What looks wrong with numbers, by the limits that the server holds live observations against.

A bake says it of the raw samples that it reads anyway: encoded columns do not show all of it, as a quaternion has unit
length there whatever was recorded. A report on a baked dataset says it of its columns (``inspection``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic.bake.statistics import STD_FLOOR
from positronic.codecs.build import Recipe
from positronic.codecs.codec import Codec
from positronic.codecs.features import VectorFeature
from positronic.codecs.limits import Limit
from positronic.codecs.modality import Column

Floats = NDArray[np.floating]
Samples = Mapping[str, Floats]

ALMOST_ALL = 0.99  # of the frames; now and then a command runs ahead of the arm


class Finding(NamedTuple):
    """Something looks wrong with the dimensions ``names`` of a column."""

    column: str
    names: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.column}: {', '.join(self.names)}: {self.text}"


class Breach(NamedTuple):
    """What one episode has beyond a limit: how many ``frames``, the ``first``, the ``worst`` of all measured numbers.

    ``from_share``: the share of all frames from which on it is worth a word. ``dims``: which numbers of a row it is
    about.
    """

    name: str
    says: str
    frames: int
    first: int
    worst: float
    excess: float
    from_share: float = 0.0
    dims: frozenset[int] = frozenset()


class Breaches:
    """The breaches of all episodes, put together."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[Breach, str]] = {}

    def add(self, episode: int, breaches: Iterable[Breach]) -> None:
        """Count the breaches of the dataset's episode number ``episode``."""
        for each in breaches:
            key = each.name, each.says
            before, where = self._found.get(key, (each._replace(frames=0), f"episode {episode}, frame {each.first}"))
            worst = max(before, each, key=lambda breach: breach.excess)
            both = {"frames": before.frames + each.frames, "dims": before.dims | each.dims}
            self._found[key] = worst._replace(**both), where

    def texts(self, total: int) -> Iterator[tuple[Breach, str]]:
        """Each with what is said of it, of ``total`` frames."""
        for each, where in self._found.values():
            if each.frames >= each.from_share * total:
                what = each.says.format(each.worst)
                yield each, f"{what} (in {each.frames} of {total} frames, first in {where})"

    def lines(self, total: int) -> list[str]:
        """One sentence for each finding. ``total``: all frames."""
        return [f"{each.name}: {text}" for each, text in self.texts(total)]


def breaches(codec: Codec, samples: Samples) -> list[Breach]:
    """Which raw samples of one episode, (T, d) or (T,) by signal, exceed the limits of the codec's parts."""
    features = {feature.signal: feature for feature in (*codec.state, *codec.action)}
    found = [
        breach(name, limit, feature.rows(samples[name]))
        for name, feature in features.items()
        for limit in feature.part.raw_limits
    ]
    return [each for each in [*found, *_disagreements(features, samples)] if each is not None]


def opposed_signs(recipe: Recipe) -> list[str]:
    """Poses whose commands have the other sign than their measurements, one sentence for each.

    Each signal keeps the sign that it was recorded with; the two are not made equal.
    """
    references = recipe.reference_rotations
    lines = []
    for feature in recipe.codec.action:
        measured = feature.measured
        pair = [references[name] for name in (feature.signal, measured) if name in references]
        if feature.signal != measured and len(pair) == 2 and np.dot(*pair) < 0:
            lines.append(
                f"{feature.signal}: its rotations have the other sign than those of {measured}; a model that subtracts"
                " one from the other (openpi's relative actions) sees a large step where there is none"
            )
    return lines


def near_constant(columns: Sequence[Column], deviations: Mapping[str, Mapping[str, float]]) -> list[Finding]:
    """Dimensions below the floor that training puts under a standard deviation, a finding for each column.

    ``deviations``: column -> dimension -> its standard deviation.
    """
    found = []
    for column in columns:
        still = {name: std for name, std in deviations[column.name].items() if std < STD_FLOOR}
        if still:
            why = "training takes that floor, so noise stays small in it"
            why = "pictures without contrast" if column.is_image else why
            text = f"near constant: std {max(still.values()):.2g} at most, below {STD_FLOOR} ({why})"
            found.append(Finding(column.name, tuple(still), text))
    return found


def breach(name: str, limit: Limit, rows: Floats, from_share: float = 0.0) -> Breach | None:
    """What in ``rows`` (T, D) of one episode is beyond ``limit``; None: nothing."""
    measured, beyond = limit.excess(rows)
    frames = np.flatnonzero(beyond.any(axis=1))
    if not len(frames):
        return None
    worst = int(beyond.argmax())
    dims = np.arange(rows.shape[1])[limit.dims]  # a length is about all the numbers that it is measured from
    failing = dims[np.broadcast_to(beyond.any(axis=0), len(dims))]
    return Breach(
        name,
        limit.says,
        frames=len(frames),
        first=int(frames[0]),
        worst=float(measured.flat[worst]),
        excess=float(beyond.flat[worst]),
        from_share=from_share,
        dims=frozenset(failing.tolist()),
    )


def _disagreements(features: Mapping[str, VectorFeature], samples: Samples) -> list[Breach | None]:
    """A command and what was measured mean the same quantity, so they cannot be far apart in (almost) every frame."""
    found = []
    for name, feature in features.items():
        measured = feature.measured
        if name != feature.commanded or measured not in features or not feature.part.agreement:
            continue
        for limit in feature.part.agreement:
            both = np.hstack([features[measured].rows(samples[measured]), feature.rows(samples[name])])
            found.append(breach(f"{name} beside {measured}", limit, both, ALMOST_ALL))
    return found
