"""The server group."""

from __future__ import annotations

from dataclasses import dataclass

from positronic.utils.fields import between, one_of


@dataclass
class ServerConfig:
    """Where the inference API listens. ``host``: one of those that LitServe can bind. ``port``: 0 takes a free one.
    ``token``: bearer token that clients must send, null for none. ``device``: torch device of the policy, ``auto``
    takes a GPU when there is one."""

    host: str = one_of("0.0.0.0", "127.0.0.1", "::", default="0.0.0.0")
    port: int = between(0, 65535, default=8000)
    token: str | None = None
    device: str = "auto"
    log_level: str = one_of("debug", "info", "warning", "error", default="warning")
