"""Recordings of each format become raw ones by the stage, with the conventions of the raw format."""

from pathlib import Path

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.importing.mapping import ImportMapping, SignalMapping, write_mapping
from positronic.importing.rlds import RldsSource
from positronic.importing.source import How
from positronic.raw.dataset import Dataset
from positronic.stages.import_ import run

RLDS = Path(__file__).parents[1] / "data" / "rlds"
MS = 10**6
START = 1_700_000_000 * 10**9
RED = np.full((32, 48, 3), (200, 0, 0), np.uint8)


@pytest.fixture
def imported(tmp_path):
    """``imported(source, path, embodiment, ...)``: the dataset."""

    def make(source: str, path: Path, embodiment: str, *more: str) -> Dataset:
        typed = [f"source={source}", f"path={path}", f"embodiment={embodiment}", "num_workers=1", *more]
        return positronic.open_raw(
            run(positronic.compose(["stage=import", f"output_dir={tmp_path / 'raw'}", *typed])).path
        )

    return make


def test_aloha_with_compressed_pictures(aloha, imported):
    """Its JPEGs have red and blue swapped; in the dataset red is red."""
    rows = np.linspace(0, 1, 24)[:, None] + np.zeros(14)
    path = aloha(compress=True, **{"observations/qpos": rows, "action": rows})
    (episode,) = imported("hdf5", path, "aloha", "agree=true")
    frame = next(episode["image.cam_high"].frames([0]))
    assert np.abs(frame.astype(int) - (200, 0, 0)).max() <= 12
    assert np.array_equal(episode["robot_commands.right.joints"].values, rows[:, :6])
    assert np.allclose(episode["target_grip.left"].values, 1 - rows[:, 0])


def test_robomimic(robomimic, imported):
    """Poses scalar first, a finger's 0.04 m as open, -1 of the action as open; the demos' own rate."""
    dataset = imported("hdf5", robomimic(), "franka", "agree=true")
    assert [len(episode[keys.GRIP].times_ns) for episode in dataset] == [20, 15, 20]
    assert dataset[1][keys.EE_POSE].values[0].tolist() == [2, 2, 2, 1, 0, 0, 0]
    assert (dataset[0][keys.GRIP].values == 0).all()
    assert np.allclose(dataset[0][keys.TARGET_GRIP].values, 0.75)
    assert dataset[0][keys.GRIP].times_ns[1] == 50 * MS
    assert next(dataset[2][keys.IMAGE_EXTERIOR].frames([0])).mean() == pytest.approx(10, abs=2)


def test_a_ros_bag(bag, imported, robot):
    """Each topic by its own clock; joints by name, though they are listed backwards."""
    joints = robot("ur5e").arms[0].joints
    for at in range(100):
        values = {joint: place / 10 + at / 1000 for place, joint in enumerate(joints)}
        bag.joints(10 * MS * at + MS, dict(reversed(values.items())))
        bag.joints(10 * MS * at + MS, values, topic="/leader/joint_states")
        bag.add("/gripper/position", "Float64", 10 * MS * at + 3 * MS, data=255 * at / 99)
    for at in range(30):
        bag.frame("/wrist/compressed", at * 33 * MS + 2 * MS, RED)
        bag.pose("/tool_pose", at * 33 * MS + MS, (0.1, 0.0, 0.5), (0.0, 0.0, 0.6, 0.8))
    (episode,) = imported("mcap", bag.write(), "ur5e", "agree=true")
    assert np.allclose(episode[keys.JOINT_POSITION].values[0], np.arange(6) / 10)
    assert (episode[keys.JOINT_POSITION].times_ns[:2] - START).tolist() == [0, 10 * MS]
    assert (episode[keys.GRIP].times_ns[:2] - START).tolist() == [3 * MS, 13 * MS]
    assert episode[keys.GRIP].values[[0, -1]].tolist() == [0, 1]
    assert np.allclose(episode[keys.EE_POSE].values[0], [0.1, 0, 0.5, 0.8, 0, 0, 0.6])
    assert len(episode[keys.IMAGE_WRIST].times_ns) == 30


def test_rlds_by_a_mapping(imported, tmp_path):
    """Its numbers have no names; the instruction is in each step."""
    signals = {
        keys.EE_POSE: SignalMapping(("observation/state",), (0, 1, 2, 3, 4, 5), "mm", "euler_xyz"),
        keys.IMAGE_EXTERIOR: SignalMapping(("observation/image",)),
    }
    left = ("action", "is_first", "is_last", "reward", "language_instruction")
    file = tmp_path / "mapping.yaml"
    write_mapping(file, ImportMapping("rlds", "franka", signals, fps=5.0, left_out=left))
    dataset = imported("rlds", RLDS, "franka", f"mapping={file}")
    first = dataset[0]
    assert first[keys.EE_POSE].times_ns[1] == 200 * MS
    assert first[keys.EE_POSE].values.shape[1] == 7
    with RldsSource(RLDS).episodes()[0].open({"observation/state": How(fps=5)}) as reading:
        state = reading.read("observation/state").values
    assert np.allclose(first[keys.EE_POSE].values[:, :3], state[:, :3] / 1000)
    assert np.allclose(np.linalg.norm(first[keys.EE_POSE].values[:, 3:], axis=1), 1)
    assert first.statics[keys.TASK]
