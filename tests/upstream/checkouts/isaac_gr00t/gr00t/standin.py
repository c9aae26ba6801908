"""A stand-in for NVIDIA's Isaac-GR00T: same scripts, flags, files, log lines and wire, no network inside.

Where the real thing was seen: commits 626af89 (main, 2026-05-26), 23ace64 (tag n1.7-release) and ead5283 (tag
n1.6-release), run on a CPU with a random model of toy size, and read. In own words throughout.

``standin.json`` beside the package says what happens. ``version``: ``main``, ``n1.7`` or ``n1.6``. Anything else goes
wrong only if told:

at the start of training and serving
    ``missing_module``: name of a module that is not installed; ``gated``: true, the backbone may not be fetched;
    ``out_of_memory``: true, while loading; ``ignore_sigterm``: true; ``wait_for``: a path, nothing goes on before this
    file exists.
in training
    ``crash_at_step``, ``kill_at_step``, ``out_of_memory_at_step``, ``nan_at_step``: a step;
    ``pause_at_step``: [step, path], nothing goes on before this file exists;
    ``kill_in_checkpoint``, ``disk_full_in_checkpoint``: a step whose checkpoint ends after half of its files;
    ``pause_in_checkpoint``: [step, path], when all but ``wandb_config.json`` is there.
in serving
    ``answers``: a list of ``{"kind": ..., "call": n}``, for the n-th call of get_action (from 1) or for all of them:
    ``error`` (with ``text``), ``silence`` (the answer comes when the file ``until`` exists), ``nan``, ``shape``,
    ``dtype``, ``missing_part``, ``garbage`` (no msgpack), ``death``, ``out_of_memory``.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

SWITCHES = Path(__file__).parents[1] / "standin.json"
BACKBONE = "nvidia/Cosmos-Reason2-2B"


class OutOfMemoryError(RuntimeError):
    """What torch raises on a GPU."""


OutOfMemoryError.__module__ = "torch"


class GatedRepoError(OSError):
    """What the hub's client raises."""


GatedRepoError.__module__ = "huggingface_hub.errors"


def told(name: str, default: Any = None) -> Any:
    """What ``standin.json`` says now."""
    return json.loads(SWITCHES.read_text()).get(name, default) if SWITCHES.exists() else default


def version() -> str:
    return told("version", "main")


def start() -> None:
    """What can go wrong before a model is there."""
    if told("ignore_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if told("missing_module"):
        importlib.import_module(told("missing_module"))
    if told("wait_for"):
        wait_for(told("wait_for"))
    if told("gated"):
        raise GatedRepoError(
            f"You are trying to access a gated repo.\nMake sure to have access to it at "
            f"https://huggingface.co/{BACKBONE}.\n401 Client Error. Cannot access gated repo for url "
            f"https://huggingface.co/{BACKBONE}/resolve/main/config.json.\nAccess to model {BACKBONE} is restricted. "
            "You must have access to it and be authenticated to access it. Please log in."
        )
    if told("out_of_memory"):
        out_of_memory()


def out_of_memory() -> None:
    raise OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.99 GiB of which 1.10 GiB is "
        "free. Including non-PyTorch memory, this process has 22.88 GiB memory in use. Of the allocated memory 22.10 "
        "GiB is allocated by PyTorch, and 300.01 MiB is reserved by PyTorch but unallocated."
    )


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.005)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
