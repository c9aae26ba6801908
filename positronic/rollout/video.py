"""A rollout as a video for people: the scene at a good size beside what the policy saw.

Episodes are run without this picture, because it costs more than all the rest. The chosen ones are run again from their
recording with the large camera on: the same seed and the same commands at the same times give the same physics.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from positronic import keys
from positronic.commands import CartesianPosition, Command, JointDelta, JointPosition, Reset
from positronic.errors import PositronicError
from positronic.raw.episode import Episode
from positronic.raw.signals import VectorSignal
from positronic.raw.timeline import NS_PER_SEC
from positronic.raw.video import VideoSignal
from positronic.rollout.results import REPLAYED, SUCCESS, EpisodeResult
from positronic.utils.colour import FromRgb

FPS = 15
SCENE_SIZE = 480  # pixels, square
CAPTION_HEIGHT = 36
LAST_FRAME_SEC = 1.0  # the end stays, so that it can be seen
MARGIN = 10
GROUND, INK, GOOD, BAD = (20, 25, 30), (228, 233, 237), (60, 196, 147), (240, 113, 122)
CRF = "21"  # of x264: no visible loss at this size

COMMAND_OF = {
    keys.COMMAND_POSE: CartesianPosition,
    keys.COMMAND_JOINTS: JointPosition,
    keys.COMMAND_JOINT_DELTAS: JointDelta,
    keys.COMMAND_RESET: lambda value: Reset(),
}

Frame = NDArray[np.uint8]


@runtime_checkable
class Filmed(Protocol):
    """A robot that has a camera for people and can be run again from its seed."""

    def reset(self, seed: int) -> None: ...

    def command(self, command: Command, target_grip: float | None, arm: str = "") -> None: ...

    def advance(self, until_ns: int) -> None: ...

    def render(self, camera: str, height: int, width: int) -> Frame: ...


@dataclass(frozen=True)
class Played:
    """A command of one arm and when it became current."""

    time_ns: int
    command: Command
    target_grip: float | None
    arm: str = ""


def choose(results: Sequence[EpisodeResult], count: int) -> list[EpisodeResult]:
    """At most ``count`` episodes, in order of id: successes and others in turn, beginning with the first."""
    good = [result for result in results if result.success]
    bad = [result for result in results if not result.success]
    turns: list[EpisodeResult] = []
    for place in range(max(len(good), len(bad))):
        turns += good[place : place + 1] + bad[place : place + 1]
    return sorted(turns[:count], key=lambda result: result.id)


def film(episode: Episode, result: EpisodeResult, robot: object, path: Path) -> None:
    """Write an mp4 of a recorded rollout (H.264, yuv420p, which every browser plays).

    With a robot that is ``Filmed`` it shows the scene, run again, beside the recorded cameras; otherwise the cameras
    alone. Raises PositronicError if none was recorded.
    """
    cameras = [signal for signal in episode.signals.values() if isinstance(signal, VideoSignal)]
    if not cameras:
        raise PositronicError(f"{episode.path} has no camera to make a video of. Set driver.save_videos=0.")
    times_ns = frame_times(episode, cameras)
    parts: list[Iterable[Frame]] = [camera.frames(camera.index_at(times_ns)) for camera in cameras]
    heights = [SCENE_SIZE] * len(cameras)
    if isinstance(robot, Filmed):
        parts = [run_again(robot, episode, result.seed, times_ns), *parts]
        heights = [SCENE_SIZE, *[SCENE_SIZE // max(len(cameras), 2)] * len(cameras)]
    captions = (caption(result, int(time_ns) / NS_PER_SEC) for time_ns in times_ns)
    pages = (page(pictures, heights, text) for *pictures, text in zip(*parts, captions, strict=True))
    write_mp4(path, lasting(pages, round(LAST_FRAME_SEC * FPS)), FPS)


def frame_times(episode: Episode, cameras: Sequence[VideoSignal]) -> NDArray[np.int64]:
    """Times (T,) in ns of a video's frames: FPS a second from the moment when all cameras have a picture, and the
    episode's very end."""
    start_ns, last_ns = max(int(camera.times_ns[0]) for camera in cameras), episode.last_ns
    count = (last_ns - start_ns) * FPS // NS_PER_SEC + 1
    grid_ns = start_ns + np.arange(count, dtype=np.int64) * NS_PER_SEC // FPS
    return grid_ns if grid_ns[-1] == last_ns else np.append(grid_ns, last_ns)


def run_again(robot: Filmed, episode: Episode, seed: int, times_ns: NDArray[np.int64]) -> Iterator[Frame]:
    """Pictures (SCENE_SIZE, SCENE_SIZE, 3) of the scene at ``times_ns`` (T,), increasing."""
    robot.reset(seed)
    played = recorded_commands(episode)
    for time_ns in times_ns:
        while played and played[0].time_ns <= time_ns:
            now = played.pop(0)
            robot.advance(now.time_ns)
            robot.command(now.command, now.target_grip, now.arm)
        robot.advance(int(time_ns))
        yield robot.render("view", SCENE_SIZE, SCENE_SIZE)


def recorded_commands(episode: Episode) -> list[Played]:
    """Every command of a recording, in order of time."""
    told = [name for name in episode.signals if keys.split_arm(name)[0] in COMMAND_OF]
    played = [one for name in told for one in _played(episode, name)]
    return sorted(played, key=lambda one: one.time_ns)


def _played(episode: Episode, name: str) -> Iterator[Played]:
    """The commands of one signal, each with the gripper of its moment."""
    plain, arm = keys.split_arm(name)
    signal, gripper = episode.signals[name], keys.of_arm(keys.TARGET_GRIP, arm)
    assert isinstance(signal, VectorSignal)
    grips = [None] * len(signal.times_ns)
    if gripper in episode.signals:
        grips = episode.signals[gripper].at(signal.times_ns).tolist()
    for time_ns, value, grip in zip(signal.times_ns, signal.values, grips, strict=True):
        yield Played(int(time_ns), COMMAND_OF[plain](value), grip, arm)


@dataclass(frozen=True)
class Caption:
    """The text under a frame: what it is, how it is going, and the time."""

    title: str
    verdict: str
    time: str
    good: bool


def caption(result: EpisodeResult, time_sec: float) -> Caption:
    """The line under the frame at ``time_sec``; the outcome is told when it is known."""
    title = f"seed {result.seed}"
    if result.success_sec is not None and time_sec >= result.success_sec:
        return Caption(title, f"success at {result.success_sec:.1f} s", f"{time_sec:.1f} s", True)
    ended = time_sec >= result.duration_sec - 1 / FPS
    failed = ended and result.outcome not in (SUCCESS, REPLAYED)
    return Caption(title, result.outcome if failed else "", f"{time_sec:.1f} s", False)


def page(pictures: Sequence[Frame], heights: Sequence[int], text: Caption) -> Frame:
    """One frame: pictures of full height side by side, smaller ones one below another, the caption under all.

    ``heights``: of each picture in pixels; widths follow. Both sides of the result are even, as H.264 needs.
    """
    shown = [_scaled(picture, height) for picture, height in zip(pictures, heights, strict=True)]
    tall = [image for image in shown if image.height == SCENE_SIZE]
    small = [image for image in shown if image.height != SCENE_SIZE]
    left = sum(image.width for image in tall)
    width = left + max((image.width for image in small), default=0)
    canvas = Image.new("RGB", (_even(width), SCENE_SIZE + CAPTION_HEIGHT), GROUND)
    for place, image in enumerate(tall):
        canvas.paste(image, (sum(before.width for before in tall[:place]), 0))
    for place, image in enumerate(small):
        canvas.paste(image, (left, place * image.height))
    _write_caption(canvas, text)
    return np.asarray(canvas)


def lasting(frames: Iterable[Frame], count: int) -> Iterator[Frame]:
    """The frames, with the last one repeated ``count`` more times."""
    frame = None
    for frame in frames:
        yield frame
    if frame is not None:
        yield from itertools.repeat(frame, count)


def write_mp4(path: Path, frames: Iterable[Frame], fps: int) -> None:
    """Encode frames (H, W, 3), both even, as H.264; the header comes first, so that playing starts while it loads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = iter(frames)  # one at a time: an episode of large pictures would fill the memory
    first, from_rgb = next(frames), FromRgb()
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": CRF, "preset": "veryfast"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in itertools.chain([first], frames):
            container.mux(stream.encode(from_rgb.from_array(frame)))
        container.mux(stream.encode())


def _scaled(picture: Frame, height: int) -> Image.Image:
    """To a height in pixels, width in proportion; small pictures keep their pixels visible: this is what is seen."""
    width = round(picture.shape[1] * height / picture.shape[0])
    grows = picture.shape[0] < height
    return Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST if grows else Image.Resampling.BOX)


def _even(size: int) -> int:
    return size + size % 2


def _write_caption(canvas: Image.Image, text: Caption) -> None:
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(18)
    middle = canvas.height - CAPTION_HEIGHT / 2
    draw.text((MARGIN, middle), text.title, INK, font, anchor="lm")
    draw.text((canvas.width / 2, middle), text.verdict, GOOD if text.good else BAD, font, anchor="mm")
    draw.text((canvas.width - MARGIN, middle), text.time, INK, font, anchor="rm")
