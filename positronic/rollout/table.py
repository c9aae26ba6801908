"""A report as tables, for people to read."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from positronic.rollout.page import numbers
from positronic.rollout.report import Rollouts, headline, instruction_lines, report

SHOWN = 20


def rollouts_table(rollouts: Rollouts) -> Group:
    """The headline and the page's numbers, then the first episodes."""
    facts = report(rollouts)
    head = Table(title=Text(headline(rollouts)), show_header=False)
    said = {"rollouts": str(rollouts.root), "robot": rollouts.robot, "task": rollouts.task}
    said |= {"stopped": rollouts.stopped} if rollouts.stopped else {}
    for name, value in (*said.items(), *((what, value) for value, what in numbers(facts))):
        head.add_row(Text(name), Text(value))
    told = [Text(line) for line in instruction_lines(rollouts)]
    more = f"the first {SHOWN} of {len(facts['episodes'])}" if len(facts["episodes"]) > SHOWN else None
    table = Table("episode", "seed", "outcome", "success after, s", "lasted, s", "reason", caption=more)
    for episode in facts["episodes"][:SHOWN]:
        reached = "" if episode["success_sec"] is None else f"{episode['success_sec']:.2f}"
        cells = (episode["id"], episode["seed"], episode["outcome"], reached, f"{episode['duration_sec']:.2f}")
        table.add_row(*map(Text, map(str, cells)), Text(episode["reason"] or ""))
    return Group(head, *told, table)
