"""Which policies play on the same seeds: ``policies=[short,quickstart]``.

Each is a checkpoint of the chosen policy, or another server, ``<host>:<port>``, or a checkpoint of another server,
``<host>:<port>/<checkpoint>``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from positronic.rollout.config import LocalPolicyConfig, PolicyConfig, RemotePolicyConfig

SERVER = re.compile(r"(?P<host>[^/:\s]+):(?P<port>\d+)(?:/(?P<checkpoint>.+))?")


@dataclass(frozen=True)
class Candidate:
    """One of several policies. ``name``: of its folder. ``host``: None for the server that is typed."""

    name: str
    checkpoint: str | None
    host: str | None = None
    port: int | None = None

    @property
    def is_server(self) -> bool:
        """Whether it names a server of its own."""
        return self.host is not None

    def of(self, policy: PolicyConfig) -> PolicyConfig:
        """``policy`` with what distinguishes this one."""
        assert isinstance(policy, RemotePolicyConfig | LocalPolicyConfig)
        server = {"host": self.host, "port": self.port} if self.is_server else {}
        return replace(policy, checkpoint=self.checkpoint, **server)


def candidate(text: str) -> Candidate:
    """What was typed for one policy."""
    name = re.sub(r"[/:]", "_", text)
    server = SERVER.fullmatch(text)
    if server is None:
        return Candidate(name, text)
    return Candidate(name, server["checkpoint"], server["host"], int(server["port"]))


def same_names(texts: Sequence[str]) -> list[str]:
    """Those of ``texts`` whose folders would be the same as one before."""
    names = [candidate(text).name for text in texts]
    return [text for place, text in enumerate(texts) if names[place] in names[:place]]
