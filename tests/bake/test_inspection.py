"""A report finds what looks wrong in a dataset, and says where."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

import positronic
from positronic.bake.inspection import inspect
from positronic.bake.inspection_plot import inspection_png
from positronic.bake.inspection_table import inspection_table
from positronic.bake.manifest import read_manifest
from positronic.bake.recompute import stats_json
from positronic.codecs.build import build
from positronic.errors import PositronicError

STATE, ACTION = "observation.state", "action"


@pytest.fixture
def dataset(record):
    """Two episodes of random numbers."""
    return [record(seconds=1.0, seed=seed) for seed in range(2)][-1]


@pytest.fixture(params=["v3.0", "v2.1"])
def folder(dataset, recipe, baked, request):
    """It, baked with codec ee."""
    return baked(dataset, recipe(), dataset_format=request.param)


def edit(folder, column, change):
    """``change(rows, episode)`` replaces a column's rows (T, D) of each episode, in the data files."""
    for path in sorted(folder.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        rows = np.array(table[column].to_pylist(), np.float32)
        size = rows.size // len(rows)
        rows, episodes = rows.reshape(-1, size), table["episode_index"].to_numpy()
        for episode in np.unique(episodes):
            part = rows[episodes == episode]
            change(part, episode)
            rows[episodes == episode] = part
        flat, kind = pa.array(rows.reshape(-1)), table.schema.field(column).type
        array = pa.FixedSizeListArray.from_arrays(flat, type=kind) if size > 1 else flat
        pq.write_table(table.set_column(table.schema.get_field_index(column), column, array), path)


def put(row, place, value, episode=1):
    """A change of one number of one episode."""

    def change(rows, number):
        if number == episode:
            rows[row, place] = value

    return change


def findings(folder):
    return inspect(folder, read_manifest(folder)).findings


def test_random_numbers_within_limits_are_left_alone(folder):
    """Nothing to say."""
    assert findings(folder) == []


def test_a_planted_gripper_beyond_closed_is_found(folder):
    """With its value, how often, and where first."""
    edit(folder, STATE, put(4, 7, 1.5))
    (found,) = findings(folder)
    assert (found.column, found.names) == (STATE, ("grip",))
    expected = "gripper at 1.5, expected 0 (open) to 1 (closed) (in 1 of 30 frames, first in episode 1, frame 4)"
    assert found.text == expected


def test_a_gripper_off_by_a_sensor_s_step_is_not(folder):
    """Limits are wide."""
    edit(folder, STATE, put(4, 7, 1.005))
    assert findings(folder) == []


def test_a_planted_dimension_that_hardly_moves_is_found(folder):
    """Below the floor that training puts under a standard deviation."""

    def still(rows, _):
        rows[:, 1] = 0.2 + 0.001 * (np.arange(len(rows)) % 2)

    edit(folder, ACTION, still)
    (found,) = findings(folder)
    assert (found.column, found.names) == (ACTION, ("ee_pose.y",))
    assert found.text.startswith("near constant: std 0.0005 at most, below 0.01")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_planted_number_that_is_not_finite_is_found(folder, value):
    """The other numbers are still measured, and no statistics are made of these."""
    edit(folder, ACTION, put(3, 0, value, episode=0))
    manifest = read_manifest(folder)
    inspection = inspect(folder, manifest)
    found = inspection.findings[0]
    assert (found.column, found.names) == (ACTION, ("ee_pose.x",))
    assert found.text == "not a finite number (in 1 of 30 frames, first in episode 0, frame 3)"
    assert all(np.isfinite(list(dimension.stats.values())).all() for dimension in inspection.dimensions)
    with pytest.raises(PositronicError, match=r"column 'action' holds numbers that are not finite; .*report=true"):
        stats_json(folder, manifest)


def test_a_column_without_a_finite_number_is_shown_all_the_same(folder):
    """With dashes."""
    edit(folder, ACTION, lambda rows, _: rows.fill(np.nan))
    inspection = inspect(folder, read_manifest(folder))
    assert [d.stats for d in inspection.dimensions if d.column == ACTION] == [{}] * 8
    assert Image.open(io.BytesIO(inspection_png(inspection, "x"))).width > 100


@pytest.mark.parametrize(
    ("places", "values", "names", "text"),
    [
        ([0, 1, 2], [400.0, 300.0, 0.0], "ee_pose.x ee_pose.y ee_pose.z", "500 m from the base, expected at most 3"),
        ([3, 4, 5, 6], [0.5, 0.0, 0.0, 0.0], "ee_pose.qw ee_pose.qx ee_pose.qy ee_pose.qz", "quaternion of norm 0.5"),
    ],
)
def test_a_pose_in_other_units_or_without_unit_length_is_found(folder, places, values, names, text):
    """All dimensions that the number is made of."""
    edit(folder, STATE, put(0, places, values))
    first = findings(folder)[0]
    assert set(first.names) <= set(names.split())
    assert first.text.startswith(text)


def test_joints_in_degrees_are_found(dataset, recipe, baked):
    """Only those joints that are beyond a full turn."""
    folder = baked(dataset, recipe("joints"))
    edit(folder, STATE, put(2, [1, 4], [90.0, -120.0]))
    (found,) = findings(folder)
    assert found.names == ("joint_position.1", "joint_position.4")
    assert found.text.startswith("joint at -120, expected at most 2 pi either way: radians, not degrees (in 1 of 30")


def test_rotation_rows_that_are_no_rotation_are_found(dataset, baked):
    """vendor=gr00t stores them; its gripper is a column of one number."""
    config = positronic.compose(["stage=convert", "vendor=gr00t", "codec=ee_rot6d", "modality.image_size=[32,32]"])
    folder = baked(dataset, build(config.codec, config.modality), vendor="gr00t")
    edit(folder, "ee_pose", put(0, slice(3, 9), [1, 0, 0, 1, 0, 0]))
    edit(folder, "grip", put(0, 0, -0.5))
    found = {each.column: each.text for each in findings(folder)}
    assert found["ee_pose"].startswith("rotation rows 1 away from orthonormal (in 1 of 30")
    assert found["grip"].startswith("gripper at -0.5, expected 0")


def test_the_numbers_shown_are_the_statistics_and_the_histograms_hold_every_frame(folder):
    """Of vectors and cameras."""
    inspection = inspect(folder, read_manifest(folder))
    assert len(inspection.dimensions) == 8 + 8 + 2 * 3
    for dimension in inspection.dimensions:
        assert dimension.counts.sum() == 30 * (32 * 32 if dimension.is_image else 1)
        assert len(dimension.edges) == len(dimension.counts) + 1
        assert dimension.stats["min"] <= dimension.stats["q01"] <= dimension.stats["q99"] <= dimension.stats["max"]


def test_the_table_names_every_dimension_and_every_finding(folder):
    """For people to read, on a narrow terminal too."""
    edit(folder, STATE, put(4, 7, 1.5))
    console = Console(file=io.StringIO(), width=80)
    console.print(inspection_table(inspect(folder, read_manifest(folder)), "cups"))
    text = console.file.getvalue()
    for name in ("cups", STATE, "ee_pose.qw", "red", "2 episodes, 30 frames at 15 fps", "1 finding:", "gripper at 1.5"):
        assert name in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert {STATE, "observation.images.left"} <= set(lines)  # uncut


def test_the_picture_has_a_frame_for_every_dimension_and_camera(folder):
    """A PNG, three rows of six."""
    png = inspection_png(inspect(folder, read_manifest(folder)), "cups")
    width, height = Image.open(io.BytesIO(png)).size
    assert width > 1500
    assert height > 600
