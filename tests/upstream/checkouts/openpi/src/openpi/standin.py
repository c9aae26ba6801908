"""A stand-in for Physical Intelligence's openpi: same scripts, configs, options, files, log lines and wire.

Where the real thing was seen: commit 15a9616 (2026-06-16), run on a CPU at toy size, and read. In own words throughout.
No network, no JAX, no model: a policy's normalised actions go from -1 at a chunk's first step to 1 at its last.

``standin.json`` in the checkout says what goes wrong:

at the start of statistics, training and serving
    ``missing_module``: name of a module that is not installed; ``ignore_sigterm``: true; ``out_of_memory``: true;
    ``wait_for``: a path, nothing goes on before this file exists.
in training
    ``crash_at_step``, ``kill_at_step``, ``out_of_memory_at_step``, ``nan_at_step``: a step;
    ``pause_at_step``: [step, path], nothing goes on before this file exists;
    ``kill_in_checkpoint``, ``disk_full_in_checkpoint``: a step whose checkpoint stays half a temporary folder;
    ``pause_in_checkpoint``: [step, path], before the temporary folder gets its name.
in serving
    ``answers``: a list of ``{"kind": ..., "call": n}``, for the n-th inference (from 1) or for all of them: ``error``
    (with ``text``: a text frame, then close 1011), ``silence`` (the answer comes when the file ``until`` exists; like
    a compilation it blocks everything), ``nan``, ``shape``, ``dtype``, ``missing``, ``garbage`` (no msgpack),
    ``death``, ``out_of_memory``.

Two things wait for ever, as the real ones do: weights that must be fetched from gs://openpi-assets, with a process of
its own that outlives its parent, and a loader's workers whose parent was ended by SIGTERM.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

SWITCHES = Path(__file__).parents[2] / "standin.json"


class XlaRuntimeError(RuntimeError):
    """What JAX raises on a GPU."""


XlaRuntimeError.__module__ = "jaxlib.xla_extension"


def told(name: str, default: Any = None) -> Any:
    """What ``standin.json`` says now."""
    return json.loads(SWITCHES.read_text()).get(name, default) if SWITCHES.exists() else default


def start() -> None:
    """What can go wrong before a model is there."""
    if told("ignore_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if told("missing_module"):
        importlib.import_module(told("missing_module"))
    if told("wait_for"):
        wait_for(told("wait_for"))
    if told("out_of_memory"):
        out_of_memory()


def out_of_memory() -> None:
    raise XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592 bytes.")


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.005)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
