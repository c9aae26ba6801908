"""A LeRobot dataset opened for training as it is: in our conventions, and with its own pictures in place."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from lerobot_writer import FRONT, JOINTS, MOTORS, TASKS, WRIST, frame, rows, write_by_lerobot, write_v2

import positronic
from positronic.bake.foreign import open_foreign
from positronic.bake.frame_cache import on_disk
from positronic.bake.frame_source import DecodedFrames, decode_all
from positronic.bake.reader import open_baked
from positronic.codecs.build import build
from positronic.embodiments.embodiment import build_embodiment
from positronic.errors import PositronicError
from positronic.importing.lerobot import LerobotSource
from positronic.importing.mapping import ImportMapping, SignalMapping
from positronic.importing.recording import Plan
from positronic.keys import of_arm
from positronic.stages.convert import run as run_convert
from positronic.storage import StorageConfig
from positronic.training.choice import TrainChoice, split

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
LENGTHS = (6, 4)
MOVED = tuple(f"{joint}.pos" for joint in JOINTS)
GRIPPER = {"open": 100.0, "closed": 0.0}


def mapping(**changed):
    signals = {
        "robot_state.q": SignalMapping(("observation.state",), MOVED, "degrees"),
        "robot_commands.joints": SignalMapping(("action",), MOVED, "degrees"),
        "grip": SignalMapping(("observation.state",), (MOTORS[-1],), **GRIPPER),
        "target_grip": SignalMapping(("action",), (MOTORS[-1],), **GRIPPER),
        "image.wrist": SignalMapping((WRIST,)),
        "image.front": SignalMapping((FRONT,)),
    }
    return ImportMapping("lerobot", "so101", signals | changed)


def opened(root, side=64, signals=None, robot="so101", images=None):
    """With the codec joints_cmd and pictures of ``side`` pixels."""
    size = f"modality.image_size=[{side},{side}]"
    typed = ["stage=convert", "vendor=lerobot", "codec=joints_cmd", f"embodiment={robot}", "dataset.path=x", size]
    typed += [f"codec.images=[{images}]"] if images else []
    config = positronic.compose([*typed, "modality.action_fps=10"])
    robot, source = build_embodiment(config.embodiment), LerobotSource(root)
    recipe = build(config.codec, config.modality, embodiment=robot)
    return open_foreign(source, Plan(signals or mapping(), robot, source.fields()), recipe, "lerobot")


@pytest.fixture
def dataset(tmp_path):
    return opened(write_v2(tmp_path / "so100", lengths=LENGTHS)).dataset


def test_numbers_are_in_our_units_whatever_the_dataset_holds(dataset):
    """Degrees become rad; the gripper, 100 where it is open, becomes 0."""
    expected = [rows(length) for length in LENGTHS]
    joints, grip = np.concatenate(expected)[:, :5], np.concatenate(expected)[:, 5:]
    state = np.concatenate([np.deg2rad(joints), 1 - grip / 100], axis=1)
    assert np.allclose(dataset.vectors["observation.state"], state, atol=1e-6)
    assert np.allclose(dataset.vectors["action"][:, :5], np.deg2rad(joints + 1), atol=1e-6)
    assert (dataset.starts.tolist(), dataset.ends.tolist()) == ([0, 6], [6, 10])
    assert [dataset.tasks[number] for number in dataset.task_of] == [TASKS[0]] * 6 + [TASKS[1]] * 4


@pytest.mark.parametrize("layout", ["v2.1", "v3.0"])
def test_pictures_of_videos_and_of_parquet_are_the_episodes_own(tmp_path, layout):
    """Letterboxed: 48 x 64 in 64 x 64 has 8 black rows above; read all at once, one by one and from the
    disk alike."""
    root = tmp_path / "so101"
    write_v2(root, lengths=LENGTHS) if layout == "v2.1" else write_by_lerobot(root, LENGTHS)
    found = opened(root).dataset
    video, picture = (FRONT, WRIST) if layout == "v2.1" else (WRIST, FRONT)
    whole, single = decode_all(found), DecodedFrames(found)
    mapped = on_disk(found, StorageConfig(cache_dir=str(tmp_path / "cache")))
    signals = {column.sources[0].signal: column.name for column in found.recipe.modality.image_columns}
    for field, ahead in ((video, 0), (picture, 1)):
        column = signals[f"image.{field.rpartition('.')[2]}"]
        expected = np.stack([frame(at + ahead) for length in LENGTHS for at in range(length)])
        assert np.abs(whole[column][:, 8:56].astype(int) - expected).mean() < 5
        assert not whole[column][:, :8].any()
        order = np.array([7, 0, 9, 3])
        assert np.array_equal(single.get(column, order), whole[column][order])
        assert np.array_equal(mapped.get(column, order), whole[column][order])
        assert np.array_equal(pickle.loads(pickle.dumps(single)).get(column, order), whole[column][order])


def test_statistics_are_those_of_the_numbers_and_of_pictures(dataset):
    action = dataset.vectors["action"].astype(float)
    assert np.allclose(dataset.stats["action"]["mean"], action.mean(axis=0))
    assert np.allclose(dataset.stats["action"]["q99"], np.quantile(action, 0.99, axis=0))
    for name in dataset.image_shapes:
        pictures = decode_all(dataset)[name] / 255
        assert np.allclose(dataset.stats[name]["mean"].ravel(), pictures.mean(axis=(0, 1, 2)))


def test_chosen_and_held_out_episodes_have_their_own_statistics(dataset):
    sides = split(dataset, TrainChoice(episodes=(1,)))
    assert len(sides.training) == 4
    assert np.allclose(sides.training.stats["action"]["max"], dataset.vectors["action"][6:].max(axis=0))


def test_the_same_dataset_has_the_same_digest_and_another_mapping_another(tmp_path):
    root = write_v2(tmp_path / "so100", lengths=LENGTHS)
    radians = SignalMapping(("action",), MOVED, "m100_100")
    other = opened(root, signals=mapping(**{"robot_commands.joints": radians})).dataset
    assert opened(root).dataset.manifest.digest == opened(root).dataset.manifest.digest != other.manifest.digest


def test_degrees_that_are_said_to_be_rad_are_a_finding(tmp_path):
    said = {name: SignalMapping((field,), MOVED, "rad") for name, field in FIELDS}
    findings = opened(write_v2(tmp_path / "so100", lengths=LENGTHS), signals=mapping(**said)).findings
    assert any(line.startswith("robot_state.q") for line in findings)
    assert not opened(tmp_path / "so100").findings


FIELDS = (("robot_state.q", "observation.state"), ("robot_commands.joints", "action"))


def test_a_signal_that_the_codec_needs_and_nobody_mapped(tmp_path):
    root, signals = write_v2(tmp_path / "so100", lengths=LENGTHS), dict(mapping().signals)
    del signals["robot_commands.joints"]
    with pytest.raises(PositronicError, match="codec=joints_cmd needs robot_commands.joints, and the mapping has only"):
        opened(root, signals=ImportMapping("lerobot", "so101", signals))


def test_a_dataset_that_was_baked_here_is_read_as_the_trainer_reads_it(tmp_path):
    """By the mapping that it states itself; signs of rotations too."""
    typed = ["vendor=lerobot", "codec=ee", "modality.image_size=[64,64]", "num_workers=1"]
    where = ["dataset=local", f"dataset.path={PUBLISHED}", f"output_dir={tmp_path / 'baked'}"]
    run_convert(positronic.compose(["stage=convert", *where, *typed]))
    baked, source = open_baked(tmp_path / "baked"), LerobotSource(tmp_path / "baked")
    robot = source.embodiment
    plan = Plan(source.stated(robot), robot, source.fields())
    found = open_foreign(source, plan, baked.recipe.with_reference_rotations({}), "lerobot").dataset
    assert found.recipe.reference_rotations.keys() == baked.recipe.reference_rotations.keys()
    for name, values in baked.vectors.items():
        assert np.allclose(found.vectors[name], values, atol=1e-6), name
        assert np.allclose(found.stats[name]["std"], baked.stats[name]["std"], atol=1e-6)
    pictures, expected = decode_all(found), decode_all(baked)
    assert all(np.array_equal(pictures[name], expected[name]) for name in expected)


def test_two_arms_by_name_however_the_dataset_orders_them(tmp_path):
    """Right before left there, left before right here."""
    sides, joints = ("right", "left"), ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
    motors = [f"{side}_{joint}" for side in sides for joint in (*joints, "gripper")]

    def numbers(length, ahead):
        return (np.linspace(0, 1, length)[:, None] * np.linspace(0.1, 1, 14) + ahead / 100).astype(np.float32)

    root = write_v2(tmp_path / "aloha", lengths=LENGTHS, motors=motors, numbers=numbers)
    signals = {"image.cam_high": SignalMapping((FRONT,))}
    for side in sides:
        dims = tuple(f"{side}_{joint}" for joint in joints)
        for key, field in FIELDS:
            signals[of_arm(key, side)] = SignalMapping((field,), dims, "rad")
        for key, field in (("grip", "observation.state"), ("target_grip", "action")):
            signals[of_arm(key, side)] = SignalMapping((field,), (f"{side}_gripper",), open=1.0, closed=0.0)
    found = opened(root, signals=ImportMapping("lerobot", "aloha", signals), robot="aloha", images="cam_high").dataset
    values = np.concatenate([numbers(length, 0.0) for length in LENGTHS])
    expected = np.concatenate([values[:, 7:13], 1 - values[:, 13:], values[:, :6], 1 - values[:, 6:7]], axis=1)
    assert np.allclose(found.vectors["observation.state"], expected, atol=1e-6)
