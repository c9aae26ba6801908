"""What a composed config may not be, each as one sentence that says what to type instead.

Plain functions of what was typed and of composed configs; ``composition.py`` calls them, so that they hold for
``run.py``, ``--cfg job``, multiruns and ``compose()`` alike.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from positronic.errors import PositronicError, did_you_mean, listing
from positronic.schemas import STAGES, Parameter, own_parameters, parameters
from positronic.utils.fields import RULE, Rule

DATASET_STAGES = ("convert", "stats", "train")  # where a codec stands for a dataset that is baked with it
SAID_BY_DATASET = ("dataset", "vendor", "codec", "modality", "dataset_format")
PRESETS = ("experiment", "debug", "cluster")
# What a value of each type looks like, and its name.
KINDS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (re.compile(r"[+-]?\d+").fullmatch, "a whole number"),
    float: (re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?").fullmatch, "a number"),
    bool: (re.compile(r"true|false|yes|no|on|off|0|1").fullmatch, "true or false"),
}

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
        if key in DERIVED:
            raise PositronicError(f"'{key}' is not typed here: {DERIVED[key]}.")
        if key in MOVED:
            names = [MOVED[key][stage]] if stage in MOVED[key] else sorted(MOVED[key].values())
            raise PositronicError(f"'{key}' is called {_either(names)} here. Type {names[0]}={value}.")
        if key in OLD_NAMES:
            raise PositronicError(f"'{key}' is called '{OLD_NAMES[key]}' here. Type {OLD_NAMES[key]}={value}.")
        if stage == "stats" and "input_path" in typed and key.split(".")[0] in SAID_BY_DATASET:
            raise PositronicError(
                f"'{key}' and 'input_path' both say which dataset: the one at {typed['input_path']} knows what it was "
                f"baked with. Leave out {key}=, or input_path= to take the dataset that {key}= stands for."
            )


def check_once(overrides: Sequence[str]) -> None:
    """Raise PositronicError when a value is typed twice and differently; the first would be lost."""
    seen: dict[str, str] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        if override[0] not in "+~" and seen.setdefault(key, value) != value:
            raise PositronicError(f"{key} is typed twice, as {key}={seen[key]} and as {key}={value}. Leave one out.")


def check_sweeps(parsed: Sequence[Override]) -> None:
    """Raise PositronicError when several values are typed for one, and it is no multirun."""
    for override in parsed:
        if override.is_sweep_override():
            raise PositronicError(
                f"{override.input_line} are several values, one run for each, and that takes -m: python run.py -m ..."
                f" {override.input_line}. Else type one value."
            )


def check_resumed_sweep(cfg: DictConfig, typed: Mapping[str, str], multirun: bool) -> None:
    """Raise PositronicError when a sweep is to go on and nobody says which: its jobs would begin in a new folder."""
    sweeps = multirun or OmegaConf.select(cfg, "hydra.mode") == RunMode.MULTIRUN
    somewhere = {"output_dir", "hydra.sweep.dir"} & set(typed)
    if sweeps and cfg.stage == "train" and cfg.resume and not somewhere:
        raise PositronicError(
            "resume=true with -m: expected the folder of the sweep that is to go on. Type "
            "hydra.sweep.dir=multirun/<date>/<time> and the same values as then."
        )


def check_kinds(parsed: Sequence[Override]) -> None:
    """Raise PositronicError when a typed value is of another kind than its parameter: ``1e4`` is no whole number."""
    for override in parsed:
        found = parameters(STAGES, override.key_or_group)
        value = override.value()
        if found and not override.is_sweep_override() and not any(fits(parameter, value) for parameter in found):
            raise _wrong_kind(found[0], override.key_or_group, value)


def fits(parameter: Parameter, value: Any) -> bool:
    """Whether a parsed value can be a parameter's. References and mappings are looked at later."""
    if value is None:
        return parameter.may_be_null or not set(parameter.kinds) & {int, float, bool}
    if isinstance(value, dict) or "${" in str(value):
        return True
    return any(_is_of(kind, value) for kind in parameter.kinds)


def _is_of(kind: Any, value: Any) -> bool:
    if typing.get_origin(kind) is list:
        return isinstance(value, list) and all(_is_of(typing.get_args(kind)[0], item) for item in value)
    if kind not in KINDS:
        return True
    accepts, _ = KINDS[kind]
    return not isinstance(value, list) and accepts(str(value).lower())


def _wrong_kind(parameter: Parameter, key: str, value: Any) -> PositronicError:
    kind, rule = parameter.kinds[0], parameter.metadata.get(RULE)
    said = "null" if value is None else f"[{','.join(map(str, value))}]" if isinstance(value, list) else value
    if typing.get_origin(kind) is list:
        expected = rule.expected if rule else "a list: [a,b]"
        length = rule.length if rule and rule.length and not isinstance(value, list) else 1
        hint = f" Type {key}=[{','.join([str(value)] * length)}]." if not isinstance(value, list) else ""
    else:
        expected, hint = KINDS[kind][1], ""
        if kind is int and isinstance(value, float) and value.is_integer():
            hint = f" Type {key}={int(value)}."
    return PositronicError(f"{key}={said}: expected {expected}.{hint}")


def unknown_key(key: str, stage: str, known: Sequence[str]) -> PositronicError:
    """``key`` was typed, or written in a preset, and there is none; ``known`` are the dotted keys that there are."""
    hint = _suggestion(key, known)
    owners = [name for name, schema in STAGES.items() if key.split(".")[0] in _field_names(schema)]
    if key.startswith("stages."):
        hint = f" It belongs into a preset; type {key.split('.', 2)[-1]}=... itself."
    elif key.split(".")[0] in PRESETS:
        hint = f" It is a preset, and those take a plus: +{key}=..."
    elif owners and stage not in owners:
        hint = f" It belongs to {' and '.join(f'stage={name}' for name in owners)}."
    return PositronicError(f"Key '{key}' is not a parameter of stage={stage}.{hint}")


def unknown_choice(group: str, choice: str, options: Iterable[str]) -> PositronicError:
    """``group=choice`` was typed and there is no such file."""
    options = list(options)
    hint = did_you_mean(choice, options)
    if group == "dataset" and ("/" in choice or choice in (".", "..")):
        hint = f" For a folder, type dataset=local dataset.path={choice}."
    return PositronicError(f"{group}={choice} is not known. Valid choices for {group}: {listing(options)}.{hint}")


def unknown_pair(vendor: str, codec: str, valid: Sequence[str], others: Sequence[str]) -> PositronicError:
    """This vendor has no such codec; ``others`` are the vendors that have."""
    elsewhere = f" ({codec} works with vendor={', '.join(others)}.)" if others else did_you_mean(codec, valid)
    return PositronicError(
        f"codec={codec} has no {vendor} modality. Valid codecs for vendor={vendor}: {listing(valid)}.{elsewhere}"
    )


def check(cfg: DictConfig) -> None:
    """Raise PositronicError when the stage cannot use this codec, or a value breaks its field's rule or is missing."""
    reason = cfg.codec.inference_only
    if cfg.stage in DATASET_STAGES and reason is not None:
        raise PositronicError(f"codec={cfg.codec.name} cannot be used with stage={cfg.stage}: {reason}.")
    if cfg.stage in ("train", "serve") and cfg.vendor.convert_only is not None:
        raise PositronicError(
            f"vendor={cfg.vendor.name} cannot be used with stage={cfg.stage}: {cfg.vendor.convert_only}."
        )
    _check_fields(cfg, cfg, "")
    _check_horizon(cfg)
    missing = missing_value(cfg)
    if missing is not None:
        wanted = WANTED.get(missing, "<value>")
        raise PositronicError(f"stage={cfg.stage} needs {missing}. Type {missing}={wanted}.")


def _check_horizon(cfg: DictConfig) -> None:
    """A policy cannot play more steps of a chunk than it predicts."""
    horizon, fps = cfg.modality.action_horizon_sec, cfg.modality.action_fps
    policy = cfg.vendor.policy if cfg.stage == "train" else {}
    sizes = {"modality.action_chunk": cfg.modality.action_chunk, "vendor.policy.chunk_size": policy.get("chunk_size")}
    for key, chunk in sizes.items():
        if cfg.stage in ("convert", "train") and horizon is not None and isinstance(chunk, int):
            played = math.ceil(horizon * fps - 1e-6)  # steps that begin within the horizon
            if played > chunk:
                raise PositronicError(
                    f"modality.action_horizon_sec={horizon} plays {played} steps at {fps} Hz, but {key}={chunk}."
                    f" Type modality.action_horizon_sec={chunk / fps:.3g} or less, or a larger {key}."
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


def leaf_keys(node: DictConfig, path: str = "") -> list[str]:
    """Dotted keys of every value that is not a mapping itself, hydra's own left out."""
    keys = []
    for name, child in node.items_ex(resolve=False):
        if _is_mapping(child):
            keys += leaf_keys(child, f"{path}{name}.") if f"{path}{name}" != "hydra" else []
        else:
            keys.append(f"{path}{name}")
    return keys


def _is_mapping(node: Any) -> bool:
    return isinstance(node, DictConfig) and not (node._is_missing() or node._is_none() or node._is_interpolation())


def _check_fields(cfg: DictConfig, node: DictConfig, path: str) -> None:
    """Every key is a field of its dataclass (``+key=`` can add others), every value keeps its field's rule."""
    schema = OmegaConf.get_type(node)
    fields = {field.name: field for field in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else {}
    for name, child in node.items_ex(resolve=False):
        key = f"{path}{name}"
        if key == "hydra":
            continue
        if fields and name not in fields:
            raise unknown_key(key, cfg.stage, [known for known in leaf_keys(cfg) if known != key])
        if name in fields and RULE in fields[name].metadata:
            _check_rule(node, name, key, fields[name].metadata[RULE])
        if _is_mapping(child):
            _check_fields(cfg, child, f"{key}.")


def _check_rule(node: DictConfig, name: str, key: str, rule: Rule) -> None:
    try:
        value = node[name]
    except OmegaConfBaseException:  # a missing value, refused later if the stage needs it
        return
    items = list(value) if isinstance(value, ListConfig) else [value]
    if rule.length is not None and value is not None and len(items) != rule.length:
        raise PositronicError(f"{key}={items}: expected {rule.expected}.")
    for item in items:
        if item is not None and item != MISSING and not (key in WANTED and item == "") and not rule.accepts(item):
            raise PositronicError(f"{key}={item}: expected {rule.expected}.{_advice(rule, key, item)}")


def _advice(rule: Rule, key: str, item: Any) -> str:
    values = rule.advice(item)
    if not values:
        return did_you_mean(str(item), rule.options)
    head = key.rpartition(".")[0]
    return f" Type {' '.join(f'{head}.{name}={value}' for name, value in values.items())}."


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
