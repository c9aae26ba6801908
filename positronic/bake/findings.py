"""What looks wrong with the numbers of a recording, said at the end of the bake that read them anyway.

By the limits that the server holds live observations against. Encoded columns do not show all of it: a quaternion has
unit length there whatever was recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic.bake.features import element_names
from positronic.bake.statistics import STD_FLOOR
from positronic.codecs.build import Recipe
from positronic.codecs.codec import Codec
from positronic.codecs.features import VectorFeature
from positronic.codecs.limits import Limit
from positronic.codecs.modality import Column

Floats = NDArray[np.floating]
Samples = Mapping[str, Floats]

CHANNELS = ("red", "green", "blue")
ALMOST_ALL = 0.99  # of the frames: a command runs ahead of the arm now and then


class Breach(NamedTuple):
    """What one episode has beyond a limit: how many ``frames``, the ``first``, the ``worst`` of all measured numbers.

    ``from_share``: the share of all frames from which on it is worth a word.
    """

    signal: str
    says: str
    frames: int
    first: int
    worst: float
    excess: float
    from_share: float = 0.0


class Findings:
    """The breaches of all episodes, put together."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[Breach, str]] = {}

    def add(self, episode: int, breaches: Iterable[Breach]) -> None:
        """Count those of the dataset's episode number ``episode``."""
        for each in breaches:
            key = each.signal, each.says
            before, where = self._found.get(key, (each._replace(frames=0), f"episode {episode}, frame {each.first}"))
            worst = max(before, each, key=lambda breach: breach.excess)
            self._found[key] = worst._replace(frames=before.frames + each.frames), where

    def lines(self, total: int) -> list[str]:
        """In one sentence each, of ``total`` frames."""
        return [
            f"{each.signal}: {each.says.format(each.worst)} (in {each.frames} of {total} frames, first in {where})"
            for each, where in self._found.values()
            if each.frames >= each.from_share * total
        ]


def breaches(codec: Codec, samples: Samples) -> list[Breach]:
    """What in one episode's raw samples, (T, d) or (T,) by signal, is beyond the limits of the codec's parts."""
    features = {feature.signal: feature for feature in (*codec.state, *codec.action)}
    found = [
        _breach(name, limit, feature.rows(samples[name]))
        for name, feature in features.items()
        for limit in feature.part.raw_limits
    ]
    return [each for each in [*found, *_disagreements(features, samples)] if each is not None]


def opposed_signs(recipe: Recipe) -> list[str]:
    """Poses that are commanded with the other sign than they are measured with, a sentence for each.

    Each signal has one sign, and keeps the one that it was recorded with: these two are not made equal.
    """
    references = recipe.reference_rotations
    lines = []
    for feature in recipe.codec.action:
        measured = feature.part.measured
        pair = [references[name] for name in (feature.signal, measured) if name in references]
        if feature.signal != measured and len(pair) == 2 and np.dot(*pair) < 0:
            lines.append(
                f"{feature.signal}: its rotations have the other sign than those of {measured}; a model that subtracts"
                " one from the other (openpi's relative actions) sees a large step where there is none"
            )
    return lines


def near_constant(columns: Sequence[Column], stats: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Dimensions below the floor that training puts under a standard deviation, a sentence for each column."""
    lines = []
    for column in columns:
        names = CHANNELS if column.is_image else [n for source in column.sources for n in element_names(source)]
        deviations = np.asarray(stats[column.name]["std"], np.float64).reshape(-1)
        still = {name: std for name, std in zip(names, deviations.tolist(), strict=True) if std < STD_FLOOR}
        if still:
            lines.append(f"{column.name}: {', '.join(still)}: {near_constant_text(still.values(), column.is_image)}")
    return lines


def near_constant_text(deviations: Iterable[float], is_image: bool) -> str:
    """What is said of dimensions with these standard deviations."""
    reason = "pictures without contrast" if is_image else "training takes that floor, so noise stays small in it"
    return f"near constant: std {max(deviations):.2g} at most, below {STD_FLOOR} ({reason})"


def _breach(name: str, limit: Limit, rows: Floats, from_share: float = 0.0) -> Breach | None:
    measured, beyond = limit.excess(rows)
    frames = np.flatnonzero(beyond.any(axis=1))
    if not len(frames):
        return None
    worst = int(beyond.argmax())
    return Breach(
        name,
        limit.says,
        len(frames),
        int(frames[0]),
        float(measured.flat[worst]),
        float(beyond.flat[worst]),
        from_share,
    )


def _disagreements(features: Mapping[str, VectorFeature], samples: Samples) -> list[Breach | None]:
    """A command and what was measured say the same quantity: they cannot be far apart in (almost) every frame."""
    found = []
    for name, feature in features.items():
        measured = feature.part.measured
        if name != feature.part.commanded or measured not in features or not feature.part.agreement:
            continue
        for limit in feature.part.agreement:
            both = np.hstack([features[measured].rows(samples[measured]), feature.rows(samples[name])])
            found.append(_breach(f"{name} beside {measured}", limit, both, ALMOST_ALL))
    return found
