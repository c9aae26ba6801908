"""The topics of a bag as fields: their rates, their clocks, and what their messages' types say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError
from positronic.importing.clocks import HEADER, NS_PER_SEC, believed_clock
from positronic.importing.pictures import RGB
from positronic.importing.ros_bag import Bag, Message
from positronic.importing.ros_messages import PICTURES, TRAJECTORY, picture, stamp_ns
from positronic.importing.ros_tracks import Shape, Track, Tracks
from positronic.importing.source import COMMANDED, IMAGE, SCALAR, TEXT, VECTOR, Belief, FieldInfo

IN_RAD = Belief("rad", "joints of ROS are in rad (REP 103)", known=True)
IN_METRES = Belief("m", "positions of ROS are in m (REP 103)", known=True)
SCALAR_FIRST = Belief("quat_wxyz", "a ROS quaternion names its numbers; they come as w, x, y, z", known=True)
BY_TYPE = {
    "sensor_msgs/msg/JointState": {"unit": IN_RAD},
    TRAJECTORY: {"unit": IN_RAD},
    "geometry_msgs/msg/PoseStamped": {"unit": IN_METRES, "rotation": SCALAR_FIRST},
    "geometry_msgs/msg/Pose": {"unit": IN_METRES, "rotation": SCALAR_FIRST},
}
OF_PICTURES = {"channels": Belief(RGB, "the message names its encoding; frames come as RGB", known=True)}


@dataclass(frozen=True)
class RosField:
    """``type``: of the messages. ``shape``: of numbers; None for a picture. ``clock``: which stamps to believe."""

    info: FieldInfo
    type: str
    shape: Shape | None
    clock: str


class Stamps(NamedTuple):
    """Of a topic's messages: header's, where there is one, and recorder's."""

    header_ns: list[int | None]
    log_ns: list[int]


def tracks_of(bag: Bag, where: str) -> tuple[dict[str, RosField], dict[str, str]]:
    """``(fields of numbers and texts, topic -> why it is none)``, of a dataset's first bag."""
    tracks = Tracks(where)
    found = tracks.read(bag)
    return {name: _of_track(track) for name, track in found.items()}, tracks.faults


def pictures_of(bag: Bag, where: str) -> tuple[dict[str, RosField], dict[str, str]]:
    """``(fields of pictures, topic -> why it is none)``, by their first frames."""
    first: dict[str, Message] = {}
    stamps: dict[str, Stamps] = {}
    for message in bag.messages([topic for topic, kind in bag.types.items() if kind in PICTURES]):
        first.setdefault(message.topic, message)
        times = stamps.setdefault(message.topic, Stamps([], []))
        times.header_ns.append(stamp_ns(message.content))
        times.log_ns.append(message.log_ns)
    fields, faults = {}, {}
    for topic, message in first.items():
        try:
            fields[topic] = _of_picture(message, picture(message, where), stamps[topic])
        except PositronicError as error:
            faults[topic] = str(error)
    return fields, faults


def _of_track(track: Track) -> RosField:
    values = np.stack(track.rows)
    kind = TEXT if values.dtype.kind == "U" else SCALAR if values.ndim == 1 else VECTOR
    low, high = ((), ()) if kind == TEXT else _extremes(values)
    clock, rate, believed = _clock(Stamps(track.header_ns, track.log_ns))
    info = FieldInfo(
        kind=kind,
        shape=values.shape[1:],
        dtype=str(values.dtype),
        names=track.shape.names,
        rate_hz=rate,
        low=low,
        high=high,
        role=COMMANDED if track.type == TRAJECTORY else "",
        believed=believed | BY_TYPE.get(track.type, {}),
        samples=len(values),
    )
    return RosField(info, track.type, track.shape, clock)


def _of_picture(message: Message, frame: NDArray[np.uint8], stamps: Stamps) -> RosField:
    clock, rate, believed = _clock(stamps)
    encoding = getattr(message.content, "encoding", "") or message.content.format
    info = FieldInfo(
        kind=IMAGE,
        shape=frame.shape,
        dtype="uint8",
        rate_hz=rate,
        encoding=encoding,
        believed=believed | OF_PICTURES,
        samples=len(stamps.log_ns),
    )
    return RosField(info, message.type, None, clock)


def _clock(stamps: Stamps) -> tuple[str, float | None, Mapping[str, Belief]]:
    """The clock to believe, the rate by it, and the belief."""
    clock, why, is_sure = believed_clock(*stamps)
    times = np.array(stamps.header_ns if clock == HEADER else stamps.log_ns, np.int64)
    span = int(times[-1] - times[0])
    rate = (len(times) - 1) * NS_PER_SEC / span if span > 0 else None
    return clock, rate, {"clock": Belief(clock, why, is_sure)}


def _extremes(values: NDArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    low, high = (np.atleast_1d(end(axis=0)).astype(float).tolist() for end in (values.min, values.max))
    return tuple(low), tuple(high)
