"""Which robot an episode is of: what it says is held against what is baked, and what it does not say is not guessed."""

import re
import shlex

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.bake.manifest import read_manifest
from positronic.embodiments.config import ArmConfig, EmbodimentConfig
from positronic.embodiments.embodiment import build_embodiment
from positronic.errors import PositronicError
from positronic.raw.writer import DatasetWriter
from positronic.stages.convert import run

JOINTS = tuple(f"j{number}" for number in range(7))


def robot(arms=("arm",), joints=JOINTS):
    each = {arm: ArmConfig(joints=list(joints), ee_frame=None) for arm in arms}
    return build_embodiment(EmbodimentConfig("mine", arms=each, cameras={"wrist": "wrist"}))


@pytest.fixture
def record(tmp_path):
    """``record(stated, ...)`` adds an episode of 1 s; its robot's arms are told what they do, ``offset`` apart."""

    def make(stated=None, arms=("",), **statics):
        with DatasetWriter(tmp_path / "raw").new_episode() as episode:
            for tick in range(16):
                values = {keys.IMAGE_WRIST: np.full((16, 16, 3), 40 + 4 * tick, np.uint8)}
                for number, arm in enumerate(arms):
                    q = np.linspace(0.0, 0.6, 7) + 0.01 * tick + number
                    values[keys.of_arm(keys.JOINT_POSITION, arm)] = q
                    values[keys.of_arm(keys.COMMAND_JOINTS, arm)] = q + 0.01
                    values[keys.of_arm(keys.GRIP, arm)] = values[keys.of_arm(keys.TARGET_GRIP, arm)] = number / 2
                for name, value in values.items():
                    episode.append(name, value, tick * 10**9 // 15)
            statics |= {} if stated is None else {keys.EMBODIMENT: stated.to_dict()}
            for name, value in statics.items():
                episode.set_static(name, value)

    return make


@pytest.fixture
def convert(tmp_path):
    def bake(*typed):
        small = ["modality.image_size=[16,16]", "codec.images=[wrist]", "num_workers=1", "max_state_staleness_sec=null"]
        where = [f"dataset.path={tmp_path / 'raw'}", f"output_dir={tmp_path / 'baked'}", "max_staleness_sec=null"]
        run(positronic.compose(["stage=convert", "vendor=lerobot", "codec=joints_cmd", *small, *where, *typed]))
        return read_manifest(tmp_path / "baked").load_recipe()

    return bake


def test_an_episode_that_says_nothing_is_not_taken_for_the_robot_of_the_first(record, convert):
    """It has as many joints, and is of the robot that there was when recordings did not say it."""
    record(robot())
    record()
    with pytest.raises(
        PositronicError, match=r"another robot, as it does not say which \(franka\): arm: joints: it has"
    ):
        convert()


def test_episodes_that_say_nothing_are_of_the_robot_that_is_typed(record, convert):
    record(robot())
    record()
    joints = [f"embodiment.arms.arm.joints=[{','.join(JOINTS)}]", "embodiment.arms.arm.ee_frame=null"]
    assert convert("embodiment=franka", *joints).embodiment.arms[0].joints == JOINTS


def test_an_episode_that_contradicts_itself_is_bad(record, convert):
    """Its robot is stated, and its joints are listed in another order."""
    record(robot(), joint_names=list(reversed(JOINTS)))
    with pytest.raises(PositronicError, match=r"its joints are j6, j5.*expected j0, j1.*in this order"):
        convert()


def test_arms_are_matched_by_name_whatever_their_order(record, convert):
    """Two recordings of one robot, one of which lists the right arm first."""
    record(robot(("left", "right")), arms=("left", "right"))
    record(robot(("right", "left")), arms=("left", "right"))
    assert [feature.name for feature in convert().codec.action] == [
        *("action.left.joint_position", "action.left.grip", "action.right.joint_position", "action.right.grip")
    ]


def test_the_arms_of_two_recordings_must_have_the_same_names(record, convert):
    record(robot(("left", "right")), arms=("left", "right"))
    record(robot(("left", "other")), arms=("left", "other"))
    with pytest.raises(PositronicError, match=r"arm right: joints: it has none"):
        convert()


def filmed(tmp_path, *cameras):
    """A folder with one episode of a robot that it does not name, which was filmed by these cameras."""
    with DatasetWriter(tmp_path / "filmed").new_episode() as episode:
        for tick in range(16):
            stamp = tick * 10**9 // 15
            for name in (keys.EE_POSE, keys.COMMAND_POSE):
                episode.append(name, np.array([0.3 + 0.01 * tick, 0, 0.2, 0, 1, 0, 0]), stamp)
            for name in (keys.GRIP, keys.TARGET_GRIP):
                episode.append(name, tick / 16, stamp)
            for camera in cameras:
                episode.append(keys.IMAGE_PREFIX + camera, np.full((16, 16, 3), 40 + 4 * tick, np.uint8), stamp)
    return tmp_path / "filmed"


def bake(folder, *typed, name="baked"):
    place = ["dataset=local", f"dataset.path={folder}", f"output_dir={folder.parent / name}"]
    return run(positronic.compose(["stage=convert", *place, "num_workers=1", "modality.image_size=[32,32]", *typed]))


@pytest.mark.parametrize("cameras", [("wrist",), ("top", "left", "right", "wrist"), ("front",)])
def test_the_refusal_of_a_missing_camera_says_what_to_type_for_those_that_there_are(tmp_path, cameras):
    """One camera or four, with our names or others: typed, it bakes exactly these."""
    folder = filmed(tmp_path, *cameras)
    with pytest.raises(PositronicError) as refused:
        bake(folder)
    (advice,) = re.findall(r"Or take the cameras that were recorded: (.*?)\. Or choose", str(refused.value))
    bake(folder, *shlex.split(advice))
    baked = positronic.open_baked(tmp_path / "baked")
    assert {column.sources[0].name for column in baked.recipe.modality.image_columns} == {f"image.{c}" for c in cameras}


def test_cameras_that_are_left_out_are_named_with_how_to_take_them(tmp_path, capfd):
    """Where the recording does not say its robot, whose cameras would be all of them."""
    folder = filmed(tmp_path, "wrist", "exterior", "top")
    bake(folder)
    said = capfd.readouterr().err
    assert "Left out: top, as embodiment=franka has the cameras exterior, wrist. To take all: " in said
    (advice,) = re.findall(r"To take all: (.*)\.\n", said)
    bake(folder, *shlex.split(advice), name="all")
    assert "Left out" not in capfd.readouterr().err
    assert len(positronic.open_baked(tmp_path / "all").recipe.modality.image_columns) == 3
    bake(folder, "codec.images=[wrist,exterior]", name="two")
    assert "Left out" not in capfd.readouterr().err
