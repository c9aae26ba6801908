"""What the messages of ROS 2 hold: numbers by name, or a picture. Types that are not here are not imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from positronic.errors import PositronicError
from positronic.importing.pictures import BGR, RGB, decode, unpack
from positronic.importing.ros_bag import Message

POSE_NAMES = ("x", "y", "z", "qw", "qx", "qy", "qz")
NS_PER_SEC = 10**9


class Numbers(NamedTuple):
    """One quantity of a message. ``suffix``: added to the topic; it begins with a dot, which no topic holds."""

    suffix: str
    values: np.ndarray
    names: tuple[str, ...] | None


def _joint_state(message: Any) -> Iterable[Numbers]:
    return _quantities(message, tuple(message.name), ("position", "velocity", "effort"))


def _trajectory(message: Any) -> Iterable[Numbers]:
    if len(message.points) != 1:
        raise PositronicError(
            f"a trajectory of {len(message.points)} points; only one of a single point is a command for its moment."
        )
    return _quantities(message.points[0], tuple(message.joint_names), ("positions", "velocities"))


def _quantities(holder: Any, names: tuple[str, ...], quantities: Iterable[str]) -> Iterable[Numbers]:
    if len(set(names)) < len(names):
        raise PositronicError(f"two joints of one name: {', '.join(names)}.")
    for quantity in quantities:
        values = np.asarray(getattr(holder, quantity), np.float64)
        if names and len(values) not in (0, len(names)):  # none means that the robot does not measure it
            raise PositronicError(f"{len(values)} numbers in '{quantity}' for {len(names)} names.")
        if len(values):
            yield Numbers(f".{quantity}", values, names or None)


def _pose(message: Any) -> Iterable[Numbers]:
    pose = getattr(message, "pose", message)
    at, turn = pose.position, pose.orientation  # x, y, z, w by the type's definition
    yield Numbers("", np.array([at.x, at.y, at.z, turn.w, turn.x, turn.y, turn.z], np.float64), POSE_NAMES)


def _data(message: Any) -> Iterable[Numbers]:
    yield Numbers("", np.asarray(message.data), None)


def _compressed(message: Any, where: str) -> np.ndarray:
    return decode(message.data, where, channel_order(message.format, where))


def _raw_image(message: Any, where: str) -> np.ndarray:
    return unpack(message.data, message.height, message.width, message.step, message.encoding, where)


NUMERIC = (*(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)), "Float32", "Float64")
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
NUMBERS: dict[str, Callable[[Any], Iterable[Numbers]]] = {
    "sensor_msgs/msg/JointState": _joint_state,
    TRAJECTORY: _trajectory,
    "geometry_msgs/msg/PoseStamped": _pose,
    "geometry_msgs/msg/Pose": _pose,
    **{f"std_msgs/msg/{name}": _data for name in ("Bool", "String", *NUMERIC)},
    **{f"std_msgs/msg/{name}MultiArray": _data for name in NUMERIC},
}
PICTURES: dict[str, Callable[[Any, str], np.ndarray]] = {
    "sensor_msgs/msg/CompressedImage": _compressed,
    "sensor_msgs/msg/Image": _raw_image,
}


def picture(message: Message, where: str) -> np.ndarray:
    """What a message of one of ``PICTURES`` shows, uint8 RGB (H, W, 3). Raises PositronicError for an encoding that is
    not known, and for data that is damaged."""
    return PICTURES[message.type](message.content, where)


def channel_order(text: str, where: str) -> str:
    """In which order a decoder of JPEG or PNG finds the colours, by the message's ``format``.

    That is ``jpeg``, ``png``, or ``<pixels before>; jpeg compressed <pixels that the encoder was given>``. The encoder
    is OpenCV's, which takes what it is given for BGR; given RGB, it swaps red and blue. Raises PositronicError for
    another text, e.g. that of depth.
    """
    before, separator, rest = text.partition(";")
    words = (rest if separator else before).lower().split()
    codec, given = words[0] if words else "", words[-1] if len(words) == 3 and words[1] == "compressed" else ""
    if codec in ("jpeg", "jpg", "png"):
        if given in ("bgr8", "mono8") or not separator or before.strip() == "mono8":
            return RGB
        if given == "rgb8":
            return BGR
    raise PositronicError(
        f"{where}: format '{text}'; known are jpeg, png, and those of compressed_image_transport, e.g. 'rgb8; jpeg "
        "compressed bgr8'."
    )


def stamp_ns(message: Any) -> int | None:
    """When what the message holds was measured, by its header; None if it has no header or nobody filled it in."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    if stamp is None or not (stamp.sec or stamp.nanosec):
        return None
    return stamp.sec * NS_PER_SEC + stamp.nanosec
