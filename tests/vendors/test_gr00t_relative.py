"""Statistics of relative labels, over what is learnt from and as upstream takes them."""

import json
from pathlib import Path

import numpy as np
import pytest

import positronic
from positronic.bake.columns import episode_columns
from positronic.codecs.build import build
from positronic.stages import convert
from positronic.vendors import registry
from positronic.vendors.gr00t.modality import RELATIVE_FILE
from positronic.vendors.gr00t.relative import relative_stats

RECORDING = Path(__file__).parents[1] / "data" / "raw_v1"
STEPS = 16


def test_relative_statistics_cover_each_step_of_every_row():
    """Against a loop; a step beyond the longest episode has the numbers of the step before."""
    random = np.random.default_rng(0)
    actions, states = random.normal(size=(2, 7, 2)).astype(np.float32)
    starts, ends = np.array([0, 3]), np.array([3, 7])
    found = relative_stats(actions, states, starts, ends, 6)
    for step in range(4):
        labels = [actions[row + step] - states[row] for row in range(7) if row + step < ends[int(row >= 3)]]
        np.testing.assert_array_equal(found["min"][step], np.min(labels, axis=0))
        np.testing.assert_array_equal(found["max"][step], np.max(labels, axis=0))
        np.testing.assert_allclose(found["mean"][step], np.mean(labels, axis=0, dtype=np.float64))
    np.testing.assert_array_equal(found["max"][4:], found["max"][[3, 3]])


@pytest.fixture
def baked(tmp_path):
    """``baked(codec, ...)``: the published recording for an upstream checkout."""

    def bake(codec, *typed):
        what = ["vendor=gr00t", f"codec={codec}", "dataset_format=v2.1", "modality.image_size=[32,32]", "fps=5", *typed]
        where = [f"dataset.path={RECORDING}", f"output_dir={tmp_path}/{codec}", "num_workers=1"]
        convert.run(positronic.compose(["stage=convert", *what, *where]))
        return tmp_path / codec

    return bake


def test_the_file_for_upstream_is_of_whole_chunks(baked):
    """As upstream computes it: commanded poses beyond the frame's own, of frames whose 16 steps are all there."""
    root = baked("ee_rot6d_joints_rel")
    labels = []
    for columns in episode_columns(root, ["action", "ee_pose"]):
        for row in range(len(columns["action"]) - STEPS + 1):
            labels.append(columns["action"][row : row + STEPS, :9] - columns["ee_pose"][row])
    labels = np.stack(labels)
    found = json.loads((root / RELATIVE_FILE).read_text())
    assert list(found) == ["ee_pose"]
    np.testing.assert_array_equal(np.float32(found["ee_pose"]["min"]), labels.min(axis=0))
    np.testing.assert_array_equal(np.float32(found["ee_pose"]["max"]), labels.max(axis=0))
    np.testing.assert_allclose(found["ee_pose"]["mean"], labels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found["ee_pose"]["std"], labels.std(axis=0), atol=1e-6)
    for name, share in (("q01", 0.01), ("q99", 0.99)):
        np.testing.assert_allclose(found["ee_pose"][name], np.quantile(labels, share, axis=0), atol=1e-6)


def test_episodes_shorter_than_a_chunk_are_in_no_file(baked):
    """Upstream takes no samples of them either."""
    root = baked("ee_rot6d_rel", "modality.action_chunk=40")  # of 20 frames at 5 Hz
    assert json.loads((root / RELATIVE_FILE).read_text()) == {}


def test_only_relative_actions_have_the_file():
    """And only where upstream reads it."""
    for codec, form, there in (
        ("ee_rot6d_rel", "v2.1", True),
        ("ee_rot6d_rel", "v3.0", False),
        ("ee_rot6d", "v2.1", False),
    ):
        config = positronic.compose(["stage=convert", "vendor=gr00t", f"codec={codec}"])
        files = registry.companions("gr00t", build(config.codec, config.modality), form)
        assert (RELATIVE_FILE in files) == there
