"""What becomes of each field of a recording from elsewhere, as a value and as YAML.

    source: lerobot
    embodiment: so101
    signals:
      robot_state.q: {from: observation.state, dims: [shoulder_pan.pos, ...], unit: degrees}
      grip: {from: observation.state, dims: [gripper.pos], open: 100, closed: 0}
      image.wrist: {from: observation.images.wrist}
    left_out: [next.reward]

Names on the left are raw keys. A value that nobody has decided is ``???``; nothing is imported while there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from positronic.errors import PositronicError, did_you_mean, listing
from positronic.utils.files import replace_text

OPEN = "???"  # OmegaConf's own sign of a value that is missing
FROM = "from"
RGB, BGR = "rgb", "bgr"
LENGTHS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
ANGLES = ("rad", "degrees", "m100_100")
"""Units of joints. ``m100_100``: -100 to 100 stands for the joint's range, as LeRobot's own calibration has it."""
ROTATIONS = {
    "quat_wxyz": 4,
    "quat_xyzw": 4,
    "rotvec": 3,
    "euler_xyz": 3,
    "rot6d_rows": 6,
    "rot6d_columns": 6,
    "matrix": 9,
}
"""Layout of a rotation -> how many numbers it has. ``euler_xyz``: about fixed axes x, then y, then z, rad."""


@dataclass(frozen=True)
class SignalMapping:
    """Where a raw signal comes from.

    ``fields``: of the source; several are put behind each other (a position and a quaternion). ``dims``: which of their
    numbers, in the raw signal's order, by name or by place; None is all. ``unit``: of joints and positions.
    ``rotation``: layout of a pose's rotation. ``open``, ``closed``: what the recording says of a gripper. ``base``:
    pose [x, y, z, qw, qx, qy, qz] of the recording's frame in the robot's base frame. ``clock``, ``channels``: see
    ``source.How``. A convention may be ``???``: not decided; of ``dims`` and ``base``, that is their only item.
    """

    fields: tuple[str, ...]
    dims: tuple[str | int, ...] | None = None
    unit: str | None = None
    rotation: str | None = None
    open: float | str | None = None
    closed: float | str | None = None
    base: tuple[float, ...] | None = None
    clock: str | None = None
    channels: str | None = None

    @property
    def undecided(self) -> list[str]:
        """Names of the conventions that are still open."""
        return [name for name in PARAMETERS if getattr(self, name) in (OPEN, (OPEN,))]


CONVENTIONS = ("unit", "rotation", "open", "closed", "clock", "channels")
PARAMETERS = ("dims", *CONVENTIONS, "base")


@dataclass(frozen=True)
class ImportMapping:
    """``signals``: raw key -> where it comes from. ``embodiment``: name of the robot. ``task``: instruction of all
    episodes; None takes each one's own. ``task_from``: text field that holds it. ``fps``: of recordings without stamps.
    ``left_out``: fields that are not imported; each field is in a signal or here."""

    source: str
    embodiment: str
    signals: Mapping[str, SignalMapping] = field(default_factory=dict)
    task: str | None = None
    task_from: str | None = None
    fps: float | str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def undecided(self) -> list[str]:
        """Everything that is still open, e.g. ``signals.grip.open``."""
        own = [name for name in ("embodiment", "task", "fps") if getattr(self, name) == OPEN]
        return own + [f"signals.{key}.{name}" for key, signal in self.signals.items() for name in signal.undecided]


def read_mapping(path: Path, key: str = "mapping") -> ImportMapping:
    """The mapping in a YAML file; ``key``: the parameter that named it.

    Raises PositronicError: no such file, no YAML, a key twice, names that nobody knows.
    Whether the fields are there is checked with the source (``importing.check``).
    """
    try:
        return read_text(path.read_text(), str(path))
    except FileNotFoundError:
        raise PositronicError(f"{key}={path}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PositronicError(f"{path}: expected a mapping in YAML ({str(error).strip()}).") from None


def read_text(text: str, where: str) -> ImportMapping:
    """The mapping that is written there. Raises PositronicError as ``read_mapping`` does."""
    try:
        content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        raise PositronicError(f"{where}: expected a mapping in YAML ({str(error).strip()}).") from None
    return from_dict(content, where)


def write_mapping(path: Path, mapping: ImportMapping, remarks: Mapping[str, str] | None = None) -> None:
    """Write it, whole or not at all. ``remarks``: ``signals.grip.open``, ... -> a comment for that line."""
    replace_text(path, to_yaml(mapping, remarks))


def to_yaml(mapping: ImportMapping, remarks: Mapping[str, str] | None = None) -> str:
    """The mapping as people read and edit it; ``from_dict`` of what it says gives an equal one."""
    remarks = remarks or {}
    lines = [_line(0, name, value, remarks.get(name)) for name, value in _own(mapping)]
    lines.append("signals:" if mapping.signals else "signals: {}")
    for key, signal in mapping.signals.items():
        lines.append(f"  {key}:" + _comment(remarks.get(f"signals.{key}")))
        lines += [_line(4, name, value, remarks.get(f"signals.{key}.{name}")) for name, value in _of_signal(signal)]
    lines.append(_line(0, "left_out", list(mapping.left_out), None))
    return "\n".join(lines) + "\n"


def from_dict(content: Any, where: str) -> ImportMapping:
    """The mapping that YAML says. Raises PositronicError, with ``where``, for names and values that cannot be."""
    fields = _mapping_of(content, where, ("source", "embodiment", "task", "task_from", "fps", "signals", "left_out"))
    signals = fields.get("signals") or {}
    if not isinstance(signals, dict):
        raise PositronicError(f"{where}: 'signals' holds {signals}; expected <raw key>: {{from: <field>}}.")
    return ImportMapping(
        source=str(fields.get("source") or OPEN),
        embodiment=str(fields.get("embodiment") or OPEN),
        signals={str(key): _signal(signal, f"{where}: signals.{key}") for key, signal in signals.items()},
        task=fields.get("task"),
        task_from=fields.get("task_from"),
        fps=_number(fields.get("fps"), f"{where}: fps"),
        left_out=tuple(map(str, _listed(fields.get("left_out")))),
    )


def _signal(content: Any, where: str) -> SignalMapping:
    fields = _mapping_of({FROM: content} if isinstance(content, str) else content, where, (FROM, *PARAMETERS))
    sources = tuple(map(str, _listed(fields.get(FROM))))
    if not sources:
        raise PositronicError(f"{where} does not say where it comes from. Expected 'from: <field>'.")
    dims, base = fields.get("dims"), fields.get("base")
    _require_one_of(fields, "channels", (RGB, BGR), where)
    _require_one_of(fields, "unit", (*ANGLES, *LENGTHS), where)
    _require_one_of(fields, "rotation", tuple(ROTATIONS), where)
    return SignalMapping(
        fields=sources,
        dims=None if dims is None else tuple(_dim(dim, where) for dim in _listed(dims)),
        unit=fields.get("unit"),
        rotation=fields.get("rotation"),
        open=_number(fields.get("open"), f"{where}.open"),
        closed=_number(fields.get("closed"), f"{where}.closed"),
        base=None if base is None else tuple(_number(value, f"{where}.base") for value in _listed(base)),
        clock=fields.get("clock"),
        channels=fields.get("channels"),
    )


def _mapping_of(content: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise PositronicError(f"{where}: expected names with values ({listing(known)}), found {content!r}.")
    for name in content:
        if name not in known:
            raise PositronicError(f"{where}: '{name}' is not known there.{did_you_mean(str(name), known)}")
    return content


def _require_one_of(fields: Mapping[str, Any], name: str, options: tuple[str, ...], where: str) -> None:
    value = fields.get(name)
    if value is not None and value != OPEN and value not in options:
        hint = did_you_mean(str(value), options)
        raise PositronicError(f"{where}.{name}: {value}; expected one of {', '.join(options)}.{hint}")


def _number(value: Any, where: str) -> Any:
    if value is None or value == OPEN:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PositronicError(f"{where}: expected a number, found {value!r}.")
    return float(value)


def _dim(dim: Any, where: str) -> str | int:
    if isinstance(dim, bool) or not isinstance(dim, str | int):
        raise PositronicError(f"{where}.dims: expected names or places (0, 1, ...), found {dim!r}.")
    return dim


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _own(mapping: ImportMapping) -> list[tuple[str, Any]]:
    optional = [(name, getattr(mapping, name)) for name in ("task", "task_from", "fps")]
    named = [("source", mapping.source), ("embodiment", mapping.embodiment)]
    return named + [(name, value) for name, value in optional if value is not None]


def _of_signal(signal: SignalMapping) -> list[tuple[str, Any]]:
    sources = signal.fields[0] if len(signal.fields) == 1 else list(signal.fields)
    rest = [(name, getattr(signal, name)) for name in PARAMETERS]
    return [(FROM, sources), *((name, value) for name, value in rest if value is not None)]


def _line(indent: int, name: str, value: Any, remark: str | None) -> str:
    return f"{' ' * indent}{name}: {_text(value)}{_comment(remark)}"


def _text(value: Any) -> str:
    """In one line of YAML."""
    import yaml

    plain = OPEN if value == (OPEN,) else list(value) if isinstance(value, tuple) else value
    if isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    return yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("...\n").strip()


def _comment(remark: str | None) -> str:
    return f"  # {' '.join(remark.split())}" if remark else ""
