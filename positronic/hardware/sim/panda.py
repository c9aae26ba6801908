"""A Franka Panda with true kinematics, drawn by hand from primitive shapes.

Kinematics, joint limits and torques are those that the maker published (Craig's convention):
https://frankaemika.github.io/docs/control_parameters.html. Masses, inertias and servo gains are rough and stiff: the
arm goes where it is told, but this is no model of the real one's dynamics. Only the finger pads touch things; the arm
itself does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from positronic.hardware.sim.config import CameraConfig
from positronic.hardware.sim.mjcf import add, camera_axes

TCP_SITE = "tcp"
FINGERS = ("finger_left", "finger_right")
MAX_WIDTH = 0.08  # m between the pads, gripper open
MAX_OPENING = MAX_WIDTH / 2  # m that one finger travels
FLANGE_OFFSET = 0.107  # m from the last joint's frame to the hand
TCP_OFFSET = 0.1034  # m from the hand to the tool centre point
HAND_YAW = -np.pi / 4  # of the hand against the last joint's frame
HOME = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4])  # rad

WHITE = [0.93, 0.94, 0.95, 1]
GREY = [0.62, 0.65, 0.69, 1]
DARK = [0.24, 0.25, 0.27, 1]
PAD = [0.14, 0.14, 0.15, 1]

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Joint:
    """One revolute joint and the link that it carries.

    ``a``, ``d`` (m) and ``alpha`` (rad): Craig's parameters. ``low``, ``high``: rad. ``speed``: rad/s. ``torque``: N m.
    ``stiffness``: of the position servo, N m/rad. ``mass``: kg. ``capsules``: (from, to, radius) in the link's frame.
    """

    a: float
    d: float
    alpha: float
    low: float
    high: float
    speed: float
    torque: float
    stiffness: float
    mass: float
    capsules: tuple[tuple[Point, Point, float], ...]


RIGHT_ANGLE = np.pi / 2
ORIGIN: Point = (0, 0, 0)
JOINTS = (
    Joint(0, 0.333, 0, -2.8973, 2.8973, 2.175, 87, 4500, 3.0, (((0, 0, -0.19), ORIGIN, 0.06),)),
    Joint(0, 0, -RIGHT_ANGLE, -1.7628, 1.7628, 2.175, 87, 4500, 3.0, ((ORIGIN, (0, -0.12, 0), 0.06),)),
    Joint(
        *(0, 0.316, RIGHT_ANGLE, -2.8973, 2.8973, 2.175, 87, 3500, 2.5),
        (((0, 0, -0.12), (0, 0, -0.02), 0.055), (ORIGIN, (0.0825, 0, 0), 0.05)),
    ),
    Joint(0.0825, 0, RIGHT_ANGLE, -3.0718, -0.0698, 2.175, 87, 3500, 2.5, ((ORIGIN, (-0.0825, 0.10, 0), 0.05),)),
    Joint(
        *(-0.0825, 0.384, -RIGHT_ANGLE, -2.8973, 2.8973, 2.61, 12, 2000, 2.5),
        (((0, 0, -0.22), (0, 0.06, -0.10), 0.05), ((0, 0.06, -0.10), ORIGIN, 0.045)),
    ),
    Joint(0, 0, RIGHT_ANGLE, -0.0175, 3.7525, 2.61, 12, 2000, 1.5, ((ORIGIN, (0.088, 0, 0), 0.045),)),
    Joint(0.088, 0, RIGHT_ANGLE, -2.8973, 2.8973, 2.61, 12, 2000, 0.7, ((ORIGIN, (0, 0, 0.08), 0.04),)),
)
JOINT_NAMES = tuple(f"joint{i + 1}" for i in range(len(JOINTS)))
JOINT_LOW = np.array([joint.low for joint in JOINTS])
JOINT_HIGH = np.array([joint.high for joint in JOINTS])
JOINT_SPEED = np.array([joint.speed for joint in JOINTS])


def add_arm(world: Element, wrist: CameraConfig) -> None:
    """Append the base, the seven links, and the hand with its camera."""
    base = add(world, "body", name="base")
    add(base, "geom", type="cylinder", size=[0.09, 0.02], pos=[0, 0, 0.02], rgba=DARK)
    add(base, "geom", type="cylinder", size=[0.075, 0.06], pos=[0, 0, 0.08], rgba=WHITE)
    link = base
    for name, joint in zip(JOINT_NAMES, JOINTS, strict=True):
        link = _add_link(link, name, joint)
    _add_hand(link, wrist)


def add_servos(actuator: Element) -> None:
    """Append a position servo per joint, and one that moves both fingers; its target is the opening of a finger, m."""
    for name, joint in zip(JOINT_NAMES, JOINTS, strict=True):
        damping = 2.4 * np.sqrt(joint.stiffness)
        limits = {"forcerange": [-joint.torque, joint.torque], "ctrlrange": [joint.low, joint.high]}
        add(actuator, "position", name=name, joint=name, kp=joint.stiffness, kv=damping, **limits)
    grip = {"forcerange": [-40, 40], "ctrlrange": [0, MAX_OPENING]}
    add(actuator, "position", name="grip", tendon="fingers", kp=2000, kv=60, **grip)


def add_finger_coupling(model: Element) -> None:
    """Append what keeps the two fingers symmetric."""
    fingers = add(add(model, "tendon"), "fixed", name="fingers")
    for finger in FINGERS:
        add(fingers, "joint", joint=finger, coef=0.5)
    add(add(model, "equality"), "joint", joint1=FINGERS[0], joint2=FINGERS[1], solref=[0.005, 1])


def _add_link(parent: Element, name: str, joint: Joint) -> Element:
    pos = [joint.a, -np.sin(joint.alpha) * joint.d, np.cos(joint.alpha) * joint.d]
    quat_wxyz = [np.cos(joint.alpha / 2), np.sin(joint.alpha / 2), 0, 0]
    link = add(parent, "body", name=name.replace("joint", "link"), pos=pos, quat=quat_wxyz, gravcomp=1)
    add(link, "joint", name=name, axis=[0, 0, 1], range=[joint.low, joint.high])
    mass = joint.mass / len(joint.capsules)
    for start, end, radius in joint.capsules:
        add(link, "geom", type="capsule", fromto=[*start, *end], size=radius, mass=mass, rgba=WHITE)
    radius = joint.capsules[0][2]
    add(link, "geom", type="cylinder", size=[radius + 0.008, radius + 0.006], mass=0, rgba=GREY)
    return link


def _add_hand(flange: Element, wrist: CameraConfig) -> None:
    quat_wxyz = [np.cos(HAND_YAW / 2), 0, 0, np.sin(HAND_YAW / 2)]
    hand = add(flange, "body", name="hand", pos=[0, 0, FLANGE_OFFSET], quat=quat_wxyz, gravcomp=1)
    add(hand, "geom", type="box", size=[0.02, 0.1, 0.03], pos=[0, 0, 0.03], mass=0.6, rgba=DARK)
    add(hand, "site", name=TCP_SITE, pos=[0, 0, TCP_OFFSET], size=0.003, rgba=[0, 0, 0, 0])
    axes = camera_axes(wrist.pos, wrist.look_at, wrist.up)
    add(hand, "camera", name="wrist", pos=wrist.pos, xyaxes=axes, fovy=wrist.fovy_deg)
    for name, side in zip(FINGERS, (1, -1), strict=True):
        _add_finger(hand, name, side)


def _add_finger(hand: Element, name: str, side: int) -> None:
    finger = add(hand, "body", name=name, pos=[0, 0, 0.0584], gravcomp=1)
    slide = {"type": "slide", "axis": [0, side, 0], "range": [0, MAX_OPENING], "damping": 10, "armature": 0.01}
    add(finger, "joint", name=name, **slide)
    body = {"size": [0.01, 0.006, 0.02], "pos": [0, side * 0.012, 0.015], "mass": 0.01}
    add(finger, "geom", type="box", rgba=DARK, **body)
    pad = {"size": [0.009, 0.005, 0.012], "pos": [0, side * 0.005, 0.043], "mass": 0.005}
    add(finger, "geom", class_="pad", type="box", rgba=PAD, **pad)
