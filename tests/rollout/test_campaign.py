"""Many episodes: in turn and side by side, to the end and not."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from positronic import compose, keys
from positronic.errors import ConventionError, PositronicError
from positronic.hardware.config import HardwareConfig
from positronic.hardware.factory import open_robot
from positronic.hardware.replay.config import ReplayConfig
from positronic.hardware.sim.tasks.stack import SCORES
from positronic.raw.dataset import open_dataset
from positronic.raw.layout import require_empty
from positronic.rollout.campaign import REPORT_FILE, Campaign, run_campaigns
from positronic.rollout.config import DriverConfig, RemotePolicyConfig
from positronic.rollout.policies import open_policy
from positronic.stages.infer import Infer, check_codec, free_place, named_after, play
from positronic.storage.config import StorageConfig

SIM = ("stage=infer", "policy=scripted", "hardware.image_size=[16,16]", "driver.simulation_time=0.5")


def campaign(root, **driver):
    driver = DriverConfig("timed", **{"save_videos": 0, **driver})
    return Campaign(HardwareConfig("point"), RemotePolicyConfig("remote", token="secret"), driver, 5, root)


def report(root):
    return json.loads((root / "report.json").read_text())


def simulated(root, num_robots):
    """Three episodes of the expert in the simulator: their results and recordings."""
    config = compose([*SIM, "driver.num_episodes=3", f"driver.num_robots={num_robots}"])
    run = Campaign(config.hardware, config.policy, config.driver, 40, root)
    robot = open_robot(config.hardware)
    results = sorted(
        (one for _, one in run_campaigns([run], robot, [open_policy(config.policy, robot)])), key=lambda one: one.id
    )
    robot.close()
    return results, open_dataset(root)


def test_what_is_recorded_does_not_depend_on_the_number_of_robots(tmp_path):
    """One robot or two: the same ids, seeds, outcomes and times, and the same signals sample for sample."""
    (alone, ours), (together, theirs) = (simulated(tmp_path / str(count), count) for count in (1, 2))
    facts = [[result.summary() | {"path": ""} for result in results] for results in (alone, together)]
    assert facts[0] == facts[1]
    assert [result.seed for result in alone] == [40, 41, 42]
    for one, other in zip(ours, theirs, strict=True):
        assert one.statics == other.statics
        for name in (keys.EE_POSE, keys.COMMAND_POSE, SCORES.score):
            np.testing.assert_array_equal(one[name].values, other[name].values)


def test_all_episodes_are_reported_in_order(point_robot, approach, tmp_path, capsys):
    """The report counts them, and what is printed says how often it worked and where everything is."""
    rollouts = play(campaign(tmp_path, num_episodes=3), point_robot, approach())
    facts = report(tmp_path)
    assert [(one["id"], one["seed"], one["success"]) for one in facts["episodes"]] == [
        (i, 5 + i, True) for i in range(3)
    ]
    printed = capsys.readouterr().out
    assert "reached 3/3 (95 % interval 44-100 %)" in printed
    assert "reached 3/3" in repr(rollouts)
    assert all(word in rollouts._repr_html_() for word in ("reached 3/3", "median time to success", "success after, s"))
    for name in ("report.html", "report.json", "report.png"):
        assert str(tmp_path / name) in printed
        assert (tmp_path / name).stat().st_size > 0


def test_the_token_stays_out_of_the_report(point_robot, approach, tmp_path):
    """The policy's config is noted without its secret."""
    play(campaign(tmp_path), point_robot, approach())
    assert report(tmp_path)["config"]["policy"]["port"] == 8000
    assert "secret" not in (tmp_path / "report.json").read_text() + (tmp_path / "report.html").read_text()


def test_ctrl_c_keeps_the_finished_episodes_and_their_report(point_robot, approach, tmp_path):
    """The episode under way is dropped, those before it are recorded and reported, and the interrupt goes on."""

    class Interrupted(approach):
        def infer(self, observation):
            if self.resets == 3:
                raise KeyboardInterrupt
            return super().infer(observation)

    with pytest.raises(KeyboardInterrupt):
        play(campaign(tmp_path, num_episodes=9), point_robot, Interrupted())
    assert (report(tmp_path)["n"], report(tmp_path)["planned"]) == (2, 9)
    assert report(tmp_path)["stopped"] == "Interrupted by Ctrl-C."
    assert len(open_dataset(tmp_path)) == 2


def test_ctrl_c_while_filming_keeps_the_report(point_robot, approach, tmp_path, capsys, monkeypatch):
    """The numbers are there already, and it is said where."""

    def interrupted(*unused):
        raise KeyboardInterrupt

    monkeypatch.setattr("positronic.rollout.publish.film_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        play(campaign(tmp_path, num_episodes=2, save_videos=1), point_robot, approach())
    assert f"report:   {tmp_path}/report.html" in capsys.readouterr().out
    assert report(tmp_path)["n"] == 2


def test_a_disk_that_is_full_for_the_report_keeps_the_result(point_robot, approach, tmp_path, capsys, monkeypatch):
    """What an hour of rollouts has shown is printed."""
    monkeypatch.setattr("positronic.rollout.publish.publish", full)
    with pytest.raises(OSError, match="full"):
        play(campaign(tmp_path, num_episodes=2), point_robot, approach())
    assert "reached 2/2" in capsys.readouterr().out


def full(rollouts):
    raise OSError("full")


def test_a_lost_server_stops_the_run_and_keeps_the_report(point_robot, approach, serving, tmp_path):
    """The server hangs up in the second episode: that one is recorded as aborted and counts for nothing."""
    server = serving(approach(steps=2), hangs_up=range(7, 100))
    policy = open_policy(RemotePolicyConfig("remote", port=server.port), point_robot)
    with pytest.raises(PositronicError, match=rf"Episode 1 \(seed 6\) was aborted(.|\n)*127\.0\.0\.1:{server.port}"):
        play(campaign(tmp_path, num_episodes=4, stop_on_success=False, simulation_time=1), point_robot, policy)
    facts = report(tmp_path)
    assert (facts["n"], facts["aborted"], facts["planned"]) == (1, 1, 4)
    assert [one["outcome"] for one in facts["episodes"]] == ["success", "aborted"]
    assert open_dataset(tmp_path)[1].statics[keys.EVAL_OUTCOME] == "aborted"


def test_a_run_that_cannot_start_leaves_nothing(point_robot, approach, joint_command, tmp_path):
    """A command that the robot does not take is refused, without a report and without a recording."""
    with pytest.raises(ConventionError, match="joint_pos"):
        play(campaign(tmp_path), point_robot, approach(command=joint_command))
    assert not (tmp_path / "report.json").exists()
    require_empty(tmp_path, beside=REPORT_FILE)


def test_a_policy_is_held_against_a_recording(approach, tmp_path, capsys):
    """hardware=replay: the report tells how far the commands are off, and nothing of success."""
    recording = __file__.replace("rollout/test_campaign.py", "data/raw_v1")
    robot = open_robot(ReplayConfig("replay", path=recording))
    play(replace(campaign(tmp_path, num_episodes=2), seed=0), robot, approach())
    facts = report(tmp_path)
    assert facts["successes"] is facts["success_rate"] is facts["smoothness"] is None
    assert facts["replay_errors"].keys() == {
        keys.REPLAY_POSITION_ERROR,
        keys.REPLAY_ROTATION_ERROR,
        keys.REPLAY_GRIP_ERROR,
    }
    assert "replayed 2 recordings, on average off by" in capsys.readouterr().out
    assert [one["duration_sec"] for one in facts["episodes"]] == pytest.approx([3.947, 3.947], abs=1e-3)


def test_rollouts_are_not_mixed(point_robot, approach, tmp_path):
    """A folder with rollouts in it is refused with what to type instead."""
    play(campaign(tmp_path), point_robot, approach())
    with pytest.raises(PositronicError, match=rf"holds 1 rollouts.*output_dir={tmp_path}_2"):
        require_empty(tmp_path, "rollouts", beside=REPORT_FILE)


def test_each_evaluation_has_a_new_folder(tmp_path):
    """When nobody says where, the results of the one before stay."""
    place = str(tmp_path / "rollouts" / "act")
    for expected in (place, f"{place}_2", f"{place}_3"):
        assert free_place(place, StorageConfig()) == expected
        Path(expected).mkdir(parents=True)
        (Path(expected) / "report.json").write_text("{}")


def test_a_typed_vendor_must_be_the_policys():
    """A policy of another vendor, or of one that it does not name, is refused."""
    config = compose(["stage=infer", "vendor=gr00t"])
    check_codec(config, {keys.META_VENDOR: "gr00t"})
    for meta in ({keys.META_VENDOR: "lerobot"}, {}):
        with pytest.raises(ConventionError, match="vendor=gr00t was typed, and the policy .* Leave vendor= out"):
            check_codec(config, meta)


@pytest.mark.parametrize(
    ("meta", "name"),
    [
        ({keys.META_EXPERIMENT: "quickstart", keys.META_TYPE: "lerobot"}, "quickstart"),
        ({keys.META_TYPE: "gr00t"}, "gr00t"),
        ({}, "remote"),
    ],
)
def test_rollouts_are_named_after_the_policy(meta, name):
    """``<paths.root>/rollouts/<experiment>``, or its type, or its config's name."""
    config = compose(["stage=infer", "paths.root=some"])
    assert named_after(meta, config) == f"some/rollouts/{name}"


def infer_with(codec):
    config = compose(["stage=infer", f"codec={codec}"])
    assert isinstance(config, Infer)
    return config


def test_a_typed_codec_must_be_the_policys():
    """What was typed and what the policy says are compared by feature; without either there is nothing to compare."""
    told = {keys.META_CODEC: "ee", keys.META_CONVENTIONS: {"state.grip": "gripper 0=open 1=closed absolute"}}
    with pytest.raises(ConventionError, match=r"codec=joints and the policy's codec 'ee'(.|\n)*Leave codec= out"):
        check_codec(infer_with("joints"), told)
    with pytest.raises(ConventionError, match="the policy does not say its own. Leave codec= out"):
        check_codec(infer_with("joints"), {})
    check_codec(compose(["stage=infer"]), {})
    check_codec(compose(["stage=infer"]), told)
