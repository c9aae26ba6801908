"""The one sign of each pose signal: found over all episodes of a bake before the first is encoded.

Only the files of poses are read, those of videos are not opened; the episodes of an object store are asked for their
vectors alone. Sums are taken in the order of the episodes, so the number of threads does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from positronic.codecs.build import Recipe
from positronic.codecs.parts import Part
from positronic.errors import PositronicError
from positronic.raw.dataset import Dataset
from positronic.raw.episode import Episode
from positronic.utils.pool import worker_count

Moments = dict[str, NDArray[np.float64]]
"""signal -> ``Part.moments`` of its samples"""


def with_reference_rotations(recipe: Recipe, dataset: Dataset, num_workers: int) -> Recipe:
    """The recipe with the reference rotation of each of its pose signals, as ``dataset`` has them.

    What cannot be read is left to the bake, which names it. Without a usable sample a signal gets no reference.
    """
    parts = {f.signal: f.part for f in (*recipe.codec.state, *recipe.codec.action) if f.part.has_two_numbers}
    if not parts:
        return recipe
    total: Moments = {}
    with ThreadPoolExecutor(worker_count(num_workers, len(dataset))) as pool:
        for found in pool.map(lambda number: _moments(dataset[number], parts), range(len(dataset))):
            for name, moments in found.items():
                total[name] = total[name] + moments if name in total else moments
    references = {name: parts[name].reference_rotation_of(moments) for name, moments in sorted(total.items())}
    return recipe.with_reference_rotations({name: value for name, value in references.items() if value})


def _moments(episode: Episode, parts: Mapping[str, Part]) -> Moments:
    found: Moments = {}
    vectors = episode.without_cameras()
    for name, part in parts.items():
        try:
            found[name] = part.moments(np.asarray(vectors[name].values, np.float64))
        except (PositronicError, AttributeError, ValueError, TypeError):  # the bake says what is wrong with it
            continue
    return found
