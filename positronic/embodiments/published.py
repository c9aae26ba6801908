"""The robot of recordings, datasets and checkpoints that do not say which one they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from positronic.embodiments.embodiment import Arm, Embodiment

RECORDED = "recorded"  # the name of a robot of which the joints' names are all that is known
FRANKA = Embodiment(
    name="franka",
    arms=(
        Arm(
            name="",
            joints=("joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "joint7"),
            lower=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
            upper=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
            max_speed=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
            numbered=True,
        ),
    ),
    cameras={"wrist": "wrist", "exterior": "exterior"},
    description="Franka Panda with a gripper, a wrist and an exterior camera.",
)
"""As in conf/embodiment/franka.yaml. Before there were others, everything was recorded, baked and trained for it."""


def with_joints(names: Sequence[str] | None) -> Embodiment:
    """The robot of data that say no more than their joints' names, in order; or not even these."""
    franka = FRANKA.arms[0]
    if names is None or tuple(names) == franka.joints:
        return FRANKA
    arm = replace(franka, joints=tuple(names), lower=None, upper=None, max_speed=None)
    return replace(FRANKA, name=RECORDED, arms=(arm,), description="A robot of which the joints' names are known.")
