"""Episodes added to a dataset: as if all had been baked at once, or refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

import positronic
from positronic import keys
from positronic.bake import convert
from positronic.bake.columns import episode_columns
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.manifest import read_manifest
from positronic.bake.pieces import pieces_path
from positronic.bake.report import REPORT_FILE
from positronic.codecs.build import build
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.storage import publish_folder

VERSIONS = {"commit": None, "dirty": None, "versions": {}}
FORMATS = ["v3.0", "v2.1"]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder, column):
    return np.concatenate([columns[column] for columns in episode_columns(folder, [column])])


def without_list(folder):
    """As an older version wrote it."""
    (folder / keys.FILE_LIST).unlink()
    fields = json.loads((folder / keys.MANIFEST_FILE).read_text())
    del fields["file_list"]
    (folder / keys.MANIFEST_FILE).write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n")
    return folder


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


@pytest.fixture
def blind():
    config = positronic.compose(["stage=convert", "vendor=lerobot", "dataset.path=unused"])
    columns = {name: of for name, of in config.modality.columns.items() if "image" not in name}
    return build(replace(config.codec, images=[]), replace(config.modality, columns=columns))


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
    left_out = {keys.MANIFEST_FILE, keys.FILE_LIST, "meta/positronic_histograms.parquet"}
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
    with pytest.raises(
        PositronicError, match=r"2 of 4 episodes are already in the dataset.*\n.*episode 0\n.*episode 1"
    ):
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
        ({"chunk": 10}, {}, "modality.action_chunk: .*baked has None; this bake has 10"),
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


def test_bad_episodes_are_named_beside_those_that_are_there(four, recipe, baked, append, tmp_path):
    """All that stops an append is said at once."""
    baked(four[:1], recipe())
    (four[3].path / f"{keys.GRIP}.parquet").unlink()
    dataset = open_dataset(tmp_path / "raw")
    with pytest.raises(
        PositronicError, match=r"(?s)1 of 4 episodes are already in the dataset.*1 of 4 episodes are bad"
    ):
        append(dataset)


def test_files_that_somebody_added_stay(four, recipe, baked, append):
    """A note beside the data is nobody's to remove."""
    grown = baked(four[:2], recipe())
    (grown / "NOTES.md").write_text("recorded on Tuesday")
    append(four[2:])
    assert (grown / "NOTES.md").read_text() == "recorded on Tuesday"


def test_what_others_computed_of_the_old_episodes_does_not_stay(four, recipe, baked, append, caplog):
    """Statistics that upstream code cached in the dataset would be taken for those of all episodes."""
    grown = baked(four[:2], recipe())
    (grown / "meta/relative_stats.json").write_text("{}")
    append(four[2:])
    assert not (grown / "meta/relative_stats.json").exists()
    assert "meta/relative_stats.json" in caplog.text


def test_an_episode_that_comes_twice_is_added_once(four, recipe, baked, append, tmp_path):
    """Also when both are in what is appended; the message names the episode that it would repeat."""
    grown = baked(four[:1], recipe())
    shutil.copytree(four[1].path, four[3].path.with_name(f"{7:012d}"))
    twice = open_dataset(tmp_path / "raw")[1:]
    with pytest.raises(PositronicError, match=r"1 of 4 episodes are already.*\n.*000000000007: .* episode 1\n"):
        append(twice)
    report = append(twice, on_duplicate="skip")
    assert (report.episodes, [each.id for each in report.duplicates]) == (4, [7])
    assert len(rows(grown, "action")) == report.frames


def test_a_bad_episode_is_listed_once_and_no_more_when_it_was_mended(four, recipe, baked, append, tmp_path):
    """However often a growing recording is appended."""
    grip = four[1].path / f"{keys.GRIP}.parquet"
    content = grip.read_bytes()
    grip.unlink()
    grown = baked(open_dataset(tmp_path / "raw"), recipe(), on_bad_episode="skip")
    for expected in (1, 1, 0):
        if expected == 0:
            grip.write_bytes(content)
        append(open_dataset(tmp_path / "raw"), on_bad_episode="skip", on_duplicate="skip")
        assert json.loads((grown / REPORT_FILE).read_text())["bad_episodes"] == expected


@pytest.mark.parametrize("dataset_format", FORMATS)
def test_a_dataset_that_is_not_whole_gets_nothing(four, recipe, baked, append, dataset_format):
    """What is missing would never be found again under new episodes."""
    grown = baked(four[:2], recipe(), dataset_format=dataset_format)
    sorted((grown / "data").glob("*/*.parquet"))[-1].unlink()
    with pytest.raises(PositronicError, match=r"data/.*\.parquet(, episode 0: the file|.*missing).*Convert it again"):
        append(four[2:], dataset_format=dataset_format)


@pytest.mark.parametrize("dataset_format", FORMATS)
def test_a_dataset_that_lacks_a_video_gets_nothing(four, recipe, baked, append, dataset_format):
    """The old episodes would show the new one's frames."""
    grown = baked(four[:2], recipe(), dataset_format=dataset_format)
    video = sorted(grown.rglob("*.mp4"))[-1]
    video.unlink()
    with pytest.raises(PositronicError, match=rf"{video.relative_to(grown)} is missing.*Convert it again"):
        append(four[2:], dataset_format=dataset_format)


def test_an_append_that_stopped_goes_on(four, recipe, baked, append, tmp_path):
    """It takes up what it had baked, as a first bake does."""
    grown = baked(four[:1], recipe())
    (four[3].path / f"{keys.GRIP}.parquet").unlink()
    rest = open_dataset(tmp_path / "raw")[1:]
    with pytest.raises(PositronicError, match="1 of 3 episodes are bad"):
        append(rest)
    assert (append(rest, on_bad_episode="skip").resumed, read_manifest(grown).episodes) == (2, 3)
    assert not pieces_path(grown).exists()


@pytest.mark.parametrize("name", [keys.EPISODES_SIDECAR, "meta/positronic_histograms.parquet", REPORT_FILE])
def test_a_dataset_without_a_file_that_append_needs_is_refused(four, recipe, baked, append, name):
    """In one sentence, as for everything else that is wrong with it."""
    grown = baked(four[:2], recipe())
    (grown / name).unlink()
    with pytest.raises(
        PositronicError, match=rf"{name} is missing, so this is not a whole baked dataset\. Convert it again"
    ):
        append(four[2:])


def test_a_dataset_of_an_older_version_is_refused(four, recipe, baked, append):
    """Its sidecar says nothing of tasks."""
    sidecar = without_list(baked(four[:2], recipe())) / keys.EPISODES_SIDECAR
    pq.write_table(pq.read_table(sidecar).drop_columns(["task"]), sidecar)
    with pytest.raises(PositronicError, match="of an older version: it has no 'task'. Convert it again"):
        append(four[2:])


def test_a_dataset_that_another_process_replaces_is_not_overwritten(four, recipe, baked, append, monkeypatch):
    """Between the check and the lock: what was checked is no longer what is there."""
    grown = baked(four[:2], recipe())

    def meanwhile(*arguments, **options):
        monkeypatch.undo()
        append(four[2:3])
        return publish_folder(*arguments, **options)

    monkeypatch.setattr(convert, "publish_folder", meanwhile)
    with pytest.raises(PositronicError, match="Another process has changed .* in the meantime"):
        append(four[3:])
    assert read_manifest(grown).episodes == 3


def test_a_linked_dataset_grows_where_it_is(four, recipe, baked, append, tmp_path):
    """The link stays one, and nothing is left beside it."""
    (tmp_path / "disk").mkdir()
    place = baked(four[:2], recipe()).rename(tmp_path / "disk" / "here")
    (tmp_path / "baked").symlink_to(place)
    assert append(four[2:]).episodes == 4
    assert (tmp_path / "baked").is_symlink()
    assert read_manifest(place).episodes == 4
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "disk", "baked"}
    assert list((tmp_path / "disk").iterdir()) == [place]


@pytest.mark.parametrize("dataset_format", FORMATS)
def test_without_cameras(four, blind, baked, append, dataset_format):
    """A recipe may have none."""
    grown = baked(four[:2], blind, dataset_format=dataset_format)
    assert append(four[2:], blind, dataset_format=dataset_format).episodes == 4
    assert not (grown / "videos").exists()


def name_joints(episode, names):
    (episode.path / "static.json").write_text(json.dumps({keys.TASK: "x", keys.JOINT_NAMES: names}))


@pytest.mark.parametrize("dataset_format", FORMATS)
def test_joints_in_another_order_than_the_dataset_s_are_refused(
    four, recipe_of, baked, append, tmp_path, dataset_format
):
    """Their shape is the same; only the names tell."""
    names = [f"joint{k}" for k in range(7)]
    for episode, order in zip(four, (names, names, names[::-1], names), strict=True):
        name_joints(episode, order)
    four = open_dataset(tmp_path / "raw")
    joints = recipe_of(four, "joints")
    grown = baked(four[:1], joints, dataset_format=dataset_format)
    assert read_manifest(grown).joint_names == names
    append(four[1:2], joints, dataset_format=dataset_format)
    says = "its joints are joint6, joint5.*expected joint0, joint1"
    with pytest.raises(PositronicError, match=says):
        append(four[2:3], joints, dataset_format=dataset_format)
    assert append(four[3:], joints, dataset_format=dataset_format).episodes == 3


def test_columns_whose_numbers_are_called_otherwise_are_refused(four, recipe, baked, append):
    """By the file that says it, with both lists."""
    grown = without_list(baked(four[:2], recipe()))
    info = json.loads((grown / keys.INFO_FILE).read_text())
    info["features"]["action"]["names"].reverse()
    (grown / keys.INFO_FILE).write_text(json.dumps(info))
    with pytest.raises(PositronicError, match=r"info\.json: column 'action' holds \['grip'.*would add \['ee_pose.x'"):
        append(four[2:])
