"""The picture of a comparison: rates, differences, and which seed went how."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from positronic.rollout.comparison import Comparison
from positronic.utils.plotting import BAD, BLUE, FAINT, GOOD, INK, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW_INCHES = 0.42
MOST_SEEDS = 200  # drawn one by one


def comparison_png(comparison: Comparison) -> bytes:
    """As PNG."""
    return png(partial(_figure, comparison=comparison))


def _figure(figure_type: type[Figure], comparison: Comparison) -> Figure:
    count = len(comparison.evaluations)
    heights = [count, count - 1, count]
    figure = figure_type(figsize=(9, 2.4 + ROW_INCHES * sum(heights)), layout="constrained")
    rates, differences, seeds = figure.subplots(3, 1, height_ratios=[each + 1 for each in heights])
    _draw_rates(rates, comparison)
    _draw_differences(differences, comparison)
    _draw_seeds(seeds, comparison)
    return figure


def _draw_rates(axes: Axes, comparison: Comparison) -> None:
    names = [each.name for each in comparison.evaluations]
    rates = [100 * comparison.successes(each) / len(comparison.seeds) for each in comparison.evaluations]
    ends = 100 * np.array([comparison.interval(each) for each in comparison.evaluations]).T
    axes.barh(names, rates, color=GOOD, alpha=0.35, height=0.6)
    axes.hlines(names, *ends, color=INK, linewidth=1.5)
    axes.plot(rates, names, "o", color=INK, markersize=4)
    axes.set(title="Success, with 95 % interval", xlabel="%", xlim=(0, 100.5))
    axes.invert_yaxis()


def _draw_differences(axes: Axes, comparison: Comparison) -> None:
    """Each beside the first; what is not decided is grey, though its interval may leave out 0."""
    for place, other in enumerate(comparison.others):
        points, (low, high) = 100 * other.pairs.difference, (100 * end for end in other.pairs.interval)
        color = BLUE if other.is_decided else FAINT
        axes.hlines(place, low, high, color=color, linewidth=3)
        axes.plot(points, place, "o", color=color, markersize=6)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(comparison.others)), [other.evaluation.name for other in comparison.others])
    span = max(abs(100 * end) for other in comparison.others for end in other.pairs.interval) * 1.08
    title = f"Difference from {comparison.first.name} on the same seeds, with 95 % interval"
    axes.set(title=title, xlabel="points", xlim=(-span, span), ylim=(len(comparison.others) - 0.5, -0.5))


def _draw_seeds(axes: Axes, comparison: Comparison) -> None:
    seeds = comparison.seeds if len(comparison.seeds) <= MOST_SEEDS else comparison.differing[:MOST_SEEDS]
    for place, each in enumerate(comparison.evaluations):
        for good, color in ((True, GOOD), (False, BAD)):
            at = [column for column, seed in enumerate(seeds) if each.outcomes[seed] is good]
            axes.plot(at, [place] * len(at), "s", color=color, markersize=min(7.0, 560 / max(len(seeds), 1)))
    axes.set_yticks(range(len(comparison.evaluations)), [each.name for each in comparison.evaluations])
    shown = range(0, len(seeds), max(1, len(seeds) // 12))
    axes.set_xticks(list(shown), [str(seeds[column]) for column in shown])
    all_of_them = len(seeds) == len(comparison.seeds)
    axes.set(title="Success (green) and no success (red) by seed" if all_of_them else "Seeds that went differently")
    axes.set(xlabel="seed", ylim=(len(comparison.evaluations) - 0.5, -0.5))
