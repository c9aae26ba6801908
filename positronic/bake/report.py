"""What a bake did, as a file in the dataset and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from positronic.bake.episode import Duplicate, Rejected
from positronic.bake.reading import AGAIN, read_object
from positronic.errors import PositronicError
from positronic.raw.choice import Chosen
from positronic.raw.leftout import NOTHING, LeftOut
from positronic.utils.bullets import WRONG, bullets
from positronic.utils.html import as_html

REPORT_FILE = "meta/bake_report.json"
SHOWN = 20
TURNED = "turned_samples"
TURNED_SAYS = "turned to one sign"
TASK_CHARS = 120


@dataclass(frozen=True)
class BakeReport:
    """What the dataset holds, and how this bake went.

    ``tasks``: frames by task. ``bad_before``: bad episodes that earlier bakes of an appended dataset left out, as
    ``read_bad`` gives them. ``repeated``: episodes with the same content as another one. ``turned``: pose signal ->
    samples whose rotation has the other sign than in the recording. ``left_out``: what else lies in the raw dataset.
    ``notes``: an episode's id and what should be said about it.

    These are not in the file: ``chosen``, by what this bake's episodes were chosen, and ``held_out``, how many are not
    to be trained on, which the manifest says; ``findings``, sentences about numbers of this bake that look wrong;
    ``added_frames``, those of this bake; ``resumed``, how many of its episodes had been baked before; ``seconds``, how
    long it took.
    """

    output: str | Path
    episodes: int
    frames: int
    fps: int
    tasks: dict[str, int]
    rejected: tuple[Rejected, ...]
    duplicates: tuple[Duplicate, ...]
    bad_before: list[dict[str, Any]]
    repeated: int
    added_frames: int
    resumed: int
    seconds: float = 0.0
    turned: dict[str, int] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    left_out: LeftOut = NOTHING
    notes: tuple[tuple[int, str], ...] = ()
    chosen: Chosen | None = None
    held_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready. Nothing in it depends on time, machine or path."""
        bad = [{"episode": each.id, "uid": each.uid, "reason": each.reason} for each in self.rejected]
        bad = self.bad_before + bad
        counts = {"episodes": self.episodes, "frames": self.frames, "fps": self.fps, "bad_episodes": len(bad)}
        counts |= {"repeated_episodes": self.repeated, TURNED: self.turned}
        notes = [{"episode": episode, "note": note} for episode, note in self.notes]
        left_out = {"unfinished": list(self.left_out.unfinished), "dropped": self.left_out.dropped}
        return counts | {"tasks": self.tasks, "bad": bad, "notes": notes, "left_out": left_out}

    def __rich__(self) -> Group:
        """The table shown at the end."""
        title = f"Baked {self.output}"
        table = Table(title=Text(title), show_header=False, min_width=len(title))  # so that the path stays in one piece
        rate = f"{self.added_frames / self.seconds:.0f} frames/s" if self.seconds else ""
        rows = {
            "episodes": self.episodes,
            "frames": f"{self.frames} at {self.fps} fps",
            "took": f"{self.seconds:.1f} s, {rate}",
        }
        rows |= choice_rows(self.chosen, self.held_out, self.episodes)
        rows |= {f"task '{_short(task)}'": f"{frames} frames" for task, frames in list(self.tasks.items())[:SHOWN]}
        rows |= {"bad episodes": len(self.rejected)}
        rows |= {"added": f"{self.added_frames} frames"} if self.added_frames < self.frames else {}
        rows |= {"left out, there already": f"{len(self.duplicates)} episodes"} if self.duplicates else {}
        rows |= {"the same content twice": f"{self.repeated} episodes"} if self.repeated else {}
        rows |= {f"{name}: {TURNED_SAYS}": f"{count} samples" for name, count in self.turned.items() if count}
        rows |= {"from an interrupted bake": f"{self.resumed} episodes"} if self.resumed else {}
        rows |= self.left_out.rows()
        for name, value in rows.items():
            table.add_row(Text(name), Text(str(value)))
        notes = [notes_table(self.notes)] if self.notes else []
        rejected = [rejected_table(self.rejected)] if self.rejected else []
        return Group(table, *notes, *rejected, *self._looks_wrong())

    def _repr_html_(self) -> str:
        return as_html(self)

    def _looks_wrong(self) -> list[RenderableType]:
        if not self.findings:
            return []
        count = len(self.findings)
        head = f"{count} finding{'s' * (count > 1)} on the numbers (more with stage=stats report=true):"
        return [Text(head), bullets(self.findings, WRONG)]


def write_report(folder: Path, report: BakeReport) -> None:
    """Write it into a dataset's folder."""
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
    (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")


def read_bad(folder: Path) -> list[dict[str, Any]]:
    """The bad episodes that the report in a dataset's folder lists: ``episode``, ``uid``, ``reason``.

    Raises PositronicError for a report that is missing or damaged.
    """
    path = folder / REPORT_FILE
    bad = read_object(path).get("bad")
    if not isinstance(bad, list) or not all(isinstance(each, dict) and "uid" in each for each in bad):
        raise PositronicError(f"{path} is damaged: it lists no bad episodes by 'uid'. {AGAIN}")
    return bad


def read_turned(folder: Path) -> dict[str, int]:
    """Pose signal -> how many samples of the dataset in ``folder`` were turned; empty in datasets of older versions."""
    path = folder / REPORT_FILE
    return read_object(path).get(TURNED, {}) if path.is_file() else {}


def rejected_table(rejected: Sequence[Rejected]) -> Table:
    """Bad episodes with their reasons."""
    table = Table("episode", "left out because", title="Bad episodes")
    for each in rejected:
        table.add_row(str(each.id), Text(each.reason))  # what others wrote is no markup
    return table


def notes_table(notes: Sequence[tuple[int, str]]) -> Table:
    """The first episodes that were baked though something should be said of them."""
    table = Table("episode", "note", title=f"Notes ({len(notes)})")
    for episode, note in notes[:SHOWN]:
        table.add_row(str(episode), Text(note))
    return table


def bad_episodes_error(
    rejected: Sequence[Rejected], total: int, unseen: int = 0, are_all: bool = True
) -> PositronicError:
    """The error that stops a bake with ``on_bad_episode=stop``, or a bake without any good episode. ``unseen``:
    episodes whose pictures were no longer checked. ``are_all``: there are no others than these ``total``."""
    remedy = (
        "Mend or remove them, or leave them out with on_bad_episode=skip."
        if len(rejected) < total or not are_all
        else "There is no good episode; mend the recording, or choose a codec that needs other signals."
    )
    lines = [f"{each.path}: {each.reason}" for each in rejected]
    if unseen:
        remedy += f" After the first bad episode, the pictures of {unseen} more were not checked."
    return _listing(f"{len(rejected)} of {total} episodes are bad; nothing was published:", lines, remedy)


def duplicates_error(duplicates: Sequence[Duplicate], total: int) -> PositronicError:
    """The error that stops a bake with ``append=true on_duplicate=stop``."""
    head = f"{len(duplicates)} of {total} episodes are already in the dataset; nothing was added:"
    lines = [f"{each.path}: the same content as episode {each.index}" for each in duplicates]
    return _listing(head, lines, "Leave them out with on_duplicate=skip.")


def choice_rows(chosen: Chosen | None, held_out: int, episodes: int) -> dict[str, str]:
    """Label -> text, for a table; empty when all episodes were baked to be trained on."""
    rows = {}
    if chosen is not None:
        rows["chosen"] = str(chosen)
    if held_out:
        rows["held out"] = f"{held_out} of {episodes}, not trained on and in no statistics"
    return rows


def _short(task: str) -> str:
    return task if len(task) <= TASK_CHARS else f"{task[:TASK_CHARS]}..."


def _listing(head: str, lines: Sequence[str], remedy: str) -> PositronicError:
    shown = [f"  {line}" for line in lines[:SHOWN]]
    more = [f"  ... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return PositronicError("\n".join([head, *shown, *more, remedy]))
