"""From a recording to a served policy by the commands that each stage ends with, typed as they are printed."""

import shutil

import h5py
import numpy as np
from shell import ROOT, Shell, play

from positronic import keys

CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
TINY = "+debug=tiny modality.image_size=[32,32] fps=10"


def write_aloha(folder):
    """Two arms, whose grippers close, and three cameras: a file of ALOHA's layout."""
    folder.mkdir(parents=True)
    steps = np.linspace(0, 1, 60)[:, None]
    arm = np.concatenate([np.repeat(steps, 6, axis=1) - 0.5, 1 - steps], axis=1)
    with h5py.File(folder / "episode_0.hdf5", "w") as file:
        file.attrs.update(sim=True, compress=False)
        file["observations/qpos"] = np.concatenate([arm, 0.5 * arm], axis=1)
        file["observations/qvel"] = np.zeros((60, 14))
        file["action"] = np.concatenate([arm, 0.5 * arm], axis=1)
        for number, camera in enumerate(CAMERAS):
            levels = (60 * number + 2 * np.arange(60))[:, None, None, None]
            file[f"observations/images/{camera}"] = np.broadcast_to(levels, (60, 32, 32, 3)).astype(np.uint8)


def served_and_played(shell, convert, raw):
    """Type ``convert`` and what follows from it, up to the server, and let it play the recording. The rollout."""
    serve = shell.run(shell.run(f"{convert} {TINY}"))
    assert serve.startswith("python run.py stage=serve checkpoints_dir=")
    return play(shell, serve, raw)


def test_two_arms_of_an_aloha_from_hdf5_to_a_server(tmp_path):
    """Each arm is told its joints over the wire."""
    write_aloha(tmp_path / "takes")
    shell = Shell(tmp_path)
    convert = shell.run("python run.py stage=import source=hdf5 path=takes embodiment=aloha agree=true num_workers=1")
    assert convert.endswith("codec=joints_cmd")
    rollout = served_and_played(shell, convert, "data/raw/takes")
    assert rollout.embodiment.name == "aloha"
    for arm in ("left", "right"):
        assert rollout[keys.of_arm(keys.COMMAND_JOINTS, arm)].values.shape[1] == 6
        assert keys.of_arm(keys.TARGET_GRIP, arm) in rollout.signals


def test_a_published_recording_of_a_franka_to_a_server(tmp_path):
    """It says nothing of its robot; its rollouts do."""
    shutil.copytree(ROOT / "tests" / "data" / "raw_v1", tmp_path / "data" / "raw" / "cubes")
    convert = "python run.py stage=convert dataset=local dataset.path=data/raw/cubes codec=joints_traj"
    rollout = served_and_played(Shell(tmp_path), convert, "data/raw/cubes")
    assert rollout[keys.COMMAND_JOINTS].values.shape[1] == 7


def test_a_relative_gr00t_to_a_server(tmp_path):
    """A toy of it, by the same commands: poses that it predicts beyond the arm's reach the robot as rotations."""
    shutil.copytree(ROOT / "tests" / "data" / "raw_v1", tmp_path / "data" / "raw" / "cubes")
    what = "vendor=gr00t codec=ee_rot6d_joints_rel dataset=local dataset.path=data/raw/cubes"
    rollout = served_and_played(Shell(tmp_path), f"python run.py stage=convert {what}", "data/raw/cubes")
    told = rollout[keys.COMMAND_POSE].values
    assert told.shape[1] == 7
    np.testing.assert_allclose(np.linalg.norm(told[:, 3:], axis=1), 1, atol=1e-6)


def test_pi05_is_trained_served_and_played(tmp_path):
    """As a toy, with adapters: its chunks are relative to the pose, and the robot is told poses."""
    shutil.copytree(ROOT / "tests" / "data" / "raw_v1", tmp_path / "data" / "raw" / "cubes")
    convert = "python run.py stage=convert dataset=local dataset.path=data/raw/cubes vendor=openpi codec=ee_traj"
    rollout = served_and_played(Shell(tmp_path), convert, "data/raw/cubes")
    poses = rollout[keys.COMMAND_POSE].values
    assert poses.shape[1] == 7
    assert np.isfinite(poses).all()
