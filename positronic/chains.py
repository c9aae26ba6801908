"""What is typed once for several stages, as one command for each of them.

``stage=pipeline`` runs one chain of stages, ``stage=compare models={...}`` one chain for each model. Each command is
complete: typed by hand it does the same. All are composed before the first one runs, so that a value which the last
stage would refuse is refused before the first one begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from positronic.errors import PositronicError, did_you_mean, listing
from positronic.overrides import as_typed
from positronic.reads import CHECKPOINT_SAYS, owners
from positronic.refusals import PRESETS
from positronic.schemas import own_parameters, raw_values
from positronic.utils.command_line import RESUME, key_of

NAME = re.compile(r"[\w-]+")  # of a model, and so of its folders
PIPELINE, COMPARE = "pipeline", "compare"
OF_THE_JOBS = ("cluster", "sweep")
RECORDERS = ("collect", "import")  # stages that make recordings
CHAINABLE = (*RECORDERS, "convert", "train", "serve", "infer")  # in the only order that makes sense
RESUMING = ("collect", "train")
MODELS, PLACE = "models", "output_dir"
OF_A_MODEL = ("convert", "train", "serve", "infer")
# Of all models together; every other value is one of the stages that each of them goes through.
OF_COMPARISON = ("rollouts", MODELS, PLACE, "save_videos")


@dataclass(frozen=True)
class Typed:
    """What was typed: ``own`` for the stage that runs the others, in Hydra's grammar, and ``handed_on`` to those, as a
    person types it. Presets and paths are for both. ``whole``: all of it, as it was typed."""

    own: Sequence[str]
    handed_on: Sequence[str]
    whole: Sequence[str]


def split(parsed: Sequence[Override]) -> Typed | None:
    """None for a stage that runs no others. Raises PositronicError for a sweep: a chain is no run of a grid."""
    values = {override.key_or_group: override for override in parsed}
    stage = values["stage"].value() if "stage" in values else None
    if stage == PIPELINE:
        mine: Collection[str] = own_parameters(PIPELINE)
    elif stage == COMPARE and any(key in values for key in (MODELS, *PRESETS)) and "rollouts" not in values:
        mine = OF_COMPARISON
    else:
        return None
    for override in parsed:
        if override.is_sweep_override():
            raise PositronicError(
                f"{as_typed(override)}: stage={stage} runs once, so one value is expected. Type the command once for "
                "each value."
            )
    own = [each for each in parsed if _is_own(each, mine)]
    handed_on = [each for each in parsed if not _is_own(each, mine) or _is_for_all(each)]
    whole = [as_typed(each) for each in parsed if not each.is_hydra_override()]
    return Typed([each.input_line or "" for each in own], [as_typed(each) for each in handed_on], whole)


def _is_own(override: Override, mine: Collection[str]) -> bool:
    part = override.key_or_group.partition(".")[0]
    return part in ("stage", *OF_THE_JOBS, *mine) or override.is_hydra_override() or _is_for_all(override)


def _is_for_all(override: Override) -> bool:
    part = override.key_or_group.partition(".")[0]
    return part == "paths" or part in {preset for preset in PRESETS if preset not in OF_THE_JOBS}


@dataclass
class Chains:
    """Forms the commands of stages. ``compose``: overrides as a person types them -> the composed config, or
    PositronicError. ``leaves``: every dotted key of a composed config, with its value as it is written."""

    compose: Callable[[list[str]], DictConfig]
    leaves: Mapping[str, Any]
    _unread: dict[str, bool] = field(default_factory=dict)

    def chain(
        self, stages: Sequence[str], handed_on: Sequence[str], more: Mapping[str, Sequence[str]] | None = None
    ) -> list[list[str]]:
        """The command of each stage: the values that it reads, and where the stages before it have put their results.

        ``more``: overrides of single stages. Raises PositronicError for a stage that cannot stand there, and naming the
        stage for what it refuses.
        """
        require_order(stages)
        done: dict[str, DictConfig] = {}
        commands = []
        for stage in stages:
            chosen = stage == "infer" and "policy" in map(key_of, handed_on)  # who decides was typed
            links = [*([] if chosen else _links(stage, done)), *(more or {}).get(stage, ())]
            replaced = {key_of(each) for each in links}
            typed = [each for each in handed_on if self._counts(each, stage, done) and key_of(each) not in replaced]
            commands.append([f"stage={stage}", *typed, *links])
            try:
                done[stage] = self.compose(commands[-1])
            except PositronicError as error:
                raise PositronicError(f"stage={stage}: {error}") from None
            if stage == "convert" and PLACE not in map(key_of, commands[-1]):
                commands[-1].append(f"{PLACE}={done[stage].output_dir}")
        _require_one_place(commands, handed_on)
        return commands

    def require_read(self) -> None:
        """Raise PositronicError for a value that no stage has read."""
        unread = [text for text, is_read in self._unread.items() if not is_read]
        if unread:
            key = key_of(unread[0])
            found = owners(key, self.leaves)
            known = [*self.leaves, *(own for stage in CHAINABLE for own in own_parameters(stage))]
            hint = f" It belongs to stage={listing(found)}." if found else did_you_mean(key, known)
            raise PositronicError(f"'{key}' does nothing in any of these stages.{hint} Leave {unread[0]} out.")

    def _counts(self, typed: str, stage: str, done: Collection[str]) -> bool:
        key = key_of(typed)
        if key.startswith("+"):
            return True
        counts = stage in owners(key, self.leaves) and not _is_known(key, stage, done)
        self._unread[typed] = counts or self._unread.get(typed, False) or key.partition(".")[0] == "paths"
        return counts


def require_order(stages: Sequence[str]) -> None:
    """Raise PositronicError unless these stages can follow each other."""
    places = [CHAINABLE.index(stage) for stage in stages if stage in CHAINABLE]
    if len(places) != len(stages) or not places:
        raise PositronicError(f"pipeline={_list(stages)}: expected some of {', '.join(CHAINABLE)}, in this order.")
    if places != sorted(set(places)):
        right = [stage for stage in CHAINABLE if stage in stages]
        raise PositronicError(f"pipeline={_list(stages)}: these stages follow each other as pipeline={_list(right)}.")
    if stages[-1] == "serve":
        raise PositronicError(
            f"pipeline={_list(stages)}: serve answers the stages behind it, and there is none. Type "
            f"pipeline={_list([*stages, 'infer'])}, or stage=serve alone."
        )


def _require_one_place(commands: Sequence[Sequence[str]], handed_on: Sequence[str]) -> None:
    for typed in handed_on:
        if key_of(typed) == PLACE and sum(typed in command for command in commands) > 1:
            raise PositronicError(
                f"{typed}: several of these stages have such a folder. Leave it out, type paths.root= for all that "
                "they write, or run the stages one by one."
            )


def _list(stages: Sequence[str]) -> str:
    return f"[{','.join(stages)}]"


def _is_known(key: str, stage: str, done: Collection[str]) -> bool:
    """Whether what a stage before has made says it, so that this one is not told."""
    part = key.partition(".")[0]
    if stage in ("serve", "infer") and "train" in done:
        return part in CHECKPOINT_SAYS
    if stage == "train" and "convert" in done:
        return key in ("dataset", "dataset.path")
    return key in ("dataset", "dataset.path") and any(stage in done for stage in RECORDERS)


def _links(stage: str, done: Mapping[str, DictConfig]) -> list[str]:
    """Where the results of the stages before are."""
    if stage == "convert":
        recorded = next((done[each].output_dir for each in RECORDERS if each in done), None)
        return [] if recorded is None else ["dataset=local", f"dataset.path={recorded}"]
    if stage == "train":
        return [f"input_path={done['convert'].output_dir}"] if "convert" in done else []
    if stage == "serve":
        return [f"checkpoints_dir={_experiment(done)}"] if "train" in done else []
    if stage == "infer" and "serve" in done:
        return ["policy=remote", f"policy.port={done['serve'].server.port}"]
    if stage == "infer" and "train" in done:
        return ["policy=local", f"policy.checkpoints_dir={_experiment(done)}"]
    return []


def _experiment(done: Mapping[str, DictConfig]) -> str:
    return f"{done['train'].output_dir}/{done['train'].exp_name}"


def hand_on(cfg: DictConfig, typed: Typed, compose: Callable[[list[str]], DictConfig]) -> None:
    """Put the commands of the stages into ``cfg``, the config of the stage that runs them.

    ``compose``: overrides as a person types them -> the composed config. Raises PositronicError for what one of the
    stages refuses, and for a value that none of them reads.
    """
    if cfg.stage == PIPELINE:
        cfg.commands = pipeline_of(cfg, typed, compose)
    else:
        if cfg.output_dir is None:
            cfg.output_dir = f"{cfg.paths.root}/comparisons/{'_'.join(cfg.models)}"
        cfg.chains = models_of(cfg, typed, compose)


def pipeline_of(cfg: DictConfig, typed: Typed, compose: Callable[[list[str]], DictConfig]) -> list[list[str]]:
    """The commands of ``stage=pipeline``, composed as ``cfg``."""
    chains = Chains(compose, raw_values(cfg))
    keeps_place = PLACE in map(key_of, typed.handed_on)  # without a typed folder an evaluation has a new one
    resuming = (*RESUMING, "infer") if keeps_place else RESUMING
    more = {stage: [RESUME] for stage in resuming if cfg.resume}
    commands = chains.chain(list(cfg.pipeline), typed.handed_on, more)
    chains.require_read()
    return commands


def models_of(cfg: DictConfig, typed: Typed, compose: Callable[[list[str]], DictConfig]) -> dict[str, Any]:
    """The commands of ``stage=compare models={...}``: name of a model -> those of convert, train, serve and infer."""
    chains, place = Chains(compose, raw_values(cfg)), str(cfg.output_dir)
    found = {}
    for name, row in cfg.models.items():
        if not NAME.fullmatch(str(name)):
            raise PositronicError(f"models: '{name}' is no name. Expected letters, digits, _ and - alone.")
        theirs = {key_of(each) for each in row}
        handed_on = [*(each for each in typed.handed_on if key_of(each) not in theirs), *row]
        more = {
            "train": [f"{PLACE}={place}/checkpoints", f"exp_name={name}", RESUME],
            "infer": [f"{PLACE}={place}/rollouts/{name}", RESUME],
        }
        try:
            found[str(name)] = chains.chain(OF_A_MODEL, handed_on, more)
        except PositronicError as error:
            raise PositronicError(f"Model {name}: {error}") from None
    chains.require_read()
    return found
