"""How ``launch.py`` is run in openpi's environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from positronic.upstream.checkout import Checkout

LAUNCHER = Path(__file__).with_name("launch.py")
# Programs from JAX's cache of compiled ones gave wrong numbers on a CPU.
ON_CPU = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}


OWN = "own"


def launched(checkout: Checkout, stage: str, spec: Path | None, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Program and arguments of a stage. ``spec``: None for a config of the checkout's own. ``options``: of openpi's own
    script, without their two dashes."""
    values = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    # -P: the launcher's neighbours are no modules of openpi's
    what = OWN if spec is None else str(spec.absolute())
    return (str(checkout.python), "-P", str(LAUNCHER), stage, str(checkout.repo), what, *values)
