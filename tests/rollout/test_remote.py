"""A server that goes away and comes back: an evaluation goes on, if it is the same policy."""

import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from positronic import keys
from positronic.client.session import ConnectionLost, ObservationTooLarge
from positronic.errors import ConventionError, PositronicError
from positronic.hardware.config import HardwareConfig
from positronic.raw.writer import DatasetWriter
from positronic.rollout.campaign import Campaign, OpenedOnDemand
from positronic.rollout.config import DriverConfig, RemotePolicyConfig
from positronic.rollout.policies import open_policy
from positronic.rollout.remote import LOSSES
from positronic.rollout.results import SUCCESS
from positronic.rollout.runner import run_episode


@pytest.fixture
def opened(point_robot):
    """``opened(server, ...)``: a policy behind it; it is closed in the end."""
    policies = []

    def open_it(server, **values):
        config = RemotePolicyConfig("remote", port=server.port, **{"connect_timeout_sec": 20.0, **values})
        policies.append(open_policy(config, point_robot))
        return policies[-1]

    yield open_it
    for policy in policies:
        policy.close()


def test_a_server_that_restarts_does_not_end_the_episode(point_robot, approach, serving, opened, caplog):
    """The same observation is sent again, on a new session with the new process; what happened is logged."""
    first = serving(approach())
    policy = opened(first)
    policy.reset()
    policy.infer(point_robot.observe())
    first.close()
    second = serving(approach(), port=first.port)
    with caplog.at_level(logging.WARNING):
        assert len(policy.infer(point_robot.observe())) == 4
    assert (second.sessions, second.asked) == (1, 1)
    assert "Lost the inference server" in caplog.text
    assert "there again" in caplog.text


def test_a_rollout_goes_on_over_a_lost_connection(point_robot, approach, serving, opened, tmp_path):
    """The recording is that of an episode without a loss."""
    server = serving(approach(), hangs_up=[1])
    with DatasetWriter(tmp_path).new_episode() as episode:
        result = run_episode(point_robot, opened(server), episode, 0, DriverConfig("timed"))
    assert (result.outcome, result.success_sec, server.sessions) == (SUCCESS, 0.6, 2)


def test_a_restart_between_episodes_is_no_matter(approach, serving, opened, point_robot):
    """The next episode opens a session of its own anyway."""
    first = serving(approach())
    policy = opened(first)
    policy.reset()
    first.close()
    second = serving(approach(), port=first.port)
    policy.reset()
    assert len(policy.infer(point_robot.observe())) == 4
    assert second.sessions == 1


@pytest.mark.parametrize("within", [True, False])
def test_a_server_that_comes_back_with_another_checkpoint_is_refused(within, approach, serving, opened, point_robot):
    """Within an episode and between two: both are named, and what to type."""
    old, new = approach(), approach()
    old.meta = {**old.meta, keys.META_CHECKPOINT_ID: "010000", keys.META_CONVENTIONS: {"action.grip": "0 = open"}}
    new.meta = {**old.meta, keys.META_CHECKPOINT_ID: "020000", keys.META_CONVENTIONS: {"action.grip": "1 = open"}}
    first = serving(old)
    policy = opened(first)
    policy.reset()
    first.close()
    serving(new, port=first.port)
    with pytest.raises(ConventionError) as refusal:
        policy.infer(point_robot.observe()) if within else policy.reset()
    said = str(refusal.value)
    assert "checkpoint_id: the server as it was has 010000; the server as it came back has 020000" in said
    assert "conventions action.grip" in said
    assert "policy.checkpoint=<id>" in said


def test_an_observation_that_ends_the_server_each_time_is_sent_no_more(approach, serving, opened, point_robot):
    """Otherwise one bad observation would end every server that is started again."""
    server = serving(approach(), hangs_up=range(100))
    policy = opened(server)
    with pytest.raises(ConnectionLost):
        policy.infer(point_robot.observe())
    assert server.asked == LOSSES


def test_without_reconnect_sec_a_lost_server_is_lost(approach, serving, opened, point_robot):
    """Zero is not at all."""
    server = serving(approach(), hangs_up=[0])
    with pytest.raises(ConnectionLost):
        opened(server, reconnect_sec=0.0).infer(point_robot.observe())
    assert server.sessions == 1


def test_a_server_that_stays_away_is_lost_after_reconnect_sec(approach, serving, opened, point_robot):
    """And the sentence says how long it was waited for."""
    server = serving(approach())
    policy = opened(server, reconnect_sec=0.2)
    server.close()
    with pytest.raises(ConnectionLost, match="No inference server answers"):
        policy.infer(point_robot.observe())


def test_a_server_that_is_not_ready_yet_is_asked_again(approach, serving, opened, point_robot):
    """It is full after its restart, and then loses its worker once more; between episodes too."""
    server = serving(approach(), hangs_up=[0], refuses={2: 1013, 3: 1012, 5: 1012})
    policy = opened(server)
    policy.reset()
    assert len(policy.infer(point_robot.observe())) == 4
    assert (server.sessions, server.asked) == (4, 2)
    policy.reset()
    assert server.sessions == 6


def test_a_server_that_is_never_ready_again_is_lost_after_reconnect_sec(approach, serving, opened, point_robot):
    """And the sentence has the server's own reason."""
    server = serving(approach(), hangs_up=[0], refuses=dict.fromkeys(range(2, 100), 1012))
    policy = opened(server, reconnect_sec=0.5)
    with pytest.raises(ConnectionLost, match=r"It said last: A new worker starts\."):
        policy.infer(point_robot.observe())
    assert server.sessions > 2


def test_an_observation_that_is_too_large_is_not_sent_again(approach, serving, opened):
    """It would be too large again."""
    server = serving(approach(), max_size=1000)
    with pytest.raises(ObservationTooLarge, match="larger than it takes"):
        opened(server).infer({keys.IMAGE_WRIST: np.zeros(2000, np.uint8)})
    assert server.sessions == 1


def test_pictures_travel_as_jpeg_when_that_is_typed(approach, serving, opened, point_robot):
    """And arrive as pictures."""
    policy = approach()
    picture = np.full((48, 64, 3), 200, np.uint8)
    opened(serving(policy), jpeg_quality=90).infer({**point_robot.observe(), keys.IMAGE_WRIST: picture})
    assert policy.seen[0][keys.IMAGE_WRIST].shape == picture.shape
    np.testing.assert_allclose(policy.seen[0][keys.IMAGE_WRIST], picture, atol=3)


def test_a_policy_that_was_closed_does_not_come_back(approach, serving, opened):
    """Ctrl-C while another thread waits for an answer: the server is left, and not asked again."""
    may_answer = threading.Event()

    class Hanging(approach):
        def infer(self, observation):
            assert may_answer.wait(30)
            return super().infer(observation)

    server = serving(Hanging())
    policy = opened(server)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(policy.infer, {keys.EE_POSE: np.array([0.4, 0, 0.3, 1.0, 0, 0, 0])})
        while not server.asked:
            time.sleep(0.001)
        policy.close()
        may_answer.set()
        assert isinstance(answer.exception(30), ConnectionLost)
    assert (server.sessions, server.asked) == (1, 1)
    policy.rest()
    with pytest.raises(PositronicError, match="This policy was closed"):
        policy.reset()


def test_each_process_plays_the_policy_that_the_run_began_with(approach, serving, point_robot, tmp_path):
    """Not whatever its own first session finds."""
    began, now = approach(), approach()
    began.meta = {**began.meta, keys.META_CHECKPOINT_ID: "010000"}
    now.meta = {**now.meta, keys.META_CHECKPOINT_ID: "020000"}
    config = RemotePolicyConfig("remote", port=serving(now).port)
    one = Campaign(HardwareConfig("point"), config, DriverConfig("timed"), 0, tmp_path, meta=began.meta)
    with contextlib.closing(OpenedOnDemand([one], point_robot)) as policies, pytest.raises(ConventionError) as refusal:
        policies[0]
    said = "checkpoint_id: the policy as the run began has 010000; the policy now has 020000"
    assert said in str(refusal.value)
    with contextlib.closing(OpenedOnDemand([replace(one, meta=now.meta)], point_robot)) as policies:
        assert policies[0].meta[keys.META_CHECKPOINT_ID] == "020000"
