"""From a hardware config to the robot behind it."""

from __future__ import annotations

from positronic.errors import PositronicError
from positronic.hardware.config import HardwareConfig
from positronic.hardware.replay.config import ReplayConfig
from positronic.hardware.robot import Robot
from positronic.hardware.sim.config import SimConfig


def open_robot(config: HardwareConfig) -> Robot:
    """Start the robot that ``config`` describes. Raises PositronicError for a config that no robot answers to."""
    if isinstance(config, SimConfig):
        from positronic.hardware.sim.robot import SimRobot  # MuJoCo is loaded only where it is used

        return SimRobot(config)
    if isinstance(config, ReplayConfig):
        from positronic.hardware.replay.robot import ReplayRobot

        return ReplayRobot(config)
    raise PositronicError(
        f"No robot answers to {type(config).__name__} ('{config.name}'). Try hardware=sim or hardware=replay."
    )
