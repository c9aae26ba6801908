"""A small robot's samples: five joints, a gripper and two cameras of 32 x 48 at 50 Hz."""

import numpy as np

from positronic import keys

SIZE = (32, 48)
STEP_NS = 20_000_000
FRONT = keys.IMAGE_PREFIX + "front"
CAMERAS = {"wrist": SIZE, "front": SIZE}


def sample(step, **others):
    """What the robot measures and is told at a step; red is the step's number."""
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[..., 0] = 5 * step
    return {
        keys.JOINT_POSITION: np.arange(5) / 10 + step / 100,
        keys.COMMAND_JOINTS: np.arange(5) / 10 + step / 50,
        keys.GRIP: step / 100,
        keys.TARGET_GRIP: 1,
        keys.IMAGE_WRIST: frame,
        FRONT: frame,
    } | others


def append(episode, steps=20, **others):
    for step in range(steps):
        episode.append(sample(step, **others), time_ns=step * STEP_NS)
