"""How much memory there is for policies: a server may keep several, on a GPU or in the machine's own memory."""

from __future__ import annotations

import gc
import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from positronic.utils.memory import available_bytes

BYTES_PER_GB = 1e9
KEPT_FREE = 0.2  # of what is free when a policy is about to be loaded: a forward pass needs some too
STATM = Path("/proc/self/statm")
_known_modules = 0


@dataclass(frozen=True)
class Memory:
    """``limit``: bytes that all policies together may take, or None for as much as there is. ``free``: bytes that
    could still be taken. ``in_use``: bytes that this process has taken, in the place where policies are."""

    limit: float | None
    free: Callable[[], float]
    in_use: Callable[[], int]

    def has_room(self, needs: int, kept: int, gone: int) -> bool:
        """Whether ``needs`` bytes fit beside ``kept``, after ``gone`` bytes of others were given back."""
        if self.limit is not None:
            return kept + needs <= self.limit
        return needs <= (1 - KEPT_FREE) * (self.free() + gone)

    def holds(self, total: int) -> bool:
        """Whether policies of ``total`` bytes are within the limit."""
        return self.limit is None or total <= self.limit


def policy_memory(device: str, limit_gb: float | None) -> Memory:
    """Of a torch device by its name, ``auto`` included."""
    limit = None if limit_gb is None else limit_gb * BYTES_PER_GB
    return Memory(limit, lambda: _free(device), lambda: _in_use(device))


def _free(device: str) -> float:
    cuda = _cuda(device)
    return available_bytes() if cuda is None else cuda.mem_get_info(_index(device))[0]


def give_back() -> None:
    """What policies that nobody refers to any more have left, so that others can take it, other processes too."""
    gc.collect()  # modules refer to themselves in circles
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def freeze_libraries() -> None:
    """Keep the garbage collector from what libraries have brought in since the last call: looking through torch and its
    company takes a quarter of a second, in which nobody is answered.

    What is there now is not looked at again, policies included: they give their memory back when they are closed.
    """
    global _known_modules
    if len(sys.modules) != _known_modules:
        _known_modules = len(sys.modules)
        gc.collect()  # or garbage would stay for ever
        gc.freeze()


def _in_use(device: str) -> int:
    """To be called in a thread that loads, which imports torch anyway: before and after are then of the same place."""
    if not device.startswith("cpu"):
        import torch  # noqa: F401
    cuda = _cuda(device)
    if cuda is not None:
        return cuda.memory_allocated(_index(device))
    try:
        return int(STATM.read_text().split()[1]) * mmap.PAGESIZE
    except OSError:  # not Linux: then a policy counts as large as its files
        return 0


def is_on_gpu(device: str) -> bool:
    """Whether policies on a torch device, ``auto`` included, are on a GPU, once one has been loaded."""
    return _cuda(device) is not None


def _cuda(device: str) -> ModuleType | None:
    """Where policies are on a GPU, also those of a vendor's own process. Torch is not imported for this: that takes
    seconds."""
    torch = sys.modules.get("torch")
    used = torch is not None and device.startswith(("auto", "cuda")) and torch.cuda.is_available()
    return torch.cuda if used else None


def _index(device: str) -> str | None:
    return device if device.startswith("cuda") else None
