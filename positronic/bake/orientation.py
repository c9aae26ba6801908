"""The one sign of each pose signal: found over all episodes of a bake before the first is encoded.

q and -q are one rotation. Live, an observation stands alone, so nothing but a reference can decide its sign; episodes
are encoded by the same function. The reference is the principal direction of all rotations, signed as most samples are.

A rotation by more than half a turn from it would be turned in the middle of a movement. Then another reference is
looked for, one that leaves every movement in one piece. There is none when the arm turns around by more than a full
turn: a recording without changes of sign then stays as it is, without a reference, and one with them takes the
principal direction.

Only the files of poses are read, those of videos are not opened; the episodes of an object store are asked for their
vectors alone. Sums are taken in the order of the episodes, so the number of threads does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic import geometry
from positronic.codecs.build import Recipe
from positronic.codecs.parts import Part
from positronic.errors import PositronicError
from positronic.raw.dataset import Dataset
from positronic.raw.episode import Episode
from positronic.utils.pool import worker_count

Floats = NDArray[np.float64]

GRAINS = 64  # to 1, of a quaternion's elements: samples that are nearer count as one
MARGIN = 2 / GRAINS  # what holds for rounded samples with so much to spare holds for all
MAX_ROUNDS = 2000
DECIDED = 0.5  # three of four, less one of four


class Movement(NamedTuple):
    """The rotations of one signal in one episode.

    ``second``: the sum of q q^T, (4, 4). ``recorded``: the sum of q as recorded, (4,). ``continuous``: the same with
    the signs that make one movement without jumps, the first sample's as recorded. ``points``: rounded samples of
    that, four bytes each, uint32 (N,). ``flips``: how often neighbours have opposite signs.
    """

    second: Floats
    recorded: Floats
    continuous: Floats
    points: NDArray[np.uint32]
    flips: int


def with_reference_rotations(recipe: Recipe, dataset: Dataset, num_workers: int) -> Recipe:
    """The recipe with the reference rotation of each of its pose signals in ``dataset``.

    A file that cannot be read is skipped here; the bake names it. A signal without a usable sample gets no reference.
    """
    return with_references_of(recipe, movements_of(recipe, dataset, num_workers))


def movements_of(recipe: Recipe, dataset: Dataset, num_workers: int) -> Iterator[dict[str, Movement]]:
    """The movements of each episode in order, by signal. Files that cannot be read are skipped."""
    parts = two_numbered(recipe)
    if not parts:
        yield from ({} for _ in range(len(dataset)))
        return
    with ThreadPoolExecutor(worker_count(num_workers, len(dataset))) as pool:
        yield from pool.map(lambda number: _movements(dataset[number], parts), range(len(dataset)))


def two_numbered(recipe: Recipe) -> dict[str, Part]:
    """Raw signal -> part, of those whose states can be written in two ways."""
    return {f.signal: f.part for f in (*recipe.codec.state, *recipe.codec.action) if f.part.has_two_numbers}


def with_references_of(recipe: Recipe, episodes: Iterable[Mapping[str, Movement]]) -> Recipe:
    """The same, from the movements of each episode by signal."""
    parts = two_numbered(recipe)
    if not parts:
        return recipe
    movements: dict[str, list[Movement]] = {name: [] for name in sorted(parts)}
    for found in episodes:
        for name, movement in found.items():
            movements[name].append(movement)
    references = {name: reference_rotation(parts[name], found) for name, found in movements.items()}
    _side_by_side(references, movements, parts)
    return recipe.with_reference_rotations({name: value for name, value in references.items() if value})


def _side_by_side(
    references: dict[str, tuple[float, ...] | None], movements: Mapping[str, list[Movement]], parts: Mapping[str, Part]
) -> None:
    """Where most samples are of no sign, a command takes that of what is measured, or the other way round: a model that
    subtracts one from the other then sees a small step."""
    for name, part in parts.items():
        beside = part.arm.key(part.measured or "")
        command, measured = references.get(name), references.get(beside)
        if name == beside or not command or not measured or np.dot(command, measured) >= 0:
            continue
        for each in (name, beside):
            if len(references[each]) == 4 and _is_undecided(movements[each], references[each]):
                references[each] = tuple(0.0 - value for value in references[each])
                break


def _is_undecided(movements: Sequence[Movement], reference: Sequence[float]) -> bool:
    """Whether fewer than three of four quaternions have one sign."""
    on_one_side = sum(abs(each.continuous @ reference) for each in movements)
    return abs(sum(each.recorded @ reference for each in movements)) < DECIDED * on_one_side


def reference_rotation(part: Part, movements: Sequence[Movement]) -> tuple[float, ...] | None:
    """The reference of a signal, None when it has no rotations or stays as recorded (see above)."""
    if not movements:
        return None
    direction = np.linalg.eigh(sum(each.second for each in movements))[1][:, -1]
    direction = geometry.quat_toward(direction, sum(each.recorded for each in movements).tolist())
    principal, turned = part.reference_of(direction), [each.continuous @ direction < 0 for each in movements]
    sides = part.sides(_points(movements, turned))
    if (sides @ np.append(principal, 1.0)).min() > MARGIN:
        return principal
    found = _on_one_side(sides, principal)
    if found is not None:
        return found
    return principal if any(turned) or any(each.flips for each in movements) else None


def _points(movements: Sequence[Movement], turned: Sequence[bool]) -> Floats:
    """Rotations of all, each movement with the sign that puts it on the side of the others: unit length, (N, 4)."""
    sides = {sign: [m.points for m, t in zip(movements, turned, strict=True) if t == (sign < 0)] for sign in (1, -1)}
    found = [sign * _unpacked(np.unique(np.concatenate(each))) for sign, each in sides.items() if each]
    return geometry.quat_normalise(np.concatenate(found))


def _packed(quats: Floats) -> NDArray[np.uint32]:
    elements = (quats * GRAINS).round().astype(np.int64) + GRAINS  # 0 to 128
    return np.unique(elements @ 256 ** np.arange(4)).astype(np.uint32)


def _unpacked(points: NDArray[np.uint32]) -> Floats:
    return (points[:, None] // 256 ** np.arange(4) % 256 - float(GRAINS)) / GRAINS


def _on_one_side(sides: Floats, start: Sequence[float]) -> tuple[float, ...] | None:
    """A reference r with ``sides @ [*r, 1] > 0`` for all, by Rosenblatt's perceptron; None when none is found."""
    weights = np.append(start, 1.0)
    sides = np.vstack([sides, np.append(np.zeros_like(start), 1.0)])  # the last weight stays positive
    for _ in range(MAX_ROUNDS):
        weights = weights / np.linalg.norm(weights)
        distances = sides @ weights
        worst = int(distances.argmin())
        if distances[worst] > MARGIN / 2:
            return tuple((weights[:-1] / weights[-1]).round(6).tolist())
        weights = weights + 0.1 * sides[worst]
    return None


def _movements(episode: Episode, parts: Mapping[str, Part]) -> dict[str, Movement]:
    found: dict[str, Movement] = {}
    vectors = episode.without_cameras()
    for name, part in parts.items():
        try:
            quats = part.signed_quats(np.asarray(vectors[name].values, np.float64))
        except (PositronicError, AttributeError, ValueError, TypeError):  # the bake says what is wrong with it
            continue
        if len(quats):
            found[name] = movement_of(quats)
    return found


def movement_of(quats: Floats) -> Movement:
    """Of unit quaternions (N, 4) in order of time, N > 0."""
    is_flip = (quats[1:] * quats[:-1]).sum(axis=1) < 0
    continuous = quats * np.cumprod(np.append(1.0, np.where(is_flip, -1.0, 1.0)))[:, None]
    second = np.einsum("ti,tj->ij", quats, quats)
    return Movement(second, quats.sum(axis=0), continuous.sum(axis=0), _packed(continuous), int(is_flip.sum()))
