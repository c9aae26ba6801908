"""Two arms all the way: a recording, a dataset, a policy, rollouts against the recording, and a dataset of these."""

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

import positronic
from positronic import keys
from positronic.embodiments.config import EmbodimentConfig
from positronic.embodiments.embodiment import build_embodiment
from positronic.errors import ConventionError
from positronic.hardware.factory import open_robot
from positronic.hardware.replay.config import ReplayConfig
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.rollout.check import check_policy

CONF = Path(__file__).parents[2] / "conf" / "embodiment"
FPS, STEPS, SIZE = 15, 16, (24, 32)
ARMS = ("left", "right")
TINY_ACT = [
    *("vision_backbone=resnet_small", "chunk_size=4", "n_action_steps=4", "dim_model=32", "n_heads=2"),
    *("dim_feedforward=32", "n_encoder_layers=1", "n_decoder_layers=1", "n_vae_encoder_layers=1"),
]
SMALL = ["vendor=lerobot", "codec=joints_cmd"]
TASK = "Hand the cube over."


@pytest.fixture(scope="module")
def aloha():
    values = OmegaConf.merge(OmegaConf.structured(EmbodimentConfig), OmegaConf.load(CONF / "aloha.yaml"))
    return build_embodiment(OmegaConf.to_object(values))


def moment(embodiment, number, step):
    """Every signal at a step; the right arm is mirrored, and commands run ahead by 0.02 rad."""
    values = {}
    for sign, arm in zip((1, -1), ARMS, strict=True):
        joints = sign * (np.arange(6) / 20 + 0.02 * step + 0.1 * number)
        values[keys.of_arm(keys.JOINT_POSITION, arm)] = joints
        values[keys.of_arm(keys.COMMAND_JOINTS, arm)] = joints + sign * 0.02
        values[keys.of_arm(keys.GRIP, arm)] = step / STEPS
        values[keys.of_arm(keys.TARGET_GRIP, arm)] = min(1.0, (step + 1) / STEPS)
    for place, camera in enumerate(embodiment.cameras):
        values[keys.IMAGE_PREFIX + camera] = np.full((*SIZE, 3), 10 * step + 20 * place, np.uint8)
    return values


@pytest.fixture(scope="module")
def recording(tmp_path_factory, aloha):
    """Two episodes of ALOHA: six joints and a gripper each, three cameras, commanded joints."""
    root = tmp_path_factory.mktemp("two_arms") / "raw"
    writer = DatasetWriter(root)
    for number in range(2):
        with writer.new_episode() as episode:
            episode.set_static(keys.EMBODIMENT, aloha.to_dict())
            episode.set_static(keys.TASK, TASK)
            for step in range(STEPS + 1):
                for name, value in moment(aloha, number, step).items():
                    episode.append(name, value, step * 10**9 // FPS)
    return root


def run(stage, *overrides):
    return positronic.run(positronic.compose([f"stage={stage}", *overrides]))


def convert(raw, folder):
    typed = ["dataset=local", f"dataset.path={raw}", "modality.image_size=[16,16]", "num_workers=1"]
    return run("convert", *SMALL, *typed, f"output_dir={folder}")


@pytest.fixture(scope="module")
def experiment(recording):
    """A tiny ACT, trained for two steps on what was recorded."""
    baked = convert(recording, recording.parent / "baked")
    tiny = [f"vendor.policy.{option}" for option in TINY_ACT] + ["modality.image_size=[16,16]"]
    short = ["num_train_steps=2", "save_freq=2", "batch_size=2", "num_workers=0", "modality.action_horizon_sec=0.2"]
    place = [f"input_path={baked.path}", f"output_dir={recording.parent}", "exp_name=pair", "device=cpu"]
    run("train", *SMALL, *tiny, *short, *place)
    return recording.parent / "pair"


def infer(experiment, recording, folder, *overrides):
    local = ["policy=local", f"policy.checkpoints_dir={experiment}", "policy.device=cpu"]
    replay = ["hardware=replay", f"hardware.path={recording}", "driver.save_videos=0", "driver.num_robots=1"]
    return run("infer", *local, *replay, f"output_dir={folder}", *overrides)


def test_a_policy_for_two_arms_is_held_against_their_recording(experiment, recording, tmp_path, capsys):
    """Errors are told arm by arm, in the report, in its page and in the line at the end."""
    report = infer(experiment, recording, tmp_path / "out", "driver.num_episodes=2").report
    errors = [keys.REPLAY_JOINT_ERROR, keys.REPLAY_GRIP_ERROR]
    assert set(report["replay_errors"]) == {keys.of_arm(name, arm) for name in errors for arm in ARMS}
    assert "° (left joints)" in capsys.readouterr().out
    assert "right gripper, mean" in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["n"] == 2


def test_what_was_recorded_while_a_policy_ran_converts_again(experiment, recording, tmp_path):
    """The rollout says which robot it is of, holds each arm's commands, and its dataset has the same columns."""
    infer(experiment, recording, tmp_path / "out")
    (episode,) = open_dataset(tmp_path / "out")
    assert {keys.of_arm(name, arm) for name in (keys.COMMAND_JOINTS, keys.TARGET_GRIP) for arm in ARMS} <= set(
        episode.signals
    )
    again = positronic.open_baked(convert(tmp_path / "out", tmp_path / "again").path)
    first = positronic.open_baked(recording.parent / "baked")
    assert again.vectors.keys() == first.vectors.keys()
    found = again.vectors[keys.LEROBOT_STATE]
    np.testing.assert_array_equal(found, first.vectors[keys.LEROBOT_STATE][: len(found)])


def test_a_camera_is_renamed_for_the_dataset_and_for_the_replay_in_the_same_way(recording, tmp_path):
    """The robot's camera goes by the name that it is offered under, in its own role."""
    aliases = {"image.eye": "image.cam_high"}
    typed = ["dataset=local", f"dataset.path={recording}", "dataset.aliases={image.eye: image.cam_high}"]
    small = ["modality.image_size=[16,16]", "num_workers=1", f"output_dir={tmp_path / 'baked'}"]
    baked = positronic.open_baked(run("convert", *SMALL, *typed, *small).path)
    needed = baked.recipe.codec.robot
    assert needed["camera eye"] == "exterior"
    robot = open_robot(ReplayConfig("replay", path=str(recording), aliases=aliases))
    check_policy({keys.META_ROBOT: needed}, robot.contract)
    robot.close()
    plain = open_robot(ReplayConfig("replay", path=str(recording)))
    with pytest.raises(ConventionError, match=r"it needs 'image.eye'(.|\n)*hardware.aliases={<name>: <recorded name>}"):
        check_policy({keys.META_CONVENTIONS: {"image.eye": "image"}}, plain.contract)
    plain.close()
