"""What a composed config may not be, each as one sentence that says what to type instead.

Plain functions of what was typed and of composed configs; ``composition.py`` calls them, so that they hold for
``run.py``, ``--cfg job``, multiruns and ``compose()`` alike.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
)
from yaml import YAMLError

from positronic.cluster.config import WITH_CLUSTER
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.schemas import HYDRA_TEXTS, SCHEMAS, STAGES, fields_of, own_parameters, parameters
from positronic.training.config import OptimizerConfig
from positronic.vendors import registry

SAID_BY_DATASET = ("dataset", "vendor", "codec", "modality", "dataset_format")
PRESETS = ("experiment", "debug", "cluster")
# Names that other documents and other vendors' tools use, and the one that is used here.
OLD_NAMES = {
    "dataset_root": "input_path",
    "input_dir": "input_path",
    "output_path": "output_dir",
    "run_name": "exp_name",
    "job_name": "exp_name",
    "steps": "num_train_steps",
    "max_steps": "num_train_steps",
    "save_steps": "save_freq",
    "save_interval": "save_freq",
    "lr": "learning_rate",
    "checkpoint_path": "checkpoints_dir",
    "checkpoint_dir": "checkpoints_dir",
    "dataset_path": "dataset.path",
    "dataset.dataset": "dataset",
    "dataset.dataset.path": "dataset.path",
    "dataset.codec": "codec",
    "driver.num_workers": "driver.num_robots",
    "hardware.scene.cube_gap": "hardware.scene.gap",
    "hardware.scoring.blue_shift": "hardware.scoring.lower_shift",
    "hardware.scoring.red_speed": "hardware.scoring.upper_speed",
    **{f"vendor.optimizer.{field.name}": field.name for field in dataclasses.fields(OptimizerConfig)},
}
# Names that moved to a part which depends on the stage.
MOVED = {
    "port": {"serve": "server.port", "infer": "policy.port"},
    "host": {"serve": "server.host", "infer": "policy.host"},
    "token": {"serve": "server.token", "infer": "policy.token"},
}
# Names for what nobody types any more.
DERIVED = {
    "modality": "it follows from vendor= and codec=",
    "modality_config": "it follows from codec=; docs/codecs.md says which codec has it",
    "variant": "it follows from codec=; docs/codecs.md says which codec has it",
    "config_name": "it follows from vendor= and codec=",
    "stats_path": "the statistics are computed by stage=convert and travel with the dataset and the checkpoint",
}
# What to type for a value that only the user knows.
WANTED = {
    "dataset.path": "<folder of raw episodes>, or dataset=demo for the demonstrations of stage=collect",
    "checkpoints_dir": "<an experiment's folder, the one that holds checkpoints/>",
    "policy.checkpoints_dir": "<an experiment's folder, the one that holds checkpoints/>",
    "hardware.path": "<folder of raw episodes>",
    "source": "hdf5|lerobot|mcap|rlds",
    "path": "<folder or file of the recordings>",
    "rollouts": "[<folder that stage=infer wrote>,<another>]",
}


def with_dashes(flag: str, value: str) -> PositronicError:
    """``--key=value`` or ``--key`` was typed."""
    key = flag.lstrip("-").replace("-", "_")
    return PositronicError(f"Parameters are typed without dashes: {key}={value or '<value>'}, not {flag}.")


def check_typed(typed: Mapping[str, str]) -> None:
    """Raise PositronicError when no stage was typed, or a parameter by a name that is not used here.

    ``typed`` maps each key on the command line to the text behind its ``=``.
    """
    if "stage" not in typed:
        raise PositronicError(f"Type a stage: stage={'|'.join(STAGES)}. `python run.py --help` shows examples.")
    stage = typed["stage"]
    for key, value in typed.items():
        if key.startswith("cluster.") and "cluster" not in typed:
            raise PositronicError(f"{key} counts only with {WITH_CLUSTER}. Type that too.")
        if key in DERIVED:
            raise PositronicError(f"'{key}' is not typed here: {DERIVED[key]}.")
        if key in MOVED:
            names = [MOVED[key][stage]] if stage in MOVED[key] else sorted(MOVED[key].values())
            raise PositronicError(f"'{key}' is called {_either(names)} here. Type {names[0]}={value}.")
        if key in OLD_NAMES:
            raise PositronicError(f"'{key}' is called '{OLD_NAMES[key]}' here. Type {OLD_NAMES[key]}={value}.")
        said_twice = stage == "stats" and "input_path" in typed and key.split(".")[0] in SAID_BY_DATASET
        if said_twice and not (key.startswith("vendor") and typed.get("vendor.backend") == registry.UPSTREAM):
            raise PositronicError(
                f"'{key}' and 'input_path' both say which dataset: the one at {typed['input_path']} knows what it was "
                f"baked with. Leave out {key}=, or input_path= to take the dataset that {key}= stands for."
            )


def check_once(overrides: Sequence[str]) -> None:
    """Raise PositronicError if a value is typed twice and differently, because the first would be lost."""
    seen: dict[str, str] = {}
    for override in overrides:
        typed, _, value = override.partition("=")
        key = typed.lstrip("+")
        if seen.setdefault(key, value) == value or override[0] == "~":
            continue
        both = f"{key} is typed twice, as {typed}={seen[key]} and as {typed}={value}."
        if key in PRESETS and override[0] == "+":
            raise PositronicError(f"{both} Type +{key}=[{seen[key]},{value}] for both; the later one wins.")
        raise PositronicError(f"{both} Leave one out.")


def check_hydra(typed: Mapping[str, str]) -> None:
    """Raise PositronicError when Hydra is told to do what would change the meaning of what is typed."""
    if typed.get("hydra.job.chdir", "").lower() in ("true", "yes", "on", "1"):
        raise PositronicError(
            "hydra.job.chdir=true would begin every relative folder somewhere else. Leave it out; the folder of a run "
            "is hydra.run.dir=<folder>."
        )
    for key in HYDRA_TEXTS:
        if key in typed and not typed[key].strip():
            raise PositronicError(f"{key}=: expected a folder. Type {key}=<folder>, or leave it out.")


def check_sweeps(parsed: Sequence[Override]) -> None:
    """Raise PositronicError if several values are typed for one parameter without -m."""
    for override in parsed:
        if override.is_sweep_override():
            raise PositronicError(
                f"{override.input_line} are several values. One run for each of them needs -m: python run.py -m ..."
                f" {override.input_line}. Otherwise type one value."
            )


def check_resumed_sweep(cfg: DictConfig, typed: Mapping[str, str], multirun: bool) -> None:
    """Raise PositronicError if a sweep is resumed without saying which: its jobs would begin in a new folder."""
    sweeps = multirun or OmegaConf.select(cfg, "hydra.mode") == RunMode.MULTIRUN
    somewhere = {"output_dir", "hydra.sweep.dir"} & set(typed)
    if sweeps and cfg.stage == "train" and cfg.resume and not somewhere:
        raise PositronicError(
            "resume=true with -m: expected the folder of the sweep to continue. Type "
            "hydra.sweep.dir=multirun/<date>/<time> and the same values as for that sweep."
        )


def unknown_key(key: str, stage: str, known: Sequence[str]) -> PositronicError:
    """``key`` was typed, or written in a preset, and there is none; ``known`` are the dotted keys that there are."""
    of_preset = key.partition("@")[2].partition(".")[0]
    if of_preset in PRESETS:  # an override in its defaults
        return no_package(f"A preset of {of_preset}/")
    hint = _other_choice(key, stage) or _suggestion(key, known)
    owners = [name for name, schema in STAGES.items() if key.split(".")[0] in _field_names(schema)]
    if key.startswith("stages."):
        hint = f" It belongs into a preset; type {key.split('.', 2)[-1]}=... itself."
    elif key.startswith("policy_types."):
        hint = f" It belongs into a preset; type vendor.policy.{key.split('.', 2)[-1]}=... itself."
    elif key.split(".")[0] in PRESETS and not key.startswith("cluster."):
        hint = f" It is a preset, and those take a plus: +{key}=..."
    elif owners and stage not in owners:
        hint = f" It belongs to stage={listing(owners)}."
    return PositronicError(f"Key '{key}' is not a parameter of stage={stage}.{hint}")


def _other_choice(key: str, stage: str) -> str:
    """Which file of its part has this key: ``policy=remote`` has ``policy.host``."""
    part, _, rest = key.partition(".")
    found = [f"{part}={path.partition('/')[2]}" for path, schema in SCHEMAS.items() if path.startswith(f"{part}/")]
    having = [choice for choice in found if rest.split(".")[0] in fields_of(SCHEMAS[choice.replace("=", "/")])]
    return f" It belongs to {' and '.join(having)}." if rest and having and parameters([stage], key) else ""


def unknown_choice(group: str, choice: str, options: Iterable[str]) -> PositronicError:
    """``group=choice`` was typed and there is no such file."""
    options = list(options)
    hint = did_you_mean(choice, options)
    if group == "dataset" and ("/" in choice or choice in (".", "..")):
        hint = f" For a folder, type dataset=local dataset.path={choice}."
    return PositronicError(f"{group}={choice} is not known. Valid choices for {group}: {listing(options)}.{hint}")


def taken_name(folder: str, group: str, name: str) -> PositronicError:
    """A folder of own files holds one with the name of one of ours, which is the one that would be read."""
    file = f"{group}/{name}.yaml".lstrip("/")
    return PositronicError(
        f"--config-dir {folder}: {file} has the name of a file of Positronic, which would be read instead. Give yours "
        f"another name, and choose it by that."
    )


def other_name(codec: str, name: str | None) -> PositronicError:
    """An own codec's file goes by another name than it says."""
    found = f"name: {name}" if name else "no name"
    return PositronicError(f"codec/{codec}.yaml: expected name: {codec}, as its file is called; found {found}.")


def no_package(which: str) -> PositronicError:
    """A preset that Hydra takes for a part of its own."""
    return PositronicError(
        f"{which} stands for the whole config, and does not say so: expected '# @package _global_' as its first line."
    )


def wrong_in_file(file: str, key: str, what: str) -> PositronicError:
    """A config file has a key that its dataclass does not, or a value of another kind."""
    parent, _, name = key.rpartition(".")
    if not re.match(r"Key '.*' (is )?not in", what):
        return PositronicError(f"{file}.yaml: {name}: {what}")
    if key in PRESETS and file.startswith(f"{key}/"):
        return no_package(f"{file}.yaml")
    kinds = [kind for parameter in parameters(STAGES, parent) for kind in parameter.kinds]
    known = [field for kind in kinds if dataclasses.is_dataclass(kind) for field in fields_of(kind)]
    return PositronicError(f"{file}.yaml: '{name}' is not a parameter of {parent}.{did_you_mean(name, known)}")


def no_folder(said: str) -> PositronicError:
    """``said`` names the folder of own config files."""
    return PositronicError(f"{said}: there is no such folder. Expected one with files like codec/<name>.yaml.")


def missing_default(file: str, missing: str, options: Iterable[str], instead: str | None) -> PositronicError:
    """The defaults of ``file`` name a file that is not there. ``instead``: how its neighbour is named."""
    name, options = missing.rpartition("/")[2], list(options)
    hint = did_you_mean(name, options) or (f" There are: {listing(options)}." if options else "")
    hint = f" The file beside it is written {instead}." if instead else hint
    return PositronicError(f"{file}.yaml builds on {missing}.yaml (defaults), and there is no such file.{hint}")


def no_yaml(error: YAMLError) -> PositronicError:
    """A config file is no YAML."""
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}" if mark else "A config file"
    return PositronicError(f"{where}: expected YAML, found an error in it: {getattr(error, 'problem', None) or error}.")


def no_plus(key: str, value: str) -> PositronicError:
    """``+key=value`` was typed for a parameter that is there."""
    return PositronicError(f"{key} is a parameter already, and those take no plus. Type {key}={value}.")


def no_choice(typed: str, value: Any, options: Iterable[str]) -> PositronicError:
    """``typed``, a group, was given null or a list instead of one of its ``options``."""
    valid = f"expected one of {listing(options)}"
    if value is None:
        return PositronicError(f"{typed}=null: {valid}.")
    texts = ",".join(map(str, value))
    return PositronicError(f"{typed}=[{texts}]: {valid}. For one run each, type -m {typed}={texts}.")


def unknown_pair(vendor: str, codec: str, valid: Sequence[str], others: Sequence[str]) -> PositronicError:
    """This vendor has no such codec; ``others`` are the vendors that have."""
    elsewhere = f" ({codec} works with vendor={', '.join(others)}.)" if others else did_you_mean(codec, valid)
    return PositronicError(
        f"codec={codec} has no {vendor} modality. Valid codecs for vendor={vendor}: {listing(valid)}.{elsewhere}"
    )


def missing_value(cfg: DictConfig) -> str | None:
    """The first key still missing among those that the stage uses: its own parameters, then its parts'."""
    found = (_first_missing(cfg, name, name) for name in (*own_parameters(cfg.stage), *STAGES[cfg.stage].uses))
    return next((key for key in found if key is not None), None)


def _first_missing(node: DictConfig, name: str, key: str) -> str | None:
    try:
        child = node[name]
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        source = re.search(r"Missing mandatory value: (\S+)", str(error))
        return source[1] if source and isinstance(error, InterpolationToMissingValueError) else key
    except InterpolationResolutionError:  # of Hydra's own values, which are there when the job runs
        return None
    if key in WANTED and child == "":  # dataset.path=$UNSET
        return key
    below = child if isinstance(child, DictConfig) else ()
    found = (_first_missing(child, str(inner), f"{key}.{inner}") for inner in below)
    return next((missing for missing in found if missing is not None), None)


def _field_names(schema: type) -> list[str]:
    return [field.name for field in dataclasses.fields(schema)]


def _suggestion(key: str, known: Sequence[str]) -> str:
    head, _, last = key.rpartition(".")
    namesakes = [name for name in known if name.rpartition(".")[2] == last]
    if 0 < len(namesakes) < 4:
        return f" Did you mean {_either(namesakes)}?"
    depth = key.count(".") + 1
    siblings = {".".join(name.split(".")[:depth]) for name in known if name.startswith(f"{head}." if head else "")}
    return did_you_mean(key, sorted(siblings)) or did_you_mean(key, known)


def _either(names: Sequence[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
