"""The one place that imports the lerobot library.

``import lerobot.policies`` imports the dependencies of every policy, which takes longer than all the rest of a start.
So the package is entered without running its ``__init__``; that runs when somebody asks for a name of it. Config
classes and factories are found by lerobot's own naming convention, as its factory does it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from positronic.errors import PositronicError, did_you_mean, listing

POLICIES = "lerobot.policies"
TYPE = "type"
PREPROCESSOR_FILE = "policy_preprocessor.json"
POSTPROCESSOR_FILE = "policy_postprocessor.json"


class _OnDemandPackage(ModuleType):
    """A package whose ``__init__`` runs at the first access to a name that it would define."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def enter_policies() -> Path:
    """Make the modules below ``lerobot.policies`` importable one by one. Returns the package's folder.

    Raises PositronicError when lerobot is not installed.
    """
    try:
        spec = importlib.util.find_spec(POLICIES)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise PositronicError("vendor=lerobot needs the package lerobot. Type `make setup`, which installs it.")
    if POLICIES not in sys.modules:
        package = importlib.util.module_from_spec(spec)
        package.__class__ = _OnDemandPackage
        sys.modules[POLICIES] = package
    return Path(spec.origin).parent


@lru_cache(maxsize=1)
def policy_types() -> tuple[str, ...]:
    """Names of the policies that the installed lerobot has; none without lerobot. Imports nothing."""
    spec = importlib.util.find_spec(POLICIES.partition(".")[0])
    folders = [Path(folder) / POLICIES.partition(".")[2] for folder in (spec and spec.submodule_search_locations) or ()]
    return tuple(sorted(path.parent.name for folder in folders for path in folder.glob("*/configuration_*.py")))


def require_trainable(policy: Mapping[str, Any], modality: Any = None) -> None:
    """Raise PositronicError when the policy's type is unknown."""
    policy_type, known = policy.get(TYPE), policy_types()
    if known and policy_type not in known:
        raise _unknown(policy_type)


def _unknown(policy_type: Any) -> PositronicError:
    found = "null" if policy_type is None else f"'{policy_type}'"
    hint = did_you_mean(str(policy_type), policy_types()) or " Type vendor.policy.type=act."
    return PositronicError(f"vendor.policy.type: expected one of {listing(policy_types(), 30)}, found {found}.{hint}")


def config_class(policy_type: str) -> type:
    """The config class of a policy. Raises PositronicError for an unknown one."""
    enter_policies()
    if policy_type not in policy_types():
        raise _unknown(policy_type)
    module = _part(policy_type, "configuration")
    from lerobot.configs.policies import PreTrainedConfig

    found = PreTrainedConfig.get_known_choices().get(policy_type)
    if found is None:
        raise PositronicError(f"vendor.policy.type: {module.__name__} registers no policy of this name.")
    return found


def policy_class(policy_type: str) -> type:
    """``ACTPolicy`` for ``act``."""
    name = config_class(policy_type).__name__.removesuffix("Config") + "Policy"
    return getattr(_part(policy_type, "modeling"), name)


def make_processors(config: Any, stats: dict[str, Any]) -> tuple[Any, Any]:
    """New pre- and post-processor of a policy, normalising by ``stats`` (column -> mean, std, ...)."""
    make = getattr(_part(config.type, "processor"), f"make_{config.type}_pre_post_processors")
    return make(config, dataset_stats=stats)


def load_processors(
    folder: Path, device: str, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Any, Any]:
    """The pre- and post-processor saved in ``folder``, on ``device``. ``overrides``: step -> its values, instead of
    those that were saved."""
    from lerobot.processor import PolicyProcessorPipeline
    from lerobot.processor.converters import (
        batch_to_transition,
        policy_action_to_transition,
        transition_to_batch,
        transition_to_policy_action,
    )

    before = PolicyProcessorPipeline.from_pretrained(
        str(folder),
        config_filename=PREPROCESSOR_FILE,
        overrides={"device_processor": {"device": device}, **(overrides or {})},
        to_transition=batch_to_transition,
        to_output=transition_to_batch,
    )
    after = PolicyProcessorPipeline.from_pretrained(
        str(folder),
        config_filename=POSTPROCESSOR_FILE,
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    return before, after


def _part(policy_type: str, kind: str) -> ModuleType:
    enter_policies()
    return importlib.import_module(f"{POLICIES}.{policy_type}.{kind}_{policy_type}")
