"""Devices, threads, and how a batch gets onto its device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from positronic.errors import PositronicError
from positronic.utils.threads import available_cores

AUTO = "auto"
CPU_BF16 = ("avx512_bf16", "amx_bf16")
CPU_BF16_MIN_SIDE = 32  # px


def resolve_device(name: str) -> str:
    """``auto`` to ``cuda`` when there is a GPU, else ``cpu``; other names as they are.

    Raises PositronicError for a device that this machine lacks.
    """
    if name == AUTO:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PositronicError(
            f"device={name} cannot be used here ({reason}). Take device=auto, or device=cpu."
        ) from None
    return name


def resolve_precision(name: str, device: str, image_side: int) -> str:
    """``auto`` to ``bf16`` where ``device`` computes in bfloat16 natively, otherwise ``fp32``; other names as they are.

    A CPU without such instructions emulates them, and is half as fast in bf16 as in fp32. A CPU with them gives random
    weight gradients (oneDNN in torch 2.11) for a strided convolution over a single pixel. In a ResNet this happens when
    the shorter ``image_side`` is 16 px or less; ``auto`` keeps a distance from that.
    """
    if name != AUTO:
        return name
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    found = torch.cpu.get_capabilities() if device == "cpu" and image_side > CPU_BF16_MIN_SIDE else {}
    return "bf16" if any(found.get(feature) for feature in CPU_BF16) else "fp32"


def limit_threads(num_processes: int = 1) -> None:
    """No more threads than cores that this process may use, one of ``num_processes`` that share them; torch counts
    those of the whole machine."""
    torch.set_num_threads(max(1, min(torch.get_num_threads(), available_cores() // num_processes)))


@contextmanager
def threads_kept() -> Iterator[None]:
    """Afterwards torch has as many threads as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def require_processes(num_processes: int, batch_size: int, device: str) -> None:
    """Raise PositronicError when a run cannot be shared so: a batch that does not divide, too few GPUs."""
    if num_processes == 1:
        return
    if batch_size % num_processes:
        fits = batch_size // num_processes * num_processes
        options = [str(size) for size in (fits, fits + num_processes) if size]
        raise PositronicError(
            f"batch_size={batch_size} is the whole batch, and does not divide by num_processes={num_processes}. Type "
            f"batch_size={' or batch_size='.join(options)}."
        )
    if device not in ("cpu", "cuda"):
        raise PositronicError(
            f"device={device} with num_processes={num_processes}: each process takes a GPU of its own, or all the CPU. "
            "Type device=cuda or device=cpu; CUDA_VISIBLE_DEVICES says which GPUs."
        )
    if device == "cuda" and num_processes > torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise PositronicError(
            f"num_processes={num_processes}: each process takes a GPU of its own, and this machine shows {found}. Type "
            f"num_processes={found}."
        )


def to_device(batch: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Arrays to tensors on ``device``; uint8 images (B, H, W, 3) travel as they are and become float there."""
    return {name: _to_device(value, device) for name, value in batch.items()}


def to_float_image(image: Tensor) -> Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in 0..1, laid out channels last, which convolutions like."""
    return image.movedim(-1, -3).float() / 255


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """``bf16``: matrix products and convolutions in bfloat16, the rest in float32. ``fp32``: nothing."""
    return torch.autocast(device.split(":")[0], torch.bfloat16) if precision == "bf16" else nullcontext()


def _to_device(value: Any, device: str) -> Any:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        return value
    on_gpu = device.startswith("cuda")
    value = value.pin_memory().to(device, non_blocking=True) if on_gpu else value.to(device)
    return to_float_image(value) if value.dtype == torch.uint8 else value
