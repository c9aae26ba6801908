"""Who decides: a server, a checkpoint in this process, or the expert. Each answers an observation with a chunk."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from positronic import keys
from positronic.commands import ActionStep
from positronic.errors import PositronicError
from positronic.hardware.robot import Robot
from positronic.rollout.check import check_policy
from positronic.rollout.config import LocalPolicyConfig, PolicyConfig, RemotePolicyConfig, ScriptedPolicyConfig
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.console import RenderableType

    from positronic.serving.policy import ServedPolicy

SCRIPTED = "scripted"


class Policy(Protocol):
    """What the loop needs of a policy."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the policy says about itself (``positronic.keys.META_*``)."""
        ...

    def reset(self) -> None:
        """A new episode begins."""
        ...

    def infer(self, observation: Mapping[str, Any]) -> list[ActionStep]:
        """The next steps, timestamps in seconds from the chunk's start. ``observation``: raw keys, task, times."""
        ...

    def rest(self) -> None:
        """Others play before this one does again."""
        ...

    def close(self) -> None:
        """Free what the policy holds. It may be closed twice."""
        ...


class LocalPolicy:
    """A checkpoint loaded in this process; the same codec and model as behind a server."""

    def __init__(self, config: LocalPolicyConfig) -> None:
        from positronic.serving.policy import load_policy
        from positronic.storage.folder import folder

        place = folder(config.checkpoints_dir, config.storage)
        self._policy: ServedPolicy | None = load_policy(place, config.checkpoint, config.device)
        self.meta: Mapping[str, Any] = self._policy.meta

    def __repr__(self) -> str:
        said = [self.meta.get(key) for key in (keys.META_VENDOR, keys.META_CODEC, keys.META_CHECKPOINT_ID)]
        return f"LocalPolicy({', '.join(map(str, said))}{'' if self._policy else ', closed'})"

    def __rich__(self) -> RenderableType:
        """What the policy sees and does."""
        from positronic.codecs.table import contract_table

        return contract_table(self._policy.recipe, repr(self)) if self._policy else repr(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def reset(self) -> None:
        """Nothing to forget: each answer depends on its observation alone."""

    def infer(self, observation: Mapping[str, Any]) -> list[ActionStep]:
        """The next steps, timestamps in seconds from the chunk's start. ``observation``: raw keys and the task.

        Raises PositronicError, naming the key, when one is missing or holds an impossible value.
        """
        if self._policy is None:
            raise PositronicError("This policy was closed. Open it again.")
        return self._policy.infer([dict(observation)])[0]

    def rest(self) -> None:
        """The model stays in memory."""

    def close(self) -> None:
        """Let go of the model, and with it of its memory, on a GPU too."""
        if self._policy is None:
            return
        self._policy = None
        gc.collect()  # modules refer to themselves in circles
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()


class ScriptedPolicy:
    """The expert that sees the simulator's state: one step at a time, at the control rate."""

    def __init__(self, robot: Robot) -> None:
        from positronic.hardware.sim.robot import SimRobot

        if not isinstance(robot, SimRobot):
            raise PositronicError(
                "policy=scripted knows where everything is, which only the simulator can tell; found the robot"
                f" '{robot.contract.name}'. Add hardware=sim, or take policy=remote."
            )
        self._robot = robot
        self.meta = {keys.META_TYPE: SCRIPTED, keys.META_ACTION_FPS: float(robot.config.control_fps)}

    def reset(self) -> None:
        """Nothing to forget: the expert has no memory."""

    def infer(self, observation: Mapping[str, Any]) -> list[ActionStep]:
        return [self._robot.task.expert().decide(self._robot.scene_state()).step]

    def rest(self) -> None:
        """Nothing to free."""

    def close(self) -> None:
        """Nothing to free."""


def open_policy(config: PolicyConfig, robot: Robot) -> Policy:
    """The policy of a config, checked against the robot.

    Raises ConventionError when the two do not fit, PositronicError when the server or the checkpoint is not there.
    """
    match config:
        case RemotePolicyConfig():
            from positronic.rollout.remote import RemotePolicy

            policy: Policy = RemotePolicy(config, robot.contract)
        case LocalPolicyConfig():
            policy = LocalPolicy(config)
        case ScriptedPolicyConfig():
            policy = ScriptedPolicy(robot)
        case _:
            raise PositronicError(f"No policy is written for the config '{type(config).__name__}'.")
    try:
        check_policy(policy.meta, robot.contract)
    except PositronicError:
        policy.close()
        raise
    return policy
