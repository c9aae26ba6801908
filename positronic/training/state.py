"""What resuming needs beside the weights: optimiser, random states, and losses that are not reported yet."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

STATE_FILE = "state.pt"


def save_state(
    folder: Path,
    optimiser: torch.optim.Optimizer,
    pending: dict[str, list[float]],
    random: dict[str, Any] | None = None,
) -> None:
    """Write into the existing ``folder``. ``random``: the states to go on with; None: those of this process."""
    state = {"optimiser": optimiser.state_dict(), "random": random or random_state(), "pending": pending}
    with (folder / STATE_FILE).open("wb") as file:  # torch's own writing to a path does not say that the disk is full
        torch.save(state, file)


def load_state(folder: Path, optimiser: torch.optim.Optimizer) -> dict[str, list[float]]:
    """Restore optimiser and random states. Returns what was pending."""
    state = torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
    optimiser.load_state_dict(state["optimiser"])
    set_random_state(state["random"])
    return state["pending"]


def random_state(cuda: list[torch.Tensor] | None = None) -> dict[str, Any]:
    """The states of Python's, numpy's and torch's generators, as tensors and plain values. ``cuda``: those of GPUs;
    None: of every GPU."""
    python_version, python_words, python_gauss = random.getstate()
    name, words, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": (python_version, list(python_words), python_gauss),
        "numpy": (name, torch.from_numpy(words.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": _of_gpus() if cuda is None else cuda,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what ``random_state`` returned; GPUs only if there are as many."""
    python_version, python_words, python_gauss = state["python"]
    random.setstate((python_version, tuple(python_words), python_gauss))
    name, words, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def seed_everything(seed: int) -> None:
    """Python's, numpy's and torch's generators, every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _of_gpus() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
