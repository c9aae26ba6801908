"""Temporal ensembling: the policy is asked at every control step, and what its chunks say of one moment is averaged.

T. Z. Zhao et al., "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware" (ACT), RSS 2023, section IV-C.
Pure functions: no robot, no waiting.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from positronic.commands import ActionStep, ArmAction, CartesianPosition, Command, JointDelta, JointPosition
from positronic.rollout.playback import Answer, Ask, Event, exact_ns, stamps_of

Floats = NDArray[np.float64]
Limited = Mapping[str, NDArray[np.bool_]]
"""By arm, for each joint (n,), whether it has a limit. A joint without one may turn without end."""
NOTHING_KNOWN: Limited = {}


@dataclass(frozen=True)
class Placed:
    """A chunk on the clock: ``times`` (n,), exact ns, when ``steps`` (n,) are due."""

    times: Sequence[Fraction]
    steps: Sequence[ActionStep]

    def due(self, now: Fraction, step: Fraction) -> ActionStep | None:
        """The step that is due at the control step ``now``: half a step before it at the earliest."""
        near = (each for time, each in zip(self.times, self.steps, strict=True) if -step <= 2 * (time - now) < step)
        return next(near, None)


def temporal_ensemble(
    start: Fraction, end_ns: int, ask: Ask, step_sec: float, decay: float, limited: Limited = NOTHING_KNOWN
) -> Iterator[Event]:
    """Ask at every control step at which no question is open, and play what ``averaged`` makes of all chunks that say
    something of the moment.

    A chunk's timestamps count from the moment of its observation. Time in which the arm stood still, because no answer
    was there, does not count.
    """
    step, chunks, stood = exact_ns(step_sec), list[Placed](), Fraction(0)
    answer: Answer | None = None
    stood_before = stood
    for number in itertools.count():
        now = start + number * step
        if math.floor(now) >= end_ns:
            return
        if answer is not None and answer.ready <= now:
            chunks.append(placed(answer, stood - stood_before))
            answer = None
        if answer is None:
            answer, stood_before = ask(now), stood
        if answer.ready <= now:  # at once
            chunks.append(placed(answer, Fraction(0)))
            answer = None
        chunks = [chunk for chunk in chunks if chunk.times and chunk.times[-1] > now - step]
        told = [due for chunk in chunks if (due := chunk.due(now, step)) is not None]
        waits = not told and answer is not None
        stood += step if waits else 0
        yield Event(math.floor(now), averaged(told, decay, limited) if told else None, idle=waits)


def placed(answer: Answer, stood: Fraction) -> Placed:
    """The answer's chunk on the clock. ``stood``: how long the arm stood still since it was asked."""
    chunk = answer.chunk()
    return Placed([answer.asked + stood + stamp for stamp in stamps_of(chunk)], chunk)


def averaged(told: Sequence[ActionStep], decay: float, limited: Limited = NOTHING_KNOWN) -> ActionStep:
    """What several chunks say of one moment, the oldest first, with weights exp(-``decay`` i), as one step.

    Commands of another kind than the newest one's are left out.
    """
    newest, weights = told[-1], np.exp(-decay * np.arange(len(told)))
    arms = {
        arm: _averaged_action([step.arms[arm] for step in told], weights, limited.get(arm, False))
        for arm in newest.arms
    }
    return replace(newest, arms=arms)


def _averaged_action(actions: Sequence[ArmAction], weights: Floats, limited: NDArray[np.bool_] | bool) -> ArmAction:
    kind = type(actions[-1].command)
    same = [index for index, action in enumerate(actions) if type(action.command) is kind]
    shares = weights[same] / weights[same].sum()
    grips = [actions[index].target_grip for index in same]
    grip = None if grips[-1] is None else float(np.dot(shares, np.array(grips, np.float64)))
    return ArmAction(_averaged_command([actions[index].command for index in same], shares, limited), grip)


def _averaged_command(commands: Sequence[Command], shares: Floats, limited: NDArray[np.bool_] | bool) -> Command:
    match commands[-1]:
        case CartesianPosition():
            poses = np.stack([command.pose for command in commands])
            return CartesianPosition(np.concatenate([shares @ poses[:, :3], mean_quat(poses[:, 3:], shares)]))
        case JointPosition(newest):
            positions = np.stack([command.positions for command in commands])
            return JointPosition(mean_angles(positions, shares, newest, limited))
        case JointDelta():
            return JointDelta(shares @ np.stack([command.velocities for command in commands]))
        case other:
            return other


def mean_quat(quats_wxyz: Floats, shares: Floats) -> Floats:
    """The rotation nearest to several, (n, 4) -> (4,), on the side of the last one. ``shares``: (n,), their sum is 1.

    F. L. Markley et al., "Averaging Quaternions", J. Guidance, Control, and Dynamics 30(4), 2007: the eigenvector of
    the largest eigenvalue of the weighted sum of q q^T, in which q and -q are one.
    """
    products = quats_wxyz[:, :, None] * quats_wxyz[:, None, :]
    _, vectors = np.linalg.eigh(np.tensordot(shares, products, 1))
    mean = vectors[:, -1]
    return mean if np.dot(mean, quats_wxyz[-1]) >= 0 else -mean


def mean_angles(positions: Floats, shares: Floats, near: Floats, limited: NDArray[np.bool_] | bool) -> Floats:
    """The mean of joint positions, (n, j) -> (j,) rad. ``limited`` (j,): which joints have limits.

    Each of the others is taken within half a turn of ``near`` (j,): a joint that turns without end may be told -3.1 and
    3.1 for nearly one place. For a joint with limits, these are two places.
    """
    apart = positions - near
    short_way = (apart + np.pi) % (2 * np.pi) - np.pi
    return near + shares @ np.where(limited, apart, short_way)
