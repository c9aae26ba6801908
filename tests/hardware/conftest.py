"""The simulator as a fixture."""

import pytest


@pytest.fixture
def robot(sim_config):
    """A simulated robot, reset with seed 0."""
    from positronic.hardware.sim.robot import SimRobot

    robot = SimRobot(sim_config)
    yield robot
    robot.close()
