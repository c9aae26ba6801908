"""The random numbers of a batch that several processes share: those that one process with the whole batch would draw.

Policies draw their noise (flow matching, diffusion, a VAE) with torch's functions, a row for each sample. Each process
draws it for all rows, from a generator that is the same in all of them, and keeps its own rows. So a sample's noise
does not depend on the number of processes. Dropout, whose tensors need not begin with the batch, is drawn from the
process's own random state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Part:
    """Rows ``first`` to ``end`` of a batch of ``of`` rows, those of one process. ``steps``: its share of the batch's
    chunk steps that are inside their episodes."""

    first: int
    end: int
    of: int
    steps: float

    @property
    def rows(self) -> float:
        """Its share of the batch's rows."""
        return (self.end - self.first) / self.of


class Noise:
    """One generator for each kind of device, in the same state in all processes."""

    def __init__(self, device: str) -> None:
        """In the states that torch's own generators have now."""
        self._generators = {"cpu": torch.Generator()}
        self._generators["cpu"].set_state(torch.get_rng_state())
        if device.startswith("cuda"):
            self._generators["cuda"] = torch.Generator(device)
            self._generators["cuda"].set_state(torch.cuda.get_rng_state(device))

    def states(self) -> dict[str, Tensor]:
        """By kind of device."""
        return {kind: generator.get_state() for kind, generator in self._generators.items()}

    def restore(self, states: Mapping[str, Tensor]) -> None:
        """Go on with ``states``; of a kind of device that is not there, nothing is taken."""
        for kind, state in states.items():
            if kind in self._generators:
                self._generators[kind].set_state(state)

    def of(self, device: Any) -> torch.Generator | None:
        """The generator for a tensor on ``device``; None for a device that has none here."""
        return self._generators.get(torch.device(device or "cpu").type)


class OwnRows(TorchFunctionMode):
    """Inside, random numbers with as many rows as ``part`` are its rows of those of the whole batch."""

    def __init__(self, noise: Noise, part: Part) -> None:
        super().__init__()
        self._noise, self._part = noise, part

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        draw = DRAWS.get(function)
        if draw is None or kwargs.get("generator") is not None:
            return function(*args, **kwargs)
        return draw(self, *args, **kwargs)

    def sized(self, size: Sequence[int], device: Any, make: Callable[..., Tensor]) -> Tensor:
        """What ``make(size, generator=...)`` draws for the whole batch, its own rows of it."""
        part, size = self._part, tuple(size)
        has_rows = bool(size) and size[0] == part.end - part.first
        drawn = make((part.of, *size[1:]) if has_rows else size, generator=self._noise.of(device))
        return drawn[part.first : part.end] if has_rows else drawn


def _plain(function: Callable[..., Tensor], mode: OwnRows, *args: Any, size: Any = None, **kwargs: Any) -> Tensor:
    """``torch.rand(3, 4)`` and ``torch.rand((3, 4))``."""
    if size is None:
        size = args[0] if args and not isinstance(args[0], int) else args
    return mode.sized(size, kwargs.get("device"), partial(function, **kwargs))


def _like(
    function: Callable[..., Tensor], mode: OwnRows, like: Tensor, *, dtype: Any = None, device: Any = None, **_: Any
) -> Tensor:
    """``torch.rand_like(x)``, as ``torch.rand`` of its shape."""
    device = device or like.device
    return mode.sized(like.shape, device, partial(function, dtype=dtype or like.dtype, device=device))


def _randint(mode: OwnRows, *args: Any, size: Any = None, **kwargs: Any) -> Tensor:
    """The size is the last one of ``args`` unless it has its name."""
    bounds, size = (args, size) if size is not None else (args[:-1], args[-1])
    return mode.sized(
        size,
        kwargs.get("device"),
        lambda whole, generator: torch.randint(*bounds, size=whole, generator=generator, **kwargs),
    )


def _normal(mode: OwnRows, *args: Any, size: Any = None, **kwargs: Any) -> Tensor:
    """Where mean and deviation are tensors there is no size."""
    if size is None:
        return torch.normal(*args, **kwargs)
    return mode.sized(
        size,
        kwargs.get("device"),
        lambda whole, generator: torch.normal(*args, size=whole, generator=generator, **kwargs),
    )


def _dirichlet(mode: OwnRows, concentration: Tensor, **_: Any) -> Tensor:
    """Below ``torch.distributions.Beta``, whose parameters are the same for each row."""
    row = concentration[:1]
    return mode.sized(
        concentration.shape,
        concentration.device,
        lambda whole, generator: torch._sample_dirichlet(row.expand(whole), generator=generator),
    )


DRAWS: dict[Any, Callable[..., Tensor]] = {
    torch.rand: partial(_plain, torch.rand),
    torch.randn: partial(_plain, torch.randn),
    torch.rand_like: partial(_like, torch.rand),
    torch.randn_like: partial(_like, torch.randn),
    torch.randint: _randint,
    torch.normal: _normal,
    torch._sample_dirichlet: _dirichlet,
}
