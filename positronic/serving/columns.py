"""Observations that clients of openpi send: the model's input columns by name, instead of raw signals.

A column is called by its own name. Names are compared by their parts: openpi writes ``observation/state``, or ``state``
alone, or a map inside a map, where a dataset has ``observation.state``. A camera's column is also called as openpi's
policies call its place (``observation/image`` the exterior one, ``observation/wrist_image``), and ``images/<camera>``.
A name that may mean two columns means none.
"""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.codecs.images import letterbox
from positronic.codecs.modality import Column
from positronic.errors import PositronicError, listing
from positronic.serving.policy import ServedPolicy, require_task

PLACES = {
    "exterior": keys.OPENPI_IMAGE,
    "wrist": keys.OPENPI_WRIST_IMAGE,
    "left_wrist": keys.OPENPI_WRIST_IMAGE,
    "right_wrist": keys.OPENPI_RIGHT_WRIST_IMAGE,
}
MAX_DEPTH = 4  # of maps inside maps


@dataclass(frozen=True)
class ModelInputs:
    """What a policy's model takes. ``meant``: plain name -> columns that it may mean."""

    policy: ServedPolicy
    meant: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, policy: ServedPolicy) -> ModelInputs:
        """Of a policy of any vendor."""
        meant: dict[str, set[str]] = defaultdict(set)
        for column in policy.recipe.modality.observation_columns:
            for name in _names(policy.recipe, column):
                meant[_plain(name)].add(column.name)
        return cls(policy, {name: frozenset(columns) for name, columns in meant.items()})

    @property
    def described(self) -> dict[str, Any]:
        """Each column's dtype, shape and other names, for people who write a client."""
        columns = self.policy.recipe.modality.observation_columns
        return {c.name: {"dtype": c.dtype, "shape": list(c.shape), "names": self._others(c)} for c in columns}

    def encode(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """An observation by columns, or by raw signals, to the model's columns and the task.

        Raises PositronicError if a column is missing, is sent twice, or has the wrong shape or dtype or a value that is
        not finite, and if both columns and raw signals are complete.
        """
        if not isinstance(observation, Mapping):
            raise PositronicError(f"Expected an observation as a map, found {type(observation).__name__}.")
        found = self._columns(observation)
        columns = {column.name: column for column in self.policy.recipe.modality.observation_columns}
        missing = [name for name in columns if name not in found]
        if self._has_raw(observation):
            if not missing:
                raise PositronicError("The observation holds the model's columns and the raw signals too: send one.")
            return self.policy.encode(ChainMap({keys.TASK: self._task(observation)}, observation))
        if missing:
            raise self._lacks(missing[0], observation)
        taken = {name: _value(column, *found[name]) for name, column in columns.items()}
        return taken | {self.policy.recipe.modality.task_key: self._task(observation)}

    def _columns(self, observation: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
        """Column -> the name that it was sent under, and its value."""
        found: dict[str, tuple[str, Any]] = {}
        for name, value in self._named(observation):
            column = self._column(name)
            if column in found:
                raise PositronicError(f"'{found[column][0]}' and '{name}' are both '{column}': send one of them.")
            found[column] = name, value
        return found

    def _named(self, values: Mapping[str, Any], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
        """Names that mean a column, and their values. Nothing else is decoded."""
        for key in values:
            name = f"{prefix}{key}"
            if self._column(name) is not None:
                yield name, values[key]
            elif depth < MAX_DEPTH and self._may_begin(name) and isinstance(values[key], Mapping):
                yield from self._named(values[key], f"{name}/", depth + 1)

    def _column(self, name: str) -> str | None:
        if any(column.name == name for column in self.policy.recipe.modality.observation_columns):
            return name
        columns = self.meant.get(_plain(name), frozenset())
        return next(iter(columns)) if len(columns) == 1 else None

    def _may_begin(self, name: str) -> bool:
        start = f"{_plain(name)}."
        return name == keys.OBSERVATION or any(known.startswith(start) for known in self.meant)

    def _has_raw(self, observation: Mapping[str, Any]) -> bool:
        codec = self.policy.recipe.codec
        return all(feature.signal in observation for feature in (*codec.state, *codec.images))

    def _task(self, observation: Mapping[str, Any]) -> str:
        names = dict.fromkeys((keys.OPENPI_PROMPT, self.policy.recipe.modality.task_key, keys.TASK))
        said = {name: require_task(name, _text(observation[name])) for name in names if name in observation}
        if len(set(said.values())) > 1:
            raise PositronicError(f"The observation holds different instructions in {listing(said)}: send one.")
        return next(iter(said.values()), "")

    def _others(self, column: Column) -> list[str]:
        """Further names that mean this column alone."""
        names = [f"{keys.OBSERVATION}/{_plain(column.name).replace('.', '/')}", *_names(self.policy.recipe, column)]
        return [name for name in dict.fromkeys(names) if name != column.name and self._column(name) == column.name]

    def _lacks(self, missing: str, observation: Mapping[str, Any]) -> PositronicError:
        codec = self.policy.recipe.codec
        raw = [feature.signal for feature in (*codec.state, *codec.images)]
        others = self.described[missing]["names"]
        also = f" (or {listing(others)})" if others else ""
        return PositronicError(
            f"The observation lacks '{missing}'{also}. Expected the model's columns, {listing(self.described)}, or the "
            f"raw signals, {listing(raw)}. It holds {listing(map(str, observation))}."
        )


def _names(recipe: Recipe, column: Column) -> list[str]:
    if not column.is_image:
        return [column.name]
    camera = column.sources[0].name.removeprefix(keys.IMAGE_PREFIX)
    place = PLACES.get(recipe.embodiment.cameras.get(camera, ""))
    return [column.name, f"{keys.OPENPI_IMAGES}/{camera}", *([place] if place else [])]


def _plain(name: str) -> str:
    """By its parts, without the word that says that it is observed."""
    parts = name.replace("/", ".").split(".")
    return ".".join(parts[1:] if len(parts) > 1 and parts[0] == keys.OBSERVATION else parts)


def _text(value: Any) -> Any:
    """Some clients make an array of the instruction."""
    return value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value


def _value(column: Column, name: str, value: Any) -> NDArray[Any]:
    return _picture(column, name, value) if column.is_image else _vector(column, name, value)


def _picture(column: Column, name: str, value: Any) -> NDArray[np.uint8]:
    """Height x width x 3 as the model takes it; openpi's ALOHA clients send 3 x height x width."""
    picture = value if isinstance(value, np.ndarray) else np.asarray(None)
    if picture.dtype != np.uint8 or picture.ndim != 3 or 3 not in (picture.shape[0], picture.shape[2]):
        found = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise PositronicError(
            f"Observation '{name}': expected uint8 RGB (height, width, 3) or (3, height, width), found {found}."
        )
    picture = picture if picture.shape[2] == 3 else picture.transpose(1, 2, 0)
    try:
        return letterbox(np.ascontiguousarray(picture), *column.shape[:2])
    except PositronicError as error:
        raise PositronicError(f"Observation '{name}': {error}") from None


def _vector(column: Column, name: str, value: Any) -> NDArray[np.float32]:
    (size,) = column.shape
    try:
        numbers = np.asarray(value)
    except ValueError:  # rows of different lengths
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "biuf" or numbers.shape not in {(size,), () if size == 1 else (size,)}:
        found = f"{numbers.dtype} of shape {numbers.shape}" if numbers.dtype.kind in "biuf" else type(value).__name__
        parts = " + ".join(f"{source.name} ({source.shape[0]})" for source in column.sources)
        raise PositronicError(f"Observation '{name}': expected {size} numbers, {parts}, found {found}.")
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        vector = numbers.astype(np.float32).reshape(size)
    if not np.isfinite(vector).all():
        raise PositronicError(f"Observation '{name}': expected finite numbers, found {numbers.ravel()[:8].tolist()}.")
    return vector
