"""stage=compare models={...}: several models from one recording, trained, served and evaluated, on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from positronic.errors import PositronicError
from positronic.utils.command_line import again
from positronic.utils.files import replace_text

if TYPE_CHECKING:
    from positronic.cluster.models import Model
    from positronic.cluster.record import Task
    from positronic.cluster.states import JobReport
    from positronic.rollout.comparison import Comparison
    from positronic.stages.compare import Compare, ModelsCompared

MODELS_FILE, JOBS_FILE = "models.json", "jobs.txt"  # the latter says where the jobs of the last command are
CHECKPOINTS, ROLLOUTS = "checkpoints", "rollouts"


def compare_models(config: Compare) -> ModelsCompared:
    """Bake for, train, serve and evaluate each model, and write the page. What is finished is not done again.

    Raises PositronicError when no model could be evaluated.
    """
    from positronic.cluster.chain import run_tasks
    from positronic.cluster.models import models_dict
    from positronic.stages.compare import ModelsCompared

    place = _local(config)
    _require_ended(place)
    tasks = tasks_of(config.chains)
    everything = [task for group in tasks.values() for task in group]
    sweep, reports = run_tasks(
        everything, config.cluster, config.sweep, "models", lambda folder: replace_text(place / JOBS_FILE, str(folder))
    )
    if reports is None:
        print(f"  page:    when all have ended, type the same command again:\n  {again()}")
        return ModelsCompared(str(place), [], None)
    models = _read(config, place, tasks, reports)
    replace_text(place / MODELS_FILE, json.dumps(models_dict(models), indent=1) + "\n")
    comparison = _page(config, place, models)
    if all(model.missing for model in models):
        raise PositronicError(
            f"No model was evaluated: see the table above and the logs in {sweep.folder}. To go on, type:\n  {again()}"
        )
    return ModelsCompared(str(place), models, comparison)


def tasks_of(chains: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, list[Task]]:
    """The jobs of each model. Models that learn from the same dataset share its bake, which belongs to the first."""
    from positronic.cluster.record import Task
    from positronic.stages.pipeline import is_done, joined
    from positronic.utils.command_line import own_files

    flags, bakes, found = own_files(), dict[tuple[str, ...], str](), dict[str, list[Task]]()
    for name, (convert, train, *served) in chains.items():
        tasks, bake = [], tuple(convert)
        if bake not in bakes:
            bakes[bake] = "" if is_done(convert) else f"{name}_convert"
            tasks += [Task(f"{name}_convert", (*convert, *flags))] if bakes[bake] else []
        needed = (bakes[bake],) if bakes[bake] else ()
        tasks.append(Task(f"{name}_train", (*train, *flags), after=needed))
        tasks.append(Task(f"{name}_evaluate", (*joined(served), *flags), after=(f"{name}_train",)))
        found[name] = tasks
    return found


def _local(config: Compare) -> Path:
    from positronic.storage import is_remote, local_path

    if is_remote(str(config.output_dir)):
        raise PositronicError(
            f"output_dir={config.output_dir}: models are trained and compared in a folder of this machine, or one that "
            "all nodes see. Type output_dir=<folder>."
        )
    place = local_path(str(config.output_dir))
    place.mkdir(parents=True, exist_ok=True)
    return place


def _require_ended(place: Path) -> None:
    """Raise PositronicError while jobs of an earlier command still write into ``place``."""
    from positronic.cluster.record import SWEEP_FILE, read_sweep
    from positronic.cluster.states import states_of
    from positronic.utils.command_line import command

    noted = place / JOBS_FILE
    folder = Path(noted.read_text()) if noted.exists() else None
    if folder is None or not (folder / SWEEP_FILE).exists():
        return
    if any(not report.final and report.seen for report in states_of(read_sweep(folder))):
        raise PositronicError(
            f"Jobs of an earlier command still work on {place}. Type this again when they have ended; to watch them:\n"
            f"  {command('sweep', {'sweep': str(folder), 'watch': 'true'})}"
        )


def _read(
    config: Compare, place: Path, tasks: Mapping[str, Sequence[Task]], reports: Sequence[JobReport]
) -> list[Model]:
    from positronic.cluster.models import read_model, why_missing

    by_name, earlier, models = {report.task.name: report for report in reports}, _earlier(place), []
    for name, group in tasks.items():
        model = read_model(name, config.models[name], place / CHECKPOINTS / name, place / ROLLOUTS / name)
        shared = [other for task in group for other in task.after if other not in {each.name for each in group}]
        missing = why_missing([by_name[each] for each in [*shared, *(task.name for task in group)]])
        before_steps, before_sec = earlier.get(name, (0, 0.0))
        lasted = by_name[f"{name}_train"].wall_sec
        train_sec = before_sec + lasted if (model.steps or 0) > before_steps else before_sec
        models.append(replace(model, train_sec=train_sec or None, missing=missing or model.missing))
    return models


def _earlier(place: Path) -> dict[str, tuple[int, float]]:
    """Steps and seconds of training that an earlier run of the same comparison has noted."""
    try:
        noted = json.loads((place / MODELS_FILE).read_text())
        return {each["name"]: (each["steps"] or 0, each["train_sec"] or 0.0) for each in noted}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _page(config: Compare, place: Path, models: Sequence[Model]) -> Comparison | None:
    from rich.console import Console

    from positronic.cluster.models import curves_png, models_html, models_table
    from positronic.rollout.document import document
    from positronic.stages.compare import PAGE_FILE, compare_folders

    section = models_html(models, curves_png(models))
    evaluated = [model.name for model in models if model.episodes]
    Console().print(models_table(models), highlight=False)
    if len(evaluated) > 1:
        folders = [str(place / ROLLOUTS / name) for name in evaluated]
        return compare_folders(folders, config.storage, str(place), config.save_videos, section=section).comparison
    replace_text(place / PAGE_FILE, document(" beside ".join(model.name for model in models), section))
    print(f"  page:     {place / PAGE_FILE}")
    return None
