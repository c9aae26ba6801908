"""What a robot can be told, in memory and on the wire.

On the wire a command is a plain tagged map; a pose travels as 12 floats, xyz and the row-major rotation matrix. In
memory a pose is ``[x y z qw qx qy qz]``. Newer servers wrap the map as ``{b'__cmd__': map}``; both are read, and the
plain one is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from positronic import geometry, keys
from positronic.errors import PositronicError, did_you_mean, listing

ENVELOPE = b"__cmd__"
MATRIX_SLACK = 0.03  # from orthonormal, in an element of R R^T: servers in the field round to two decimals


def _vector(value: ArrayLike, size: int | None, what: str) -> NDArray[np.float64]:
    try:
        vector = np.array(value, np.float64)  # a copy: what came over the wire cannot be written to
    except (TypeError, ValueError):
        raise PositronicError(f"{what}: expected {size or 'some'} numbers in a row, found {str(value)[:80]}.") from None
    if vector.ndim != 1 or not len(vector) or (size is not None and len(vector) != size):
        raise PositronicError(f"{what}: expected {size or 'some'} numbers in a row, found shape {vector.shape}.")
    if not np.all(np.isfinite(vector)):
        raise PositronicError(f"{what}: expected finite numbers, found {vector.tolist()}.")
    return vector


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise PositronicError(f"{what}: expected a number, found {str(value)[:80]}.") from None


def _rotation(values: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """Nine numbers, a rotation matrix row by row, as ``quat_wxyz``. Raises PositronicError for anything else, which
    would become some rotation too."""
    matrix = values.reshape(3, 3)
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(matrix @ matrix.T - np.eye(3)).max()
    if not off <= MATRIX_SLACK:
        raise PositronicError(
            f"{what}: its last nine numbers are no rotation matrix, row by row: {off:.3g} away from orthonormal, found"
            f" {np.round(values, 4).tolist()}."
        )
    if np.linalg.det(matrix) < 0:
        raise PositronicError(f"{what}: its last nine numbers are a mirror image (determinant -1), no rotation.")
    return geometry.matrix_to_quat(matrix)


@dataclass(frozen=True, eq=False)
class CartesianPosition:
    """Go to an absolute end-effector ``pose`` (7,) ``[x y z qw qx qy qz]`` in the robot's base frame."""

    kind: ClassVar[str] = "cartesian_pos"
    pose: NDArray[np.float64]

    @classmethod
    def all_to_wire(cls, commands: Sequence[CartesianPosition]) -> list[dict[str, Any]]:
        poses = np.array([command.pose for command in commands])
        matrices = geometry.quat_to_matrix(poses[:, 3:])
        rows = np.concatenate([poses[:, :3], matrices.reshape(-1, 9)], axis=1)
        return [{"type": cls.kind, "pose": row} for row in rows]

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> CartesianPosition:
        values = _vector(fields["pose"], 12, "cartesian_pos.pose")
        return cls(np.concatenate([values[:3], _rotation(values[3:], "cartesian_pos.pose")]))


@dataclass(frozen=True, eq=False)
class JointPosition:
    """Go to absolute joint ``positions`` (n,) rad."""

    kind: ClassVar[str] = "joint_pos"
    positions: NDArray[np.float64]

    @classmethod
    def all_to_wire(cls, commands: Sequence[JointPosition]) -> list[dict[str, Any]]:
        return [{"type": cls.kind, "positions": command.positions} for command in commands]

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> JointPosition:
        return cls(_vector(fields["positions"], None, "joint_pos.positions"))


@dataclass(frozen=True, eq=False)
class JointDelta:
    """Move the joints by ``velocities`` (n,) rad within one control step."""

    kind: ClassVar[str] = "joint_delta"
    velocities: NDArray[np.float64]

    @classmethod
    def all_to_wire(cls, commands: Sequence[JointDelta]) -> list[dict[str, Any]]:
        return [{"type": cls.kind, "velocities": command.velocities} for command in commands]

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> JointDelta:
        return cls(_vector(fields["velocities"], None, "joint_delta.velocities"))


@dataclass(frozen=True, eq=False)
class Reset:
    """Go back to the start pose."""

    kind: ClassVar[str] = "reset"

    @classmethod
    def all_to_wire(cls, commands: Sequence[Reset]) -> list[dict[str, Any]]:
        return [{"type": cls.kind} for _ in commands]

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Reset:
        return cls()


Command = CartesianPosition | JointPosition | JointDelta | Reset
COMMANDS: dict[str, type[Command]] = {c.kind: c for c in (CartesianPosition, JointPosition, JointDelta, Reset)}


def command_from_wire(wire: Mapping[Any, Any]) -> Command:
    """Read a tagged map (or its envelope). Raises PositronicError for an unknown type or a missing field."""
    fields = wire.get(ENVELOPE, wire) if isinstance(wire, Mapping) else wire
    if not isinstance(fields, Mapping):
        raise PositronicError(f"A robot command is a map with a 'type', found {type(fields).__name__}.")
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in COMMANDS:
        hint = did_you_mean(str(kind), COMMANDS)
        raise PositronicError(f"Unknown robot command type {kind!r}. Expected one of {listing(COMMANDS)}.{hint}")
    try:
        return COMMANDS[kind].from_wire(fields)
    except KeyError as missing:
        raise PositronicError(f"Robot command '{kind}' lacks its field {missing}. Found: {listing(fields)}.") from None


@dataclass(frozen=True, eq=False)
class ArmAction:
    """What one arm is told. ``target_grip``: 0 = open, 1 = closed; None for an arm without a gripper."""

    command: Command
    target_grip: float | None = None


@dataclass(frozen=True, eq=False)
class ActionStep:
    """One step of an action chunk.

    ``arms``: by name; the only arm of a robot has the empty name. ``timestamp``: seconds from the start of the chunk.
    """

    arms: Mapping[str, ArmAction]
    timestamp: float = 0.0

    @classmethod
    def of_one(cls, command: Command, target_grip: float | None, timestamp: float = 0.0) -> ActionStep:
        """A step of a robot with one arm."""
        return cls({"": ArmAction(command, target_grip)}, timestamp)

    @property
    def only(self) -> ArmAction:
        """What the only arm is told. Raises PositronicError for a robot with several."""
        if len(self.arms) != 1:
            raise PositronicError(f"Expected a step for one arm, found {listing(self.arms)}: ask for step.arms.")
        return next(iter(self.arms.values()))

    @property
    def command(self) -> Command:
        """The only arm's command. Raises PositronicError for a robot with several."""
        return self.only.command

    @property
    def target_grip(self) -> float | None:
        """The only arm's gripper, 0 = open, 1 = closed. Raises PositronicError for a robot with several."""
        return self.only.target_grip

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> ActionStep:
        """Raises PositronicError when no arm is told anything, or it means nothing, and when a gripper has no arm."""
        if not isinstance(wire, Mapping):
            raise PositronicError(f"An action step is a map, found {type(wire).__name__}.")
        told = [str(key) for key in wire if keys.split_arm(str(key))[0] == keys.ROBOT_COMMAND]
        arms = {keys.split_arm(key)[1]: _arm_from_wire(wire, key) for key in told}
        grippers = [str(key) for key in wire if keys.split_arm(str(key))[0] == keys.TARGET_GRIP]
        homeless = [key for key in grippers if keys.split_arm(key)[1] not in arms]
        if not arms or homeless:
            needed = keys.of_arm(keys.ROBOT_COMMAND, keys.split_arm(homeless[0])[1]) if homeless else keys.ROBOT_COMMAND
            raise PositronicError(f"An action step needs '{needed}'. Found: {listing(map(str, wire))}.")
        return cls(arms, _number(wire.get(keys.TIMESTAMP, 0.0), keys.TIMESTAMP))


def chunks_to_wire(chunks: Sequence[Sequence[ActionStep]]) -> list[list[dict[str, Any]]]:
    """The steps of several chunks, all for the same arms, as they travel: together that costs less than one by one."""
    wires = iter(chunk_to_wire([step for chunk in chunks for step in chunk]))
    return [list(islice(wires, len(chunk))) for chunk in chunks]


def chunk_to_wire(steps: Sequence[ActionStep]) -> list[dict[str, Any]]:
    """The steps of a chunk, all for the same arms, as they travel."""
    wires: list[dict[str, Any]] = [{} for _ in steps]
    for arm in steps[0].arms if steps else ():
        actions = [step.arms[arm] for step in steps]
        command_key, grip_key = keys.of_arm(keys.ROBOT_COMMAND, arm), keys.of_arm(keys.TARGET_GRIP, arm)
        commands = commands_to_wire([action.command for action in actions])
        for wire, action, command in zip(wires, actions, commands, strict=True):
            wire[command_key] = command
            if action.target_grip is not None:
                wire[grip_key] = float(action.target_grip)
    for wire, step in zip(wires, steps, strict=True):
        wire[keys.TIMESTAMP] = float(step.timestamp)
    return wires


def commands_to_wire(commands: Sequence[Command]) -> list[dict[str, Any]]:
    """Tagged maps. Commands of one kind in a row are converted at once: rotations one by one cost a server more than
    all else that it does for an answer."""
    return [wire for kind, same in groupby(commands, type) for wire in kind.all_to_wire(list(same))]


def _arm_from_wire(wire: Mapping[str, Any], key: str) -> ArmAction:
    gripper = keys.of_arm(keys.TARGET_GRIP, keys.split_arm(key)[1])
    return ArmAction(command_from_wire(wire[key]), _number(wire[gripper], gripper) if gripper in wire else None)
