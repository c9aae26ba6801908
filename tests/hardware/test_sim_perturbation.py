"""Disturbed execution and recovery starts."""

import numpy as np
import pytest

from positronic import keys
from positronic.commands import ActionStep, CartesianPosition
from positronic.hardware.sim.expert import Decision, Phase, down_quat
from positronic.hardware.sim.perturbation import Disturbance, RecoveryStart, recovery_preroll

STEP = ActionStep.of_one(CartesianPosition(np.concatenate([[0.5, 0.0, 0.2], down_quat(0.1)])), 1.0)


def draw(seed=0, scale=1.0, num_steps=2000):
    return Disturbance.draw(np.random.default_rng(seed), num_steps, scale)


def test_noise_is_of_the_intended_size():
    """A few millimetres most of the time, with pushes of more than a centimetre now and then."""
    sizes = np.abs(draw().offsets)
    assert 0.001 < np.median(sizes) < 0.003
    assert 0.01 < np.mean(sizes > 0.01) < 0.15


def test_the_same_seed_draws_the_same_noise():
    """Bit for bit; another seed draws another."""
    np.testing.assert_array_equal(draw(1).offsets, draw(1).offsets)
    assert np.any(draw(1).offsets != draw(2).offsets)


def test_scale_0_executes_the_label():
    """Without noise, what is executed is what is recorded."""
    executed = draw(scale=0.0).apply(5, Decision(STEP, Phase.APPROACH))
    np.testing.assert_allclose(executed.command.pose, STEP.command.pose, atol=1e-15)


@pytest.mark.parametrize("phase", [Phase.GRASP, Phase.RELEASE, Phase.RETREAT])
def test_where_the_thing_is_handled_nothing_is_disturbed(phase):
    """Grasp, release and retreat are executed as they are."""
    assert draw().apply(5, Decision(STEP, phase)) is STEP


def test_on_the_way_the_command_is_disturbed_and_the_label_is_not():
    """The executed pose differs, the gripper does not, and the decision keeps its own."""
    label = STEP.command.pose.copy()
    executed = draw().apply(5, Decision(STEP, Phase.CARRY))
    assert np.any(executed.command.pose[:3] != label[:3])
    assert executed.target_grip == STEP.target_grip
    np.testing.assert_array_equal(STEP.command.pose, label)


def test_noise_does_not_push_the_fingers_into_the_table():
    """A command just above the table is never executed lower than 16 mm."""
    pose = np.concatenate([[0.5, 0.0, 0.02], down_quat(0.0)])
    low = Decision(ActionStep.of_one(CartesianPosition(pose), 0.0), Phase.APPROACH)
    noise = draw()
    assert min(noise.apply(tick, low).command.pose[2] for tick in range(2000)) == pytest.approx(0.016)


def test_recovery_starts_lie_beside_the_thing_or_over_the_table(sim_config):
    """Heights between the table and 16 cm; most starts within 7 cm of red."""
    red, thing = np.array([0.5, 0.0, 0.02]), sim_config.scene.things["red"]
    starts = [RecoveryStart.draw(np.random.default_rng(seed), thing, red) for seed in range(200)]
    assert all(0.02 <= start.position[2] <= 0.16 for start in starts)
    near = [np.linalg.norm(start.position[:2] - red[:2]) <= 0.07 for start in starts]
    assert 0.5 < np.mean(near) < 0.8


def test_the_preroll_ends_closed_at_its_start_after_one_second(robot):
    """The gripper is shut on nothing where it was drawn to be, and exactly one second has passed."""
    start = RecoveryStart(np.array([0.5, 0.15, 0.10]), 0.2)
    recovery_preroll(robot, start)
    observation = robot.observe(images=False)
    np.testing.assert_allclose(observation[keys.EE_POSE][:3], start.position, atol=5e-3)
    assert observation[keys.GRIP] > 0.95
    assert robot.time_ns == 10**9
