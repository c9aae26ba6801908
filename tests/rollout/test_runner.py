"""One episode, from the first observation to the recording."""

from typing import ClassVar

import numpy as np
import pytest

from positronic import keys
from positronic.commands import ActionStep, CartesianPosition
from positronic.errors import ConventionError, PositronicError
from positronic.raw.dataset import open_dataset
from positronic.rollout.check import UnsafeChunk
from positronic.rollout.config import DriverConfig
from positronic.rollout.results import ABORTED, SUCCESS, TIMEOUT, UNSAFE
from positronic.rollout.runner import run_episode
from positronic.stages.infer import to_go_on


def driver(**values):
    return DriverConfig("timed", **values)


def recorded(writer):
    writer.finish()
    return open_dataset(writer.path.parent.parent)[0]


def test_success_ends_the_episode_when_it_was_held(point_robot, approach, writer):
    """At the goal from 0.3 s on, the score lasts 0.25 s at the tick of 0.6 s, and the episode ends there."""
    result = run_episode(point_robot, approach(), writer, 0, driver())
    assert (result.outcome, result.success_sec, result.duration_sec) == (SUCCESS, 0.6, 0.6)


def test_time_is_up_exactly_at_simulation_time(point_robot, approach, writer):
    """An episode without success is looked at once more when its time is up, and not later."""
    result = run_episode(point_robot, approach(), writer, 0, driver(simulation_time=0.45))
    assert (result.outcome, result.success_sec, result.duration_sec) == (TIMEOUT, None, 0.45)
    assert recorded(writer).signals[keys.EE_POSE].times_ns[-1] == 450_000_000


def test_success_without_stopping_runs_on(point_robot, approach, writer):
    """``stop_on_success=false`` plays to the end and still says when the success was."""
    result = run_episode(point_robot, approach(), writer, 0, driver(simulation_time=1.0, stop_on_success=False))
    assert (result.outcome, result.success_sec, result.duration_sec) == (SUCCESS, 0.6, 1.0)


def test_the_policy_is_asked_when_its_chunk_has_ended(point_robot, approach, writer):
    """A chunk of four steps at 10 Hz is asked for every 0.4 s, with task and times beside the raw signals, and
    the seed of the random numbers that it may draw."""
    policy = approach()
    run_episode(point_robot, policy, writer, 0, driver(simulation_time=1.0, stop_on_success=False, task="Go."))
    assert [seen[keys.OBS_TIME_NS] for seen in policy.seen] == [0, 400_000_000, 800_000_000]
    assert {seen[keys.TASK] for seen in policy.seen} == {"Go."}
    times = {keys.OBS_TIME_NS, keys.WALL_TIME_NS, keys.MEASURED_TIMES_NS}
    assert policy.seen[0].keys() == {keys.EE_POSE, keys.GRIP, keys.TASK, keys.NOISE_SEED, *times}
    assert [seen[keys.NOISE_SEED] for seen in policy.seen] == [[0, 0], [0, 1], [0, 2]]
    assert policy.seen[1][keys.MEASURED_TIMES_NS] == {keys.EE_POSE: 400_000_000, keys.GRIP: 400_000_000}
    assert policy.resets == 1


def test_the_recording_holds_state_commands_and_scores(point_robot, approach, writer):
    """State and score at every tick, the command from the tick at which it became current."""
    run_episode(point_robot, approach(), writer, 3, driver())
    signals = recorded(writer).signals
    assert signals.keys() == {keys.EE_POSE, keys.GRIP, keys.COMMAND_POSE, keys.TARGET_GRIP, "reached"}
    assert all(np.array_equal(s.times_ns, np.arange(7) * 100_000_000) for s in signals.values())
    np.testing.assert_array_equal(signals["reached"].values, [0, 0, 0, 1, 1, 1, 1])


def test_the_recording_says_what_it_was(point_robot, approach, writer):
    """Task, seed, outcome, smoothness and the policy's meta, flattened, are statics of the rollout."""
    result = run_episode(point_robot, approach(), writer, 3, driver())
    assert result.smoothness < 0
    assert recorded(writer).statics == {
        "task": "Reach.",
        "eval.seed": 3,
        "eval.success": True,
        "eval.outcome": "success",
        "eval.duration": 0.6,
        "eval.idle_frames": 0,
        "eval.clamped_steps": 0,
        "eval.smoothness": result.smoothness,
        "eval.success_sec": 0.6,
        "eval.metrics": ["reached"],
        "inference.policy.type": "approach",
        "inference.policy.action_fps": 10.0,
        "inference.policy.server.size": [1, 2],
    }


def test_a_policy_lost_on_the_way_leaves_an_aborted_recording(point_robot, approach, writer):
    """What happened until the loss is kept, with the reason."""

    class Lost(approach):
        def infer(self, observation):
            if observation[keys.OBS_TIME_NS]:
                raise PositronicError("The server went away.")
            return super().infer(observation)

    result = run_episode(point_robot, Lost(steps=2), writer, 0, driver(simulation_time=1.0))
    assert (result.outcome, result.reason, result.duration_sec) == (ABORTED, "The server went away.", 0.2)
    statics = recorded(writer).statics
    assert (statics[keys.EVAL_OUTCOME], statics[keys.EVAL_REASON]) == (ABORTED, result.reason)


def test_a_command_the_robot_does_not_take_is_refused_before_it_moves(point_robot, approach, joint_command, writer):
    """The first chunk is checked against the contract, and nothing has been recorded by then."""
    with pytest.raises(ConventionError, match="joint_pos"):
        run_episode(point_robot, approach(command=joint_command), writer, 0, driver())
    assert point_robot.time_ns == 0


@pytest.mark.parametrize("asked", [0, 1])
def test_an_impossible_chunk_is_not_played(point_robot, approach, writer, asked):
    """The first is refused; a later one ends the episode as aborted, where the robot was."""

    class Far(approach):
        def infer(self, observation):
            chunk = super().infer(observation)
            if len(self.seen) > asked:
                chunk[-1].command.pose[0] = 5.0
            return chunk

    if not asked:
        with pytest.raises(PositronicError, match=r"Step 1 of 2.*5\.\d+ m from the base"):
            run_episode(point_robot, Far(steps=2), writer, 0, driver())
        assert point_robot.time_ns == 0
    else:
        result = run_episode(point_robot, Far(steps=2), writer, 0, driver())
        assert (result.outcome, result.duration_sec) == (ABORTED, 0.2)
        assert "m from the base" in result.reason


class Leaping:
    """Steps from 5 cm beside the goal to 45 cm beside it within 0.1 s: 4 m/s."""

    meta: ClassVar[dict] = {keys.META_TYPE: "leaping", keys.META_ACTION_FPS: 10.0}

    def reset(self):
        pass

    def infer(self, observation):
        places = [np.array([0.5, y, 0.1, 1.0, 0.0, 0.0, 0.0]) for y in (0.05, 0.45)]
        return [ActionStep.of_one(CartesianPosition(place), 0.0, k / 10) for k, place in enumerate(places)]


def test_a_chunk_that_moves_too_fast_is_not_played(point_robot, writer):
    """Not its first step either, which alone would be possible."""
    said = (
        r"Step 1 of 2.*the tool moves at 4 m/s, expected at most 2.5 m/s \(driver.max.*type driver.on_unsafe_chunk=stop"
    )
    with pytest.raises(UnsafeChunk, match=said) as refusal:
        run_episode(point_robot, Leaping(), writer, 0, driver())
    assert to_go_on("out", str(refusal.value)).endswith("output_dir=out resume=true driver.on_unsafe_chunk=stop")
    assert (point_robot.time_ns, point_robot.pose[0]) == (0, 0.4)


def test_an_unsafe_chunk_may_end_its_episode_alone(point_robot, writer):
    """Which has failed, is recorded as it was then, and says why."""
    result = run_episode(point_robot, Leaping(), writer, 0, driver(on_unsafe_chunk="stop"))
    assert (result.outcome, result.success, result.duration_sec) == (UNSAFE, False, 0.0)
    episode = recorded(writer)
    assert "the tool moves at 4 m/s" in episode.statics[keys.EVAL_REASON]
    assert keys.COMMAND_POSE not in episode.signals
    assert len(episode.signals[keys.EE_POSE].times_ns) == 1


def test_a_clamped_chunk_is_played_recorded_and_counted(point_robot, writer):
    """The second step goes 25 cm, which is what 2.5 m/s allows in 0.1 s."""
    result = run_episode(point_robot, Leaping(), writer, 0, driver(on_unsafe_chunk="clamp", simulation_time=0.2))
    assert (result.outcome, result.clamped_steps) == (TIMEOUT, 1)
    episode = recorded(writer)
    np.testing.assert_allclose(episode.signals[keys.COMMAND_POSE].values[:, 1], [0.05, 0.3])
    assert episode.statics[keys.EVAL_CLAMPED_STEPS] == 1


def test_thinking_takes_time_when_asked_to(point_robot, approach, writer):
    """With ``simulate_latency`` the chunk starts as late as the answer came, and the wait is recorded."""
    policy = approach()
    result = run_episode(point_robot, policy, writer, 0, driver(simulation_time=0.3, simulate_latency=True))
    signals = recorded(writer).signals
    assert signals[keys.EE_POSE].times_ns[0] == 0
    assert signals[keys.COMMAND_POSE].times_ns[0] == pytest.approx(result.latencies_ms[0] * 1e6, abs=2)


def test_somebody_watching_sees_every_moment_and_can_stop(point_robot, approach, writer):
    """``watch`` gets the time of every tick; what it raises ends the episode."""
    times = []

    def watch(time_ns):
        times.append(time_ns)
        if time_ns >= 200_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_episode(point_robot, approach(), writer, 0, driver(), watch)
    assert times == [0, 100_000_000, 200_000_000]
