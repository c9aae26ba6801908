"""What a composed config may not be, each as one sentence that says what to type instead.

Plain functions of what was typed and of composed configs; ``composition.py`` calls them, so that they hold for
``run.py``, ``--cfg job``, multiruns and ``compose()`` alike.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from positronic.errors import PositronicError, did_you_mean, listing
from positronic.stages.base import Parts
from positronic.stages.collect import Collect
from positronic.stages.convert import Convert
from positronic.stages.infer import Infer
from positronic.stages.serve import Serve
from positronic.stages.train import Train
from positronic.utils.fields import RULE

STAGES: dict[str, type[Parts]] = {
    "collect": Collect,
    "convert": Convert,
    "train": Train,
    "serve": Serve,
    "infer": Infer,
}
TRAINABLE_STAGES = ("convert", "train")
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
}
# Names that moved to a part which depends on the stage.
MOVED = {
    "port": {"serve": "server.port", "infer": "policy.port"},
    "host": {"serve": "server.host", "infer": "policy.host"},
    "token": {"serve": "server.token", "infer": "policy.token"},
}
# Names for what nobody types any more.
DERIVED = {
    "modality_config": "it follows from the codec: type codec=...",
    "variant": "it follows from the codec: type codec=...",
    "config_name": "it follows from the vendor and the codec: type vendor=... codec=...",
    "stats_path": "the statistics are computed by stage=convert and travel with the dataset and the checkpoint",
}
# What to type for a value that only the user knows.
WANTED = {
    "dataset.path": "<folder of raw episodes>, or dataset=demo for the demonstrations of stage=collect",
    "checkpoints_dir": "<an experiment's folder, the one that holds checkpoints/>",
    "policy.checkpoints_dir": "<an experiment's folder, the one that holds checkpoints/>",
    "hardware.path": "<folder of raw episodes>",
}


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
    return PositronicError(
        f"{group}={choice} is not known. Valid choices for {group}: {listing(options)}.{did_you_mean(choice, options)}"
    )


def unknown_pair(vendor: str, codec: str, valid: Sequence[str], others: Sequence[str]) -> PositronicError:
    """This vendor has no such codec; ``others`` are the vendors that have."""
    elsewhere = f" ({codec} works with vendor={', '.join(others)}.)" if others else did_you_mean(codec, valid)
    return PositronicError(
        f"codec={codec} has no {vendor} modality. Valid codecs for vendor={vendor}: {listing(valid)}.{elsewhere}"
    )


def check(cfg: DictConfig) -> None:
    """Raise PositronicError when the stage cannot use this codec, or a value breaks its field's rule or is missing."""
    reason = cfg.codec.inference_only
    if cfg.stage in TRAINABLE_STAGES and reason is not None:
        raise PositronicError(f"codec={cfg.codec.name} cannot be used with stage={cfg.stage}: {reason}.")
    _check_rules(cfg, "")
    missing = missing_value(cfg)
    if missing is not None:
        wanted = WANTED.get(missing, "<value>")
        raise PositronicError(f"stage={cfg.stage} needs {missing}. Type {missing}={wanted}.")


def missing_value(cfg: DictConfig) -> str | None:
    """The first key still missing among those that the stage uses: its own parameters, then its parts'."""
    schema = STAGES[cfg.stage]
    own = [name for name in _field_names(schema) if name not in _field_names(Parts)]
    found = (_first_missing(cfg, name, name) for name in (*own, *schema.uses))
    return next((key for key in found if key is not None), None)


def _first_missing(node: DictConfig, name: str, key: str) -> str | None:
    try:
        child = node[name]
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        source = re.search(r"Missing mandatory value: (\S+)", str(error))
        return source[1] if source and isinstance(error, InterpolationToMissingValueError) else key
    below = child if isinstance(child, DictConfig) else ()
    found = (_first_missing(child, str(inner), f"{key}.{inner}") for inner in below)
    return next((missing for missing in found if missing is not None), None)


def leaf_keys(cfg: DictConfig, prefix: str = "") -> list[str]:
    """Dotted keys of every value under ``prefix`` that is not a mapping itself, hydra's own left out."""
    node = OmegaConf.select(cfg, prefix, throw_on_resolution_failure=False) if prefix else cfg
    if not isinstance(node, DictConfig):
        return [prefix]
    names = [str(name) for name in node if prefix or name != "hydra"]
    return [key for name in names for key in leaf_keys(cfg, f"{prefix}.{name}" if prefix else name)]


def _check_rules(node: DictConfig, path: str) -> None:
    for name, child in _typed_children(node):
        key = f"{path}.{name}" if path else name
        if isinstance(child, DictConfig):
            _check_rules(child, key)
    schema = OmegaConf.get_type(node)
    for field in dataclasses.fields(schema) if dataclasses.is_dataclass(schema) else ():
        if RULE in field.metadata:
            _check_rule(node, field, f"{path}.{field.name}" if path else field.name)


def _check_rule(node: DictConfig, field: dataclasses.Field[Any], key: str) -> None:
    rule = field.metadata[RULE]
    try:
        value = node[field.name]
    except OmegaConfBaseException:  # a missing value, refused later if the stage needs it
        return
    for item in value if isinstance(value, ListConfig) else [value]:
        if item is not None and not rule.accepts(item):
            hint = did_you_mean(str(item), rule.options)
            raise PositronicError(f"{key}={item}: expected {rule.expected}.{hint}")


def _typed_children(node: DictConfig) -> Iterator[tuple[str, Any]]:
    for name, child in node.items_ex(resolve=False):
        if name != "hydra" and isinstance(child, DictConfig) and not (child._is_missing() or child._is_none()):
            yield str(name), child


def _field_names(schema: type) -> list[str]:
    return [field.name for field in dataclasses.fields(schema)]


def _suggestion(key: str, known: Sequence[str]) -> str:
    head, _, last = key.rpartition(".")
    namesakes = [name for name in known if name.rpartition(".")[2] == last]
    if namesakes:
        return f" Did you mean {_either(namesakes)}?"
    groups = sorted({name.split(".")[0] for name in known})
    siblings = [name for name in known if name.rpartition(".")[0] == head]
    return did_you_mean(key, [*siblings, *groups]) or did_you_mean(key, known)


def _either(names: Sequence[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
