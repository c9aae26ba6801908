"""Positronic: one raw recording, any robot policy.

``positronic.compose(["stage=train", ...])`` returns the typed config of a stage, for notebooks and tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from positronic.config import compose

__all__ = ["compose"]


def __getattr__(name: str) -> Any:
    if name == "compose":  # late: the robot-side client must not need Hydra
        from positronic.config import compose

        return compose
    raise AttributeError(f"module 'positronic' has no attribute {name!r}")
