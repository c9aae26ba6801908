"""What each job of a sweep has achieved so far, from what its stage writes anyway: provenance, metrics, report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from positronic.cluster.record import FINISHED, LOG_FILE, Sweep
from positronic.cluster.states import JobReport
from positronic.errors import PositronicError
from positronic.rollout.results import wilson_interval
from positronic.storage.config import StorageConfig
from positronic.storage.uri import is_remote, join
from positronic.training.checkpoints import CHECKPOINTS, ID_DIGITS, VAL_LOSS, list_checkpoints
from positronic.training.experiment import METRICS_FILE
from positronic.utils.provenance import PROVENANCE_FILE

if TYPE_CHECKING:
    from positronic.storage.place import Place

LAST_LINES = 6
TAIL_BYTES = 4096


@dataclass(frozen=True)
class Curve:
    """A value over the steps of a training: ``steps`` and ``values``, of the same length."""

    steps: Sequence[int] = ()
    values: Sequence[float] = ()

    @property
    def last(self) -> float | None:
        return self.values[-1] if self.values else None

    @property
    def best(self) -> float | None:
        """The lowest."""
        return min(self.values, default=None)

    @property
    def best_step(self) -> int | None:
        """Where the lowest value is."""
        return self.steps[self.values.index(min(self.values))] if self.values else None


@dataclass(frozen=True)
class Result:
    """A job's row. ``varying``: what differs between the jobs. ``stage``: what it runs; empty before it has begun.

    ``place``: where its results lie. ``steps``: done, of ``of_steps``; of an evaluation, episodes. ``loss`` and
    ``val_loss``: over the steps; the latter of held-out episodes. ``checkpoint``: the best one by the held-out loss,
    else the last one. ``successes`` of ``episodes``: of an evaluation. ``last_lines``: of the log of a job that failed.
    """

    report: JobReport
    varying: Mapping[str, str]
    stage: str = ""
    place: str | None = None
    steps: int | None = None
    of_steps: int | None = None
    loss: Curve = Curve()
    val_loss: Curve = Curve()
    checkpoint: str | None = None
    successes: int | None = None
    episodes: int | None = None
    last_lines: Sequence[str] = ()

    @property
    def name(self) -> str:
        return self.report.task.name

    @property
    def success_rate(self) -> float | None:
        return self.successes / self.episodes if self.episodes and self.successes is not None else None

    @property
    def interval_95(self) -> tuple[float, float] | None:
        """Wilson's, both ends 0..1."""
        return wilson_interval(self.successes, self.episodes) if self.episodes and self.successes is not None else None


def results_of(sweep: Sweep, reports: Sequence[JobReport], remote: bool = True) -> list[Result]:
    """A row for each job. ``remote``: also of results in a bucket, which takes a request or two for each job."""
    return [_result(sweep, report, remote) for report in reports]


def varying_keys(results: Sequence[Result]) -> list[str]:
    """What differs between the jobs, in the order in which it was typed."""
    return list(dict.fromkeys(key for result in results for key in result.varying))


def _result(sweep: Sweep, report: JobReport, remote: bool) -> Result:
    lines = _last_lines(report)
    config = _config_of(report.folder)
    stage = str(config.get("stage", ""))
    place = _place_of(sweep, report, config)
    known: dict[str, Any] = {"stage": stage, "place": place, "last_lines": lines}
    if place is None or (is_remote(place) and not remote):
        return Result(report, report.task.varying, **known)
    if stage == "train":
        known |= _of_training(place, config)
    elif stage == "infer":
        known |= _of_evaluation(place, config)
    return Result(report, report.task.varying, **known)


def _config_of(folder: Path) -> Mapping[str, Any]:
    """The config that a job began with; empty before it has."""
    try:
        config = json.loads((folder / PROVENANCE_FILE).read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}


def _place_of(sweep: Sweep, report: JobReport, config: Mapping[str, Any]) -> str | None:
    """Where the job's results lie, as seen from this machine; None if they have no folder of their own."""
    place = config.get("output_dir")
    if not isinstance(place, str):
        return None
    if config.get("stage") == "train":
        place = str(join(place, str(config.get("exp_name", ""))))
    if is_remote(place):
        return place
    absolute = Path(sweep.directory, place)
    own = f"/{sweep.folder.resolve().name}/{report.task.name}/"
    below = f"{absolute}/".partition(own)[2] if own in f"{absolute}/" else None
    if below is not None and not absolute.exists():  # the same folder, which has another path on this machine
        absolute = report.folder / below
    return str(absolute)


def _of_training(place: str, config: Mapping[str, Any]) -> dict[str, Any]:
    folder = _opened(place, config)
    rows = list(_rows(_read(folder, METRICS_FILE)))
    loss, val_loss = _curve(rows, "loss"), _curve(rows, VAL_LOSS)
    steps = max((row["step"] for row in rows), default=None)
    checkpoints = [each.id for each in _checkpoints(folder)]
    best = f"{val_loss.best_step or 0:0{ID_DIGITS}d}"
    chosen = best if best in checkpoints else checkpoints[-1] if checkpoints else None
    return {
        "steps": steps,
        "of_steps": config.get("num_train_steps"),
        "loss": loss,
        "val_loss": val_loss,
        "checkpoint": None if chosen is None else str(join(place, CHECKPOINTS, chosen)),
    }


def _of_evaluation(place: str, config: Mapping[str, Any]) -> dict[str, Any]:
    from positronic.rollout.campaign import REPORT_FILE  # late: it brings the robots with it

    driver = config.get("driver")
    planned = driver.get("num_episodes") if isinstance(driver, dict) else None
    try:
        report = json.loads(_read(_opened(place, config), REPORT_FILE) or b"")
        done = int(report["n"])
        return {"steps": done, "of_steps": planned, "successes": report["successes"], "episodes": done}
    except (ValueError, KeyError, TypeError):  # it is not there yet, or is damaged
        return {"of_steps": planned}


def _opened(place: str, config: Mapping[str, Any]) -> Place:
    from positronic.storage.folder import folder

    names = {field.name for field in fields(StorageConfig)}
    said = config.get("storage")
    storage = StorageConfig(**{name: value for name, value in said.items() if name in names}) if said else None
    if storage is not None:  # a table does not wait for long
        storage.retries, storage.timeout_sec = min(storage.retries, 1), min(storage.timeout_sec, 10.0)
    return folder(place, storage)


def _read(folder: Place, name: str) -> bytes | None:
    try:
        return folder.read_bytes(name)
    except (OSError, PositronicError):  # a bucket that cannot be reached leaves gaps in the table, and no more
        return None


def _checkpoints(folder: Place) -> Sequence[Any]:
    try:
        return list_checkpoints(folder)
    except (OSError, PositronicError):
        return []


def _rows(metrics: bytes | None) -> Iterator[Mapping[str, Any]]:
    """Those with a step. The last line may be half written, or cut by a kill."""
    for line in (metrics or b"").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row


def _curve(rows: Sequence[Mapping[str, Any]], name: str) -> Curve:
    """The finite values: a loss that is no number any more is not the best one."""
    told = [(row["step"], float(row[name])) for row in rows if isinstance(row.get(name), int | float)]
    told = [(step, value) for step, value in told if math.isfinite(value)]
    return Curve([step for step, _ in told], [value for _, value in told])


def _last_lines(report: JobReport) -> Sequence[str]:
    """What a job that did not finish said last."""
    if not report.final or report.state == FINISHED:
        return ()
    return list(report.last_lines)[-LAST_LINES:] or _tail(report.folder / LOG_FILE)


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()][-LAST_LINES:]
