"""The server group."""

from __future__ import annotations

from dataclasses import dataclass

from positronic.utils import fields
from positronic.utils.fields import above, between, one_of, path, some

AUTO, BF16 = "auto", "bf16"
DAY_SEC = 86_400


@dataclass(kw_only=True)
class ServerConfig:
    """Where the inference API listens.

    host: 0.0.0.0 (all addresses), 127.0.0.1 or localhost (this machine alone), or ::
    port: from 1024 on; 0 takes a free one
    token: that clients must send; auto makes one and prints it; null is none
    tls_cert: file with the certificate that the server shows, and those between it and its authority; clients then
        connect with policy.tls=true. null serves without TLS
    tls_key: file with the private key of tls_cert
    device: of torch; auto takes a GPU when there is one
    max_sessions: open at once; a client beyond them is told so. Each may hold a frame of 64 MiB
    max_sessions_per_address: open at once from one address; null is any number. Behind a proxy all may have one address
    idle_timeout_sec: a session in which no observation comes for so long is closed; null keeps it
    memory_gb: that all checkpoints in memory may take together; null is what is free. Those that no session uses make
        room for another, the one that was used longest ago first
    max_batch: observations that share one forward pass at most; fewer do when the device's memory has run out once
    precision: of the forward pass; auto is what the policy was built with, bf16 computes matrix products and
        convolutions in bfloat16, which is faster on a GPU and rounds to about three digits
    compile: let torch compile the policy, which takes minutes when a checkpoint is loaded; passes are faster then
    answer_timeout_sec: the worker is started anew when its model gives no sign of life for so long; published clients
        of this protocol wait 180 s for an answer
    max_restarts: of the worker, when it dies or hangs, within restart_window_sec; after that the server ends
    restart_window_sec: see max_restarts
    drain_sec: on SIGTERM or Ctrl-C, answers under way may take so long; a second signal ends the server at once
    log_level: of the libraries' lines: debug, info, warning or error
    log_format: text, or json, one object a line
    """

    host: str = one_of("0.0.0.0", "127.0.0.1", "localhost", "::", default="0.0.0.0")  # those that LitServe can bind
    port: int = between(0, 65535, default=8000)
    token: str | None = some(None, "a token that is not empty, or null for none")
    tls_cert: str | None = path(None, tls_key=fields.ANY)
    tls_key: str | None = path(None, tls_cert=fields.ANY)
    device: str = fields.device("auto")
    max_sessions: int = between(1, 10_000, default=128)
    max_sessions_per_address: int | None = between(1, 10_000, default=None)
    idle_timeout_sec: float | None = above(0, 30 * DAY_SEC, default=14_400.0)
    memory_gb: float | None = above(0, 100_000, default=None)
    max_batch: int = between(1, 1024, default=16)
    precision: str = one_of(AUTO, BF16, default=AUTO)
    compile: bool = False
    answer_timeout_sec: float = above(0, DAY_SEC, default=300.0)
    max_restarts: int = between(0, 1000, default=3)
    restart_window_sec: float = above(0, DAY_SEC, default=600.0)
    drain_sec: float = between(0, DAY_SEC, default=20.0)
    log_level: str = one_of("debug", "info", "warning", "error", default="warning")
    log_format: str = one_of("text", "json", default="text")
