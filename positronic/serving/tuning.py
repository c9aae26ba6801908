"""How fast a policy computes: what the server's config says of its forward pass."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from positronic.errors import PositronicError
from positronic.serving.config import BF16, ServerConfig
from positronic.serving.failures import Failure
from positronic.serving.policy import ServedPolicy
from positronic.serving.warm_up import first_pass


@runtime_checkable
class Tunable(Protocol):
    """A model that computes in this process."""

    def compute_in(self, precision: str) -> None: ...

    def compile(self) -> None: ...


def tune(policy: ServedPolicy, config: ServerConfig) -> None:
    """Set the model's precision and compile it, as far as ``config`` says so.

    Raises PositronicError if the model is a vendor's own server, or torch cannot compile it here.
    """
    typed = {f"server.precision={BF16}": config.precision == BF16, "server.compile=true": config.compile}
    asked = [text for text, is_typed in typed.items() if is_typed]
    if not asked:
        return
    if not isinstance(policy.model, Tunable):
        raise PositronicError(
            f"{asked[0]} is for policies that compute in this server's process, and this one does not. Leave it out."
        )
    if config.precision == BF16:
        policy.model.compute_in(BF16)
    if config.compile:
        policy.model.compile()
        chunk = first_pass(policy)
        if isinstance(chunk, Failure):
            raise PositronicError(f"server.compile=true: torch cannot compile this policy here: {chunk.reason}")
