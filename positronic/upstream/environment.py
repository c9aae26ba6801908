"""The environment of a child that runs in another interpreter: ours, without what is about our own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

OURS = ("VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "UV_PYTHON", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "__PYVENV_LAUNCHER__")
OURS_BY_START = ("PYTHON", "CONDA_", "_CONDA_")  # PYTHONPATH, PYTHONHOME, PYTHONWARNINGS, ...
CUDA_DEVICES = "CUDA_VISIBLE_DEVICES"
ENVIRONMENTS = ("VIRTUAL_ENV", "CONDA_PREFIX")  # whose programs must not be found either


def environment(variables: Mapping[str, str | None]) -> dict[str, str]:
    """What a child of another interpreter inherits of our variables, and ``variables``; None leaves one out.

    What it prints arrives at once, unless ``variables`` say otherwise: Python holds back what goes into a pipe.
    """
    kept = {name: value for name, value in os.environ.items() if name not in OURS and not _starts_as_ours(name)}
    if "PATH" in kept:
        folders = kept["PATH"].split(os.pathsep)
        kept["PATH"] = os.pathsep.join(folder for folder in folders if Path(folder) not in _our_folders())
    kept["PYTHONUNBUFFERED"] = "1"
    return {name: value for name, value in {**kept, **variables}.items() if value is not None}


def visible_devices(device: str) -> dict[str, str]:
    """What makes ``device``, in torch's words, the only one that a child sees; ``cuda`` leaves it those that we see."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return {CUDA_DEVICES: ""}
    if not number:
        return {}
    ours = [each for each in os.environ.get(CUDA_DEVICES, "").split(",") if each]  # their places are our numbers
    return {CUDA_DEVICES: ours[int(number)] if int(number) < len(ours) else number}


def one_visible_device(device: str) -> dict[str, str]:
    """The same for code that would spread over every GPU which it sees: of ``cuda`` the first one."""
    return visible_devices("cuda:0" if device == "cuda" else device)


def _starts_as_ours(name: str) -> bool:
    return name.startswith(OURS_BY_START)


def _our_folders() -> set[Path]:
    """With the programs of our environments; not those of the system, where we may be running without one."""
    roots = [os.environ[name] for name in ENVIRONMENTS if os.environ.get(name)]
    roots += [sys.prefix] if sys.prefix != sys.base_prefix else []
    return {Path(root) / "bin" for root in roots}
