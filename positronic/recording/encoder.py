"""One camera's encoder in a process of its own, so that a control loop waits for nothing but the copy of a frame.

The pipe carries where episodes begin and end; frames and their stamps go through the ring, without a call of the
system. The encoder has a lower priority than the loop; if it cannot keep up, the ring fills, and that is said instead
of a frame being left out.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError
from positronic.raw.video_writer import VideoOptions, VideoWriter
from positronic.recording.ring import Ring
from positronic.utils.disk import refused_by_disk
from positronic.utils.processes import hear, obey_parent, signals_held, without_main

NICENESS = 10
STOP_TIMEOUT_SEC = 10.0
STALLED_SEC = 60.0  # without a frame taken; a video is closed in much less
LOOK_SEC = 0.01  # between looks for a frame: the fewer, the more seldom the loop's core is taken
BEGIN, END = b"b", b"e"  # what a message begins with


class CameraEncoder:
    """The camera with raw key ``name``. ``frames_held``: how many frames may wait to be encoded."""

    def __init__(self, name: str, shape: tuple[int, int, int], options: VideoOptions, frames_held: int) -> None:
        self.name, self.shape = name, shape
        self.most_waiting = 0
        self._options = options
        self._ring = Ring(shape, frames_held)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._episodes = 0
        self._error: str | None = None  # of the episode under way

    def start(self) -> None:
        """Start the process; ``wait_until_ready`` waits for it."""
        context = multiprocessing.get_context("spawn")  # threads of the user's script do not survive a fork
        self._ring.clear()
        self._episodes = 0
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_encode, args=(theirs, self.name, self._ring, self._options), daemon=True, name=self.name
        )
        with signals_held(), without_main():
            self._process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        """Raises PositronicError if the process ended at once."""
        self._answer()

    def prepare(self) -> None:
        """For another episode, whatever became of the last one. A process that has died is started again."""
        self._error, self.most_waiting = None, 0
        if self._process is None or not self._process.is_alive():
            self._leave()
            self.start()
            self.wait_until_ready()

    def begin(self, folder: Path) -> EncodedCamera:
        """Record into an episode's folder."""
        self._episodes += 1
        self._send(BEGIN + os.fsencode(folder))
        return EncodedCamera(self, self._episodes)

    def require_room(self) -> None:
        """Raise PositronicError when no further frame can be taken: the ring is full, or the encoder has failed."""
        if self._ring.has_failed and self._error is None:
            self._error = self._answer()
        if self._error is not None:
            raise PositronicError(self._error)
        waiting = self._ring.waiting
        if waiting and not self._process.is_alive():
            raise self._died()
        self.most_waiting = max(self.most_waiting, waiting)
        if waiting >= self._ring.slots:
            height, width, _ = self.shape
            raise PositronicError(
                f"Camera '{self.name}': its encoder is {waiting} frames behind, as many as are held, and this frame is "
                f"refused rather than left out. The machine is too busy for {height} x {width} (height x width) at "
                "this rate: record smaller or fewer pictures, give video=VideoOptions(preset='ultrafast'), or hold "
                "more: frames_held=..."
            )

    def frame_buffer(self) -> NDArray[np.uint8]:
        """Memory that the next frame may be written into. Raises PositronicError when there is no room for one."""
        self.require_room()
        return self._ring.next_slot()

    def require_new(self, image_hwc: NDArray[np.uint8]) -> None:
        """Raise PositronicError for a buffer of ``frame_buffer`` that has been appended."""
        if self._ring.holds(image_hwc) and not np.may_share_memory(image_hwc, self._ring.next_slot()):
            raise PositronicError(
                f"Camera '{self.name}': this buffer has been appended, and the encoder may be reading it. Ask for "
                f"another for each frame: episode.frame_buffer('{self.name}')."
            )

    def copy(self, image_hwc: NDArray[np.uint8], time_ns: int) -> None:
        """Copy a frame; there is room for it. The process sees it after ``give``."""
        turned = image_hwc[..., ::-1]
        is_bgr = not image_hwc.flags.c_contiguous and turned.flags.c_contiguous  # OpenCV's, turned to RGB by a view
        self._ring.copy(turned if is_bgr else image_hwc, time_ns, is_bgr)  # turned in the copy: ten times as long

    def give(self) -> None:
        """Let the process encode the frame that was copied."""
        self._ring.give()

    def end(self, episode: int) -> None:
        """Wait until everything is encoded and the files are closed. Raises PositronicError if that failed."""
        self._send(END)
        while (answer := self._answer()) != episode:  # a number is that of an episode whose end was interrupted
            self._error = answer if isinstance(answer, str) else self._error
        if self._error is not None:
            raise PositronicError(self._error)

    def stop(self) -> None:
        """End the process and give the memory back."""
        self._leave()
        self._ring.close()

    def _leave(self) -> None:
        if self._process is None:
            return
        self._connection.close()
        self._process.join(STOP_TIMEOUT_SEC)
        self._process.kill()
        self._process.join()
        self._process = None

    def _send(self, message: bytes) -> None:
        try:
            self._connection.send_bytes(message)
        except OSError:
            raise self._died() from None

    def _answer(self) -> Any:
        try:
            while not self._connection.poll(0):
                self._wait()
            return self._connection.recv()
        except (EOFError, OSError):
            raise self._died() from None

    def _wait(self) -> None:
        """For an answer. A process that takes no frame any more is killed: it is stopped, or its disk is gone."""
        waiting = self._ring.waiting
        if not self._connection.poll(STALLED_SEC) and self._ring.waiting == waiting:
            self._process.kill()

    def _died(self) -> PositronicError:
        self._process.join(STOP_TIMEOUT_SEC)
        return PositronicError(
            f"Camera '{self.name}': its encoder's process ended with exit code {self._process.exitcode}, so that this "
            "episode cannot be recorded; the next one begins with a new process. If it was killed for memory, record "
            "smaller or fewer pictures, or hold less: frames_held=..."
        )


class EncodedCamera:
    """A camera of one episode, as ``EpisodeWriter`` wants it. ``number``: of the episode, for the process."""

    def __init__(self, encoder: CameraEncoder, number: int) -> None:
        self._encoder, self._number = encoder, number
        self._is_open = True

    def append(self, image_hwc: NDArray[np.uint8], time_ns: int) -> None:
        """Add a frame, which is encoded after ``CameraEncoder.give``."""
        self._encoder.copy(image_hwc, time_ns)

    def close(self) -> None:
        """Wait until the video is written."""
        if self._is_open:
            self._encoder.end(self._number)
            self._is_open = False


def _encode(connection: Connection, name: str, ring: Ring, options: VideoOptions) -> None:
    """What the process does until the other end of the pipe is closed."""
    obey_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the closed pipe ends us
    hear()
    _give_way()
    encoding = _Encoding(connection, name, ring, options)
    connection.send(0)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            waiting = ring.waiting  # before the pipe is looked at: that an episode begins is sent before its frames
            if connection.poll(0):
                encoding.take(connection.recv_bytes())
            elif waiting:
                encoding.take_frame()
            else:
                time.sleep(LOOK_SEC)


def _give_way() -> None:
    """The control loop goes first. For the same reason the process looks for frames instead of waiting for them: what
    the loop wakes takes its core from it, in the middle of the call."""
    os.nice(NICENESS)
    if hasattr(os, "SCHED_BATCH"):  # on a Mac there is none
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class _Encoding:
    """What the process has under way. After a failure it takes the episode's other frames and does nothing."""

    def __init__(self, connection: Connection, name: str, ring: Ring, options: VideoOptions) -> None:
        self._connection, self._name, self._ring, self._options = connection, name, ring, options
        self._writer: VideoWriter | None = None
        self._episode = 0

    def take(self, message: bytes) -> None:
        """Do what a message asks for."""
        kind, content = message[:1], message[1:]
        if kind == BEGIN:
            self._episode += 1
            self._writer = VideoWriter(self._name, Path(os.fsdecode(content)), self._options)
            return
        while self._ring.waiting:
            self.take_frame()
        self._guarded(VideoWriter.close)
        self._writer = None
        self._ring.fail(False)
        self._connection.send(self._episode)

    def take_frame(self) -> None:
        """Encode the oldest frame that waits."""
        image, time_ns, is_bgr = self._ring.next_frame()
        self._guarded(VideoWriter.append, image[..., ::-1] if is_bgr else image, time_ns)
        self._ring.taken()

    def _guarded(self, method: Callable[..., None], *arguments: Any) -> None:
        if self._writer is None:
            return
        try:
            method(self._writer, *arguments)
        except Exception as error:
            self._writer = None
            refused = error if isinstance(error, PositronicError) else refused_by_disk(error)
            said = str(refused) if refused else f"its encoder failed:\n{traceback.format_exc()}"
            self._connection.send(f"Camera '{self._name}': {said}")
            self._ring.fail()
