"""What a step of training takes, measured before anybody waits for it: memory by part, and time.

A few real steps are taken on real batches, at the batch size that was asked for or, if that does not fit, at the
largest one that does. Nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from rich.table import Table

from positronic.bake.frame_source import GIGABYTE, DecodedFrames, fits_in_memory
from positronic.bake.reader import BakedDataset
from positronic.errors import PositronicError
from positronic.training.batches import BatchMaker, SampleOrder
from positronic.training.learner import Learner
from positronic.training.memory import KEPT_FREE, PROBES, bytes_of, free_bytes, kept_ahead, kept_for_backward
from positronic.training.settings import TrainSettings
from positronic.training.trainable import Trainable

STEPS = 3  # of which the middle one's time is told, after one that warms up
CHECKPOINTING = "gradient_checkpointing"  # of policies that can compute activations twice instead of keeping them


@dataclass(frozen=True)
class Preflight:
    """What a step takes. ``parts``: bytes on the device by name, at ``measured_at`` samples. ``fixed`` and
    ``per_sample``: bytes at any batch size. ``room``: bytes that the device has for all of it. ``peak``: bytes that the
    GPU's allocator had at most, or None. ``frames``: bytes of the dataset's decoded frames.
    """

    settings: TrainSettings
    parameters: int
    trained: int
    parts: Mapping[str, int]
    fixed: int
    per_sample: float
    room: int
    peak: int | None
    measured_at: int
    step_sec: float
    batch_sec: float
    frames: int
    frames_fit: bool
    checkpointing: bool | None

    @property
    def fits(self) -> int:
        """The largest batch size that fits."""
        return max(0, int((KEPT_FREE * self.room - self.fixed) / max(1.0, self.per_sample)))

    @property
    def hours(self) -> float:
        """Of the whole run, if it never waits for data."""
        return self.settings.num_train_steps * self.step_sec / 3600

    def advice(self) -> list[str]:
        """What to type, one sentence each; none where everything fits."""
        asked, said = self.settings.batch_size, []
        if self.fits < asked:
            smaller = f"batch_size={self.fits}" if self.fits else "a smaller network (vendor.policy....)"
            said.append(f"batch_size={asked} does not fit: type {smaller}.")
            if self.settings.precision == "fp32":
                said.append("precision=bf16 halves most activations, if the device computes in it.")
            if self.checkpointing is False:
                said.append(f"vendor.policy.{CHECKPOINTING}=true keeps fewer activations, for more time a step.")
            if self.settings.ema_decay is not None:
                said.append("ema_decay=null spares the averages.")
        if not self.frames_fit:
            said.append("The frames do not fit into memory (cache_gb): they are decoded once, onto the disk if it can.")
        return said

    def table(self, title: str) -> Table:
        """All of it, below 80 characters."""
        table = Table(title=title, caption=f"on {self.settings.device} in {self.settings.precision}")
        for heading in ("what", "how much", ""):
            table.add_column(heading, justify="right" if heading == "how much" else "left", overflow="fold")
        for row in self._rows():
            table.add_row(*row)
        return table

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        yield "parameters", f"{self.parameters / 1e6:.2f} M", f"{self.trained / 1e6:.2f} M of them are trained"
        for name, size in self.parts.items():
            yield name, _size(size), f"measured at batch_size={self.measured_at}" if name == "activations" else ""
        need = self.fixed + self.per_sample * self.settings.batch_size
        yield "together", _size(need), f"at batch_size={self.settings.batch_size}; {_size(self.room)} are there"
        if self.peak is not None:
            yield "peak of the GPU", _size(self.peak), f"measured at batch_size={self.measured_at}"
        yield "largest batch_size", str(self.fits), f"{self.per_sample / 1e6:.3g} MB a sample"
        yield "frames", _size(self.frames), "decoded, in the machine's memory"
        yield "a step", f"{self.step_sec * 1e3:.0f} ms", f"at batch_size={self.measured_at}, when its batch is there"
        yield "a batch", f"{self.batch_sec * 1e3:.0f} ms", "decoded from the videos by one process"
        yield "the run", f"{self.hours:.2g} h", f"of {self.settings.num_train_steps} steps that wait for nothing"


def measure(trainable: Trainable, dataset: BakedDataset, settings: TrainSettings) -> Preflight:
    """Take some steps on batches of ``dataset``. The policy is another one afterwards: it is not to be trained on.

    Raises PositronicError when not even one sample fits.
    """
    learner = Learner(trainable, settings)
    order = SampleOrder(len(dataset), settings.batch_size, settings.seed)
    maker = BatchMaker(dataset, DecodedFrames(dataset), order, trainable.action_offsets, trainable.with_task)
    weights = sum(each.nbytes for each in (*trainable.module.parameters(), *trainable.module.buffers()))
    room = free_bytes(settings.device) + weights + learner.bytes["averages"]
    probes = [kept_for_backward(trainable, maker.first_of(size), settings) for size in PROBES]
    arrays = bytes_of(maker.first_of(PROBES[0])) / PROBES[0]
    ahead = 1 if settings.device.startswith("cuda") else kept_ahead(0)
    per_sample = (probes[1] - probes[0]) / (PROBES[1] - PROBES[0]) + ahead * arrays
    trained = [each for each in trainable.module.parameters() if each.requires_grad]
    planned = weights + learner.bytes["averages"] + 3 * sum(each.nbytes for each in trained)
    size = min(settings.batch_size, int((KEPT_FREE * room - planned) / max(1.0, per_sample)))
    if size < 1:
        raise PositronicError(
            f"Weights, gradients and optimiser of this policy take {_size(planned)} on {settings.device}, and "
            f"{_size(room)} are there: not even batch_size=1 fits. Take a smaller network or train less of "
            "it (vendor.policy....)."
        )
    batch, batch_sec = _timed(lambda: maker.first_of(size))
    parts = {"weights": weights}
    activations = kept_for_backward(trainable, batch, settings)
    step_sec, peak = _step_times(learner, batch, settings)
    parts |= learner.bytes | {"activations": activations, "batches": int(ahead * arrays * size)}
    return Preflight(
        settings=settings,
        parameters=sum(each.numel() for each in trainable.module.parameters()),
        trained=sum(each.numel() for each in trained),
        parts={name: count for name, count in parts.items() if count},
        fixed=weights + sum(learner.bytes.values()),
        per_sample=per_sample,
        room=room,
        peak=peak,
        measured_at=size,
        step_sec=step_sec,
        batch_sec=batch_sec,
        frames=dataset.decoded_bytes,
        frames_fit=fits_in_memory(dataset, settings.cache_gb),
        checkpointing=trainable.fields.get(CHECKPOINTING),
    )


def _step_times(learner: Learner, batch: Mapping[str, object], settings: TrainSettings) -> tuple[float, int | None]:
    """Seconds of a step, and the most bytes that the GPU's allocator had."""
    on_gpu = settings.device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(settings.device)

    def run(step: int) -> None:
        learner.step(batch, step)
        if on_gpu:
            torch.cuda.synchronize(settings.device)

    seconds = [_timed(partial(run, step))[1] for step in range(1, STEPS + 2)]
    return median(seconds[1:]), torch.cuda.max_memory_allocated(settings.device) if on_gpu else None


def _timed[T](work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def _size(size: float) -> str:
    return f"{size / GIGABYTE:.3g} GB" if size >= GIGABYTE / 10 else f"{size / 1e6:.3g} MB"
