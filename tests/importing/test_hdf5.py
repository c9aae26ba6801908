"""HDF5 recordings: ALOHA's and robomimic's layout, and others, field by field as they were written."""

import pickle

import h5py
import numpy as np
import pytest

from positronic.errors import PositronicError
from positronic.importing.hdf5 import Hdf5Source
from positronic.importing.pictures import BGR, RGB
from positronic.importing.source import COMMANDED, IMAGE, MEASURED, SCALAR, TEXT, VECTOR, How

HIGH = "observations/images/cam_high"
AT_50 = How(fps=50)
JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")


def read(episode, field, how=AT_50):
    with episode.open({field: how}) as reading:
        return reading.read(field)


def frames(episode, field, how=AT_50):
    with episode.open({field: how}) as reading:
        return list(reading.frames(field))


def only(path):
    (episode,) = Hdf5Source(path).episodes()
    return episode


def test_aloha_says_what_its_numbers_and_pictures_are(aloha):
    fields = Hdf5Source(aloha().parent).fields()
    assert set(fields) == {
        *("action", "observations/qpos", "observations/qvel"),
        *(f"observations/images/{camera}" for camera in ("cam_high", "cam_left_wrist", "cam_right_wrist")),
    }
    assert fields["action"].names == tuple(f"{side}_{joint}" for side in ("left", "right") for joint in JOINTS)
    assert (fields["action"].role, fields["observations/qpos"].role) == (COMMANDED, MEASURED)
    assert fields["observations/qpos"].low[1] == 0.1
    assert (fields[HIGH].kind, fields[HIGH].shape) == (IMAGE, (32, 48, 3))


@pytest.mark.parametrize(("compress", "channels"), [(False, RGB), (True, BGR)])
def test_alohas_conventions_are_believed_and_somebody_must_agree(aloha, compress, channels):
    """Its files do not state them."""
    fields = Hdf5Source(aloha(compress=compress)).fields()
    said = {name: belief.value for name, belief in fields["action"].believed.items()}
    assert said == {"fps": 50, "unit": "rad", "open": 1, "closed": 0}
    assert fields[HIGH].believed["channels"].value == channels
    assert not any(belief.known for field in fields.values() for belief in field.believed.values())


def test_alohas_numbers_are_read_on_its_grid(aloha):
    episode = only(aloha())
    times, values = read(episode, "observations/qpos")
    assert times[:3].tolist() == [0, 20_000_000, 40_000_000]
    assert np.array_equal(values, np.arange(24)[:, None] / 100 + np.arange(14) / 10)
    assert episode.statics == {"sim": True, "compress": False}


@pytest.mark.parametrize(("compress", "channels"), [(False, RGB), (True, BGR)])
def test_alohas_frames_are_red_whether_raw_or_compressed(aloha, frames_of, compress, channels):
    """Its JPEGs were made of RGB that OpenCV took for BGR."""
    found = frames(only(aloha(compress=compress)), HIGH, How(fps=50, channels=channels))
    times, pictures = zip(*found, strict=True)
    assert times[:2] == (0, 20_000_000)
    assert np.abs(np.stack(pictures).astype(int) - frames_of(24)).max() <= 3


def test_the_number_of_bytes_of_each_jpeg_is_no_field(aloha):
    """As many cameras as samples would make it look like one."""
    assert "compress_len" not in Hdf5Source(aloha(length=3, compress=True)).fields()


def test_a_rate_that_nobody_states_is_asked_for(aloha):
    with pytest.raises(PositronicError, match="nothing says how many samples there are in a second. Type fps=<rate>"):
        read(only(aloha()), "action", How())


def test_episodes_come_in_the_order_of_their_numbers(aloha):
    """episode_2 before episode_10."""
    for _ in range(11):
        path = aloha(length=2)
    names = [episode.path.stem for episode in Hdf5Source(path.parent).episodes()]
    assert names == [f"episode_{number}" for number in range(11)]


def test_an_episode_that_lacks_a_dataset_names_what_it_has(aloha):
    path = aloha()
    with h5py.File(path, "a") as file:
        del file["action"]
        file["actions"] = np.zeros((24, 14))
    with pytest.raises(PositronicError, match="'action': no such dataset. Did you mean 'actions'"):
        read(only(path), "action")


def test_a_dataset_that_is_shorter_than_the_action_is_refused(aloha):
    """Of an episode that is still being written."""
    path = aloha(**{"observations/qpos": np.zeros((20, 14))})
    with pytest.raises(PositronicError, match="'observations/qpos': the shape .20, 14., in an episode of 24 samples"):
        read(only(path), "observations/qpos")


def test_an_episode_of_other_samples_than_the_first_is_refused(aloha):
    """Pixels where the first holds JPEGs have their colours in another order, too."""
    path = aloha(compress=True)
    aloha(compress=False)
    aloha(action=np.zeros((24, 16)))
    _, raw, wide = Hdf5Source(path.parent).episodes()
    with pytest.raises(
        PositronicError, match="in pixels; in the first episode it is image of shape .32, 48, 3. in jpeg"
    ):
        frames(raw, HIGH)
    with pytest.raises(
        PositronicError, match="vector of shape .16,.; in the first episode it is vector of shape .14,."
    ):
        read(wide, "action")


def test_an_episode_that_is_being_written_spoils_only_itself(aloha):
    path = aloha()
    with h5py.File(aloha(), "a") as file:
        del file["action"]
        file.create_dataset("action", (24, 14), "f8", chunks=(1, 14))[:7] = 0
    first, second = Hdf5Source(path.parent).episodes()
    assert len(read(first, "action").values) == 24
    with pytest.raises(PositronicError, match="'action': 7 of its 24 chunks was written"):
        read(second, "action")


def test_damaged_bytes_are_refused_wherever_they_are(aloha):
    """A few hundred zeros in the file's structure, or in compressed numbers."""
    path = aloha()
    with h5py.File(path, "a") as file:
        del file["action"]
        file.create_dataset("action", data=np.random.default_rng(0).random((24, 14)), compression="gzip")
        chunk = file["action"].id.get_chunk_info(0).byte_offset
    episode, whole = only(path), path.read_bytes()
    for where in (chunk, 800):
        path.write_bytes(whole[:where] + bytes(400) + whole[where + 400 :])
        with pytest.raises(PositronicError, match=f"{path}.*damaged"):
            read(episode, "action")


def test_an_episode_without_samples_is_refused(aloha):
    with pytest.raises(PositronicError, match="an episode without samples"):
        Hdf5Source(aloha(length=0)).fields()


def test_a_damaged_frame_is_named(aloha):
    path = aloha(compress=True)
    with h5py.File(path, "a") as file:
        file[HIGH][7] = 0
    with pytest.raises(PositronicError, match=f"'{HIGH}', sample 7: neither a JPEG nor a PNG"):
        frames(only(path), HIGH)


def test_robomimics_demos_are_episodes_at_the_rate_of_their_environment(robomimic):
    episodes = Hdf5Source(robomimic()).episodes()
    assert [episode.group for episode in episodes] == ["data/demo_0", "data/demo_2", "data/demo_10"]
    times, values = read(episodes[1], "obs/robot0_eef_pos", How())
    assert len(times) == 15
    assert times[1] == 50_000_000
    assert (values == 2).all()
    assert frames(episodes[2], "obs/agentview_image", How())[0][1][0, 0].tolist() == [10, 10, 10]


def believed(fields, name):
    return {what: (belief.value, belief.known) for what, belief in fields[name].believed.items()}


def test_robomimics_observations_are_known_by_robosuites_definitions(robomimic):
    fields = Hdf5Source(robomimic()).fields()
    rate = {"fps": (20, True)}
    assert fields["obs/robot0_eef_quat"].names == ("qx", "qy", "qz", "qw")
    assert believed(fields, "obs/robot0_eef_quat") == rate | {"rotation": ("quat_xyzw", True)}
    assert believed(fields, "obs/robot0_eef_pos") == rate | {"unit": ("m", True)}
    assert fields["obs/robot0_joint_pos"].names == tuple(f"joint{number}" for number in range(1, 8))
    assert believed(fields, "obs/robot0_gripper_qpos") == rate | {"open": (0.04, True), "closed": (0, True)}
    assert not any(name.startswith("mask") for name in fields)


def test_robomimics_deltas_have_names_that_no_pose_and_no_joint_has(robomimic):
    """They are no commands by themselves."""
    fields = Hdf5Source(robomimic()).fields()
    assert fields["actions"].names == (*(f"delta_{axis}" for axis in ("x", "y", "z", "rx", "ry", "rz")), "gripper")
    assert believed(fields, "actions") == {"fps": (20, True), "open": (-1, True), "closed": (1, True)}


@pytest.mark.parametrize("absolute", [{"control_delta": False}, {"input_type": "absolute"}])
def test_robomimics_absolute_actions_are_poses_as_rotation_vectors(robomimic, absolute):
    """By the names of robosuite up to 1.4, or of later ones, deeper in the arguments."""
    controllers = {"body_parts": {"right": {"type": "OSC_POSE"} | absolute}, "type": "BASIC"}
    fields = Hdf5Source(robomimic(controllers)).fields()
    assert fields["actions"].names == ("x", "y", "z", "rx", "ry", "rz", "gripper")
    assert believed(fields, "actions")["rotation"] == ("rotvec", True)


@pytest.mark.parametrize(("controller", "robot"), [({"type": "JOINT_VELOCITY"}, "Sawyer"), ({}, "Sawyer")])
def test_what_is_not_known_of_a_robot_or_controller_gets_no_names(robomimic, controller, robot):
    fields = Hdf5Source(robomimic(controller, robot)).fields()
    assert fields["actions"].names is None
    assert fields["obs/robot0_joint_pos"].names is None
    assert believed(fields, "obs/robot0_gripper_qpos") == {"fps": (20, True)}


def test_whole_models_are_no_statics(robomimic):
    assert Hdf5Source(robomimic()).episodes()[0].statics == {"num_samples": 20}


def test_any_other_file_is_an_episode_whose_datasets_are_fields(tmp_path):
    """Those that are as long as the others."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["arm/q"], file["arm/note"], file["gripper"] = np.zeros((9, 6)), np.array([b"go"] * 9), np.zeros(9)
        file["calibration"] = np.eye(4)
        file.attrs["language_instruction"] = "Stack the cups."
    source = Hdf5Source(tmp_path)
    assert {name: field.kind for name, field in source.fields().items()} == {
        "arm/q": VECTOR,
        "arm/note": TEXT,
        "gripper": SCALAR,
    }
    (episode,) = source.episodes()
    assert episode.task == "Stack the cups."
    assert read(episode, "arm/note").values == ["go"] * 9


def test_episodes_go_to_other_processes(aloha):
    """They hold no open file."""
    episode = pickle.loads(pickle.dumps(only(aloha())))
    assert len(read(episode, "action").values) == 24


def test_a_folder_without_hdf5_is_refused(tmp_path):
    with pytest.raises(PositronicError, match="no HDF5 file"):
        Hdf5Source(tmp_path)
