"""An episode as a picture: what its cameras saw, and every signal over the same seconds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from positronic.errors import PositronicError
from positronic.raw.kinds import kind_of
from positronic.raw.signals import VectorSignal
from positronic.raw.timeline import NS_PER_SEC
from positronic.raw.video import VideoSignal
from positronic.utils.plotting import INK, as_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from positronic.raw.episode import Episode, Signal

WIDTH, STRIP, ROW = 10.0, 1.1, 1.3  # inches: of the picture, and the heights of a camera's row and a signal's
MARGIN = 1.6  # inches of the width that are beside the axes


def episode_figure(episode: Episode, names: list[str]) -> Figure:
    """A row for each signal; cameras first. Text is left out. Raises PositronicError when nothing can be drawn."""
    signals = [episode[name] for name in names]
    cameras = [signal for signal in signals if isinstance(signal, VideoSignal)]
    numbers = [signal for signal in signals if isinstance(signal, VectorSignal) and signal.values.dtype.kind in "biuf"]
    if not cameras and not numbers:
        raise PositronicError(f"{episode.path}: there is no camera and no signal of numbers to draw.")
    return as_figure(partial(_figure, episode=episode, cameras=cameras, numbers=numbers))


def _figure(
    figure_type: type[Figure], episode: Episode, cameras: list[VideoSignal], numbers: list[VectorSignal]
) -> Figure:
    heights = [STRIP] * len(cameras) + [ROW] * len(numbers)
    figure = figure_type(figsize=(WIDTH, sum(heights) + 0.6), layout="constrained")
    rows = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, signal in zip(rows, [*cameras, *numbers], strict=True):
        kind = kind_of(signal.name)
        axes.set_title(f"{signal.name} ({kind.what})" if kind else signal.name, fontsize=8)
        _draw(axes, signal, episode)
    rows[-1].set(xlabel="s", xlim=(0, max(_seconds(episode, episode.last_ns), 1e-3)))
    return figure


def _draw(axes: Axes, signal: Signal, episode: Episode) -> None:
    if isinstance(signal, VideoSignal):
        _draw_frames(axes, signal, episode)
        return
    times, values = signal.window(episode.start_ns, episode.last_ns + 1)
    seconds = [_seconds(episode, int(stamp)) for stamp in times]
    axes.plot(seconds, values.reshape(len(values), -1), drawstyle="steps-post", linewidth=1)
    axes.tick_params(labelsize=7)


def _draw_frames(axes: Axes, camera: VideoSignal, episode: Episode) -> None:
    """As many frames side by side as keep their proportions; each is that of the middle of its place."""
    count = max(1, round((WIDTH - MARGIN) / (STRIP - 0.3) * camera.height / camera.width))
    start, end = episode.start_ns, max(episode.last_ns, episode.start_ns + 1)
    times = start + (2 * np.arange(count, dtype=np.int64) + 1) * (end - start) // (2 * count)
    strip = np.concatenate(list(camera.frames(camera.index_at(times))), axis=1)
    axes.imshow(strip, extent=(0, _seconds(episode, end), 0, 1), aspect="auto", interpolation="antialiased")
    axes.set_yticks([])
    axes.spines[:].set_color(INK)


def _seconds(episode: Episode, stamp_ns: int) -> float:
    return (stamp_ns - episode.start_ns) / NS_PER_SEC
