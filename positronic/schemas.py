"""Which parameters there are: the dataclasses of the stages and their parts, and what each field is.

A stage's dataclass is the type of the whole config. A part with several dataclasses (hardware, policy) names its own in
YAML.
"""

from __future__ import annotations

import dataclasses
import keyword
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from omegaconf import DictConfig, Node

from positronic.cluster.config import LocalParallelConfig, SlurmConfig
from positronic.hardware.replay.config import ReplayConfig
from positronic.hardware.sim.config import SimConfig
from positronic.rollout.config import LocalPolicyConfig, RemotePolicyConfig, ScriptedPolicyConfig
from positronic.stages.base import Parts
from positronic.stages.collect import Collect
from positronic.stages.compare import Compare
from positronic.stages.convert import Convert
from positronic.stages.import_ import Import
from positronic.stages.infer import Infer
from positronic.stages.pipeline import Pipeline
from positronic.stages.serve import Serve
from positronic.stages.stats import Stats
from positronic.stages.sweep import Sweep
from positronic.stages.train import Train
from positronic.utils.fields import RULE

STAGES: dict[str, type[Parts]] = {
    "collect": Collect,
    "import": Import,
    "convert": Convert,
    "stats": Stats,
    "train": Train,
    "serve": Serve,
    "infer": Infer,
    "compare": Compare,
    "pipeline": Pipeline,
    "sweep": Sweep,
}
SCHEMAS: dict[str, type] = {
    **{f"stage/{name}": schema for name, schema in STAGES.items()},
    "hardware/sim": SimConfig,
    "hardware/replay": ReplayConfig,
    "policy/remote": RemotePolicyConfig,
    "policy/local": LocalPolicyConfig,
    "policy/scripted": ScriptedPolicyConfig,
    "cluster/slurm": SlurmConfig,
    "cluster/local_parallel": LocalParallelConfig,
}
# Hydra's own parameters that are folders' names.
HYDRA_TEXTS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")


@dataclass(frozen=True)
class Parameter:
    """One field of a dataclass, or one value of a mapping: its type, its field's metadata, what it means."""

    hint: Any
    metadata: Mapping[str, Any] = field(default_factory=dict)
    meaning: str = ""

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types of a union, ``None`` left out; else the one type."""
        union = typing.get_origin(self.hint) in (typing.Union, types.UnionType)
        return tuple(kind for kind in typing.get_args(self.hint) if kind is not type(None)) if union else (self.hint,)

    @property
    def may_be_null(self) -> bool:
        return type(None) in typing.get_args(self.hint)

    @property
    def is_text(self) -> bool:
        """Whether it is free text, which is no choice among a few words."""
        rule = self.metadata.get(RULE)
        return self.kinds == (str,) and not (rule and rule.options)


def parameters(stages: Iterable[str], key: str) -> list[Parameter]:
    """Every field that a dotted ``key`` may name in these stages, whatever is chosen for its part."""
    if key == "stage":  # a choice, like the parts
        return [Parameter(Any)]
    if key in HYDRA_TEXTS:
        return [Parameter(str)]
    names = key.split(".")
    found = [Parameter(STAGES[stage]) for stage in stages]
    for name in names:
        values = [typing.get_args(kind)[1] for each in found for kind in each.kinds if typing.get_origin(kind) is dict]
        if values and not all(map(dataclasses.is_dataclass, values)):  # whose keys are the user's, and may hold dots
            return [Parameter(value) for value in values]
        found = [Parameter(value) for value in values] or [
            child for parameter in found for child in _children(parameter, name)
        ]
    return found


def module_of(stage: str) -> str:
    """The name of the stage's module in ``positronic.stages``: the stage's own, with a ``_`` where Python has it."""
    return f"{stage}_" if keyword.iskeyword(stage) else stage


def own_parameters(stage: str) -> list[str]:
    """The stage's own parameters, without the parts and what every stage has. To stage=sweep ``sweep`` is a folder, to
    the others a part."""
    parts = {part.name: part.type for part in dataclasses.fields(Parts)}
    return [own.name for own in dataclasses.fields(STAGES[stage]) if parts.get(own.name) != own.type]


def raw_values(node: DictConfig, path: str = "") -> dict[str, Any]:
    """Every dotted key of a composed config with its value as it is written, references unresolved; hydra's own left
    out."""
    found: dict[str, Any] = {}
    for name, child in node.items_ex(resolve=False):
        key = f"{path}{name}"
        if key == "hydra":
            continue
        if is_mapping(child):
            found |= raw_values(child, f"{key}.")
        else:
            found[key] = _raw(node._get_node(name))
    return found


def is_mapping(node: Any) -> bool:
    """Whether a part of a config has keys of its own, rather than none yet or those of another part."""
    return isinstance(node, DictConfig) and not (node._is_missing() or node._is_none() or node._is_interpolation())


@cache
def fields_of(schema: type) -> dict[str, Parameter]:
    """The fields of a dataclass, with what the docstrings of it and its bases say about them."""
    hints, meanings = typing.get_type_hints(schema), dict(_meanings(schema))
    return {f.name: Parameter(hints[f.name], f.metadata, meanings.get(f.name, "")) for f in dataclasses.fields(schema)}


def _children(parameter: Parameter, name: str) -> Iterator[Parameter]:
    for kind in parameter.kinds:
        for schema in _variants(kind) if dataclasses.is_dataclass(kind) else ():
            if name in fields_of(schema):
                yield fields_of(schema)[name]


@cache
def _variants(schema: type) -> tuple[type, ...]:
    """The dataclass, and those that a part of its kind may have instead."""
    others = [other for other in SCHEMAS.values() if issubclass(other, schema) and other is not schema]
    return (schema, *others) if schema is not Parts else (schema,)


def _meanings(schema: type) -> Iterator[tuple[str, str]]:
    """``name: what it means`` lines of the docstrings; a line that is indented goes on with the one before."""
    for base in reversed(schema.__mro__):
        text = base.__doc__ or ""
        for name, meaning in re.findall(r"^    (\w+): (.*(?:\n {6,}\S.*)*)", text, re.MULTILINE):
            yield name, " ".join(meaning.split())


def _raw(node: Any) -> Any:
    """A value, or each item of a list, as it is written."""
    value = node._value() if isinstance(node, Node) else node
    return [_raw(item) for item in value] if isinstance(value, list) else value
