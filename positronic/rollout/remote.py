"""A policy behind the inference API, and what happens when its server goes away and comes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import ConnectionLost, ObservationTooLarge
from positronic.commands import ActionStep
from positronic.conventions import require_equal
from positronic.errors import PositronicError
from positronic.hardware.robot import RobotContract
from positronic.rollout.asked import POLICY_IS
from positronic.rollout.config import RemotePolicyConfig

LOG = logging.getLogger(__name__)

LOSSES = 3  # of the connection with one observation, after which that observation is what ends the server
SAME = (*POLICY_IS, keys.META_CONVENTIONS, keys.META_ROBOT)
"""What a policy says of itself that may not change within one evaluation."""


class RemotePolicy:
    """A policy behind the inference API: one session per episode. The server is told what ``robot`` it is for; None
    tells it nothing."""

    def __init__(self, config: RemotePolicyConfig, robot: RobotContract | None = None) -> None:
        self._client = InferenceClient(
            config.host,
            config.port,
            token=config.token,
            connect_timeout_sec=config.connect_timeout_sec,
            tls=config.tls,
            tls_ca=config.tls_ca,
            jpeg_quality=config.jpeg_quality,
            robot=None if robot is None else stated(robot),
        )
        self._checkpoint, self._reconnect_sec = config.checkpoint, config.reconnect_sec
        self._session = self._client.session(self._checkpoint)
        self.meta: Mapping[str, Any] = self._session.meta
        self._closed = False
        self._fresh = True  # the session that was opened for its meta serves the first episode

    def reset(self) -> None:
        """A new episode begins. Raises ConventionError when the server has another checkpoint now."""
        if not self._fresh:
            self._open_again(None)
        self._fresh = False

    def infer(self, observation: Mapping[str, Any]) -> list[ActionStep]:
        """The next steps.

        A server that goes away is waited for, and asked again about the same observation: each answer depends on its
        observation alone. Raises ConnectionLost when it does not come back in time, or goes away each time it is asked;
        ConventionError when it comes back with another checkpoint; PositronicError as the session does.
        """
        for _ in range(LOSSES - 1):
            try:
                return self._session.infer(observation)
            except ObservationTooLarge:
                raise
            except ConnectionLost as lost:
                if self._closed or not self._reconnect_sec:
                    raise
                begin_sec = time.monotonic()
                LOG.warning("%s Waiting for it up to %g s.", lost, self._reconnect_sec)
                self._open_again(self._reconnect_sec)
                LOG.warning("The server is there again after %.1f s.", time.monotonic() - begin_sec)
        return self._session.infer(observation)

    def rest(self) -> None:
        """End the session, so that the server may give the checkpoint's place to another."""
        self._session.close()
        self._fresh = False

    def close(self) -> None:
        """Leave the server. An answer that another thread waits for ends there with ConnectionLost."""
        self._closed = True
        self._session.close()

    def _open_again(self, timeout_sec: float | None) -> None:
        self._session.close()
        self._require_open()
        self._session = self._client.session(self._checkpoint, connect_timeout_sec=timeout_sec)
        try:
            self._require_open()  # another thread may have closed it meanwhile
            require_same_policy("the server as it was", self.meta, "the server as it came back", self._session.meta)
        except PositronicError:
            self._session.close()
            raise

    def _require_open(self) -> None:
        if self._closed:
            raise PositronicError("This policy was closed. Open it again.")


def stated(robot: RobotContract) -> dict[str, Any]:
    """What a server is told of a robot, so that it can refuse what does not fit."""
    known = {} if robot.embodiment is None else {keys.META_ROBOT: robot.embodiment.contract()}
    return {**known, keys.META_CONVENTIONS: robot.conventions, keys.STATED_COMMANDS: sorted(robot.commands)}


def require_same_policy(who: str, before: Mapping[str, Any], whose: str, now: Mapping[str, Any]) -> None:
    """Raise ConventionError, with both sides, when two metas are of different policies."""
    hint = (
        "Rollouts of one evaluation are of one policy. Type policy.checkpoint=<id>, or begin anew with another "
        "output_dir=."
    )
    require_equal(who, _identity(before), whose, _identity(now), hint)


def _identity(meta: Mapping[str, Any]) -> dict[str, str]:
    """One line for each thing that a server says of its policy, and one for each of its conventions."""
    said: dict[str, str] = {}
    for key in SAME:
        value = meta.get(key)
        nested = value.items() if isinstance(value, Mapping) else [("", value)]
        said |= {f"{key} {name}".rstrip(): str(each) for name, each in nested if each is not None}
    return said
