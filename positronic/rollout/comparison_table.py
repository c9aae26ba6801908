"""A comparison as tables, for people to read in a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from positronic.rollout.comparison import Comparison, advice, sentence


def comparison_table(comparison: Comparison) -> Group:
    """Each evaluation's rate, each difference from the first, and what is to be said about them."""
    n = len(comparison.seeds)
    left_out = f"; {comparison.left_out} that not all have finished are left out" if comparison.left_out else ""
    rates = Table("evaluation", "policy", "success", "95 % interval", title=Text(f"{n} seeds{left_out}"))
    for each in comparison.evaluations:
        low, high = comparison.interval(each)
        count = f"{comparison.successes(each)}/{n}"
        rates.add_row(*map(Text, (each.name, each.policy, count, f"{100 * low:.0f}-{100 * high:.0f} %")))
    against = Table(
        f"beside {comparison.first.name}", "difference", "95 % interval", "p", "only the first", "only this one"
    )
    for other in comparison.others:
        low, high = other.pairs.interval
        cells = (
            other.evaluation.name,
            f"{100 * other.pairs.difference:+.3g} points",
            f"{100 * low:+.3g} to {100 * high:+.3g}",
            f"{other.p_value:.2g}",
            f"{len(other.pairs.first_alone)} seeds",
            f"{len(other.pairs.second_alone)} seeds",
        )
        against.add_row(*map(Text, cells))
    said = [sentence(comparison, other) for other in comparison.others]
    more = advice(comparison)
    return Group(rates, against, *map(Text, [*said, *([more] if more else [])]))
