"""Hydra's config loader, with our refusals. The only file that touches Hydra's private names.

Why a loader: it is the one place that every way of composing goes through: a run, ``--cfg job``, a multirun (each job,
before any starts) and ``compose()``. Hydra has callbacks, but none is called by all four, and an exception in one of
them is swallowed. hydra-core is pinned exactly and ``tests/test_config_contract.py`` holds the names used here.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra._internal.hydra
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.utils import create_config_search_path, get_args_parser, run_and_report
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from positronic import chains, reads, refusals, values
from positronic import overrides as typed_overrides
from positronic.codecs.config import FROM_CHECKPOINT
from positronic.embodiments.config import FROM_DATA
from positronic.errors import PositronicError
from positronic.overrides import typed_values
from positronic.reads import FOLLOWING_STAGES
from positronic.refusals import PRESETS
from positronic.schemas import STAGES, fields_of, own_parameters, raw_values
from positronic.utils.command_line import own_files
from positronic.utils.disk import refused_by_disk

VERSION_BASE = "1.3"
CONFIG_NAME = "config"
# Mappings whose keys are not ours to know: typed without a plus.
OPEN_MAPPINGS = (
    *("vendor.policy", "dataset.aliases", "video.options"),
    *("embodiment.cameras", "modality.columns", "modality.cameras", "cluster.sbatch", "models"),
)
# Stages whose results a multirun keeps in the job's own folder. The others write data that later stages find by name.
OWN_FOLDER = {"train": "${hydra:runtime.output_dir}", "infer": "${hydra:runtime.output_dir}/rollouts"}
POLICY_TYPE = "vendor.policy.type"
CLUSTER = "cluster"
NO_FILE = re.compile(r"In '(?P<file>[^']+)': Could not (find|load) '")
IN_FILE = re.compile(
    r"In '(?P<file>[^']+)': \w+ raised while composing config:\n(?P<what>.*)\n\s+full_key: (?P<key>\S+)"
)
UNKNOWN = re.compile(r"(In '.*': )?Could not (override|delete) '(?P<key>[^']+)'")
ALREADY = re.compile(r"An item is already at '(?P<key>[^']+)'")
NOISE = re.compile(r"\s*(full_key|object_type|reference_type|Search path|provider)\b")
OWN_FILES = "command-line"  # what Hydra calls the folder of --config-dir
OWN_IN_HOME = re.compile(r"(?<=^--config-dir=)~(?=/|$)")  # which no shell expands
ASKING = {"--help", "-h", "--shell-completion", "-sc", "--info", "-i"}


class Loader(ConfigLoaderImpl):
    """Composes as Hydra does, and raises PositronicError, one sentence, for what it refuses."""

    _from_files: DictConfig | None = None  # the last composition before what was typed: which keys there are
    _policy_type: str | None = None  # that was typed
    _in_grammar = False  # whether overrides come from a multirun, which has parsed them, and not from a person

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        if config_name is None:  # `--hydra-help` composes Hydra's own config alone
            return super().load_configuration(None, overrides, run_mode, from_shell, validate_sweep_overrides)
        self._check_own_files()
        multirun = run_mode == RunMode.MULTIRUN
        overrides = overrides if self._in_grammar else typed_overrides.in_grammar(overrides, multirun)
        parsed = typed_overrides.parse(overrides)
        chained = chains.split(parsed)
        if chained is not None:
            overrides, parsed = list(chained.own), typed_overrides.parse(chained.own)
        typed = typed_values(parsed)
        refusals.check_typed(typed)
        refusals.check_once(overrides)
        if not multirun and CLUSTER not in typed:
            refusals.check_sweeps(parsed)
        refusals.check_hydra(typed)
        self._check_choices(parsed)
        values.check_kinds(parsed)
        first = typed_overrides.first_job(parsed) if multirun else overrides
        cfg = self._compose(config_name, first, run_mode, from_shell, validate_sweep_overrides)
        self._check_own_codec(cfg)
        values.choose_optimizer(cfg)
        reads.check_reads(cfg, typed_overrides.parse(first))
        _complete(cfg, typed)
        reads.check_references(cfg)
        # Hydra also composes as for a multirun to learn whether it is one; that time it validates no sweep.
        refusals.check_resumed_sweep(cfg, typed, multirun and validate_sweep_overrides)
        values.check_workers(cfg, typed)
        values.check_replayed(cfg, typed)
        values.check(cfg)
        values.check_policies(cfg, typed)
        values.check_compared(cfg, typed)
        if chained is not None:
            chains.hand_on(cfg, chained, partial(self.load_configuration, config_name, run_mode=RunMode.RUN))
        _record(cfg, parsed, multirun)
        if chained is not None:
            cfg.hydra.overrides.task = list(chained.whole)
        return cfg

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        self._in_grammar = True
        try:
            return super().load_sweep_config(master_config, sweep_overrides)
        finally:
            self._in_grammar = False

    @property
    def _own_sources(self) -> list[ConfigSource]:
        return [source for source in self.repository.get_sources() if source.provider == OWN_FILES]

    def _check_own_files(self) -> None:
        """A file that goes by the name of one of ours would never be read."""
        for folder in self._own_sources:
            ours = next(source for source in self.repository.get_sources() if source.provider == "main")
            for group in _groups(ours, ""):
                both = set(_options(folder, group)) & set(_options(ours, group))
                if both:
                    raise refusals.taken_name(folder.path, group, min(both))

    def _check_own_codec(self, cfg: DictConfig) -> None:
        """Artefacts carry the codec's name, and it is by that name that the file is found again."""
        chosen = str(cfg.hydra.runtime.choices.codec)
        name = None if OmegaConf.is_missing(cfg.codec, "name") else cfg.codec.name
        if name != chosen and any(chosen in _options(source, "codec") for source in self._own_sources):
            raise refusals.other_name(chosen, name)

    def _check_choices(self, parsed: Sequence[Override]) -> None:
        """Of each part one file, by its name; only presets may be several."""
        for override in parsed:
            group, value = override.key_or_group, override.value()
            wrong = value is None or (isinstance(value, list) and group not in PRESETS)
            if wrong and self.repository.group_exists(group):
                raise refusals.no_choice(override.get_key_element(), value, self.get_group_options(group))

    def _compose(self, config_name: str, overrides: list[str], *how: Any) -> DictConfig:
        self._policy_type = typed_values(typed_overrides.parse(overrides)).get(POLICY_TYPE)
        try:
            return super().load_configuration(config_name, overrides, *how)
        except (HydraException, ValueError) as error:  # ValueError: a group's choice that is no text
            raise self._refusal(error, typed_overrides.parse(overrides)) from None

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        """Between the YAML files and the command line, so that what is typed wins over the preset.

        The stage's schema is merged first, although the stage comes last for its say in the choices: merged over a
        part, the schema would turn that part's own dataclass (``SimConfig``) into the base (``HardwareConfig``).
        """
        cfg = super()._compose_config_from_defaults_list(sorted(defaults, key=_merge_order), repo)
        self._from_files = cfg
        if "stages" in cfg:
            _fold_stage_section(cfg)
            _fold_policy_section(cfg, self._policy_type)
            for key in OPEN_MAPPINGS:
                node = OmegaConf.select(cfg, key)
                if node is not None:
                    OmegaConf.set_struct(node, False)
        return cfg

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """What help and tab completion list: no schemas, no shared bases, no older names."""
        if config_name is None and not overrides:  # Hydra's own way copies the whole repository first
            options = self.repository.get_group_options(group_name, results_filter)
        else:
            options = super().get_group_options(group_name, results_filter, config_name, overrides)
        return [option for option in options if not self._hidden(group_name, option)]

    def _hidden(self, group: str, option: str) -> bool:
        if option.startswith("_") or (not group and option in ("schema", CONFIG_NAME)):
            return True
        if group == "embodiment":
            return option == FROM_DATA
        if group != "codec" and not group.startswith("modality/"):
            return False
        codec = self.repository.load_config(f"codec/{option}")
        return option == FROM_CHECKPOINT or (codec is not None and codec.config.get("name") != option)

    def _refusal(self, error: Exception, parsed: Sequence[Override]) -> PositronicError:
        """Hydra's error in our words."""
        if isinstance(error, MissingConfigException) and error.missing_cfg_file:
            named = NO_FILE.match(str(error))
            if named and named["file"] != CONFIG_NAME:
                return self._no_such_default(named["file"], error.missing_cfg_file)
            return self._no_such_file(error.missing_cfg_file, parsed)
        in_file = IN_FILE.match(str(error))
        if in_file:
            return refusals.wrong_in_file(in_file["file"], in_file["key"], in_file["what"])
        there = ALREADY.search(str(error))
        if there:
            return refusals.no_plus(there["key"], typed_values(parsed)[there["key"]])
        key = _unknown_key(error)
        if key is None:
            return PositronicError(_one_line(error))
        known = list(raw_values(self._from_files)) if self._from_files is not None else []
        return refusals.unknown_key(key, typed_values(parsed)["stage"], known)

    def _no_such_default(self, file: str, missing: str) -> PositronicError:
        """A file builds on one that is not there; perhaps on a neighbour in a folder that is no group of its own."""
        group, _, name = missing.rpartition("/")
        beside = f"{file.rpartition('/')[0]}/{name}"
        is_beside = beside != missing and self.repository.config_exists(beside)
        options = self.repository.get_group_options(group)
        return refusals.missing_default(file, missing, options, f"/{beside}@_here_" if is_beside else None)

    def _no_such_file(self, path: str, parsed: Sequence[Override]) -> PositronicError:
        group, _, choice = path.rpartition("/") if not path.startswith("dataset/") else path.partition("/")
        if group != "codec" and not group.startswith("modality/"):
            return refusals.unknown_choice(group, choice, self.get_group_options(group))
        try:
            vendor = group.removeprefix("modality/") if group != "codec" else self._choices(parsed)["vendor"]
        except MissingConfigException:  # a preset chooses it, and no other codec can take its place
            return refusals.unknown_choice(group, choice, self.get_group_options(group))
        valid = {other: self._codecs(other) for other in self.get_group_options("modality", ObjectType.GROUP)}
        others = [other for other, codecs in valid.items() if choice in codecs and other != vendor]
        return refusals.unknown_pair(vendor, choice, valid.get(vendor, []), others)

    def _codecs(self, vendor: str) -> list[str]:
        return self.get_group_options(f"modality/{vendor}")

    def _group_overrides(self, parsed: Sequence[Override]) -> list[str]:
        return [o.input_line or "" for o in parsed if self.repository.group_exists(o.key_or_group)]

    def _choices(self, parsed: Sequence[Override]) -> Mapping[str, Any]:
        """Every group's choice, the codec left to the vendor."""
        overrides = self._group_overrides([o for o in parsed if o.key_or_group != "codec"])
        return self.compute_defaults_list(CONFIG_NAME, overrides, RunMode.RUN).overrides.known_choices


class CommandLineLoader(Loader):
    """The same for ``run.py``: a refusal is one line on stderr and exit code 1, without Hydra's words around it."""

    def load_configuration(self, config_name: str | None, overrides: list[str], *how: Any, **named: Any) -> DictConfig:
        try:
            if ASKING.intersection(sys.argv[1:]):  # help about a stage must not depend on what is still to be typed
                cfg = ConfigLoaderImpl.load_configuration(self, config_name, overrides, *how, **named)
                return _of_interest(cfg) if config_name is not None else cfg
            return super().load_configuration(config_name, overrides, *how, **named)
        except PositronicError as error:
            raise stop(error) from None
        except YAMLError as error:
            raise stop(refusals.no_yaml(error)) from None


def _of_interest(cfg: DictConfig) -> DictConfig:
    """For help: the stage's own parameters, then the parts that it uses."""
    names = ["stage", *own_parameters(cfg.stage), *STAGES[cfg.stage].uses, "hydra"]
    nodes = dict(cfg.items_ex(resolve=False))
    template = OmegaConf.to_container(cfg.hydra.help, resolve=False)["template"]
    cfg.hydra.help.template = f"{template}\n\n== What they mean ==\n{_meanings(cfg)}"
    return OmegaConf.create({name: nodes[name] for name in names})


def _meanings(cfg: DictConfig) -> str:
    """What each of the stage's own parameters means, then each value of its parts, within 80 columns."""
    own = [(name, fields_of(STAGES[cfg.stage])[name].meaning) for name in own_parameters(cfg.stage)]
    parts = [said for part in STAGES[cfg.stage].uses for said in _meanings_in(cfg, part, part)]
    lines = [f"{name}: {meaning}" for name, meaning in (*own, *parts)]
    return "\n".join(textwrap.fill(line, 80, initial_indent="  ", subsequent_indent="      ") for line in lines)


def _meanings_in(node: DictConfig, name: str, key: str) -> Iterator[tuple[str, str]]:
    child = node._get_node(name)
    schema = OmegaConf.get_type(child)
    if key in reads.FOLLOWS or not dataclasses.is_dataclass(schema) or not isinstance(child, DictConfig):
        return
    for inner, parameter in fields_of(schema).items():
        if f"{key}.{inner}" not in reads.FOLLOWS and parameter.meaning:
            yield f"{key}.{inner}", parameter.meaning
        yield from _meanings_in(child, inner, f"{key}.{inner}")


def stop(error: PositronicError) -> BaseException:
    """The message on stderr and exit code 1; with HYDRA_FULL_ERROR=1 the error itself, with its traceback."""
    return error if os.environ.get("HYDRA_FULL_ERROR") == "1" else SystemExit(str(error))


def install() -> None:
    """Make ``hydra.main`` of this process compose with our loader, and a full disk, on which it writes before a stage
    begins, a sentence. For ``run.py`` only."""
    _refuse_dashes(sys.argv[1:])
    sys.argv[1:] = _flags_last(OWN_IN_HOME.sub(os.path.expanduser("~"), each) for each in sys.argv[1:])
    own = own_files()
    if own and not Path(own[1]).is_dir():
        raise stop(refusals.no_folder(" ".join(own)))
    hydra._internal.hydra.ConfigLoaderImpl = CommandLineLoader
    hydra._internal.utils.run_and_report = _report


def _report(run: Callable[[], Any]) -> Any:
    def refusing() -> Any:
        try:
            return run()
        except OSError as error:
            refused = refused_by_disk(error)
            raise error if refused is None else stop(refused) from None

    return run_and_report(refusing)


def _refuse_dashes(arguments: Sequence[str]) -> None:
    """Answer ``--seed=1`` and ``--stage train`` ourselves: argparse would print its usage and no advice."""
    known = [flag for action in get_args_parser()._actions for flag in action.option_strings]
    for argument in arguments:
        flag, _, value = argument.partition("=")
        if flag.startswith("--") and not any(option.startswith(flag) for option in known):
            raise stop(refusals.with_dashes(flag, value))


def _flags_last(arguments: Iterable[str]) -> list[str]:
    """Flags may stand between overrides; argparse takes overrides only if all of them stand together."""
    actions = {flag: action for action in get_args_parser()._actions for flag in action.option_strings}
    overrides, flags, ahead = [], [], list(arguments)
    while ahead:
        argument = ahead.pop(0)
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        found = [actions[flag] for flag in actions if flag == argument or (argument[:2] == "--" and argument in flag)]
        if ahead and found and (found[0].nargs is None or (found[0].nargs == "?" and ahead[0] in found[0].choices)):
            flags.append(ahead.pop(0))
    return [*overrides, *flags]


def compose_config(overrides: Sequence[str], conf: Path, own: Path | None = None) -> DictConfig:
    """Compose as ``run.py`` would, hydra's own node included, from ``conf`` and a folder of ``own`` files beside it.

    Leaves Hydra's global state as it was.
    """
    search_path = create_config_search_path(str(conf.resolve()))
    if own is not None:
        if not own.is_dir():
            raise refusals.no_folder(f"conf_dir={own}")
        search_path.prepend(OWN_FILES, f"file://{own.resolve()}", anchor="schema")
    base = version.getbase()
    version.setbase(VERSION_BASE)
    try:
        loader = Loader(search_path)
        return loader.load_configuration(CONFIG_NAME, list(overrides), RunMode.RUN, from_shell=False)
    except YAMLError as error:
        raise refusals.no_yaml(error) from None
    finally:
        version.VersionBase.instance().version_base = base


def _record(cfg: DictConfig, parsed: Sequence[Override], multirun: bool) -> None:
    """What Hydra keeps of the command line: for a multirun's jobs in its grammar, for people as it was typed."""
    own = [override for override in parsed if not override.is_hydra_override()]
    if not multirun:
        for override in own:
            override.input_line = typed_overrides.as_typed(override)
    cfg.hydra.overrides.task = [override.input_line for override in own]
    how = cfg.hydra.job.config.override_dirname
    cfg.hydra.job.override_dirname = get_overrides_dirname(own, how.exclude_keys, how.item_sep, how.kv_sep)


def _groups(source: ConfigSource, group: str) -> Iterator[str]:
    yield group
    for name in source.list(group, ObjectType.GROUP):
        yield from _groups(source, f"{group}/{name}".lstrip("/"))


def _options(source: ConfigSource, group: str) -> list[str]:
    return source.list(group, ObjectType.CONFIG) if source.is_group(group) else []


def _merge_order(default: ResultDefault) -> int:
    path = default.config_path or ""
    return 0 if path.startswith("hydra/") else 1 if path.startswith("schema/stage/") else 2


def _fold_stage_section(cfg: DictConfig) -> None:
    """Merge ``stages.<stage>`` of a preset into the root, then empty ``stages``."""
    unknown = [name for name in cfg.stages if name not in STAGES]
    if unknown:
        raise refusals.unknown_choice("stage", str(unknown[0]), STAGES)
    section = cfg.stages.get(cfg.stage) or {}
    cfg.stages = {}
    try:
        cfg.merge_with(section)
    except (ConfigAttributeError, ConfigKeyError) as error:
        raise refusals.unknown_key(str(error.full_key), cfg.stage, list(raw_values(cfg))) from None
    except OmegaConfBaseException as error:
        raise PositronicError(f"A preset's section stages.{cfg.stage}: {str(error).splitlines()[0]}") from None


def _fold_policy_section(cfg: DictConfig, typed: str | None) -> None:
    """Put ``policy_types.<type>`` under what presets say of ``vendor.policy``, then empty it. A type that was
    typed has its own section: the fields of one type mean nothing to another."""
    policy_type = typed or cfg.vendor.policy.get("type")
    named = {"type": policy_type} if policy_type else {}
    section = (named and cfg.policy_types.get(policy_type)) or {}
    cfg.policy_types = {}
    cfg.vendor.policy = OmegaConf.merge(named, section, cfg.vendor.policy)


def _complete(cfg: DictConfig, typed: Mapping[str, str]) -> None:
    """Values that follow from how the config was composed, not from its files."""
    if cfg.stage in FOLLOWING_STAGES and "vendor" not in typed:
        values.settle_vendor(cfg)
        cfg.vendor.name = FROM_CHECKPOINT
    if cfg.cluster is not None and STAGES[cfg.stage].submits:
        cfg.hydra.mode = RunMode.RUN
    if cfg.stage in OWN_FOLDER and OmegaConf.select(cfg, "hydra.mode") == RunMode.MULTIRUN:
        default = STAGES[cfg.stage]().output_dir
        if OmegaConf.to_container(OmegaConf.masked_copy(cfg, "output_dir"))["output_dir"] == default:
            cfg.output_dir = OWN_FOLDER[cfg.stage]


def _one_line(error: Exception) -> str:
    text = re.sub("Error merging override (.*)", r"\1:", str(error))
    lines = f"{text}\n{error.__cause__ or ''}".splitlines()
    return " ".join(line.strip() for line in lines if line.strip() and not NOISE.match(line)).replace("\\'", "'")


def _unknown_key(error: Exception) -> str | None:
    """The dotted key that Hydra's error says does not exist, if that is what it says."""
    named = UNKNOWN.match(str(error))
    if named:
        return named["key"]
    cause = error.__cause__
    return str(cause.full_key) if isinstance(cause, ConfigAttributeError | ConfigKeyError) else None
