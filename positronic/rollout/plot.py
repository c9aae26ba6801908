"""The picture in the report: which episodes succeeded, when, and how the scores went."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from positronic.rollout.report import Rollouts, error_names, replay_error
from positronic.rollout.results import EpisodeResult, wilson_interval
from positronic.utils.plotting import BAD, GOOD, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_png(rollouts: Rollouts) -> bytes:
    """The report's picture as PNG: success against time and seeds, or a replay's errors over time."""
    return png(partial(_replay_figure if rollouts.is_replay else _success_figure, rollouts=rollouts))


def _success_figure(figure_type: type[Figure], rollouts: Rollouts) -> Figure:
    figure = figure_type(figsize=(9, 7.2), layout="constrained")
    strip, curve, course = figure.subplots(3, 1, height_ratios=[1.1, 1, 1])
    _draw_strip(strip, rollouts)
    _draw_curve(curve, rollouts)
    _draw_course(course, rollouts)
    return figure


def _draw_strip(axes: Axes, rollouts: Rollouts) -> None:
    """One mark per episode: when it succeeded, or a cross at its end."""
    good = [result for result in rollouts.judged if result.success]
    bad = [result for result in rollouts.judged if not result.success]
    for result in good:
        axes.vlines(result.seed, 0, result.success_sec, color=GOOD, alpha=0.25, linewidth=1.5)
    axes.plot([r.seed for r in good], [r.success_sec for r in good], "o", color=GOOD, markersize=4, label="success")
    axes.plot([r.seed for r in bad], [r.duration_sec for r in bad], "X", color=BAD, markersize=7, label="no success")
    axes.set(title="Time to success", xlabel="seed", ylabel="s", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="upper left", bbox_to_anchor=(0.75, 1.18), ncols=2)


def _draw_curve(axes: Axes, rollouts: Rollouts) -> None:
    """Share of the episodes that had succeeded by a time, and its 95 % interval."""
    n = len(rollouts.judged)
    times = sorted(result.success_sec for result in rollouts.judged if result.success_sec is not None)
    end = 1.03 * max([result.duration_sec for result in rollouts.judged], default=1.0)
    edges = [0.0, *times, end]
    counts = [*range(len(times) + 1), len(times)]
    low, high = np.transpose([wilson_interval(count, n) for count in counts])
    axes.fill_between(edges, 100 * low, 100 * high, step="post", color=GOOD, alpha=0.15, linewidth=0)
    axes.step(edges, 100 * np.array(counts) / max(n, 1), where="post", color=GOOD, linewidth=1.8)
    axes.set(title="Succeeded by then, with 95 % interval", xlabel="s", ylabel="%", ylim=(0, 103), xlim=(0, edges[-1]))


def _draw_course(axes: Axes, rollouts: Rollouts) -> None:
    """How every episode went, by the metric that the robot's task names. If it names none, nothing is drawn."""
    judged, scores = rollouts.judged, rollouts.scores
    if scores is None:
        axes.set(title="This robot's task has no course to draw", xlabel="s")
        return
    _draw_series(axes, [result for result in judged if result.success], scores.course, GOOD, 0.25, scores.factor)
    _draw_series(axes, [result for result in judged if not result.success], scores.course, BAD, 0.9, scores.factor)
    axes.set(title=scores.title, xlabel="s", ylabel=scores.unit, ylim=(0, None), xlim=(0, None))


def _draw_series(
    axes: Axes, results: Sequence[EpisodeResult], name: str, color: str | None, alpha: float, factor: float = 1.0
) -> None:
    for result in (one for one in results if name in one.metrics):
        times, values = np.transpose(result.metrics[name])
        axes.plot(times, factor * values, color=color, alpha=alpha, linewidth=1.1, drawstyle="steps-post")


def _replay_figure(figure_type: type[Figure], rollouts: Rollouts) -> Figure:
    """One row per kind of error, one line per recording."""
    names = error_names(name for result in rollouts.judged for name in result.metrics)
    figure = figure_type(figsize=(9, 0.6 + 2 * max(len(names), 1)), layout="constrained")
    rows = figure.subplots(max(len(names), 1), 1, squeeze=False)[:, 0]
    for axes, name in zip(rows, names, strict=False):
        what, unit, factor = replay_error(name)
        _draw_series(axes, rollouts.judged, name, None, 0.8, factor)
        axes.set(title=f"Command against recording: {what}", xlabel="s", ylabel=unit, xlim=(0, None), ylim=(0, None))
    return figure
