"""What a stage reads of the config. A value that this stage does not read would do nothing, and is refused with the
stage that reads it.

A stage declares the parts and keys that it reads (``Parts.uses``), those of which only the choice counts
(``Parts.choices``), and what follows from a reference: ``dataset.path`` names the folder of a baked dataset as long as
``input_path`` is not typed. Presets may say things for other stages; only typed values are checked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationToMissingValueError, OmegaConfBaseException

from positronic.cluster.config import WITH_CLUSTER
from positronic.codecs.config import FROM_CHECKPOINT
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.overrides import typed_keys, typed_values
from positronic.schemas import STAGES, fields_of, parameters, raw_values
from positronic.schemas import own_parameters as _own
from positronic.stages.base import Parts
from positronic.utils.fields import ANY, WITH

SUBMITTED = ("cluster", "sweep")  # the parts of a command with +cluster
ALWAYS = ("stage", "profile", *SUBMITTED)
CHECKPOINT_SAYS = ("embodiment", "vendor", "codec", "modality")  # for the stages that run a checkpoint
FOLLOWING_STAGES = ("serve", "infer")
REFERENCE = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*\}")
# What a person does not type: it follows from the choice of a file.
FOLLOWS = {
    **{f"{name}.name": name for name in ("embodiment", "vendor", "codec", "hardware", "policy", "driver", "tracker")},
    "embodiment.description": "embodiment",
    "codec.description": "codec",
    "codec.inference_only": "codec",
    "cluster.name": "cluster",
    "commands": "pipeline",
    "chains": "models",
}
# Values of a modality that only some vendors' own code reads.
ONLY_FOR_VENDOR = {
    "vendor.toy": ("gr00t", "openpi"),
    "vendor.mask_padding": ("openpi",),
    "modality.relative_actions": ("gr00t",),
    "vendor.config_name": ("openpi",),
    "modality.config_name": ("openpi",),
    "modality.action_chunk": ("gr00t", "openpi"),
}


def check_reads(cfg: DictConfig, parsed: Sequence[Override]) -> None:
    """Raise PositronicError if something was typed that the stage of ``cfg`` does not read."""
    typed, leaves = typed_values(parsed), raw_values(cfg)
    read = keys_read(cfg.stage, leaves)
    for key in typed_keys(parsed):
        if cfg.cluster is None and key.split(".")[0] in SUBMITTED and key not in _own(cfg.stage):
            raise PositronicError(f"{key} counts only with {WITH_CLUSTER}. Type that too.")
        if key in FOLLOWS:
            group = FOLLOWS[key]
            value = typed.get(key, "")
            raise PositronicError(f"'{key}' is not typed: it follows from {group}=. Type {group}={value}.")
        # The root is for whatever lies nowhere else: it may stand beside a folder that is typed.
        at_root = key in ("paths", "paths.root") and cfg.stage in owners(key, leaves)
        if not _counts(key, cfg.stage, read) and parameters(STAGES, key) and not at_root:
            raise _does_nothing(key, cfg.stage, typed, leaves, read)
        _check_company(cfg, key)
        if key in ONLY_FOR_VENDOR and cfg.vendor.name not in ONLY_FOR_VENDOR[key]:
            vendors = listing(ONLY_FOR_VENDOR[key])
            raise PositronicError(f"{key} counts for vendor={vendors} alone; found vendor={cfg.vendor.name}.")


def keys_read(stage: str, leaves: Mapping[str, Any]) -> set[str]:
    """The keys that ``stage`` reads, by its declaration and by the references in their values.

    ``leaves``: every dotted key with its value, references as they stand there.
    """
    schema = STAGES[stage]
    silent = {key for key in schema.compares if leaves.get(key) in (None, *schema.silent.get(key, ()))}
    read = {key for key in leaves if _declared(key, schema)} - silent
    read |= {other for own, other in schema.null_takes.items() if leaves.get(own) is None}
    return _with_references(read, leaves)


def check_references(cfg: DictConfig, in_job: bool = False) -> None:
    """Raise PositronicError when a value that the stage reads refers to something that is not there.

    ``in_job``: Hydra has begun a job, so that references to its own values (``${hydra:job.num}``) can be resolved.
    """
    leaves = raw_values(cfg)
    for key in sorted(keys_read(cfg.stage, leaves)):
        raw = leaves.get(key)
        of_hydra = any("${hydra:" in str(leaves.get(other)) for other in _with_references({key}, leaves))
        if isinstance(raw, str) and "${" in raw and (in_job or not of_hydra):
            _check_reference(cfg, key, raw, leaves)


def _check_reference(cfg: DictConfig, key: str, raw: str, leaves: Mapping[str, Any]) -> None:
    referred = set(REFERENCE.findall(raw)) & set(FOLLOWS)
    for name in referred:
        part = name.split(".")[0]
        if cfg.stage in FOLLOWING_STAGES and part in CHECKPOINT_SAYS and cfg[part].name == FROM_CHECKPOINT:
            raise PositronicError(
                f"{key}={raw} refers to {name}, which the checkpoint says, and that is still to be found. Type "
                f"{part}=... as well, or write the folder out."
            )
    try:
        OmegaConf.select(cfg, key, throw_on_resolution_failure=True)
    except InterpolationToMissingValueError:
        return  # refused by name when the stage needs it
    except OmegaConfBaseException as error:
        raise PositronicError(f"{key}={raw}: {_unresolved(error, leaves)}") from None


def _unresolved(error: OmegaConfBaseException, leaves: Mapping[str, Any]) -> str:
    text = str(error).splitlines()[0]
    unset = re.search(r"Environment variable '(\w+)' not found", text)
    if unset:
        return f"the environment variable {unset[1]} is not set. Type export {unset[1]}=... first, or the value itself."
    if isinstance(error, InterpolationKeyError):
        name = (re.search(r"'([^']+)'", text) or ["", "?"])[1]
        return f"it refers to {name}, and there is no such parameter.{did_you_mean(name, leaves)}"
    unknown = re.search(r"Unsupported interpolation type (\w+)", text)
    if unknown:
        known = "${<parameter>}, ${oc.env:<NAME>} or ${hydra:...}"
        return f"there is no reference of the kind '{unknown[1]}'. Expected {known}."
    return f"its reference cannot be resolved ({text})."


def _declared(key: str, schema: type[Parts]) -> bool:
    if any(key == name or key.startswith(f"{name}.") for name in schema.ignores):
        return False
    own = set(fields_of(schema)) - set(fields_of(Parts))
    named = (*ALWAYS, *schema.uses, *schema.compares, *own)
    return any(key == name or key.startswith(f"{name}.") for name in named)


def _counts(key: str, stage: str, read: Collection[str]) -> bool:
    """Whether typing ``key``, a value or a part's choice, can have an effect."""
    schema = STAGES[stage]
    if key in schema.choices or _declared(key, schema):
        return True
    return any(other == key or other.startswith(f"{key}.") for other in read)


def _check_company(cfg: DictConfig, key: str) -> None:
    """Refuse values that have an effect only together with another one that is missing."""
    for parameter in parameters([cfg.stage], key):
        for other, wanted in parameter.metadata.get(WITH, {}).items():
            node = OmegaConf.select(cfg, key.rpartition(".")[0]) if "." in key else cfg
            if wanted is ANY and node[other] is None:
                needed = key.removesuffix(key.rpartition(".")[2]) + other
                raise PositronicError(f"{key} counts only with {needed}=<value>. Type that too, or leave {key} out.")
            options = wanted if isinstance(wanted, tuple) else (wanted,)
            if wanted is not ANY and node[other] not in options:
                said = key.split(".")[0] if other == "name" else key.removesuffix(key.rpartition(".")[2]) + other
                value = " or ".join(str(each).lower() if isinstance(each, bool) else str(each) for each in options)
                raise PositronicError(f"{key} counts only with {said}={value}. Type that too, or leave {key} out.")


def _does_nothing(
    key: str, stage: str, typed: Mapping[str, str], leaves: Mapping[str, Any], read: Collection[str]
) -> PositronicError:
    part, readers = key.split(".")[0], owners(key, leaves)
    helped = _would_help(key, stage, typed, leaves)
    if helped:
        return PositronicError(
            f"'{key}' does nothing here: it would only help to find {helped}, which is typed as well. Leave one out."
        )
    belongs = f" It belongs to stage={listing(readers)}." if readers else ""
    if stage in FOLLOWING_STAGES and part in CHECKPOINT_SAYS:
        return PositronicError(
            f"'{key}' does nothing in stage={stage}, which takes it from the checkpoint as it was trained.{belongs}"
        )
    return PositronicError(f"'{key}' does nothing in stage={stage}.{belongs}{_here(key, typed, read)}")


def owners(key: str, leaves: Mapping[str, Any]) -> list[str]:
    """The stages that read ``key`` when nothing else is typed."""
    return [
        name
        for name, schema in STAGES.items()
        if _declared(key, schema) or key in schema.choices or any(_helps(key, own, name, leaves) for own in _own(name))
    ]


def _here(key: str, typed: Mapping[str, str], read: Collection[str]) -> str:
    """What this stage calls a value of the same name."""
    last = key.rpartition(".")[2]
    namesakes = sorted(name for name in read if name.rpartition(".")[2] == last and name not in FOLLOWS and "." in key)
    if len(namesakes) != 1:
        return ""
    value = typed.get(key)
    return f" Here it is {namesakes[0]}: type {namesakes[0]}={value}." if value else f" Here it is {namesakes[0]}."


def _would_help(key: str, stage: str, typed: Mapping[str, str], leaves: Mapping[str, Any]) -> str | None:
    """The typed parameter whose default refers to ``key``."""
    return next((own for own in _own(stage) if own in typed and _helps(key, own, stage, leaves)), None)


def _helps(key: str, own: str, stage: str, leaves: Mapping[str, Any]) -> bool:
    """Whether the default of a stage's own parameter refers to ``key``, directly or not."""
    schema = STAGES[stage]
    named = (
        {schema.null_takes[own]}
        if own in schema.null_takes
        else set(_referred(schema.__dataclass_fields__[own].default))
    )
    return any(other == key or other.startswith(f"{key}.") for other in _with_references(named, leaves))


def _with_references(keys: Collection[str], leaves: Mapping[str, Any]) -> set[str]:
    """``keys``, and every key that their values refer to, directly or not."""
    known, ahead = set(keys), list(keys)
    while ahead:
        raw = leaves.get(ahead.pop())
        for name in _referred(raw):
            new = {key for key in leaves if key == name or key.startswith(f"{name}.")} | {name}
            ahead += new - known
            known |= new
    return known


def _referred(raw: Any) -> Iterator[str]:
    if isinstance(raw, str):
        yield from REFERENCE.findall(raw)
    elif isinstance(raw, list):
        for item in raw:
            yield from _referred(item)
