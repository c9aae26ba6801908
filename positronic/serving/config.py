"""The server group."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ServerConfig:
    """Where the inference API listens. ``host`` is one of 0.0.0.0, 127.0.0.1, ::; ``token``: bearer token that clients
    must send, null for none. ``device``: torch device of the policy, ``auto`` takes a GPU when there is one."""

    host: str = "0.0.0.0"
    port: int = 8000
    token: str | None = None
    device: str = "auto"
    log_level: str = "warning"
