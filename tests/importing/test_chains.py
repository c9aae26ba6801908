"""Recordings of several robots, as their owners have them: import, convert for each vendor, train, infer."""

from pathlib import Path

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.bake.manifest import read_manifest
from positronic.errors import PositronicError

SO101 = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
UR5E = ("shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint", "wrist_1_joint", "wrist_2_joint", "wrist_3_joint")
SMALL = ["modality.image_size=[32,32]", "num_workers=1"]
TINY = {"vision_backbone": "resnet_small", "chunk_size": 15, "n_action_steps": 15, "dim_model": 32, "n_heads": 2}
TINY |= {"dim_feedforward": 32, "n_encoder_layers": 1, "n_decoder_layers": 1, "n_vae_encoder_layers": 1}
ACT = [f"vendor.policy.{name}={value}" for name, value in TINY.items()]
PAIRS = [
    (vendor, path.stem)
    for vendor in ("lerobot", "gr00t", "openpi")
    for path in sorted((Path(__file__).parents[2] / "conf" / "modality" / vendor).glob("[!_]*.yaml"))
    if path.stem not in ("from_checkpoint", "droid")
]


def go(stage, *typed):
    """Run it as it is typed; its result."""
    return positronic.run(positronic.compose([f"stage={stage}", *map(str, typed)]))


def converted(raw, where, vendor, codec, *more):
    where = where / vendor / codec
    dataset_format = keys.FORMAT_V21 if vendor == "gr00t" else keys.FORMAT_V30
    what = [f"vendor={vendor}", f"codec={codec}", f"dataset_format={dataset_format}", f"output_dir={where}"]
    go("convert", "dataset=local", f"dataset.path={raw}", *what, *SMALL, *more)
    return read_manifest(where)


def all_the_way(raw, tmp_path, codecs, *more, pairs=PAIRS):
    """Each of ``codecs`` is baked for its vendors, each other one of ``pairs`` refused; ``joints_cmd`` is trained and
    plays the recording. Returns the rollout."""
    for vendor, codec in pairs:
        if codec in codecs:
            assert converted(raw, tmp_path / "baked", vendor, codec, *more).frames > 0
        else:
            with pytest.raises(PositronicError, match="Type codec=joints_cmd|which no episode"):
                converted(raw, tmp_path / "baked", vendor, codec, *more)
    data = [f"input_path={tmp_path / 'baked/lerobot/joints_cmd'}", f"output_dir={tmp_path / 'trained'}"]
    size = ["exp_name=tiny", "num_train_steps=2", "save_freq=2", "batch_size=2", "device=cpu"]
    trained = go("train", "codec=joints_cmd", *data, *size, *SMALL, *ACT)
    robot = ["hardware=replay", f"hardware.path={raw}", f"output_dir={tmp_path / 'rollouts'}"]
    policy = ["policy=local", f"policy.checkpoints_dir={trained.path}", "policy.device=cpu"]
    go("infer", *robot, *policy, "driver.num_episodes=1")
    (rollout,) = positronic.open_raw(tmp_path / "rollouts")
    return rollout


def write_so101(root):
    """Two episodes by LeRobot's own API, one camera."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    numbers = {"dtype": "float32", "shape": (6,), "names": [f"{name}.pos" for name in SO101]}
    camera = {"dtype": "video", "shape": (32, 48, 3), "names": ["height", "width", "channels"]}
    features = {"observation.state": numbers, "action": numbers, "observation.images.front": camera}
    dataset = LeRobotDataset.create("local/so101", 10, features, root=root)
    for length in (12, 10):
        for k in range(length):
            state = np.array([4.0 * k, -60 + k, 50, 10, -3 * k, 100 - 5 * k], np.float32)
            pixels = np.full((32, 48, 3), 10 * k, np.uint8)
            values = {"observation.state": state, "action": state + 1, "observation.images.front": pixels}
            dataset.add_frame(values | {"task": "Fold the towel."})
        dataset.save_episode()
    dataset.finalize()


def test_an_so101_in_a_lerobot_dataset(tmp_path):
    """Degrees, a gripper from 0 to 100, no poses."""
    write_so101(tmp_path / "so101")
    places = [f"path={tmp_path / 'so101'}", f"output_dir={tmp_path / 'raw'}"]
    raw = go("import", "source=lerobot", "embodiment=so101", "agree=true", *places, "num_workers=1").path
    rollout = all_the_way(raw, tmp_path, {"joints_cmd", "joints_traj"}, "codec.images=[front]")
    assert rollout[keys.COMMAND_JOINTS].values.shape[1] == 5
    assert rollout.embodiment.name == "so101"


def test_two_arms_of_an_aloha_in_hdf5(tmp_path, aloha):
    """Each arm has its columns and its commands."""
    steps = np.linspace(0, 1, 24)[:, None]
    arm = np.concatenate([np.repeat(steps, 6, axis=1) - 0.5, 1 - steps], axis=1)  # six joints, a gripper that closes
    qpos = np.concatenate([arm, 0.5 * arm], axis=1)
    for _ in range(2):
        aloha(**{"observations/qpos": qpos, "action": qpos})
    places = [f"path={tmp_path / 'aloha'}", f"output_dir={tmp_path / 'raw'}"]
    raw = go("import", "source=hdf5", "embodiment=aloha", "agree=true", *places, "num_workers=1").path
    rollout = all_the_way(raw, tmp_path, {"joints_cmd", "joints_traj"})
    for arm in ("left", "right"):
        assert rollout[keys.of_arm(keys.COMMAND_JOINTS, arm)].values.shape[1] == 6


MAPPING = """
source: mcap
embodiment: ur5e
task: Turn the valve.
signals:
  robot_state.q: {from: /joint_states.position, dims: [%(joints)s], unit: rad, clock: header}
  robot_commands.joints: {from: /joint_commands.position, dims: [%(joints)s], unit: rad, clock: header}
  robot_state.ee_pose: {from: /tool_pose, rotation: quat_wxyz, unit: m, clock: header}
  grip: {from: /gripper/state.position, open: 0, closed: 255, clock: header}
  target_grip: {from: /gripper/command.position, open: 0, closed: 255, clock: header}
  image.wrist: {from: /camera/wrist, clock: header}
left_out: []
"""


def test_a_ur5e_in_a_ros_2_bag(tmp_path, bag):
    """Joints in another order than the robot's, a pose as x y z w, a JPEG camera; each topic has its own clock."""
    order = UR5E[2::-1] + UR5E[3:]
    for k in range(30):
        now = k * 50_000_000
        for topic, ahead in (("joint_states", 0), ("joint_commands", 1)):
            bag.joints(now, {name: 0.1 * UR5E.index(name) + 0.005 * (k + ahead) for name in order}, f"/{topic}")
        for topic in ("state", "command"):
            bag.joints(now + 1_000_000, {"finger": 8.0 * k}, f"/gripper/{topic}")
        bag.pose("/tool_pose", now + 3_000_000, (0.4, 0.01 * k, 0.3), (0.0, 0.0, 0.0, 1.0))
        bag.frame("/camera/wrist", now + 5_000_000, np.full((32, 48, 3), 8 * k, np.uint8))
    (tmp_path / "mapping.yaml").write_text(MAPPING % {"joints": ", ".join(UR5E)})
    places = [f"path={bag.write()}", f"output_dir={tmp_path / 'raw'}", f"mapping={tmp_path / 'mapping.yaml'}"]
    raw = go("import", "source=mcap", "embodiment=ur5e", *places, "num_workers=1").path
    (episode,) = positronic.open_raw(raw)
    assert np.allclose(episode[keys.JOINT_POSITION].values[0], 0.1 * np.arange(6))
    pairs = [pair for pair in PAIRS if pair[1] in ("ee_joints_cmd", "joints_cmd", "joints_traj", "ee")]
    one_camera = "codec.images=[wrist]"
    rollout = all_the_way(raw, tmp_path, {"ee_joints_cmd", "joints_cmd", "joints_traj"}, one_camera, pairs=pairs)
    assert rollout[keys.COMMAND_JOINTS].values.shape[1] == 6
