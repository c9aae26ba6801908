"""What a step of an RLDS dataset holds, by the `features.json` that TensorFlow Datasets writes beside the records.

An episode is an Example. A feature of its steps is one flat list under ``steps/<name>``, all steps behind each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError
from positronic.importing.tfrecords import Feature

FEATURES_FILE = "features.json"
STEPS = "steps"
TENSOR, IMAGE, TEXT, OTHER = "tensor", "image", "text", "other"


@dataclass(frozen=True)
class Leaf:
    """``kind``: ``tensor``, ``image``, ``text``, or ``other``, which is not imported. ``shape``: of a step."""

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    encoding: str = ""

    @property
    def is_bytes(self) -> bool:
        """Whether a step is one element of the list, however many numbers it holds."""
        return self.kind != TENSOR or self.encoding == "bytes"

    def count(self, values: Feature) -> float:
        """How many steps the list holds; no whole number if the list is not this feature's."""
        return len(values) / (1 if self.is_bytes else int(np.prod(self.shape, dtype=int)))

    def numbers(self, values: Feature) -> NDArray:
        """The list as (T, *shape)."""
        if not self.is_bytes:
            return np.asarray(values, self.dtype).reshape(-1, *self.shape)
        return np.stack([np.frombuffer(value, self.dtype).reshape(self.shape) for value in values])


def read_features(folder: Path) -> tuple[dict[str, Leaf], dict[str, Leaf]]:
    """``(of a step, of an episode)`` by name, e.g. ``observation/image``. Raises PositronicError where there is no
    features.json of an RLDS dataset."""
    path = folder / FEATURES_FILE
    try:
        features = json.loads(path.read_text())["featuresDict"]["features"]
        steps = features[STEPS]["sequence"]["feature"]
        rest = {name: feature for name, feature in features.items() if name != STEPS}
        return dict(_leaves(steps, "")), dict(_leaves({"featuresDict": {"features": rest}}, ""))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PositronicError(
            f"{path}: no description of an RLDS dataset, whose episodes are a sequence '{STEPS}' "
            f"({type(error).__name__}: {error}). Expected the folder that tensorflow_datasets wrote, e.g. "
            "<dataset>/1.0.0."
        ) from None


def _leaves(feature: Mapping[str, Any], name: str) -> Iterator[tuple[str, Leaf]]:
    if "featuresDict" in feature:
        for key, inner in feature["featuresDict"]["features"].items():
            yield from _leaves(inner, f"{name}/{key}" if name else key)
    else:
        yield name, _leaf(feature)


def _leaf(feature: Mapping[str, Any]) -> Leaf:
    for kind in (TENSOR, IMAGE):
        if kind in feature:
            about = feature[kind]
            shape = tuple(int(size) for size in about.get("shape", {}).get("dimensions", ()))
            leaf = Leaf(kind, shape, about.get("dtype", ""), about.get("encoding", ""))
            return leaf if _is_known(leaf) else Leaf(OTHER, shape, leaf.dtype)
    if TEXT in feature or feature.get("pythonClassName", "").endswith(".Text"):
        return Leaf(TEXT)
    return Leaf(OTHER, dtype=feature.get("pythonClassName", "").rpartition(".")[2])


def _is_known(leaf: Leaf) -> bool:
    """Sizes that every step shares, numbers that numpy has, and no compression."""
    if leaf.kind == IMAGE:
        return leaf.dtype == "uint8" and len(leaf.shape) == 3 and leaf.shape[2] == 3
    known = leaf.dtype in ("bool", "float32", "float64", "int32", "int64", "uint8", "int8", "uint16", "int16", "uint32")
    return known and min(leaf.shape, default=1) > 0 and leaf.encoding in ("", "none", "bytes")
