"""Episodes of a person's own collection script, written while its control loop runs.

``append`` checks a sample, copies it, and returns: numbers are held in memory until the episode ends, frames go to a
process for each camera. Either all of an append is recorded or nothing. What is left after a crash carries the mark of
an unfinished episode, which readers pass over and the next recorder removes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from positronic import keys
from positronic.embodiments.embodiment import Embodiment, require_same_embodiment
from positronic.errors import PositronicError, listing
from positronic.raw.episode import Episode
from positronic.raw.kinds import codec_for
from positronic.raw.layout import episode_paths, is_finished, numbered_subdirs, remove_unfinished
from positronic.raw.plausible import MIN_EPISODE_NS
from positronic.raw.timeline import NS_PER_SEC
from positronic.raw.video_writer import VideoOptions
from positronic.raw.writer import DatasetWriter, EpisodeWriter
from positronic.recording.encoder import CameraEncoder
from positronic.recording.numbers import HeldNumbers
from positronic.recording.rules import Rules
from positronic.recording.stamps import Stamps
from positronic.utils.command_line import command
from positronic.utils.disk import alone_in
from positronic.utils.memory import available_bytes
from positronic.utils.processes import interruptible

FRAMES_HELD = 30
MIB = 1 << 20


class Recorder:
    """Adds episodes to the raw dataset in ``root``; a context manager, as is each ``episode``.

    ``robot``: which robot it is; each episode says so. ``rules``: what its signals hold. ``task``: of episodes that are
    not given another. ``frames_held``: frames of each camera that may wait to be encoded.
    """

    def __init__(
        self,
        root: Path,
        robot: Embodiment,
        rules: Rules,
        task: str | None = None,
        video: VideoOptions | None = None,
        frames_held: int = FRAMES_HELD,
    ) -> None:
        if not isinstance(frames_held, int) or frames_held < 1:
            raise PositronicError(f"frames_held={frames_held!r}: expected a whole number from 1 on.")
        self.root, self.robot, self.rules, self.task = root, robot, rules, task
        self.saved = self.dropped = 0
        self.seconds = 0.0  # of robot time, of the saved ones
        self.signals: set[str] = set()  # that the saved ones hold
        self._video = video or VideoOptions()
        self.frames_held = frames_held
        self._cameras: dict[str, CameraEncoder] = {}
        self._writer: DatasetWriter | None = None
        self._episode: RecordedEpisode | None = None
        self._stack = ExitStack()

    def episode(self, task: str | None = None) -> RecordedEpisode:
        """The next episode: ``with recorder.episode() as episode``. Leaving it saves it; an exception drops it.

        Raises PositronicError when there is no task, outside of the recorder's ``with``, and inside of another episode.
        """
        wanted = task if task is not None else self.task
        if not isinstance(wanted, str) or not wanted.strip():
            raise PositronicError('An episode needs a task, as text: recorder.episode(task="Stack the cubes.").')
        if self._writer is None:
            raise PositronicError("Recording has not begun, or has ended: with positronic.record(...) as recorder: ...")
        if self._episode is not None and self._episode.is_open:
            raise PositronicError("An episode is being recorded. Leave its `with` block before the next one begins.")
        for camera in self._cameras.values():
            camera.prepare()
        writer = self._writer.new_episode()
        try:
            for key, value in self._statics(wanted).items():
                writer.set_static(key, value)
        except BaseException:
            writer.abort()
            raise
        self._episode = RecordedEpisode(self, writer, self._cameras)
        return self._episode

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(interruptible())
            stack.enter_context(alone_in(self.root))
            self._tidy_up()
            self._require_memory()
            stack.callback(self._stop)
            for name, shape in self.rules.cameras.items():
                self._cameras[name] = CameraEncoder(name, shape, self._video, self.frames_held)
                self._cameras[name].start()
            for camera in self._cameras.values():
                camera.wait_until_ready()
            self._writer = DatasetWriter(
                self.root,
                self._video,
                camera=lambda name, folder, options: self._cameras[name].begin(folder),
                vector=HeldNumbers,
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer = None
        if self._episode is not None:
            self._episode.leave()
        self._stack.close()
        print(self._summary())

    def _statics(self, task: str) -> dict[str, Any]:
        robot = self.robot
        joints = {} if robot.has_several_arms else {keys.JOINT_NAMES: list(robot.arms[0].joints)}
        return {keys.TASK: task, keys.EMBODIMENT: robot.to_dict()} | joints

    def _tidy_up(self) -> None:
        """Remove what a killed script left, and see that the recordings that are there are of the same robot."""
        there = list(episode_paths(self.root))
        whole = [path for path in there if is_finished(path)]
        remove_unfinished(self.root)
        if len(there) > len(whole):
            print(f"{len(there) - len(whole)} unfinished, of a script that was killed, removed from {self.root}")
        if whole:
            self._require_same_robot(Episode(whole[-1]))

    def _require_same_robot(self, episode: Episode) -> None:
        stated = episode.statics.get(keys.EMBODIMENT)
        if stated is None:
            return
        theirs = Embodiment.from_dict(stated)
        require_same_embodiment(
            f"This script ({self.robot.name})",
            self.robot.contract(),
            f"episode {episode.path}",
            theirs.contract(),
            f'Record another robot elsewhere, e.g. positronic.record("{self.root}_2", ...).',
        )

    def _require_memory(self) -> None:
        needed = sum(self.frames_held * int(np.prod(shape)) for shape in self.rules.cameras.values())
        there = available_bytes()
        if needed > there:
            raise PositronicError(
                f"{self.frames_held} frames held for each of {len(self.rules.cameras)} cameras are {needed // MIB} MiB "
                f"of memory, and {there // MIB} MiB are free. Hold fewer: positronic.record(..., frames_held="
                f"{max(1, self.frames_held * there // needed // 2)})."
            )

    def _stop(self) -> None:
        for camera in self._cameras.values():
            camera.stop()
        self._cameras = {}
        for folder in numbered_subdirs(self.root):
            with contextlib.suppress(OSError):  # there are episodes in it
                folder.rmdir()

    def _summary(self) -> str:
        count = f"{self.saved} episodes, {self.seconds:.1f} s of robot time"
        dropped = f"; {self.dropped} dropped" if self.dropped else ""
        if not any(map(is_finished, episode_paths(self.root))):
            return f"{count}{dropped}. Nothing is in {self.root}."
        following = command("convert", {"dataset": "local", "dataset.path": str(self.root)} | codec_for(self.signals))
        return "\n".join([f"{count}{dropped}", f"  dataset: {self.root}", f"  next:    {following}"])


class RecordedEpisode:
    """An episode that is being recorded. ``append`` may be called from several threads."""

    def __init__(self, recorder: Recorder, writer: EpisodeWriter, cameras: Mapping[str, CameraEncoder]) -> None:
        self._recorder, self._writer, self._cameras = recorder, writer, cameras
        self._stamps = Stamps()
        self._kinds: dict[str, np.dtype] = {}
        self._lock = threading.Lock()
        self.is_open = True

    @property
    def id(self) -> int:
        """Number of the episode in the dataset."""
        return self._writer.id

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._writer.path

    def append(self, samples: Mapping[str, Any], *, time_ns: int) -> None:
        """Record what was measured or commanded at ``time_ns``, whole nanoseconds of one clock for all signals.

        ``samples``: raw key -> joints (D,) in rad, poses (7,) in m and unit quaternion, scalar first, grippers 0 = open
        to 1 = closed, frames uint8 RGB (H, W, 3). Signals may come at different times, each in calls of its own. Values
        are copied. Raises PositronicError, with nothing of ``samples`` recorded, for a signal that is not known, a
        value that cannot be one, a stamp that does not increase by at least 10 us, and a camera whose encoder is too
        far behind.
        """
        with self._lock:
            self._require_open()
            rows = {name: self._accepted(name, value) for name, value in samples.items()}
            stamps = {name: self._stamps.accept(name, time_ns) for name in rows}
            cameras = [self._cameras[name] for name in rows if name in self._cameras]
            for camera in cameras:
                camera.require_room()
                camera.require_new(rows[camera.name])
            for name, row in rows.items():
                self._writer.append(name, row, stamps[name])
                self._kinds[name] = row.dtype
                self._stamps.note(name, stamps[name])
            for camera in cameras:  # last, or encoders would take the loop's cores while it copies
                camera.give()

    def frame_buffer(self, camera: str) -> np.ndarray:
        """Memory, uint8 (H, W, 3), into which the next frame of ``camera`` may be written, for ``append`` to record it
        without a copy.

        ``camera``: its raw key, e.g. ``image.wrist``. Ask for another after each ``append``. Raises PositronicError for
        a camera that was not declared, and for one whose encoder is too far behind.
        """
        with self._lock:
            self._require_open()
            return self._cameras[self._recorder.rules.camera(camera)].frame_buffer()

    def note(self, key: str, value: Any) -> None:
        """Note what is true throughout the episode, e.g. ``note("operator", "Ada")``: str, int, float, bool, list or
        dict. Raises PositronicError for other values and for a key that is noted already."""
        with self._lock:
            self._require_open()
            if key in self._recorder.rules:
                raise PositronicError(
                    f"note('{key}', ...): that is the name of a signal. Append it, or take another name."
                )
            self._writer.set_static(key, value)

    def outcome(self, success: bool) -> None:
        """Note whether the episode is a success; a dataset's episodes can be chosen by it. Both are saved."""
        self.note(keys.EVAL_SUCCESS, bool(success))

    def discard(self, reason: str = "discarded by the script") -> None:
        """Drop the episode now; nothing of it is kept."""
        with self._lock:
            self._require_open()
            self._drop(reason)

    def leave(self) -> None:
        """Drop the episode if it is still open: its recorder ends."""
        with self._lock:
            if self.is_open:
                self._drop("its recorder was left")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if not self.is_open:
                return
            if kind is not None:
                self._drop(kind.__name__)
                return
            try:
                self._save()
            except BaseException as failure:
                self._drop(type(failure).__name__)
                raise

    def _accepted(self, name: str, value: Any) -> np.ndarray:
        row = self._recorder.rules.take(name, value)
        kind = self._kinds.get(name, row.dtype)
        if row.dtype != kind:
            raise PositronicError(f"Signal '{name}' holds {kind}; now it got {row.dtype}. Convert it first.")
        return row

    def _require_open(self) -> None:
        if not self.is_open:
            raise PositronicError(f"Episode {self.id} is over. Begin another: with recorder.episode() as episode: ...")

    def _save(self) -> None:
        self._require_whole()
        self._writer.finish()
        self.is_open = False
        seconds = self._length_ns / NS_PER_SEC
        self._recorder.saved += 1
        self._recorder.seconds += seconds
        self._recorder.signals |= set(self._kinds)
        print(f"Episode {self.id} saved: {seconds:.1f} s{self._behind()}")

    def _require_whole(self) -> None:
        silent = [name.removeprefix(keys.IMAGE_PREFIX) for name in self._cameras if name not in self._kinds]
        if not self._kinds or silent:
            what = f"declared cameras that sent no frame: {listing(silent)}" if self._kinds else "no sample in it"
            raise PositronicError(
                f"Episode {self.id} has {what}, and is not saved. To drop one without an error: episode.discard()."
            )
        if self._length_ns < MIN_EPISODE_NS:
            raise PositronicError(
                f"Episode {self.id} lasts {self._length_ns} ns, from {self._stamps.first_ns} to "
                f"{self._stamps.last_ns}, and is not saved: expected at least {MIN_EPISODE_NS} ns (10 ms)."
            )

    @property
    def _length_ns(self) -> int:
        return self._stamps.last_ns - self._stamps.first_ns

    def _behind(self) -> str:
        """A warning before frames are refused, in an episode to come."""
        late = {
            name.removeprefix(keys.IMAGE_PREFIX): camera.most_waiting
            for name, camera in self._cameras.items()
            if 2 * camera.most_waiting > self._recorder.frames_held
        }
        if not late:
            return ""
        said = ", ".join(f"{name} {waiting}" for name, waiting in late.items())
        return f" (frames that waited to be encoded, of {self._recorder.frames_held} that are held: {said})"

    def _drop(self, reason: str) -> None:
        self.is_open = False
        self._writer.abort()
        self._recorder.dropped += 1
        print(f"Episode {self.id} dropped: {reason}")


def restricted(robot: Embodiment, cameras: Mapping[str, Any]) -> Embodiment:
    """The robot with the cameras that are recorded. Raises PositronicError for one that it does not have."""
    for name in cameras:
        if name not in robot.cameras:
            raise PositronicError(
                f"Camera '{name}' is none of embodiment {robot.name}, which has {listing(robot.cameras)}. Take one of "
                f"these names, or an embodiment of your own that says what it is for: cameras: {{{name}: exterior}}."
            )
    return replace(robot, cameras={name: robot.cameras[name] for name in cameras})
