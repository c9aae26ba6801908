"""Demonstrations: clean labels, stamps on the grid, the same whatever the number of processes."""

from itertools import count

import numpy as np
import pytest

from positronic import keys
from positronic.embodiments.published import FRANKA
from positronic.errors import PositronicError
from positronic.hardware.robot import tick_ns
from positronic.hardware.sim.robot import SimRobot
from positronic.raw.dataset import open_dataset
from positronic.raw.layout import episode_paths
from positronic.rollout.demonstration import Lesson, demonstrate, demonstrator

SEED = 500
HOPELESS = Lesson(recovery=0.0, time_limit_sec=0.2)
RECORDED = {
    keys.JOINT_POSITION,
    keys.JOINT_VELOCITY,
    keys.EE_POSE,
    keys.GRIP,
    keys.COMMAND_POSE,
    keys.TARGET_GRIP,
    keys.IMAGE_WRIST,
    keys.IMAGE_EXTERIOR,
}


def record(config, root, lesson, seeds):
    """Demonstrations recorded in this process, and the dataset."""
    with demonstrator(config, root, lesson, SEED) as work:
        done = [work(seed) for seed in seeds]
    return done, open_dataset(root)


def test_every_signal_is_stamped_on_the_control_grid(sim_config, tmp_path):
    """Also after an unrecorded pre-roll, an episode begins at 0 and sample k is at tick k."""
    (done,), (episode,) = record(sim_config, tmp_path, Lesson(recovery=1.0), [SEED])
    assert set(episode.signals) == RECORDED
    grid = [tick_ns(tick, sim_config.control_fps) for tick in range(done.frames)]
    assert all(signal.times_ns.tolist() == grid for signal in episode.signals.values())


def test_statics_tell_task_seed_outcome_and_scene(sim_config, tmp_path):
    """Enough to set the same scene up again."""
    _, (episode,) = record(sim_config, tmp_path, Lesson(recovery=0.0), [SEED])
    wanted = {keys.EVAL_SEED: SEED, keys.EVAL_SUCCESS: True, "simulation.recovery": False, "simulation.noise": 1.0}
    assert wanted.items() <= episode.statics.items()
    assert episode.embodiment == FRANKA
    assert {keys.TASK, "simulation.red", "simulation.blue", "simulation.start"} <= episode.statics.keys()


def test_the_label_is_the_experts_and_the_noise_is_in_what_follows(sim_config, tmp_path):
    """With and without noise the first label is the expert's own; the states after it differ."""
    _, (noisy,) = record(sim_config, tmp_path / "noisy", Lesson(1.0, 0.0), [SEED])
    _, (quiet,) = record(sim_config, tmp_path / "quiet", Lesson(0.0, 0.0), [SEED])
    robot = SimRobot(sim_config)
    robot.reset(SEED)
    label = robot.task.expert().decide(robot.scene_state()).step.command.pose
    for episode in (noisy, quiet):
        np.testing.assert_array_equal(episode[keys.COMMAND_POSE].values[0], label)
    assert np.any(noisy[keys.EE_POSE].values[1] != quiet[keys.EE_POSE].values[1])


def test_a_recovery_episode_begins_closed_on_nothing(sim_config, tmp_path):
    """The gripper is shut at the first sample, and the expert's label opens it."""
    _, (episode,) = record(sim_config, tmp_path, Lesson(recovery=1.0), [SEED])
    assert episode[keys.GRIP].values[0] > 0.95
    assert episode[keys.TARGET_GRIP].values[0] == 0.0


def test_the_dataset_does_not_depend_on_the_number_of_processes(sim_config, tmp_path):
    """With so little time that some fail: one after the other here, or in two processes, the same episodes."""
    lesson = Lesson(time_limit_sec=3.2)
    done = []
    with demonstrator(sim_config, tmp_path / "here", lesson, SEED) as work:
        for seed in count(SEED):
            done.append(work(seed))
            if sum(one.success for one in done) == 2:
                break
    there = list(demonstrate(sim_config, tmp_path / "there", lesson, SEED, num_episodes=2, num_workers=2))
    assert sorted(there, key=lambda one: one.seed) == done
    ours, theirs = open_dataset(tmp_path / "here"), open_dataset(tmp_path / "there")
    assert [episode.id for episode in ours] == [one.seed - SEED for one in done if one.success]
    assert [episode.fingerprint() for episode in ours] == [episode.fingerprint() for episode in theirs]


def test_what_an_earlier_run_did_counts_and_is_not_done_again(sim_config, tmp_path):
    """Seeds that failed are as good as done too: the others are those of a run that did all."""
    lesson = Lesson(time_limit_sec=3.2)
    tried = list(demonstrate(sim_config, tmp_path / "all", lesson, SEED, num_episodes=2, num_workers=1))
    assert not all(one.success for one in tried)
    known = {one.seed: one.success for one in tried[:-1]}
    rest = list(demonstrate(sim_config, tmp_path / "rest", lesson, SEED, 2, num_workers=1, done=known))
    assert rest == tried[-1:]
    assert not list(demonstrate(sim_config, tmp_path / "rest", lesson, SEED, 1, num_workers=1, done=known))


def test_a_failed_demonstration_is_not_kept(sim_config, tmp_path):
    """What has not succeeded when time is up leaves no episode behind."""
    with demonstrator(sim_config, tmp_path, HOPELESS, SEED) as work:
        assert not work(SEED).success
    assert list(episode_paths(tmp_path)) == []


def test_a_hopeless_scene_is_given_up(sim_config, tmp_path):
    """When the expert fails again and again the run ends with a message instead of going on for ever."""
    with pytest.raises(PositronicError, match="The expert failed on 21 of 21 seeds"):
        list(demonstrate(sim_config, tmp_path, HOPELESS, SEED, num_episodes=1, num_workers=1))
