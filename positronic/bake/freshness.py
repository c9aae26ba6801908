"""Which episodes hold values that were no longer true, judged by what moves at the same time.

Every limit applies only while the robot moves. These are no faults: a recorder that writes on change, on a robot that
stands still; a gripper that is commanded once; a command that stays while the arm settles on it; a picture of a scene
in which nothing moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.freshness import (
    CLEAR_GRIP,
    LOOKS_PER_SEC,
    MEASURED_ARM,
    StillRun,
    distance,
    is_movement,
    moving_signals,
    seen_arms,
)
from positronic.raw.episode import Episode
from positronic.raw.faults import BadEpisode
from positronic.raw.timeline import NS_PER_SEC, Times
from positronic.raw.video import VideoSignal

COMMANDED_ARM = (keys.COMMAND_POSE, keys.COMMAND_JOINTS)
GRIPPER = (keys.GRIP, keys.TARGET_GRIP)
MEASURED_BY = {  # command -> what follows it
    keys.COMMAND_POSE: keys.EE_POSE,
    keys.COMMAND_JOINTS: keys.JOINT_POSITION,
    keys.TARGET_GRIP: keys.GRIP,
}
# In clear movements (``positronic.freshness``). A measured arm does not jump; a disturbed one (DART) leaves its command
# by up to 4 cm.
JUMP, LEFT_BEHIND = 2.0, 2.0
STOPPING_SEC = 0.3  # an arm that is fast until its last sample was not seen to stop
BLOCKED_GRIP = 0.75  # told to close by less, a gripper may stay where it is: around what it holds


class Span(NamedTuple):
    """Nothing new came from ``start_ns`` until ``stop_ns``."""

    start_ns: int
    stop_ns: int


def require_fresh_vectors(episode: Episode, names: Sequence[str], times_ns: Times, limit_sec: float) -> None:
    """Raise BadEpisode if one of the signals ``names`` does not change for longer than ``limit_sec`` although another
    recorded signal contradicts that.

    The reason names both signals and the span. ``times_ns``: the episode's grid.
    """
    limit_ns = round(limit_sec * NS_PER_SEC)
    for name in names:
        for span, witness in _suspicions(episode, name, times_ns, limit_ns):
            if witness:
                reason = _says(name, span, times_ns, witness, "max_state_staleness_sec", limit_sec)
                raise BadEpisode(episode.path, reason)


def require_moving_picture(
    episode: Episode, camera: str, runs: Sequence[StillRun], times_ns: Times, limit_sec: float
) -> None:
    """Raise BadEpisode if ``camera`` showed one picture for longer than ``limit_sec`` while the robot moved. ``runs``:
    of the pictures shown at ``times_ns``."""
    limit_ns = round(limit_sec * NS_PER_SEC)
    arms = moving_signals(episode.signals, (*MEASURED_ARM, *COMMANDED_ARM))
    # One of each arm: what is measured before what is commanded, which may not be followed.
    watched = [arms[arm][0] for arm in seen_arms(_role(episode, camera), arms)]
    for first, last in runs:
        span = Span(int(times_ns[first]), int(times_ns[last]))
        witness = _moving(episode, watched, span.start_ns, span.stop_ns - limit_ns)
        if witness:
            raise BadEpisode(episode.path, _says(camera, span, times_ns, witness, "max_staleness_sec", limit_sec))


def _role(episode: Episode, camera: str) -> str:
    name = camera.removeprefix(keys.IMAGE_PREFIX)
    robot = episode.embodiment
    return robot.cameras.get(name, name) if robot else name


def require_arm_to_the_end(
    episode: Episode, runs: Mapping[str, Sequence[StillRun]], times_ns: Times, limit_sec: float
) -> None:
    """Raise BadEpisode when nothing new comes from any arm after a moment at which one moves, and a camera shows for
    longer than ``limit_sec`` that something goes on. So an episode ends whose robot signals end before its pictures.

    ``runs``: camera -> those of the pictures shown at ``times_ns``.
    """
    limit_ns, look_ns = round(limit_sec * NS_PER_SEC), NS_PER_SEC // LOOKS_PER_SEC
    for plain in MEASURED_ARM:
        names = [name for found in moving_signals(episode.signals, [plain]).values() for name in found]
        ends = {name: _last_change(episode, name, times_ns) for name in names}
        if not ends:
            continue
        name = max(ends, key=lambda each: ends[each])  # of several arms one may rest while another works
        span = Span(ends[name], int(times_ns[-1]))
        if span.stop_ns - span.start_ns <= limit_ns or not _moves_until(episode, name, span.start_ns):
            continue
        for camera, still in runs.items():
            stamps = [(times_ns[first], times_ns[last]) for first, last in still]
            quiet = span.start_ns + limit_ns, span.stop_ns - 2 * look_ns
            if not any(first <= quiet[0] and last >= quiet[1] for first, last in stamps):
                witness = f"it moved until then and '{camera}' shows other pictures"
                reason = _says(name, span, times_ns, witness, "max_state_staleness_sec", limit_sec)
                raise BadEpisode(episode.path, reason)


def _last_change(episode: Episode, name: str, times_ns: Times) -> int:
    changes = _changes(episode, name)
    return int(changes[changes <= times_ns[-1]].max(initial=times_ns[0]))


def _changes(episode: Episode, name: str) -> Times:
    """Stamps at which the signal has a new value."""
    stamps, values = episode[name].times_ns, episode[name].values
    rows = values.reshape(len(values), -1)
    return stamps[np.append(True, (rows[1:] != rows[:-1]).any(axis=1))]


def _moves_until(episode: Episode, name: str, stop_ns: int) -> bool:
    """Whether the arm is as fast as one clear movement a second just before."""
    start_ns = stop_ns - round(STOPPING_SEC * NS_PER_SEC)
    values = _window(episode, name, start_ns, stop_ns + 1)
    return values is not None and distance(name, values, values[-1]).max() >= STOPPING_SEC


def _says(name: str, span: Span, times_ns: Times, witness: str, option: str, limit_sec: float) -> str:
    start, stop = ((stamp - times_ns[0]) / NS_PER_SEC for stamp in span)
    what = "shows the same picture" if name.startswith(keys.IMAGE_PREFIX) else "stands still"
    return (
        f"'{name}' {what} from {max(start, 0):.2f} s to {stop:.2f} s, while {witness}"
        f" (allowed: {option}={limit_sec:g}, null allows any time)."
    )


def _suspicions(episode: Episode, name: str, times_ns: Times, limit_ns: int) -> Iterator[tuple[Span, str | None]]:
    """Spans longer than the limit in which ``name`` has nothing new, and what contradicts each."""
    stamps, changes = episode[name].times_ns, _changes(episode, name)
    for span in _spans(changes if is_movement(name) else stamps, times_ns, limit_ns):  # a joint step may stay the same
        yield span, _contradicts(episode, name, span, limit_ns)
    if keys.split_arm(name)[0] in GRIPPER and len(changes) < len(stamps):  # it came also when nothing changed
        for span in _spans(stamps, times_ns, limit_ns):
            yield span, _moves_on(episode, name, span, limit_ns)


def _spans(stamps: Times, times_ns: Times, limit_ns: int) -> Iterator[Span]:
    """Within the episode, longer than the limit, without a stamp inside."""
    # The episode's ends count as stamps: a signal that begins late or ends early has a span there.
    inner = stamps[(stamps > times_ns[0]) & (stamps < times_ns[-1])]
    edges = np.concatenate([times_ns[:1], inner, times_ns[-1:]])
    for start in np.flatnonzero(np.diff(edges) > limit_ns):
        yield Span(int(edges[start]), int(edges[start + 1]))


def _contradicts(episode: Episode, name: str, span: Span, limit_ns: int) -> str | None:
    """What says of the same arm that ``name`` changed within the span, earlier than ``limit_ns`` before its end. None
    if nothing does."""
    plain, arm = keys.split_arm(name)
    until = span.stop_ns - limit_ns  # what moved later than that is not overdue yet
    if plain in MEASURED_ARM:
        others = [other for other in (*MEASURED_ARM, *COMMANDED_ARM) if other != plain]
        return _moving(episode, _of_arm(others, arm), span.start_ns, until) or _jumps(episode, name, span)
    if plain == keys.GRIP:
        return _told_otherwise(episode, arm, span.start_ns, until)
    if plain in MEASURED_BY:
        return _left_behind(episode, name, span.start_ns, until)
    return _moving(episode, _of_arm(MEASURED_ARM, arm), span.start_ns, until)


def _of_arm(plain: Sequence[str], arm: str) -> list[str]:
    return [keys.of_arm(name, arm) for name in plain]


def _window(episode: Episode, name: str, start_ns: int, stop_ns: int) -> NDArray[np.float64] | None:
    """Values of ``name`` in the span, beginning with the one current at its start. None if it was not recorded then."""
    if name not in episode.signals or isinstance(episode[name], VideoSignal) or stop_ns <= start_ns:
        return None
    values = episode[name].window(start_ns, stop_ns)[1]
    return values.astype(np.float64) if len(values) and values.dtype.kind in "fiub" else None


def _moving(episode: Episode, names: Sequence[str], start_ns: int, stop_ns: int) -> str | None:
    """The first of ``names`` that moves clearly in the span."""
    for name in names:
        values = _window(episode, name, start_ns, stop_ns)
        if values is not None and distance(name, values, values[0]).max() >= 1:
            return f"'{name}' moves"
    return None


def _jumps(episode: Episode, name: str, span: Span) -> str | None:
    before, after = episode[name].at([span.start_ns, span.stop_ns])
    return "it is elsewhere afterwards" if distance(name, after[None], before)[0] >= JUMP else None


def _left_behind(episode: Episode, name: str, start_ns: int, stop_ns: int) -> str | None:
    """Whether what follows the command moves away from it: after the command was given, it is further away
    than before."""
    plain, arm = keys.split_arm(name)
    follower, is_arm = keys.of_arm(MEASURED_BY[plain], arm), plain != keys.TARGET_GRIP
    values, command = _window(episode, follower, start_ns, stop_ns), episode[name].at([start_ns])[0]
    if values is None or values.shape[1:] != command.shape:
        return _moving(episode, _of_arm(MEASURED_ARM, arm), start_ns, stop_ns) if is_arm else None
    away = distance(follower, values, command)
    clear = LEFT_BEHIND if is_arm else 1.0
    return f"'{follower}' moves away from it" if (away - np.minimum.accumulate(away)).max() >= clear else None


def _told_otherwise(episode: Episode, arm: str, start_ns: int, stop_ns: int) -> str | None:
    """Whether the gripper was told to open, or to go from open to closed. An object that it holds stops it from
    closing."""
    grip, target = _of_arm((keys.GRIP, keys.TARGET_GRIP), arm)
    told = _window(episode, target, start_ns, stop_ns)
    if told is None:
        return None
    opens = float(episode[grip].at([start_ns])[0]) - told.min() >= CLEAR_GRIP
    return f"'{target}' moves" if opens or np.ptp(told) >= BLOCKED_GRIP else None


def _moves_on(episode: Episode, name: str, span: Span, limit_ns: int) -> str | None:
    """Whether the gripper's arm moves in the span. The limit's time is allowed for settling: a person who lets go of
    the robot ends all commands at once."""
    arm = keys.split_arm(name)[1]
    return _moving(episode, _of_arm(MEASURED_ARM, arm), span.start_ns + limit_ns, span.stop_ns - limit_ns)
