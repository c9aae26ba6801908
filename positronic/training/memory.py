"""Whether a step of training fits into memory, told before the first one.

A process that takes more memory than there is gets killed without a word. What a step keeps for its backward pass is
measured on batches of two and of four samples, which differ by what two samples need; the weights' gradients and the
two moments of AdamW are added, and the batches made ahead. The sum is a little less than the peak, never more: a run
that would fit is not refused. Batches that processes make lie in shared memory, whose limit is another.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from positronic.errors import PositronicError
from positronic.training.batches import PREFETCH, Batch
from positronic.training.device import autocast, to_device
from positronic.training.settings import TrainSettings
from positronic.training.trainable import Trainable
from positronic.utils.memory import SHARED_MEMORY, available_bytes, free_shared_bytes

PROBES = (2, 4)  # samples
SELDOM = 1000  # times its own arrays no sample is expected to need: then nothing is measured
COPIES_OF_WEIGHTS = 3  # gradients and two moments
SPARE = 1.5  # times what a run needs of shared memory, in the advice
KEPT_FREE = 0.9  # of what is free, in the advice
NO_MEMORY = "can't allocate memory"  # says torch of a CPU's
NO_GPU_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory")


def require_room(
    trainable: Trainable, batch_of: Callable[[int], Batch], settings: TrainSettings, workers: int = 0
) -> None:
    """Raise PositronicError, with a batch size that fits, when a step of ``settings.batch_size`` samples does not.

    ``batch_of``: a batch of so many samples. ``workers``: processes that make batches; with 0 a thread does. Weights,
    buffers and random states stay as they are.
    """
    batches = [batch_of(size) for size in PROBES]
    if workers:
        _require_shared(batches[0], settings.batch_size, workers)
    arrays = bytes_of(batches[0]) / PROBES[0]
    if settings.batch_size * arrays * SELDOM < available_bytes() and not settings.device.startswith("cuda"):
        return
    sizes = [kept_for_backward(trainable, batch, settings) for batch in batches]
    on_device = (sizes[1] - sizes[0]) / (PROBES[1] - PROBES[0])
    copies = COPIES_OF_WEIGHTS + (settings.ema_decay is not None)
    weights = copies * sum(each.nbytes for each in trainable.module.parameters() if each.requires_grad)
    ahead = kept_ahead(workers) * arrays
    if settings.device.startswith("cuda"):
        _require(settings, weights, on_device, torch.cuda.mem_get_info(settings.device)[0], "on the GPU")
        _require(settings, 0, ahead, available_bytes(), "of memory")
    elif settings.device == "cpu":
        _require(settings, weights, on_device + ahead, available_bytes(), "of memory")


def refused_by_memory(
    error: BaseException, batch_size: int | None = None, precision: str = "bf16"
) -> PositronicError | None:
    """The sentence for an error of torch's or numpy's that there is no memory left; None for any other.

    ``batch_size``: None while the policy itself is built.
    """
    of_gpu = isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in NO_GPU_MEMORY)
    if not of_gpu and not isinstance(error, MemoryError) and NO_MEMORY not in str(error):
        return None
    where = " on the GPU" if of_gpu else ""
    if batch_size is None:
        return PositronicError(
            f"There is no memory left{where} for the policy itself. Take a smaller one (vendor.policy....), or end "
            f"what else is in that memory{'; device=cpu may have more of it' if of_gpu else ''}."
        )
    also = ", or precision=bf16" if of_gpu and precision == "fp32" else "" if of_gpu else ", or a smaller cache_gb"
    return PositronicError(
        f"There is no memory left{where} for a step of batch_size={batch_size}. Type a smaller batch_size{also}."
    )


def _require(settings: TrainSettings, fixed: float, per_sample: float, free: float, where: str) -> None:
    needed = fixed + per_sample * settings.batch_size
    if needed <= free:
        return
    fits = int(max(0.0, KEPT_FREE * free - fixed) / per_sample)
    advice = f"Type batch_size={fits} or less." if fits else "Take smaller pictures or a smaller network."
    raise PositronicError(
        f"batch_size={settings.batch_size}: a step needs about {needed / 1e9:.3g} GB {where} (measured: "
        f"{per_sample / 1e6:.3g} MB a sample), and {free / 1e9:.3g} GB are free. {advice}"
    )


def free_bytes(device: str) -> int:
    """What is free where ``device`` keeps its tensors."""
    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else available_bytes()


def kept_ahead(workers: int) -> int:
    """Batches that exist at once: those made ahead, and the one that is learned from."""
    return PREFETCH * max(1, workers) + 1


def _require_shared(probe: Batch, batch_size: int, workers: int) -> None:
    """Each array of a batch is a file of whole pages in ``SHARED_MEMORY``."""
    free = free_shared_bytes()
    arrays = [value.nbytes * batch_size / PROBES[0] for value in probe.values() if isinstance(value, np.ndarray)]
    batch = sum(math.ceil(each / mmap.PAGESIZE) * mmap.PAGESIZE for each in arrays)
    needed = kept_ahead(workers) * batch
    if free is None or needed <= free:
        return
    raise PositronicError(
        f"num_workers={workers}: {kept_ahead(workers)} batches of batch_size={batch_size} need {needed / 1e6:.3g} MB "
        f"of shared memory, and {free / 1e6:.3g} MB are free in {SHARED_MEMORY}. Type num_workers=0 or a smaller "
        f"batch_size, or give the container more: `docker run --shm-size={math.ceil(SPARE * needed / 2**20)}m`."
    )


def kept_for_backward(trainable: Trainable, batch: Batch, settings: TrainSettings) -> int:
    """Bytes that a forward pass keeps until the backward pass, without the weights."""
    module, device = trainable.module, settings.device
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    own = {each.untyped_storage().data_ptr() for each in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    devices = [torch.device(device)] if device.startswith("cuda") else []
    module.train()
    with (
        torch.random.fork_rng(devices=devices),
        autocast(device, settings.precision),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        loss = trainable.loss(to_device(batch, device))  # held until the storages are counted: their places stay theirs
    held = sum(kept.values())
    del loss
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
    return held


def bytes_of(batch: Mapping[str, Any]) -> int:
    """Of a batch's arrays, as they come from the dataset."""
    return sum(value.nbytes for value in batch.values() if isinstance(value, np.ndarray))
