"""Which values a composed config may hold, each fault as one sentence that says what to type instead.

``refusals.py`` is about names: of parameters, of choices. Here are types, rules, and values that contradict each other.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from positronic.embodiments.config import FROM_DATA
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.hardware.sim.config import SimConfig
from positronic.refusals import WANTED, missing_value, unknown_key
from positronic.rollout.candidates import candidate, same_names
from positronic.rollout.config import CLAMP, DECIDED, NO_REAL_TIME, PLAY_OUT, REAL_TIME
from positronic.schemas import STAGES, Parameter, is_mapping, own_parameters, parameters, raw_values
from positronic.training.config import RANDOM, OptimizerConfig
from positronic.utils.fields import RULE, Rule
from positronic.utils.threads import available_cores
from positronic.vendors import registry

DATASET_STAGES = ("convert", "stats", "train")  # where a codec stands for a dataset that is baked with it
OF_ANOTHER = re.compile(r"\$\{\s*[A-Za-z_][\w.]*\s*\}")
PLACES = re.compile(r"\{\w+\}")  # of an instruction, where each episode says something else
STALENESS = "driver.max_staleness_sec"
WORKERS = "num_workers"
COLUMNS = "modality.columns"
VENDOR_NAME = "${vendor.name}"
# What a value of each type looks like, and its name.
KINDS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (re.compile(r"[+-]?\d+").fullmatch, "a whole number"),
    float: (re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?").fullmatch, "a number"),
    bool: (re.compile(r"true|false|yes|no|on|off|0|1").fullmatch, "true or false"),
}


def check_kinds(parsed: Sequence[Override]) -> None:
    """Raise PositronicError when a typed value is of another kind than its parameter: ``1e4`` is no whole number."""
    for override in parsed:
        _check_columns(override)
        found = parameters(STAGES, override.key_or_group)
        value = override.value()
        if found and not override.is_sweep_override() and not any(fits(parameter, value) for parameter in found):
            raise _wrong_kind(found[0], override.key_or_group, value)
        if found and value == {}:
            key = override.key_or_group
            raise PositronicError(
                f"{key}={{}} changes nothing: what is typed is added to the values that are there. Type "
                f"{key}.<name>=<value> for each that is to be another."
            )


def _check_columns(override: Override) -> None:
    """Columns are lists of features under names with dots, which Hydra would take for parts of the key."""
    key, value = override.key_or_group, override.value()
    name = key.removeprefix(f"{COLUMNS}.")
    if name != key and "." in name:
        raise _columns_expected(override.input_line or key, {name: value})
    if key == COLUMNS and isinstance(value, dict) and not all(isinstance(each, list) for each in value.values()):
        raise _columns_expected(override.input_line or key, value)


def _columns_expected(typed: str, columns: Mapping[Any, Any]) -> PositronicError:
    lists = {name: value if isinstance(value, list) else [value] for name, value in columns.items()}
    meant = ", ".join(f"{name}: [{', '.join(map(str, features))}]" for name, features in lists.items())
    return PositronicError(
        f"{typed}: expected columns with their features, as a mapping. Type '{COLUMNS}={{{meant}}}'."
    )


def fits(parameter: Parameter, value: Any) -> bool:
    """Whether a parsed value can be a parameter's. References and mappings are looked at later."""
    if value is None:
        return parameter.may_be_null or all(kind in (str, Any) for kind in parameter.kinds)
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
    hint = ""
    if typing.get_origin(kind) is list:
        expected = rule.expected if rule else "a list: [a,b]"
        items = _items_meant(value, rule.length if rule else None)
        hint = f" Type {key}=[{','.join(items)}]." if items else ""
    elif kind in KINDS:
        expected = KINDS[kind][1]
        if kind is int and isinstance(value, float) and value.is_integer():
            hint = f" Type {key}={int(value)}."
    else:
        expected = f"its values one by one: {key}.<name>=<value>"
    return PositronicError(f"{key}={said}: expected {expected}.{hint}")


def _items_meant(value: Any, length: int | None) -> list[str]:
    """What a list could have been meant to hold: ``128``, ``128x128`` and ``[128.0,128.0]`` are sizes."""
    if value is None:
        return []
    if length is None:
        return [] if isinstance(value, list) else [str(value)]
    numbers = [f"{float(number):g}" for number in re.findall(r"\d+(?:\.\d+)?", str(value))]
    if not isinstance(value, list):
        numbers = numbers * length if len(numbers) == 1 else numbers
    return numbers if len(numbers) == length else []


def check(cfg: DictConfig) -> None:
    """Raise PositronicError when the stage cannot use this codec, or a value breaks its field's rule or is missing."""
    reason = cfg.codec.inference_only
    if cfg.stage in DATASET_STAGES and reason is not None:
        raise PositronicError(f"codec={cfg.codec.name} cannot be used with stage={cfg.stage}: {reason}.")
    _check_fields(cfg, cfg, "")
    if cfg.stage == "convert":  # before a dataset is made that nothing could be trained on
        registry.require_horizon(cfg.vendor.name, cfg.modality.action_chunk)
    _check_horizon(cfg)
    _check_simulator(cfg)
    _check_playback(cfg)
    _check_instruction(cfg)
    _check_robot(cfg)
    _check_toy(cfg)
    _check_shards(cfg)
    missing = missing_value(cfg)
    if missing is not None:
        wanted = WANTED.get(missing, "<value>")
        raise PositronicError(f"stage={cfg.stage} needs {missing}. Type {missing}={wanted}.")


def _check_shards(cfg: DictConfig) -> None:
    """One shard is baked, or all of them are joined."""
    if cfg.stage != "convert" or cfg.shards is None or cfg.shard is None:
        return
    if cfg.join:
        raise PositronicError(
            f"shard={cfg.shard} bakes one shard, join=true makes the dataset of all of them. Leave one out."
        )
    if cfg.shard > cfg.shards:
        raise PositronicError(f"shard={cfg.shard}: with shards={cfg.shards} they have the numbers 1 to {cfg.shards}.")


def _check_toy(cfg: DictConfig) -> None:
    """Before weights of real size are fetched for nothing, or a dataset is opened."""
    if cfg.stage != "train":
        return
    if cfg.vendor.name in registry.FINE_TUNED and cfg.vendor.base == RANDOM and not cfg.vendor.toy:
        raise PositronicError(
            f"vendor.base={RANDOM}: vendor={cfg.vendor.name} is fine-tuned; random weights of its size would learn "
            "nothing. Leave it out, or type vendor.base=<a folder or a name on the hub>; vendor.toy=true tries the "
            "same code out in seconds."
        )
    if cfg.vendor.toy and cfg.vendor.base != RANDOM:
        raise PositronicError(
            f"vendor.toy=true starts from random weights of its own size; found vendor.base={cfg.vendor.base}. Type "
            f"vendor.base={RANDOM}, or vendor.toy=false; a checkpoint of a toy says itself that it is one."
        )


def choose_optimizer(cfg: DictConfig) -> None:
    """The preset of the policy's type becomes that of its vendor, unless the vendor has one for all.

    Raises PositronicError for a type that cannot be trained, or of which nothing is known.
    """
    presets, policy_type = cfg.vendor.optimizers, cfg.vendor.policy.get("type")
    if cfg.stage == "train" and cfg.codec.inference_only is None:  # which is refused later, with its reason
        registry.require_trainable(cfg.vendor.name, cfg.vendor.policy, cfg.modality)
    if cfg.vendor.optimizer is None and policy_type in presets:
        cfg.vendor.optimizer = presets[policy_type]
    elif cfg.vendor.optimizer is None and presets and cfg.stage == "train":
        raise PositronicError(
            f"vendor.policy.type={policy_type}: nothing is known of how it is trained. Known are {listing(presets)}. "
            f"Say it: '+vendor.optimizers.{policy_type}={{betas:[0.9,0.999],weight_decay:0.01,grad_clip_norm:1.0}}'."
        )
    cfg.vendor.optimizer = cfg.vendor.optimizer or OptimizerConfig()
    cfg.vendor.optimizers = {}


def settle_vendor(cfg: DictConfig) -> None:
    """The vendor in a preset's path to a checkpoint cannot be taken from that checkpoint."""
    for name in own_parameters(cfg.stage):
        raw = cfg._get_node(name)._value()
        if isinstance(raw, str) and VENDOR_NAME in raw:
            cfg[name] = raw.replace(VENDOR_NAME, cfg.vendor.name)


def check_workers(cfg: DictConfig, typed: Collection[str]) -> None:
    """Raise PositronicError when more processes are typed than this one may have cores; a preset takes what there is.

    Jobs that are submitted run elsewhere, on machines that nothing is known about here.
    """
    if OmegaConf.select(cfg, "hydra.runtime.choices.hydra/launcher") not in (None, "basic"):
        return
    wanted = OmegaConf.select(cfg, WORKERS) if WORKERS in typed else None
    cores = available_cores()
    if isinstance(wanted, int) and wanted > cores:
        raise PositronicError(
            f"{WORKERS}={wanted}: this process may use {cores} {'core' if cores == 1 else 'cores'}, by the machine and "
            f"its container's quota. Type {WORKERS}={cores} or less."
        )


def check_compared(cfg: DictConfig, typed: Collection[str]) -> None:
    """Raise PositronicError when nothing is typed that could be compared, or two kinds of it."""
    if cfg.stage != "compare":
        return
    if cfg.rollouts is None and not cfg.models:
        raise PositronicError(
            f"stage=compare needs rollouts. Type rollouts={WANTED['rollouts']}, or +experiment=compare_models "
            "dataset.path=<folder of raw episodes> to train several models and evaluate them."
        )
    if cfg.rollouts is not None and "models" in typed:
        raise PositronicError("rollouts= are evaluations that are there, models= are to be trained first. Type one.")


def check_policies(cfg: DictConfig, typed: Collection[str]) -> None:
    """Raise PositronicError when several policies are typed that cannot be compared, or one where it takes several."""
    if cfg.stage != "infer":
        return
    if cfg.policies is None:
        if cfg.driver.stop_when == DECIDED:
            raise PositronicError(
                "driver.stop_when=decided is about which of several policies is better. Type policies=[<a>,<b>] too."
            )
        return
    entries, shown = [candidate(text) for text in cfg.policies], ",".join(cfg.policies)
    if cfg.policy.name == "scripted":
        raise PositronicError(f"policies=[{shown}] are checkpoints or servers; found policy=scripted. Leave one out.")
    if cfg.hardware.name == "replay":
        raise PositronicError(
            f"policies=[{shown}] are compared by their successes; with hardware=replay there are none. Leave one out."
        )
    if any(entry.is_server for entry in entries) and cfg.policy.name != "remote":
        raise PositronicError(f"policies=[{shown}]: a server is reached with policy=remote; found {cfg.policy.name}.")
    if same_names(cfg.policies):
        raise PositronicError(f"policies=[{shown}]: two of them would have folders of the same name. Leave one out.")
    unread = [key for key in ("policy.host", "policy.port") if all(entry.is_server for entry in entries)]
    for key in typed:
        if key in ("policy.checkpoint", *unread):
            raise PositronicError(f"{key} does nothing beside policies=[{shown}], which say it. Leave it out.")


def check_replayed(cfg: DictConfig, typed: Collection[str]) -> None:
    """Raise PositronicError when limits of a motion are typed for a recording, in which nothing moves."""
    if cfg.stage != "infer" or cfg.hardware.name != "replay":
        return
    limits = [key for key in typed if key.startswith("driver.max_") and key != STALENESS]
    clamped = ["driver.on_unsafe_chunk"] if cfg.driver.on_unsafe_chunk == CLAMP else []
    for key in [*limits, *(key for key in clamped if key in typed)]:
        raise PositronicError(
            f"{key} does nothing with hardware=replay, where commands move nothing and are only compared. Leave it out."
        )


def check_part(node: DictConfig, path: str) -> None:
    """Raise PositronicError when a value of one part, read from a file of its own, breaks its field's rule."""
    _check_fields(node, node, path)


def _check_simulator(cfg: DictConfig) -> None:
    """The expert knows where everything is in the simulator alone."""
    expert = "stage=collect" if cfg.stage == "collect" else "policy=scripted"
    needed = cfg.stage == "collect" or (cfg.stage == "infer" and cfg.policy.name == "scripted")
    if needed and OmegaConf.get_type(cfg.hardware) is not SimConfig:
        raise PositronicError(
            f"{expert} needs the simulator, where the expert knows where everything is; found hardware="
            f"{cfg.hardware.name}. Type hardware=sim."
        )


def _check_instruction(cfg: DictConfig) -> None:
    """A task that words each episode's instruction anew has none for all of them."""
    if cfg.stage != "infer" or not cfg.driver.task or OmegaConf.get_type(cfg.hardware) is not SimConfig:
        return
    worded = cfg.hardware.task
    if places := PLACES.findall(worded):
        raise PositronicError(
            f"driver.task would be the same in all episodes, and hardware={cfg.hardware.name} says in each what is to"
            f" be done. Word it by hardware.task='{worded}', with {listing(places)}."
        )


def _check_playback(cfg: DictConfig) -> None:
    """Chunks can be played in a way that this policy makes chunks for."""
    if cfg.stage != "infer":
        return
    if cfg.driver.playback == REAL_TIME:
        raise PositronicError(NO_REAL_TIME)
    if cfg.policy.name == "scripted" and cfg.driver.playback != PLAY_OUT:
        raise PositronicError(
            f"driver.playback={cfg.driver.playback} is for chunks of several steps; policy=scripted gives one step at "
            f"a time, from the scene as it is. Type driver.playback={PLAY_OUT}."
        )


def _check_robot(cfg: DictConfig) -> None:
    """A robot that was chosen must be one that this codec can be built for and this vendor's model can take."""
    if cfg.embodiment.name == FROM_DATA:
        said = [name for name in ("arms", "cameras", "control_fps") if cfg.embodiment[name]]
        if said:
            raise PositronicError(
                f"embodiment.{said[0]} counts only with a robot that it is about; found embodiment={FROM_DATA}, which "
                "takes what the data say. Type embodiment=<name> as well, e.g. embodiment=franka."
            )
        return
    if cfg.stage not in DATASET_STAGES:
        return
    from positronic.codecs.build import build  # here: it imports numpy, and composing should stay quick
    from positronic.embodiments.embodiment import build_embodiment

    codec, modality, robot = (OmegaConf.to_object(cfg[name]) for name in ("codec", "modality", "embodiment"))
    build(codec, modality, embodiment=build_embodiment(robot))


def _check_horizon(cfg: DictConfig) -> None:
    """A policy cannot play more steps of a chunk than it predicts."""
    horizon, fps = cfg.modality.action_horizon_sec, cfg.modality.action_fps
    policy = cfg.vendor.policy if cfg.stage == "train" else {}
    sizes = {"modality.action_chunk": cfg.modality.action_chunk}
    predicted = ("horizon", "n_action_steps") if "horizon" in policy else ("chunk_size",)  # diffusion cuts its chunks
    sizes |= {f"vendor.policy.{name}": policy.get(name) for name in predicted}
    for key, chunk in sizes.items():
        if cfg.stage in ("convert", "train") and horizon is not None and isinstance(chunk, int):
            played = math.ceil(horizon * fps - 1e-6)  # steps that begin within the horizon
            if played > chunk:
                raise PositronicError(
                    f"modality.action_horizon_sec={horizon} plays {played} steps at {fps} Hz, but {key}={chunk}."
                    f" Type modality.action_horizon_sec={chunk / fps:.3g} or less, or a larger {key}."
                )


def _check_fields(cfg: DictConfig, node: DictConfig, path: str) -> None:
    """Every key is a field of its dataclass (``+key=`` can add others), every value keeps its field's rule."""
    schema = OmegaConf.get_type(node)
    fields = {field.name: field for field in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else {}
    for name, child in node.items_ex(resolve=False):
        key = f"{path}{name}"
        if key == "hydra":
            continue
        if fields and name not in fields:
            raise unknown_key(key, cfg.stage, [known for known in raw_values(cfg) if known != key])
        if name in fields and RULE in fields[name].metadata:
            _check_rule(node, name, key, fields[name].metadata[RULE])
        if is_mapping(child):
            _check_fields(cfg, child, f"{key}.")


def _check_rule(node: DictConfig, name: str, key: str, rule: Rule) -> None:
    if OF_ANOTHER.fullmatch(str(node._get_node(name)._value())):
        return  # it is looked at where it is said
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
    if isinstance(value, ListConfig) and not rule.together(items):
        raise PositronicError(f"{key}={items}: expected {rule.expected}.")


def _advice(rule: Rule, key: str, item: Any) -> str:
    values = rule.advice(item)
    if not values:
        return rule.remark(key, item) or did_you_mean(str(item), rule.options)
    head = key.rpartition(".")[0]
    return f" Type {' '.join(f'{head}.{name}={value}' for name, value in values.items())}."
