"""Datasets that `stage=convert` baked: their manifest says what every column is, so that nothing is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from positronic import keys
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.errors import PositronicError
from positronic.importing.lerobot_meta import Info, reading
from positronic.importing.mapping import ROTATIONS, ImportMapping, SignalMapping

STATE, ACTION = "state", "action"
EE_POSE, JOINT_POSITION, JOINT_DELTA, GRIP = "ee_pose", "joint_position", "joint_delta", "grip"
MEASURED = {EE_POSE: keys.EE_POSE, JOINT_POSITION: keys.JOINT_POSITION, GRIP: keys.GRIP}
COMMANDED = {
    EE_POSE: keys.COMMAND_POSE,
    JOINT_POSITION: keys.COMMAND_JOINTS,
    JOINT_DELTA: keys.COMMAND_JOINT_DELTAS,
    GRIP: keys.TARGET_GRIP,
}
COLUMN = "column "  # how a row of the contract begins that lists a column's features
POSITION = 3


@dataclass(frozen=True)
class Baked:
    """What the manifest says. ``columns``: column -> its features, behind each other."""

    path: Path
    columns: Mapping[str, list[str]]
    rotation: str
    is_measured: bool
    embodiment: Embodiment | None

    def mapping(self, source: str, info: Info, embodiment: Embodiment) -> ImportMapping:
        """Where each raw signal comes from. An action that repeats what was measured adds nothing where that is there
        itself."""
        found: dict[str, SignalMapping] = {}
        for feature, column, places in sorted(self._features(embodiment), key=lambda each: _group(each[0]) == ACTION):
            key = self._key(feature)
            whole = places == tuple(range(_size(info, column)))
            dims = None if whole or key.startswith(keys.IMAGE_PREFIX) else places
            found.setdefault(key, SignalMapping((column,), dims, **self._conventions(feature)))
        used = {field for signal in found.values() for field in signal.fields}
        left_out = tuple(name for name, feature in info.features.items() if name not in used and feature.kind)
        return ImportMapping(source, embodiment.name, found, left_out=left_out)

    def _features(self, embodiment: Embodiment) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """``(feature, its column, its places there)``."""
        for column, features in self.columns.items():
            start = 0
            for feature in features:
                count = 0 if feature.startswith(keys.IMAGE_PREFIX) else self._count(feature, embodiment)
                yield feature, column, tuple(range(start, start + count))
                start += count

    def _count(self, feature: str, embodiment: Embodiment) -> int:
        arm, part = self._arm(feature, embodiment), _part(feature)
        return {GRIP: 1, EE_POSE: POSITION + ROTATIONS[self.rotation]}.get(part) or len(arm.joints)

    def _arm(self, feature: str, embodiment: Embodiment) -> Arm:
        name = _arm_name(feature)
        if name not in embodiment.by_name or _part(feature) not in COMMANDED:
            raise PositronicError(f"{self.path}: '{feature}' is nothing that embodiment={embodiment.name} has.")
        return embodiment.by_name[name]

    def _key(self, feature: str) -> str:
        if feature.startswith(keys.IMAGE_PREFIX):
            return feature
        is_measured = _group(feature) == STATE or self.is_measured
        return keys.of_arm((MEASURED if is_measured else COMMANDED)[_part(feature)], _arm_name(feature))

    def _conventions(self, feature: str) -> dict[str, Any]:
        if feature.startswith(keys.IMAGE_PREFIX):
            return {}
        of_part = {EE_POSE: {"unit": "m", "rotation": self.rotation}, GRIP: {"open": 0.0, "closed": 1.0}}
        return of_part.get(_part(feature), {"unit": "rad"})


def read_baked(root: Path) -> Baked | None:
    """What the dataset's manifest says; None where it has none. Raises PositronicError for one that says nothing of its
    columns."""
    path = root / keys.MANIFEST_FILE
    if not path.is_file():
        return None
    with reading(path):
        recipe = json.loads(path.read_text(encoding="utf-8"))["recipe"]
        rows, codec, robot = recipe["contract"], recipe["codec"], recipe.get("embodiment")
        columns = {row.removeprefix(COLUMN): said.split(" + ") for row, said in rows.items() if row.startswith(COLUMN)}
        embodiment = Embodiment.from_dict(robot) if robot else None
        return Baked(path, columns, codec["rotation"], codec["label"] == "measured", embodiment)


def _group(feature: str) -> str:
    return feature.partition(".")[0]


def _part(feature: str) -> str:
    return feature.rpartition(".")[2]


def _arm_name(feature: str) -> str:
    return feature.removeprefix(f"{_group(feature)}.").removesuffix(_part(feature)).removesuffix(".")


def _size(info: Info, column: str) -> int:
    feature = info.features.get(column)
    return 0 if feature is None else sum(feature.shape[:1])
