"""Each of the simulator's tasks under the driver as it is shipped."""

import pytest

from positronic import compose
from positronic.hardware.factory import open_robot
from positronic.raw.writer import DatasetWriter
from positronic.rollout.policies import open_policy
from positronic.rollout.results import SUCCESS
from positronic.rollout.runner import run_episode

# Of the pushes, two where the wrist's camera sees neither the target nor an edge of the table for a while.
PLAYED = [("sim_hard", 0), ("sim_told", 1), ("sim_tray", 0), ("sim_push", 16), ("sim_push", 20)]


@pytest.mark.parametrize(("hardware", "seed"), PLAYED)
def test_the_driver_lets_the_expert_do_its_task(hardware, seed, tmp_path):
    """No chunk is unsafe, and no camera looks as if it had stopped."""
    config = compose(["stage=infer", "policy=scripted", f"hardware={hardware}", "hardware.image_size=[64,64]"])
    robot = open_robot(config.hardware)
    with DatasetWriter(tmp_path).new_episode(seed) as writer:
        result = run_episode(robot, open_policy(config.policy, robot), writer, seed, config.driver)
    robot.close()
    assert (result.outcome, result.reason) == (SUCCESS, None)
