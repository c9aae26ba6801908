"""The golden closed loop: expert, virtual clock, simulator, chunk playback, recording; held against a recorded course.

A difference means that the loop, the physics or the expert behaves otherwise. When that is meant, record it again:

    python tests/rollout/test_golden.py
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from positronic import compose, keys
from positronic.hardware.factory import open_robot
from positronic.hardware.sim.tasks.stack import SCORES
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.rollout.policies import open_policy
from positronic.rollout.runner import run_episode

GOLDEN = Path(__file__).parents[1] / "data" / "golden_rollouts.json"
OVERRIDES = ["stage=infer", "policy=scripted", "hardware=sim", "hardware.image_size=[16,16]"]
SEEDS = (1000, 1001)
DIGITS = {keys.EE_POSE: 4, keys.GRIP: 3, keys.COMMAND_POSE: 4, keys.TARGET_GRIP: 3, SCORES.course: 4}
TOLERANCE = 3e-3  # m, quaternion, gripper 0..1: other processors round otherwise, and contacts make more of it
SPARE_TICKS = 2


def roll(seed, root):
    """One episode of the expert: what came of it, and the recorded course, a row per tick, rounded."""
    config = compose(OVERRIDES)
    robot = open_robot(config.hardware)
    with DatasetWriter(root).new_episode(seed) as writer:
        result = run_episode(robot, open_policy(config.policy, robot), writer, seed, config.driver)
    robot.close()
    episode = open_dataset(root)[-1]
    times_ns = episode[keys.EE_POSE].times_ns.tolist()
    columns = [np.round(episode[name].values, digits).tolist() for name, digits in DIGITS.items()]
    ticks = [[time_ns, *values] for time_ns, *values in zip(times_ns, *columns, strict=True)]
    return {"seed": seed, "outcome": result.outcome, "columns": ["time_ns", *DIGITS], "ticks": ticks}


def flat(ticks):
    """(ticks, numbers): every row as one row of numbers, times left out."""
    return np.array([np.hstack(row[1:]) for row in ticks])


@pytest.mark.parametrize(
    "golden", json.loads(GOLDEN.read_text()) if GOLDEN.exists() else [], ids=lambda one: one["seed"]
)
def test_the_closed_loop_goes_as_recorded(golden, tmp_path):
    """Every state, command and distance of an episode, to 3 mm, at the same times, with the same end."""
    found = roll(golden["seed"], tmp_path)
    common = min(len(found["ticks"]), len(golden["ticks"]))
    assert found["outcome"] == golden["outcome"]
    assert abs(len(found["ticks"]) - len(golden["ticks"])) <= SPARE_TICKS
    assert [row[0] for row in found["ticks"][:common]] == [row[0] for row in golden["ticks"][:common]]
    np.testing.assert_allclose(flat(found["ticks"][:common]), flat(golden["ticks"][:common]), atol=TOLERANCE)


def write_golden():
    """One line per tick, so that a difference can be read."""
    with tempfile.TemporaryDirectory() as root:
        episodes = [roll(seed, Path(root) / str(seed)) for seed in SEEDS]
    text = (
        json.dumps(episodes).replace('"ticks": [[', '"ticks": [\n[').replace("]], ", "]],\n").replace("], [", "],\n[")
    )
    GOLDEN.write_text(text.replace("}, {", "},\n{") + "\n")
    print(f"{len(episodes)} episodes, {sum(len(one['ticks']) for one in episodes)} ticks: {GOLDEN}")


if __name__ == "__main__":
    write_golden()
