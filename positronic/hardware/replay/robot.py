"""A recorded episode that plays as if it were a robot.

It measures what was recorded at or before the moment. A command moves nothing: it is compared with the command that was
recorded for that moment. So a policy can be compared with a recording without a robot or a simulator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic import conventions, geometry, keys
from positronic.commands import CartesianPosition, Command, JointDelta, JointPosition
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.hardware.replay.config import ReplayConfig
from positronic.hardware.robot import RobotContract, arms_of
from positronic.raw.dataset import Dataset, open_dataset
from positronic.raw.decoder import Decoder
from positronic.raw.episode import Episode
from positronic.raw.timeline import index_at
from positronic.raw.video import VideoSignal

ALIAS_HINT = "A signal that goes by another name in the recording: 'hardware.aliases={<name>: <recorded name>}'."
PLAYED = {  # command -> signals to compare it with, best first: measured ones if commands were not recorded
    CartesianPosition.kind: (keys.COMMAND_POSE, keys.EE_POSE),
    JointPosition.kind: (keys.COMMAND_JOINTS, keys.JOINT_POSITION),
    JointDelta.kind: (keys.COMMAND_JOINT_DELTAS,),
}
PLAYED_GRIP = (keys.TARGET_GRIP, keys.GRIP)


@dataclass(frozen=True)
class Recorded:
    """The recording's signals that one arm is compared with: ``commands`` by kind, and ``grip``, if there is one."""

    commands: Mapping[str, str]
    grip: str | None

    @classmethod
    def of(cls, arm: str, present: Collection[str]) -> Recorded:
        commands = {kind: name for kind, plain in PLAYED.items() if (name := _first(plain, arm, present))}
        return cls(commands, _first(PLAYED_GRIP, arm, present))

    @property
    def signals(self) -> list[str]:
        return [*self.commands.values(), *([self.grip] if self.grip else [])]


class ReplayRobot:
    """Plays one recorded episode after another: ``reset(seed)`` starts episode ``config.episode`` + seed.

    Time 0 is when every signal has started; ``duration_ns`` is when the last one ends. ``contract``: the signals of the
    present episode, and the commands with which it can be compared.
    """

    def __init__(self, config: ReplayConfig) -> None:
        self.config = config
        self._dataset = _open(config)
        self._cameras = contextlib.ExitStack()
        self.reset(0)

    @property
    def time_ns(self) -> int:
        """Nanoseconds since the reset."""
        return self._time_ns

    def reset(self, seed: int) -> None:
        """Go to the start of episode ``config.episode`` + ``seed``. Raises PositronicError when there is none, and
        BadEpisode when it is damaged."""
        self.close()
        self._episode = _episode(self._dataset, self.config.episode + seed)
        present = self._episode.signals
        _require_aliases(self._episode)
        self._measured = [name for name in present if _is_measured(name)]
        self._decoders = {name: self._open_camera(present[name]) for name in self._measured if _is_camera(name)}
        arms = arms_of(self._episode.embodiment, present)
        self._recorded = {arm: Recorded.of(arm, present) for arm in arms}
        used = {*self._measured, *(name for recorded in self._recorded.values() for name in recorded.signals)}
        self._episode.validate(used)  # a policy is not compared with a damaged recording
        self._start_ns = self._episode.start_of(used)
        self.duration_ns = self._episode.last_of(used) - self._start_ns
        self._time_ns, self._errors = 0, {}
        self.contract = self._describe()

    def observe(self) -> dict[str, Any]:
        """Every measured signal as it was recorded at or before now; images are uint8 RGB (height, width, 3)."""
        return {name: self._measure(name) for name in self._measured}

    def measured_ns(self) -> dict[str, int]:
        """When each measured signal was recorded; what was recorded before time 0 and still holds is negative."""
        now_ns = self._start_ns + self._time_ns
        stamps = {name: self._episode[name].times_ns for name in self._measured}
        found = {name: times[index_at(times, [now_ns], name)[0]] for name, times in stamps.items()}
        return {name: int(time_ns) - self._start_ns for name, time_ns in found.items()}

    def command(self, command: Command, target_grip: float | None, arm: str = "") -> None:
        """Compare with what the arm was commanded at this moment of the recording; see ``metrics``."""
        self.contract.require_command(command, arm)
        recorded = self._recorded[arm]
        errors = command_errors(command, self._value(recorded.commands[command.kind]))
        if recorded.grip and target_grip is not None:
            errors[keys.REPLAY_GRIP_ERROR] = float(abs(target_grip - self._value(recorded.grip)))
        self._errors[arm] = {keys.of_arm(name, arm): error for name, error in errors.items()}

    def advance(self, until_ns: int) -> None:
        """Let time pass. Raises PositronicError when ``until_ns`` is in the past."""
        if until_ns < self._time_ns:
            raise PositronicError(f"The recording is at {self._time_ns} ns and cannot go back to {until_ns} ns.")
        self._time_ns = until_ns

    def metrics(self) -> dict[str, float]:
        """How far the current commands are from the recorded ones (``replay.*``, with several arms ``replay.left.*``);
        empty before the first command."""
        return {name: error for errors in self._errors.values() for name, error in errors.items()}

    def statics(self) -> dict[str, Any]:
        """The recorded task, and which recording this is."""
        source = {"path": str(self._episode.path), "episode_uid": self._episode.uid}
        task = {keys.TASK: str(self._episode.statics.get(keys.TASK, ""))}
        return task | {keys.REPLAY_PREFIX + name: value for name, value in source.items()}

    def close(self) -> None:
        """Close the videos."""
        self._cameras.close()

    def _describe(self) -> RobotContract:
        meanings = {name: conventions.MEASURED.get(keys.split_arm(name)[0]) for name in self._measured}
        meanings |= dict.fromkeys(self._decoders, conventions.IMAGE)
        return RobotContract(
            self.config.name,
            signals={name: self._episode[name].shape for name in self._measured},
            commands=frozenset.intersection(*(frozenset(recorded.commands) for recorded in self._recorded.values())),
            conventions={name: str(meaning) for name, meaning in meanings.items() if meaning},
            embodiment=self._episode.embodiment,
            hint=ALIAS_HINT,
            moves=False,
        )

    def _open_camera(self, signal: VideoSignal) -> Decoder:
        return self._cameras.enter_context(signal.decoder())

    def _measure(self, name: str) -> Any:
        if name not in self._decoders:
            value = self._value(name)
            return value if value.ndim else value.item()
        index = self._episode[name].index_at([self._start_ns + self._time_ns])[0]
        return self._decoders[name].rgb(int(index))

    def _value(self, name: str) -> NDArray[Any]:
        return self._episode[name].at([self._start_ns + self._time_ns])[0]


def command_errors(command: Command, recorded: NDArray[np.floating]) -> dict[str, float]:
    """How far a command is from a recorded value of its kind: m and rad, of joints the largest."""
    match command:
        case CartesianPosition(pose):
            return {
                keys.REPLAY_POSITION_ERROR: float(np.linalg.norm(pose[:3] - recorded[:3])),
                keys.REPLAY_ROTATION_ERROR: angle_between(pose[3:], recorded[3:]),
            }
        case JointPosition(values) | JointDelta(values):
            return {keys.REPLAY_JOINT_ERROR: float(np.max(np.abs(values - recorded)))}
        case _:
            return {}


def angle_between(a_wxyz: NDArray[np.floating], b_wxyz: NDArray[np.floating]) -> float:
    """Angle (rad, 0 to pi) of the rotation from one unit quaternion (4,) to another, exact also for tiny angles.

    This is W. Kahan's formula for the angle between vectors ("How futile are mindless assessments of roundoff", 2006,
    section 12), doubled, because a quaternion turns by half the angle. q and -q are the same rotation.
    """
    a, b = geometry.quat_normalise(a_wxyz), geometry.quat_normalise(b_wxyz)
    b = b if np.dot(a, b) >= 0 else -b
    return float(4 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))


def _open(config: ReplayConfig) -> Dataset:
    try:
        return open_dataset(config.path, config.layout, config.gripper_open, config.aliases, storage=config.storage)
    except PositronicError as error:  # that message calls the path by its name in the dataset group
        raise PositronicError(str(error).replace("dataset.", "hardware.")) from None


def _episode(dataset: Dataset, position: int) -> Episode:
    if not 0 <= position < len(dataset):
        raise PositronicError(
            f"{dataset.root} holds the episodes 0 to {len(dataset) - 1}; number {position} was asked for, which is"
            " hardware.episode + seed + the number of the rollout. Lower one of them, or driver.num_episodes."
        )
    return dataset[position]


def _is_camera(name: str) -> bool:
    return name.startswith(keys.IMAGE_PREFIX)


def _is_measured(name: str) -> bool:
    return keys.split_arm(name)[0] == keys.GRIP or name.startswith(keys.MEASURED_PREFIX) or _is_camera(name)


def _first(plain: tuple[str, ...], arm: str, present: Collection[str]) -> str | None:
    names = [keys.of_arm(name, arm) for name in plain]
    return next((name for name in names if name in present), None)


def _require_aliases(episode: Episode) -> None:
    recorded = episode.signals.sources
    for name, source in episode.naming.aliases.items():
        if source not in recorded:
            raise PositronicError(
                f"hardware.aliases={{{name}: {source}}}: {episode.path} has no signal '{source}'."
                f"{did_you_mean(source, recorded)} Recorded: {listing(recorded)}."
            )
