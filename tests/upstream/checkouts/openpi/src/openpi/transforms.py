"""Steps between a dataset or a robot and a model. Names, fields and conventions are upstream's."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from openpi_client import image_tools

import openpi.models.tokenizer as _tokenizer
import openpi.shared.normalize as _normalize

DataDict = dict
NormStats = _normalize.NormStats


@runtime_checkable
class DataTransformFn(Protocol):
    def __call__(self, data: DataDict) -> DataDict:
        """The data of one sample, changed; leaves are arrays."""


@dataclasses.dataclass(frozen=True)
class Group:
    inputs: Sequence[DataTransformFn] = ()
    outputs: Sequence[DataTransformFn] = ()

    def push(self, *, inputs: Sequence[DataTransformFn] = (), outputs: Sequence[DataTransformFn] = ()) -> "Group":
        """Further inputs come last, further outputs first."""
        return Group(inputs=(*self.inputs, *inputs), outputs=(*outputs, *self.outputs))


@dataclasses.dataclass(frozen=True)
class CompositeTransform(DataTransformFn):
    transforms: Sequence[DataTransformFn]

    def __call__(self, data: DataDict) -> DataDict:
        for each in self.transforms:
            data = each(data)
        return data


def compose(transforms: Sequence[DataTransformFn]) -> DataTransformFn:
    return CompositeTransform(transforms)


@dataclasses.dataclass(frozen=True)
class RepackTransform(DataTransformFn):
    structure: Any

    def __call__(self, data: DataDict) -> DataDict:
        flat = flatten_dict(data)
        return unflatten_dict({new: flat[old] for new, old in _leaves(self.structure)}, sep=None)


@dataclasses.dataclass(frozen=True)
class InjectDefaultPrompt(DataTransformFn):
    prompt: str | None

    def __call__(self, data: DataDict) -> DataDict:
        if self.prompt is not None and "prompt" not in data:
            data["prompt"] = np.asarray(self.prompt)
        return data


@dataclasses.dataclass(frozen=True)
class Normalize(DataTransformFn):
    norm_stats: dict[str, NormStats] | None
    use_quantiles: bool = False
    strict: bool = False

    def __call__(self, data: DataDict) -> DataDict:
        if self.norm_stats is None:
            return data
        return apply_tree(
            data, self.norm_stats, self._quantiles if self.use_quantiles else self._scores, strict=self.strict
        )

    def _scores(self, x: np.ndarray, stats: NormStats) -> np.ndarray:
        size = x.shape[-1]
        return (x - stats.mean[..., :size]) / (stats.std[..., :size] + 1e-6)

    def _quantiles(self, x: np.ndarray, stats: NormStats) -> np.ndarray:
        low, high = stats.q01[..., : x.shape[-1]], stats.q99[..., : x.shape[-1]]
        return (x - low) / (high - low + 1e-6) * 2.0 - 1.0


@dataclasses.dataclass(frozen=True)
class Unnormalize(DataTransformFn):
    norm_stats: dict[str, NormStats] | None
    use_quantiles: bool = False

    def __call__(self, data: DataDict) -> DataDict:
        if self.norm_stats is None:
            return data
        return apply_tree(data, self.norm_stats, self._quantiles if self.use_quantiles else self._scores, strict=True)

    def _scores(self, x: np.ndarray, stats: NormStats) -> np.ndarray:
        size = x.shape[-1]
        return x * (pad_to_dim(stats.std, size, value=1.0) + 1e-6) + pad_to_dim(stats.mean, size)

    def _quantiles(self, x: np.ndarray, stats: NormStats) -> np.ndarray:
        low, high, known = stats.q01, stats.q99, min(stats.q01.shape[-1], x.shape[-1])
        if known < len(low):
            raise ValueError(f"operands could not be broadcast together with shapes {x.shape} {low.shape}")
        scaled = (x[..., :known] + 1.0) / 2.0 * (high - low + 1e-6) + low
        return np.concatenate([scaled, x[..., known:]], axis=-1)


@dataclasses.dataclass(frozen=True)
class ResizeImages(DataTransformFn):
    height: int
    width: int

    def __call__(self, data: DataDict) -> DataDict:
        resize = image_tools.resize_with_pad
        data["image"] = {name: resize(each, self.height, self.width) for name, each in data["image"].items()}
        return data


@dataclasses.dataclass(frozen=True)
class SubsampleActions(DataTransformFn):
    stride: int

    def __call__(self, data: DataDict) -> DataDict:
        data["actions"] = data["actions"][:: self.stride]
        return data


@dataclasses.dataclass(frozen=True)
class DeltaActions(DataTransformFn):
    mask: Sequence[bool] | None

    def __call__(self, data: DataDict) -> DataDict:
        return _shift(data, self.mask, -1)


@dataclasses.dataclass(frozen=True)
class AbsoluteActions(DataTransformFn):
    mask: Sequence[bool] | None

    def __call__(self, data: DataDict) -> DataDict:
        return _shift(data, self.mask, 1)


@dataclasses.dataclass(frozen=True)
class TokenizePrompt(DataTransformFn):
    tokenizer: _tokenizer.PaligemmaTokenizer
    discrete_state_input: bool = False

    def __call__(self, data: DataDict) -> DataDict:
        if (prompt := data.pop("prompt", None)) is None:
            raise ValueError("Prompt is required")
        state = data.get("state") if self.discrete_state_input else None
        if self.discrete_state_input and state is None:
            raise ValueError("State is required.")
        tokens, mask = self.tokenizer.tokenize(prompt if isinstance(prompt, str) else prompt.item(), state)
        return {**data, "tokenized_prompt": tokens, "tokenized_prompt_mask": mask}


@dataclasses.dataclass(frozen=True)
class PromptFromLeRobotTask(DataTransformFn):
    tasks: dict[int, str]

    def __call__(self, data: DataDict) -> DataDict:
        if "task_index" not in data:
            raise ValueError('Cannot extract prompt without "task_index"')
        task_index = int(data["task_index"])
        if (prompt := self.tasks.get(task_index)) is None:
            raise ValueError(f"{task_index=} not found in task mapping: {self.tasks}")
        return {**data, "prompt": prompt}


@dataclasses.dataclass(frozen=True)
class PadStatesAndActions(DataTransformFn):
    model_action_dim: int

    def __call__(self, data: DataDict) -> DataDict:
        for name in {"state", "actions"} & set(data) | {"state"}:
            data[name] = pad_to_dim(data[name], self.model_action_dim)
        return data


def _shift(data: DataDict, mask: Sequence[bool] | None, sign: int) -> DataDict:
    """Masked numbers of the actions with the state's added or taken away, in place."""
    if "actions" not in data or mask is None:
        return data
    size = len(mask)
    data["actions"][..., :size] += sign * np.where(mask, data["state"][..., :size], 0)[..., None, :]
    return data


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Any:
    for name, each in tree.items():
        if isinstance(each, dict):
            yield from _leaves(each, (*path, name))
        else:
            yield (*path, name), each


def flatten_dict(tree: Any) -> dict[str, Any]:
    """``{"a/b": leaf}``."""
    return {"/".join(path): each for path, each in _leaves(tree)}


def unflatten_dict(tree: dict[Any, Any], sep: str | None = "/") -> Any:
    """The inverse; with no ``sep``, paths are tuples."""
    out: dict[str, Any] = {}
    for name, each in tree.items():
        *outer, last = name if sep is None else name.split(sep)
        place = out
        for step in outer:
            place = place.setdefault(step, {})
        place[last] = each
    return out


def apply_tree(tree: Any, selector: Any, fn: Callable[[Any, Any], Any], *, strict: bool = False) -> Any:
    """``fn(leaf, selected)`` for the leaves that ``selector`` has; ``strict``: it has none that ``tree`` lacks."""
    flat = flatten_dict(tree)
    for name in selector if strict else ():
        if name not in flat:
            raise ValueError(f"Selector key {name} not found in tree")
    return unflatten_dict({name: fn(each, selector[name]) if name in selector else each for name, each in flat.items()})


def pad_to_dim(x: np.ndarray, target_dim: int, axis: int = -1, value: float = 0.0) -> np.ndarray:
    missing = target_dim - x.shape[axis]
    if missing <= 0:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, missing)
    return np.pad(x, widths, constant_values=value)


def make_bool_mask(*dims: int) -> tuple[bool, ...]:
    """``make_bool_mask(2, -1)`` is ``(True, True, False)``."""
    return tuple(dim > 0 for dim in dims for _ in range(abs(dim)))
