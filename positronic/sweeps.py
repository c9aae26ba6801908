"""``+cluster=<name>``: the runs of a grid become jobs.

A sweeper of Hydra, and no launcher: Hydra's own sweeper makes the folder before it knows whether the grid is right.
Each job is the command that a person would type for that run alone, and is composed as such before anything is made.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from positronic import overrides as typed_overrides
from positronic.cluster import submission, watch
from positronic.cluster.announcing import announcement
from positronic.cluster.closing import close
from positronic.cluster.record import FINISHED, Sweep, Task
from positronic.cluster.states import states_of
from positronic.composition import compose_config, stop
from positronic.config import CONF, INTERRUPTED, compose, disk_in_a_sentence, typed
from positronic.errors import PositronicError
from positronic.schemas import raw_values
from positronic.stages.base import Parts
from positronic.stages.convert import Convert
from positronic.stages.inputs import place_of_results, require_free_place, require_inputs
from positronic.stages.sharding import tasks_of
from positronic.stages.train import Train
from positronic.utils.command_line import RUN, Composed, key_of, own_files, spelt
from positronic.utils.processes import interruptible
from positronic.utils.secrets import SECRETS

OF_THE_SWEEP = ("cluster", "sweep")  # what is typed for all jobs together, and for none of them
OWN_FOLDER = {"train": "", "infer": "rollouts"}  # where a job's results go if no folder is typed, in its own
SWEEP_DIR = "hydra.sweep.dir"
WANDB = "wandb"  # of the files in conf/tracker
OWN_CONF = "conf"  # own config files, in the sweep's folder


def run_sweep(cfg: DictConfig, arguments: Sequence[str]) -> None:
    """Submit the grid that was typed. ``cfg``: composed of its first run. SystemExit with a sentence for a refusal,
    with 1 if a job failed, and with 130 for Ctrl-C."""
    try:
        with interruptible(), disk_in_a_sentence():
            submit_grid(cfg, typed_overrides.parse(arguments))
    except PositronicError as error:
        raise stop(error) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def submit_grid(cfg: DictConfig, parsed: Sequence[Override]) -> None:
    """Submit each run of a grid. ``cfg``: composed of the first one. ``parsed``: what was typed."""
    config = typed(cfg)
    _check_sweep_values(parsed)
    own = own_files()
    alone = [_alone(job) for job in _grid(parsed)]
    check_preset(cfg, alone[0], own)
    swept = {override.key_or_group for override in parsed if override.is_sweep_override()}
    name = config.sweep.name or str(cfg.stage)
    planned = Path(submission.MULTIRUN).absolute() / "<date>" / f"<time>_{name}"
    tasks_in(planned, alone, own, swept, check=True)
    submission.check([], config.cluster)
    folder = _folder(cfg, name)
    try:
        tasks = tasks_in(folder, alone, _copied(own, folder), swept)
        sweep = submission.submit(tasks, config.cluster, folder, name, _command())
    except BaseException:
        submission.remove_empty(folder)
        raise
    follow(sweep, config.sweep.wait)


def follow(sweep: Sweep, wait: bool, names: Sequence[str] | None = None) -> None:
    """Say where the jobs are, start those of this machine, and wait for all if ``wait``.

    ``names``: of the jobs that were just submitted; None is all. SystemExit with 1 if one of them did not finish.
    """
    print(announcement(sweep, names), flush=True)
    if submission.is_here(sweep):
        submission.run_here(sweep, names, wait)
    if not wait:
        return
    reports = states_of(sweep) if submission.is_here(sweep) else watch.wait(sweep)
    close(sweep, reports)
    if any(report.state != FINISHED for report in reports if names is None or report.task.name in names):
        raise SystemExit(1)


def tasks_in(
    folder: Path, alone: Sequence[Sequence[str]], own: Sequence[str], swept: Collection[str], check: bool = False
) -> list[Task]:
    """The tasks of a sweep in ``folder``: one for each run, and before them one for each dataset that is missing.

    ``alone``: what is typed for each run. ``own``: the flag of own config files. ``check``: raise PositronicError for a
    run that cannot be, or two that would write into one folder.
    """
    tasks: list[Task] = []
    bakes: dict[tuple[str, ...], str] = {}
    places: dict[str, str] = {}
    for number, typed_here in enumerate(alone):
        name = str(number)
        arguments = [*typed_here, *_own_place(typed_here, folder / name, own)]
        config, composed = compose(arguments, own[1] if own else None), Composed(tuple(arguments))
        with _saying(typed_here, len(alone)):
            bake = require_inputs(config, composed._replace(overrides=tuple(typed_here)))
            arguments += _own_group(config, folder)
            if check:
                require_free_place(config)
                _require_own_place(config, name, places)
        after = ()
        if bake is not None:
            after = (bakes.setdefault(tuple(bake), f"bake_{len(bakes)}"),)
        varying = {key_of(each).lstrip("+"): each.partition("=")[2] for each in typed_here}
        varying = {key: value for key, value in varying.items() if key in swept}
        with _saying(typed_here, len(alone)):
            parts = _in_shards(config, arguments, own, "" if len(alone) == 1 else f"{name}_", check)
        whole = Task(name, (*arguments, *own), varying, after)
        tasks += [replace(part, varying=varying | part.varying) for part in parts] or [whole]
    return [*(Task(name, (*arguments, *own)) for arguments, name in bakes.items()), *tasks]


def _in_shards(config: Parts, arguments: Sequence[str], own: Sequence[str], before: str, check: bool) -> list[Task]:
    """The jobs of a bake that is split, whose names begin with ``before``; empty for every other run."""
    return tasks_of(config, arguments, own, before, check) if isinstance(config, Convert) else []


def check_preset(cfg: DictConfig, first: Sequence[str], own: Sequence[str]) -> None:
    """Raise PositronicError if the file of ``+cluster`` says more than where jobs run: no job would know it."""
    theirs = raw_values(cfg)
    ours = raw_values(compose_config(first, CONF, Path(own[1]) if own else None))
    for key, value in theirs.items():
        if key.partition(".")[0] in OF_THE_SWEEP or key == "output_dir" or ours.get(key, value) == value:
            continue
        raise PositronicError(
            f"The file of +cluster sets {key}={value}. Expected values of cluster alone: jobs are commands without"
            f" +cluster. Type {key}={value} with the command, or put it into a file of experiment/."
        )


def _grid(parsed: Sequence[Override]) -> list[list[Override]]:
    (jobs,) = BasicSweeper.split_arguments(list(parsed), None)
    return [typed_overrides.parse(job) for job in jobs]


def _alone(job: Sequence[Override]) -> list[str]:
    """What a person types for this run alone. Raises PositronicError for a text that would not arrive as it is."""
    kept = [each for each in job if each.key_or_group.partition(".")[0] not in OF_THE_SWEEP]
    for override in kept:
        key, value = override.key_or_group, override.value()
        if key.rpartition(".")[2] in SECRETS and value and not str(value).startswith("${"):
            raise PositronicError(
                f"{key} would be written into the sweep's folder. Put it into a variable of the environment, and type "
                f"'{key}=${{oc.env:<NAME>}}'."
            )
    return [_typed_again(override) for override in kept]


def _typed_again(override: Override) -> str:
    text = typed_overrides.as_typed(override)
    for candidate in (text, text.replace(r"\${", "${")):
        (again,) = typed_overrides.parse(typed_overrides.in_grammar([candidate], False))
        if again.value() == override.value():
            return candidate
    raise PositronicError(f"{text} cannot be handed on to a job as it is. Type it without backslashes before ${{.")


def _own_place(typed_here: Sequence[str], folder: Path, own: Sequence[str]) -> list[str]:
    """Where the results of a run go, if nobody typed it."""
    if any(key_of(each) == "output_dir" for each in typed_here):
        return []
    stage = next(each.partition("=")[2] for each in typed_here if key_of(each) == "stage")
    if stage in OWN_FOLDER:
        return [f"output_dir={folder / OWN_FOLDER[stage]}"]
    place = getattr(compose(typed_here, own[1] if own else None), "output_dir", None)
    return [] if place is None else [f"output_dir={place}"]


def _own_group(config: Parts, folder: Path) -> list[str]:
    """The group at Weights & Biases of a training that reports there, if nobody typed one: the sweep's folder."""
    if not isinstance(config, Train) or config.tracker.name != WANDB or config.tracker.group is not None:
        return []
    return [f"tracker.group={folder.parent.name}_{folder.name}"]


def _require_own_place(config: Parts, name: str, places: dict[str, str]) -> None:
    place = place_of_results(config)
    if place is None:
        return
    other = places.setdefault(place, name)
    if other != name:
        raise PositronicError(
            f"Jobs {other} and {name} would both write into {place}. Leave output_dir= out, so that each has a folder"
            " of its own, or sweep over it too."
        )


@contextmanager
def _saying(typed_here: Sequence[str], count: int) -> Iterator[None]:
    """Which run of several a refusal is about."""
    try:
        yield
    except PositronicError as error:
        if count == 1:
            raise
        raise PositronicError(
            f"{error}\nThat is about the job\n  {spelt(typed_here)}\nNothing was submitted."
        ) from None


def _check_sweep_values(parsed: Sequence[Override]) -> None:
    for override in parsed:
        part = override.key_or_group.partition(".")[0]
        if part in OF_THE_SWEEP and override.is_sweep_override():
            raise PositronicError(
                f"{override.input_line}: {override.key_or_group} is one value for all jobs of a command. Type one"
                " value, and the command once for each."
            )


def _folder(cfg: DictConfig, name: str) -> Path:
    """The new folder of the sweep; the one that was typed, if any. Raises PositronicError if that is not empty."""
    chosen = [each.partition("=")[2] for each in cfg.hydra.overrides.hydra if key_of(each) == SWEEP_DIR]
    if not chosen:
        return submission.new_sweep_folder(name)
    folder = Path(OmegaConf.select(cfg, SWEEP_DIR)).absolute()
    if folder.exists() and any(folder.iterdir()):
        raise PositronicError(
            f"{SWEEP_DIR}={folder} is not empty. Type a new folder; to go on with the sweep that is there, type "
            f"{RUN} stage=sweep sweep={folder} resubmit=failed."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copied(own: Sequence[str], folder: Path) -> list[str]:
    """The flag of own config files, which lie in the sweep's folder now: a job uses those of the submission."""
    if not own:
        return []
    kept = folder / OWN_CONF
    shutil.copytree(own[1], kept)
    return [own[0], str(kept)]


def _command() -> str:
    return " ".join([RUN, *map(shlex.quote, sys.argv[1:])])
