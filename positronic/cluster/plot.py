"""The picture of a sweep: losses over the steps, success when it was evaluated, else how long each job took."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from positronic.cluster.record import FINISHED, RUNNING
from positronic.cluster.results import Curve, Result
from positronic.utils.plotting import BAD, BLUE, FAINT, GOOD, INK, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#3b7dd8", "#1f9d74", "#d64550", "#e0a030", "#8a63d2", "#30a8b8", "#b0588f", "#6b8e23")
PANEL_INCHES, ROW_INCHES = 3.2, 0.22
MOST_BARS = 60
MOST_WORDS = 46  # characters of a job's name beside its curve
SMOOTHED = 200  # points of a curve that can still be told apart


def sweep_png(results: Sequence[Result]) -> bytes:
    """As PNG. Raises PositronicError without matplotlib."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # an instruction's 拿起 becomes boxes
        return png(partial(_figure, results=results))


def label(result: Result) -> str:
    """Which job: its folder's name and what makes it another than its neighbours."""
    values = " ".join(f"{key}={value}" for key, value in result.varying.items())
    text = " ".join(f"{result.name}  {values}".split("\n")) if values else result.name
    text = text if len(text) <= MOST_WORDS else f"{text[: MOST_WORDS - 1]}…"
    return text.replace("$", r"\$")  # which begins a formula


def _figure(figure_type: type[Figure], results: Sequence[Result]) -> Figure:
    panels = list(_panels(results))
    heights = [height for height, _ in panels]
    figure = figure_type(figsize=(9, sum(heights) + 0.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(panels), 1, height_ratios=heights))
    for each, (_, draw) in zip(axes, panels, strict=True):
        draw(each)
    return figure


def _panels(results: Sequence[Result]) -> list[tuple[float, Callable[[Axes], None]]]:
    """Height in inches of each part of the picture, and what draws it."""
    found: list[tuple[float, Callable[[Axes], None]]] = []
    for title, curve_of in (
        ("Loss", lambda each: each.loss),
        ("Loss of held-out episodes", lambda each: each.val_loss),
    ):
        if any(curve_of(result).values for result in results):
            found.append((PANEL_INCHES, partial(_draw_curves, results=results, title=title, curve_of=curve_of)))
    evaluated = [result for result in results if result.interval_95 is not None]
    if evaluated:
        shown = sorted(evaluated, key=lambda result: -(result.success_rate or 0))[:MOST_BARS]
        found.append((_height(shown), partial(_draw_success, results=shown)))
    if not found:
        shown = list(results[:MOST_BARS])
        found.append((_height(shown), partial(_draw_times, results=shown)))
    return found


def _height(rows: Sequence[Result]) -> float:
    return 1.0 + ROW_INCHES * len(rows)


def _draw_curves(axes: Axes, results: Sequence[Result], title: str, curve_of: Callable[[Result], Curve]) -> None:
    """The best in colours and by name, the others thin and grey: fifty colours cannot be told apart."""
    drawn = [result for result in results if curve_of(result).values]
    ranked = sorted(drawn, key=lambda result: curve_of(result).best or 0)
    named = sorted(ranked[: len(COLOURS)], key=results.index)
    for result in drawn:
        if result not in named:
            axes.plot(*_points(curve_of(result)), color=FAINT, linewidth=0.7, alpha=0.6)
    for color, result in zip(COLOURS, named, strict=False):
        marker = "o" if len(curve_of(result).values) < 3 else None
        axes.plot(*_points(curve_of(result)), color=color, linewidth=1.5, marker=marker, label=label(result))
    if all(value > 0 for result in drawn for value in curve_of(result).values):
        axes.set_yscale("log")
    others = len(drawn) - len(named)
    axes.set(title=title + (f"; the best {len(named)}, and {others} more in grey" if others else ""), xlabel="step")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)


def _points(curve: Curve) -> tuple[Sequence[int], Sequence[float]]:
    """Every so many points averaged, where there are more than can be seen."""
    width = len(curve.values) // SMOOTHED
    if width < 2:
        return curve.steps, curve.values
    whole = len(curve.values) // width * width
    means = np.reshape(np.asarray(curve.values)[:whole], (-1, width)).mean(axis=1)
    return list(curve.steps[width - 1 : whole : width]), list(means)


def _draw_success(axes: Axes, results: Sequence[Result]) -> None:
    names = [label(result) for result in results]
    places = range(len(results))
    ends = 100 * np.array([result.interval_95 for result in results]).T
    axes.barh(places, [100 * (result.success_rate or 0) for result in results], color=GOOD, alpha=0.35, height=0.6)
    axes.hlines(places, *ends, color=INK, linewidth=1.5)
    axes.set_yticks(places, names, fontsize=7)
    axes.set(title="Success, with 95 % interval", xlabel="%", xlim=(0, 100.5), ylim=(len(results) - 0.5, -0.5))


def _draw_times(axes: Axes, results: Sequence[Result]) -> None:
    places = range(len(results))
    colours = {FINISHED: GOOD, RUNNING: BLUE}
    minutes = [result.report.wall_sec / 60 for result in results]
    axes.barh(places, minutes, color=[colours.get(result.report.state, BAD) for result in results], height=0.6)
    axes.set_yticks(places, [label(result) for result in results], fontsize=7)
    axes.set(title="Wall time", xlabel="min", ylim=(len(results) - 0.5, -0.5))
