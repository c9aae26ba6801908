"""Episodes added to a dataset: as if all had been baked at once, or refused."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from positronic import keys
from positronic.bake.columns import column_blocks
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.manifest import read_manifest
from positronic.bake.report import REPORT_FILE
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset

VERSIONS = {"commit": None, "dirty": None, "versions": {}}
FORMATS = ["v3.0", "v2.1"]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder, column):
    return np.concatenate(list(column_blocks(folder, column)))


@pytest.fixture
def four(record):
    """Four episodes, two tasks."""
    for seed in range(4):
        dataset = record(seconds=0.6 + 0.3 * seed, seed=seed, task=f"task {seed % 2}")
    return dataset


@pytest.fixture
def append(tmp_path, recipe):
    """Adds episodes to ``tmp_path / "baked"``."""

    def add(dataset, used=None, **options):
        options = {"vendor": "lerobot", "num_workers": 1, "append": True} | options
        return bake(dataset, used or recipe(), tmp_path / "baked", BakeOptions(**options), VERSIONS)

    return add


@pytest.mark.parametrize("dataset_format", FORMATS)
def test_statistics_are_those_of_one_bake(four, recipe, baked, append, dataset_format):
    """Of everything: vectors, images, LeRobot's own columns; and the rows follow each other without a gap."""
    grown = baked(four[:1], recipe(), dataset_format=dataset_format)
    append(four[1:3], dataset_format=dataset_format)
    append(four[3:], dataset_format=dataset_format)
    whole = baked(four, recipe(), "whole", dataset_format=dataset_format)
    assert (grown / "meta/stats.json").read_bytes() == (whole / "meta/stats.json").read_bytes()
    for name in ("index", "episode_index", "frame_index", "task_index", "timestamp", "action"):
        np.testing.assert_array_equal(rows(grown, name), rows(whole, name), err_msg=name)
    one, all_at_once = read_manifest(grown), read_manifest(whole)
    assert (one.digest, one.frames, one.episodes) == (all_at_once.digest, all_at_once.frames, 4)
    assert [added["episodes"] for added in one.appended] == [2, 1]
    tables = [pq.read_table(folder / keys.EPISODES_SIDECAR).to_pydict() for folder in (grown, whole)]
    assert tables[0] == tables[1]


def test_v21_gets_the_very_files_of_one_bake(four, recipe, baked, append):
    """As there a file is an episode: all but the manifest and what is one row group more."""
    grown = baked(four[:2], recipe(), dataset_format="v2.1")
    append(four[2:], dataset_format="v2.1")
    whole = baked(four, recipe(), "whole", dataset_format="v2.1")
    left_out = {keys.MANIFEST_FILE, "meta/positronic_histograms.parquet"}
    assert contents(grown).keys() == contents(whole).keys()
    differ = {name for name, data in contents(grown).items() if contents(whole)[name] != data}
    assert differ <= left_out


def test_what_was_there_is_not_written_again(four, recipe, baked, append):
    """Its data and videos are the same files afterwards."""
    grown = baked(four[:2], recipe())
    before = {path: path.stat().st_ino for path in grown.rglob("*") if path.suffix in (".mp4", ".parquet")}
    append(four[2:])
    kept = [path for path, inode in before.items() if path.stat().st_ino == inode]
    assert {path.relative_to(grown).parts[0] for path in kept} == {"data", "videos", "meta"}
    assert len(list((grown / "data").glob("*/*.parquet"))) == 2


def test_an_episode_that_is_in_it_is_refused_by_its_content(four, recipe, baked, append, tmp_path):
    """By default nothing changes and each one is named; it can be skipped instead."""
    grown = baked(four[:2], recipe())
    before = contents(grown)
    with pytest.raises(PositronicError, match=r"2 of 4 episodes are in the dataset.*\n.*episode 0\n.*episode 1"):
        append(four)
    assert contents(grown) == before
    report = append(four, on_duplicate="skip")
    assert (report.episodes, len(report.duplicates)) == (4, 2)
    again = contents(grown)
    assert append(four, on_duplicate="skip").added_frames == 0
    assert contents(grown) == again


@pytest.mark.parametrize(
    ("codec", "options", "says"),
    [
        ({"codec": "joints"}, {}, "state.joint_position"),
        ({"fps": 5}, {}, "fps: .*baked has 15; this bake has 5"),
        ({"side": 48}, {}, r"32, 32.*48, 48"),
        ({}, {"vendor": "openpi"}, "vendor: .* has lerobot; this bake has openpi"),
        ({}, {"dataset_format": "v2.1"}, "dataset_format: .* has v3.0; this bake has v2.1"),
    ],
)
def test_another_recipe_is_refused_with_both_sides(four, recipe, baked, append, codec, options, says):
    """And the dataset stays as it is."""
    grown = baked(four[:2], recipe())
    before = contents(grown)
    with pytest.raises(PositronicError, match=rf"(?s){says}.*append"):
        append(four[2:], recipe(**codec), **options)
    assert contents(grown) == before


def test_another_gripper_convention_is_refused(four, recipe, baked, append, tmp_path):
    """A dataset that is read inverted does not belong to one that is not."""
    baked(four[:2], recipe())
    with pytest.raises(PositronicError, match=r"gripper in the recording: .* 0=open 1=closed; .* open at 1"):
        append(open_dataset(tmp_path / "raw", gripper_open=1.0)[2:])


def test_there_must_be_something_to_append_to(four, append):
    """A typing error does not begin a dataset."""
    with pytest.raises(PositronicError, match="There is no baked dataset at .*baked"):
        append(four)


def test_a_bad_episode_leaves_the_dataset_as_it_was(four, recipe, baked, append, tmp_path):
    """It is listed together with those of the first bake when it is skipped."""
    (four[1].path / f"{keys.GRIP}.parquet").unlink()
    (four[3].path / f"{keys.GRIP}.parquet").unlink()
    dataset = open_dataset(tmp_path / "raw")
    grown = baked(dataset[:2], recipe(), on_bad_episode="skip")
    before = contents(grown)
    with pytest.raises(PositronicError, match="1 of 2 episodes are bad"):
        append(dataset[2:])
    assert contents(grown) == before
    append(dataset[2:], on_bad_episode="skip")
    found = json.loads((grown / REPORT_FILE).read_text())
    assert (found["episodes"], [bad["episode"] for bad in found["bad"]]) == (2, [1, 3])


def test_files_that_somebody_added_stay(four, recipe, baked, append):
    """A note beside the data is nobody's to remove."""
    grown = baked(four[:2], recipe())
    (grown / "NOTES.md").write_text("recorded on Tuesday")
    append(four[2:])
    assert (grown / "NOTES.md").read_text() == "recorded on Tuesday"
