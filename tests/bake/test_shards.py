"""A bake in shards gives the dataset of a bake in one piece, to the byte, or says which shard is at fault."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from positronic import keys
from positronic.bake import pieces
from positronic.bake.convert import BakeOptions, bake, join
from positronic.bake.holdout import Holdout
from positronic.bake.manifest import read_manifest
from positronic.bake.one_shard import bake_shard
from positronic.bake.orientation import with_reference_rotations
from positronic.bake.shard_records import RECORDS_FILE
from positronic.bake.shards import SHARD_FILE, Shards, shards_path
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.layout import episode_path
from positronic.vendors.registry import companions

VERSIONS = {"commit": "abc", "dirty": False, "versions": {"av": "17"}}
COUNT = 3
EPISODES = 7
BAD = 4  # of them


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flipped(folder):
    """The same rotations with the other sign, as a recorder of another day may write them."""
    for name in (keys.EE_POSE, keys.COMMAND_POSE):
        path = folder / f"{name}.parquet"
        table = pq.read_table(path)
        values = np.array(table["value"].to_pylist())
        values[:, 3:] *= -1
        column = table.schema.get_field_index("value")
        changed = table.set_column(column, table.schema.field(column), [values.tolist()])
        pq.write_table(changed, path)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({name: value for name, value in meta.items() if name != "files"}))


@pytest.fixture
def raw(record, tmp_path):
    """Seven episodes of several lengths and tasks; most have their rotations on the other side than the first."""
    for number in range(EPISODES):
        record(seconds=0.6 + 0.2 * (number % 3), seed=number, task=f"task {number % 2}")
        if number >= 2:
            flipped(episode_path(tmp_path / "raw", number))
    shutil.copytree(episode_path(tmp_path / "raw", 1), episode_path(tmp_path / "raw", EPISODES))  # the same twice
    return tmp_path / "raw"


@pytest.fixture
def with_a_bad_one(raw):
    (episode_path(raw, BAD) / f"{keys.GRIP}.parquet").unlink()
    return raw


class Bakes:
    """Bakes of one recording with one recipe, whole and in shards."""

    def __init__(self, raw, recipe, folder):
        self.raw, self.recipe, self.folder, self.extra = raw, recipe, folder, {}
        self.options = BakeOptions("lerobot", num_workers=1)
        self.output = folder / "out"
        self.shards = Shards(shards_path(self.output), COUNT)

    def opened(self):
        return open_dataset(self.raw)

    def whole(self):
        return bake(self.opened(), self.recipe, self.folder / "whole", self.options, VERSIONS, companions=self.extra)

    def one(self, number, provenance=VERSIONS):
        return bake_shard(self.opened(), self.recipe, self.output, self.options, provenance, self.shards, number)

    def all_of_them(self):
        for number in (2, 3, 1):
            self.one(number)

    def join(self):
        arguments = self.opened(), self.recipe, self.output, self.options, VERSIONS, self.shards
        return join(*arguments, companions=self.extra)

    def require_equal(self):
        plain, joined = self.whole(), self.join()
        assert contents(self.output) == contents(self.folder / "whole")
        same = replace(joined, seconds=plain.seconds, output=plain.output)
        assert same == plain


@pytest.fixture
def bakes(raw, recipe, tmp_path):
    return Bakes(raw, recipe(), tmp_path)


@pytest.mark.parametrize("dataset_format", ["v3.0", "v2.1"])
@pytest.mark.parametrize("codec", ["ee", "joints"])
def test_joined_shards_are_the_dataset_of_one_bake(bakes, recipe, dataset_format, codec):
    """References, statistics, held out episodes, findings and files come from all episodes, not from a shard's."""
    bakes.recipe = recipe(codec)
    uids = [episode.uid for episode in bakes.opened()]  # drawn at random
    seed = next(seed for seed in range(100) if 0 < len(Holdout(0.4, seed).among(uids)) < len(uids) - 1)
    bakes.options = replace(bakes.options, dataset_format=dataset_format, val_fraction=0.4, val_seed=seed)
    bakes.all_of_them()
    bakes.require_equal()


def test_the_sign_of_rotations_is_that_of_all_shards(bakes):
    """The first shard alone would take the other one."""
    bakes.all_of_them()
    bakes.join()
    found = read_manifest(bakes.output).load_recipe().reference_rotations
    alone = with_reference_rotations(bakes.recipe, bakes.opened()[:2], 1).reference_rotations
    assert all(np.dot(found[name], alone[name]) < 0 for name in (keys.EE_POSE, keys.COMMAND_POSE))


def test_vendors_files_are_those_of_one_bake(bakes, recipe):
    """They are computed from the joined dataset."""
    bakes.recipe = recipe("ee", chunk=10)
    bakes.options = replace(bakes.options, vendor="openpi")
    bakes.extra = companions("openpi", bakes.recipe, "v3.0")
    assert bakes.extra
    bakes.all_of_them()
    bakes.require_equal()


def test_bad_episodes_are_left_out_as_in_one_bake(with_a_bad_one, recipe, tmp_path):
    """The report lists them in order, with their reasons."""
    bakes = Bakes(with_a_bad_one, recipe(), tmp_path)
    bakes.options = replace(bakes.options, on_bad_episode="skip")
    bakes.all_of_them()
    bakes.require_equal()
    assert [each["episode"] for each in json.loads((bakes.output / "meta/bake_report.json").read_text())["bad"]] == [4]


def test_a_bad_episode_stops_its_own_shard_alone(with_a_bad_one, recipe, tmp_path):
    """Mended, that shard is baked again, and what was good in it is taken up."""
    bakes = Bakes(with_a_bad_one, recipe(), tmp_path)
    bakes.one(1), bakes.one(3)
    with pytest.raises(PositronicError, match=r"Shard 2 of 3: 1 of 3 episodes are bad(.|\n)*on_bad_episode=skip"):
        bakes.one(2)
    with pytest.raises(PositronicError, match=r"shard 2 is missing of 3; nothing was joined.*shard=2"):
        bakes.join()
    folder = episode_path(with_a_bad_one, BAD)
    shutil.copy(episode_path(with_a_bad_one, BAD - 3) / f"{keys.GRIP}.parquet", folder)
    (folder / "meta.json").unlink()
    assert bakes.one(2).resumed == 2
    bakes.require_equal()


def test_a_complete_shard_is_not_baked_again(bakes, monkeypatch):
    """Whoever types its command once more is told so."""
    bakes.one(2)
    before = contents(bakes.shards.folder)
    monkeypatch.setattr("positronic.bake.one_shard.bake_in_order", None)
    report = bakes.one(2)
    assert (report.was_complete, report.episodes) == (True, 3)
    assert contents(bakes.shards.folder) == before


def changed_task(bakes):
    bakes.options = replace(bakes.options, task="another")


def changed_codec(bakes):
    bakes.recipe = bakes.recipe.at_fps(10)


def changed_crf(bakes):
    bakes.options = replace(bakes.options, video=replace(bakes.options.video, crf=30))


def one_more_episode(bakes):
    shutil.copytree(episode_path(bakes.raw, 0), episode_path(bakes.raw, 20))


def another_static(bakes):
    (episode_path(bakes.raw, BAD) / "static.json").write_text(json.dumps({"task": "task 2"}))


def an_edit(bakes):
    (bakes.raw / "edits.jsonl").write_text(json.dumps({"op": "set_static", "v": 1, "ep": "x", "data": {"a": 1}}) + "\n")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed_task, "task: .* has None; this bake has another"),
        (changed_codec, "fps"),
        (changed_crf, "video.crf: .* has 21; this bake has 30"),
        (one_more_episode, "episodes of the recording: .* has 8; this bake has 9"),
        (another_static, "sizes and statics of the episodes"),
        (an_edit, "names and edits of the episodes"),
    ],
)
def test_a_shard_of_another_bake_is_refused(bakes, change, named):
    """By its name, with both sides, whether it is joined or typed again."""
    bakes.all_of_them()
    change(bakes)
    for use in (bakes.join, lambda: bakes.one(2)):
        with pytest.raises(
            PositronicError,
            match=rf"Shard . of 3 in .* is of another bake:(.|\n)*{named}(.|\n)*rm -r .*-of-3 && .*shard=",
        ):
            use()
    assert not bakes.output.exists()


def test_a_shard_of_another_version_is_refused(bakes, monkeypatch, tmp_path):
    """Of the libraries, and of this package's own code."""
    bakes.all_of_them()
    with pytest.raises(PositronicError, match=r"versions.av: .* has 17; this bake has 18"):
        bakes.one(1, VERSIONS | {"versions": {"av": "18"}})
    monkeypatch.setattr(pieces, "PACKAGE", tmp_path / "raw")
    with pytest.raises(PositronicError, match=r"code: "):
        bakes.join()


def shortened(path):
    os.truncate(path, path.stat().st_size // 2)


def other_bytes(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [shortened, other_bytes, os.remove], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("file", [RECORDS_FILE, "pieces/*/*/1.mp4", keys.FILE_LIST, SHARD_FILE])
def test_a_damaged_shard_is_refused_by_name(bakes, damage, file):
    """Nothing is published, and what bakes it again is said."""
    bakes.all_of_them()
    damage(next(bakes.shards[2].folder.glob(file)))
    with pytest.raises(
        PositronicError,
        match=r"(Shard 2 of 3 in .* is (damaged|of another bake):(.|\n)*rm -r .*2-of-3 && |shard 2 is miss)",
    ):
        bakes.join()
    assert not bakes.output.exists()
    shutil.rmtree(bakes.shards[2].folder)
    bakes.one(2)
    bakes.require_equal()


def test_joining_without_a_shard_says_which(bakes):
    """And what bakes the first of them."""
    bakes.one(2)
    with pytest.raises(PositronicError, match=r"shards 1, 3 are missing of 3.*shard=1, and so on for each of these 2"):
        bakes.join()
    assert not bakes.output.exists()


def test_shards_need_episodes(bakes):
    """One each at least."""
    bakes.shards = Shards(bakes.shards.folder, 9)
    with pytest.raises(PositronicError, match=r"shards=9: there are 8 episodes.*at most shards=8"):
        bakes.one(1)
    assert not bakes.shards.folder.exists()


def test_every_episode_is_in_one_shard(bakes):
    """In order, and the shards' sizes differ by one at most."""
    spans = [shard.span(10) for shard in Shards(bakes.folder, 4)]
    assert [position for span in spans for position in span] == list(range(10))
    assert {len(span) for span in spans} == {2, 3}


def test_an_output_that_exists_is_refused_before_anything_is_baked(bakes):
    """By a shard too."""
    bakes.output.mkdir()
    (bakes.output / "x").touch()
    with pytest.raises(PositronicError, match="exists already"):
        bakes.one(1)
