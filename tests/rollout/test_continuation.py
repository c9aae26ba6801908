"""An evaluation that was interrupted goes on, and nothing that was finished is played again."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.errors import PositronicError
from positronic.hardware.config import HardwareConfig
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.rollout.campaign import Campaign
from positronic.rollout.config import DriverConfig, RemotePolicyConfig
from positronic.rollout.continuation import (
    EVALUATION_FILE,
    asked_for,
    begin,
    ever_to_end_when_decided,
    go_on,
    read_result,
)
from positronic.rollout.results import SAID_BY_STATICS, EpisodeResult
from positronic.rollout.runner import run_episode
from positronic.stages.infer import play
from positronic.storage.place import LocalFolder

SIM = ["stage=infer", "policy=scripted", "hardware.image_size=[32,48]"]
SIM += ["driver.simulation_time=1", "driver.save_videos=0", "seed=40"]


def campaign(root, done=(), **driver):
    driver = DriverConfig("timed", **{"save_videos": 0, **driver})
    return Campaign(HardwareConfig("point"), RemotePolicyConfig("remote"), driver, 5, root, done=done)


def asked(one, **meta):
    return asked_for(one.hardware, one.driver, one.seed, {keys.META_TYPE: "act", **meta})


def report(root):
    return json.loads((root / "report.json").read_text())


@pytest.mark.parametrize("driver", [{}, {"simulation_time": 0.2}, {"stop_on_success": False, "simulation_time": 2.0}])
def test_a_recording_says_how_its_rollout_went(point_robot, approach, tmp_path, driver):
    """All that the report is made of, to the last digit."""
    with DatasetWriter(tmp_path).new_episode(3) as writer:
        result = run_episode(point_robot, approach(), writer, 8, campaign(tmp_path, **driver).driver)
    assert read_result(writer.path) == result


def test_nothing_of_a_result_is_forgotten():
    """Each field is a static, or is read on its own."""
    own = {"id", "path", "task", "latencies_ms", "metrics"}
    assert {field.name for field in fields(EpisodeResult)} == {*SAID_BY_STATICS, *own}


def test_only_missing_episodes_are_played(point_robot, approach, tmp_path):
    """More are asked for than were done; the report is of all, and says how many were there."""
    first = campaign(tmp_path, num_episodes=2)
    begin(tmp_path, asked(first))
    play(first, point_robot, approach())
    more, policy = campaign(tmp_path, num_episodes=5), approach()
    done = go_on(tmp_path, LocalFolder(tmp_path), asked(more), 5)
    play(replace(more, done=done), point_robot, policy)
    facts = report(tmp_path)
    assert [one["seed"] for one in facts["episodes"]] == [5, 6, 7, 8, 9]
    assert (facts["n"], facts["planned"], facts["earlier"], policy.resets) == (5, 5, 2, 3)
    assert len(open_dataset(tmp_path)) == 5


def test_an_episode_that_was_aborted_is_played_again(point_robot, approach, serving, tmp_path):
    """It said nothing about the policy."""
    from positronic.rollout.policies import open_policy

    one = campaign(tmp_path, num_episodes=3, stop_on_success=False, simulation_time=1)
    begin(tmp_path, asked(one))
    server = serving(approach(steps=2), hangs_up=range(7, 100))
    with pytest.raises(PositronicError, match="Episode 1 .* was aborted"):
        play(one, point_robot, open_policy(RemotePolicyConfig("remote", port=server.port), point_robot))
    done = go_on(tmp_path, LocalFolder(tmp_path), asked(one), 3)
    assert [result.id for result in done] == [0]
    play(replace(one, done=done), point_robot, approach(steps=2))
    assert [each["outcome"] for each in report(tmp_path)["episodes"]] == ["success"] * 3


def test_another_evaluation_is_refused_with_both_sides(tmp_path):
    """Another policy, another seed, another rule; how many robots play and where the server is does not count."""
    one = campaign(tmp_path, num_episodes=2)
    begin(tmp_path, asked(one, checkpoint_id="010000"))
    place = LocalFolder(tmp_path)
    same = asked(campaign(tmp_path, num_episodes=9, save_videos=4), checkpoint_id="010000", checkpoint_path="/else")
    assert go_on(tmp_path, place, same, 9) == []
    for other, said in [
        (asked(one, checkpoint_id="020000"), "policy.checkpoint_id: the folder has 010000; this run has 020000"),
        (asked(replace(one, seed=6), checkpoint_id="010000"), "seed: the folder has 5; this run has 6"),
        (asked(campaign(tmp_path, simulation_time=3.0), checkpoint_id="010000"), "driver.simulation_time: the folder"),
        (asked(one), "policy.checkpoint_id: the folder has 010000"),
    ]:
        with pytest.raises(PositronicError, match=f"(?s){said}.*record elsewhere, e.g. output_dir={tmp_path}_2"):
            go_on(tmp_path, place, other, 2)
    (tmp_path / EVALUATION_FILE).write_text("{")
    with pytest.raises(PositronicError, match="is damaged"):
        go_on(tmp_path, place, same, 2)


def test_stop_may_follow_refuse_and_not_the_other_way_round(tmp_path):
    """No episode that counts has met an unsafe chunk with refuse; with stop, it is a failure that counts."""
    refuse, stop = (campaign(tmp_path, on_unsafe_chunk=value) for value in ("refuse", "stop"))
    begin(tmp_path, asked(refuse))
    place = LocalFolder(tmp_path)
    for _ in range(2):
        assert go_on(tmp_path, place, asked(stop), 1) == []
    with pytest.raises(PositronicError, match="driver.on_unsafe_chunk: the folder has stop; this run has refuse"):
        go_on(tmp_path, place, asked(refuse), 1)


def test_pictures_of_another_quality_are_another_evaluation(tmp_path):
    """They are what the policy sees."""
    one = campaign(tmp_path)
    begin(tmp_path, asked(one))
    rough = asked_for(one.hardware, one.driver, one.seed, {keys.META_TYPE: "act"}, jpeg_quality=5)
    with pytest.raises(PositronicError, match="policy.jpeg_quality: the folder has absent; this run has 5"):
        go_on(tmp_path, LocalFolder(tmp_path), rough, 1)


def test_that_it_was_to_end_when_decided_is_not_forgotten(tmp_path):
    """Whatever a later run is asked."""
    place = LocalFolder(tmp_path)
    assert not ever_to_end_when_decided(place)
    begin(tmp_path, asked(campaign(tmp_path)))
    assert not ever_to_end_when_decided(place)
    for stop_when in ("decided", "all", "all"):
        go_on(tmp_path, place, asked(campaign(tmp_path, stop_when=stop_when)), 1)
        assert ever_to_end_when_decided(place)


def test_fewer_than_there_are_is_refused(point_robot, approach, tmp_path):
    """They would be in the folder and not in the report."""
    one = campaign(tmp_path, num_episodes=3)
    begin(tmp_path, asked(one))
    play(one, point_robot, approach())
    with pytest.raises(PositronicError, match="Type driver.num_episodes=3 or more"):
        go_on(tmp_path, LocalFolder(tmp_path), asked(one), 2)


def test_a_killed_evaluation_goes_on_to_the_same_result(kill, tmp_path):
    """Killed in the middle of an episode: what was finished stays, what was half is played from its beginning."""
    typed = [*SIM, "driver.num_episodes=4", f"output_dir={tmp_path / 'out'}"]
    kill("positronic.rollout.recorder:EpisodeRecorder.tick", 25, *typed)
    assert list((tmp_path / "out").rglob(".unfinished"))
    before = [episode.meta["uid"] for episode in open_dataset(tmp_path / "out")]
    with pytest.raises(PositronicError, match=r"holds \d rollouts already(?s:.*)resume=true"):
        positronic.run(positronic.compose(typed))
    again = positronic.run(positronic.compose([*typed, "resume=true"])).report
    whole = positronic.run(positronic.compose([*typed[:-1], f"output_dir={tmp_path / 'whole'}"])).report
    assert again["episodes"] == whole["episodes"]
    assert (again["earlier"], whole["earlier"]) == (len(before), 0)
    assert [episode.meta["uid"] for episode in open_dataset(tmp_path / "out")][: len(before)] == before
    for one, other in zip(open_dataset(tmp_path / "out"), open_dataset(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(one[keys.EE_POSE].values, other[keys.EE_POSE].values)


def test_what_older_runs_recorded_is_not_guessed(point_robot, approach, tmp_path):
    """Without a note of what was asked for, nobody knows that it is the same."""
    play(campaign(tmp_path), point_robot, approach())
    typed = [*SIM, f"output_dir={tmp_path}", "resume=true"]
    with pytest.raises(PositronicError, match=r"holds episodes, but no evaluation\.json"):
        positronic.run(positronic.compose(typed))


def test_what_is_resumed_is_named():
    with pytest.raises(PositronicError, match="resume counts only with output_dir=<value>"):
        positronic.compose([*SIM, "resume=true"])
