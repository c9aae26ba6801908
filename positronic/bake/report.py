"""What a bake did, as a file in the dataset and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from positronic.bake.episode import Rejected
from positronic.errors import PositronicError

REPORT_FILE = "meta/bake_report.json"
SHOWN = 20


@dataclass(frozen=True)
class BakeReport:
    """``tasks``: frames by task. ``seconds``: how long it took, not in the file."""

    output: str | Path
    episodes: int
    frames: int
    fps: int
    tasks: dict[str, int]
    rejected: tuple[Rejected, ...]
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; nothing of time, machine or path."""
        bad = [{"episode": each.id, "uid": each.uid, "reason": each.reason} for each in self.rejected]
        counts = {"episodes": self.episodes, "frames": self.frames, "fps": self.fps, "bad_episodes": len(bad)}
        return counts | {"tasks": self.tasks, "bad": bad}

    def __rich__(self) -> Group:
        """The table shown at the end."""
        table = Table(title=f"Baked {self.output}", show_header=False)
        rate = f"{self.frames / self.seconds:.0f} frames/s" if self.seconds else ""
        rows = {
            "episodes": self.episodes,
            "frames": f"{self.frames} at {self.fps} fps",
            "took": f"{self.seconds:.1f} s, {rate}",
        }
        rows |= {f"task '{task}'": f"{frames} frames" for task, frames in list(self.tasks.items())[:SHOWN]}
        for name, value in (rows | {"bad episodes": len(self.rejected)}).items():
            table.add_row(name, str(value))
        return Group(table, *([rejected_table(self.rejected)] if self.rejected else []))


def write_report(folder: Path, report: BakeReport) -> None:
    """Write it into a dataset's folder."""
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
    (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")


def rejected_table(rejected: Sequence[Rejected]) -> Table:
    """Bad episodes with their reasons."""
    table = Table("episode", "left out because", title="Bad episodes")
    for each in rejected:
        table.add_row(str(each.id), each.reason)
    return table


def bad_episodes_error(rejected: Sequence[Rejected], total: int) -> PositronicError:
    """What stops a bake with ``on_bad_episode=stop``, or one that has no good episode."""
    lines = [f"  {each.path}: {each.reason}" for each in rejected[:SHOWN]]
    more = [f"  ... and {len(rejected) - SHOWN} more"] if len(rejected) > SHOWN else []
    remedy = (
        "Mend or remove them, or leave them out with on_bad_episode=skip."
        if len(rejected) < total
        else "There is no good episode; mend the recording, or choose a codec that needs other signals."
    )
    head = f"{len(rejected)} of {total} episodes are bad; nothing was written:"
    return PositronicError("\n".join([head, *lines, *more, remedy]))
