"""Asking a policy at once, or while the robot moves on: the same episode."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.rollout.answers import Questioner
from positronic.rollout.config import DriverConfig
from positronic.rollout.results import ABORTED
from positronic.rollout.runner import run_episode

LATE = DriverConfig("timed", simulation_time=3.0, simulate_latency=True, latency_sec=0.25, stop_on_success=False)


def recorded(robot, policy, folder, driver):
    writer = DatasetWriter(folder).new_episode()
    result = run_episode(robot, policy, writer, 0, driver)
    writer.finish()
    signals = open_dataset(folder)[0].signals
    return result, {name: (signal.times_ns.tolist(), np.asarray(signal.values)) for name, signal in signals.items()}


@pytest.mark.parametrize("playback", ["play_out", "ask_ahead", "temporal_ensemble"])
def test_a_simulated_latency_gives_the_same_episode_every_time(playback, point_robot, approach, tmp_path):
    """To the last bit, whatever the threads do; the latency is the driver's, and idle frames are counted."""
    runs = []
    for run in "ab":
        policy = approach(steps=5)
        result, signals = recorded(point_robot, policy, tmp_path / run, replace(LATE, playback=playback))
        runs.append((result.idle_frames, [seen[keys.OBS_TIME_NS] for seen in policy.seen], signals))
    (idle, asked, first), (again, asked_again, second) = runs
    assert (idle, asked) == (again, asked_again)
    assert first.keys() == second.keys()
    for name, (times_ns, values) in first.items():
        assert times_ns == second[name][0]
        np.testing.assert_array_equal(values, second[name][1])
    assert first[keys.COMMAND_POSE][0][0] == pytest.approx(250_000_000, abs=50_000_001)


def test_asking_ahead_leaves_fewer_idle_frames(point_robot, approach, tmp_path):
    """A quarter of a second is less than the four steps ahead; only the first answer is waited for."""
    out, _ = recorded(point_robot, approach(steps=5), tmp_path / "out", replace(LATE, playback="play_out"))
    early, _ = recorded(point_robot, approach(steps=8), tmp_path / "early", replace(LATE, playback="ask_ahead"))
    assert early.idle_frames == 2
    assert out.idle_frames > 3 * early.idle_frames


def test_robot_and_policy_work_at_the_same_time(approach):
    """The question returns before the answer is there."""
    may_answer = threading.Event()

    class Slow(approach):
        def infer(self, observation):
            assert may_answer.wait(30)
            return super().infer(observation)

    questioner = Questioner(Slow(), counts=True, latency_sec=0.5, overlaps=True)
    coming = questioner.ask({keys.EE_POSE: np.array([0.4, 0, 0.3, 1.0, 0, 0, 0])})
    may_answer.set()
    assert len(coming.chunk()) == 4
    assert coming.latency_ns == 500_000_000
    assert len(questioner.latencies_ms) == 1
    questioner.close()


def test_a_policy_that_fails_in_its_thread_ends_the_episode(point_robot, approach, tmp_path):
    """With what it said, and what happened before is kept."""

    class Lost(approach):
        def infer(self, observation):
            if observation[keys.OBS_TIME_NS] > 10**9:
                raise PositronicError("The server went away.")
            return super().infer(observation)

    result, _ = recorded(point_robot, Lost(steps=8), tmp_path, replace(LATE, playback="ask_ahead"))
    assert (result.outcome, result.reason) == (ABORTED, "The server went away.")


def test_ctrl_c_does_not_wait_for_an_answer(point_robot, approach, tmp_path):
    """One that may never come."""
    may_answer, ended = threading.Event(), threading.Event()

    class Hanging(approach):
        def infer(self, observation):
            may_answer.wait(30)
            ended.set()
            return super().infer(observation)

    def watch(time_ns):
        if time_ns > 10**9:
            raise KeyboardInterrupt

    writer = DatasetWriter(tmp_path).new_episode()
    long = replace(LATE, playback="ask_ahead", latency_sec=2.0)
    with pytest.raises(KeyboardInterrupt):
        run_episode(point_robot, Hanging(steps=20), writer, 0, long, watch)
    assert not ended.is_set()
    may_answer.set()
