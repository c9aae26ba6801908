"""A baked dataset says what it is, and what is none is told apart."""

import json
from pathlib import Path

import pytest

from positronic import keys
from positronic.bake.manifest import episodes_digest, read_manifest
from positronic.errors import PositronicError
from positronic.storage import partial_path


def test_the_manifest_gives_back_the_recipe(record, recipe, baked):
    """Codec, modality, rate and counts of the bake come back as they were."""
    used = recipe("joints", fps=10)
    manifest = read_manifest(baked(record(), used))
    references = manifest.recipe["reference_rotations"]
    assert manifest.load_recipe() == used.with_reference_rotations(references)
    assert (manifest.fps, manifest.episodes, manifest.dataset_format, manifest.vendor) == (10, 1, "v3.0", "lerobot")
    assert manifest.signals == list(used.codec.signals)


def test_nothing_of_machine_or_path_is_in_it(record, recipe, baked):
    """The text names no folder."""
    folder = baked(record(), recipe())
    for file in folder.rglob("*.json"):
        assert str(folder.parent) not in file.read_text()


def test_the_digest_follows_the_episodes(record, recipe, baked):
    """Another episode, or another order, is another digest; the same ones are not."""
    one = baked(record(seed=1), recipe(), "one")
    again = baked(record(seed=1)[:1], recipe(), "again")
    two = baked(record(seed=2), recipe(), "two")
    digests = [read_manifest(folder).digest for folder in (one, again, two)]
    assert digests[0] == digests[1] != digests[2]
    rows = [("a", "f", 1), ("b", "f", 1)]
    assert episodes_digest(rows) != episodes_digest(rows[::-1])


def test_no_dataset_at_all(tmp_path):
    """The message says how to bake one."""
    with pytest.raises(PositronicError, match=r"no baked dataset at .*stage=convert"):
        read_manifest(tmp_path / "nothing")


def test_an_unfinished_bake(tmp_path):
    """Its hidden folder is recognised."""
    partial_path(tmp_path / "data").mkdir()
    with pytest.raises(PositronicError, match="unfinished bake"):
        read_manifest(tmp_path / "data")


def test_a_raw_dataset(published):
    """It is named as such, with the command that bakes it."""
    with pytest.raises(PositronicError, match=r"is a raw dataset.*stage=convert dataset.path=.*raw_v1"):
        read_manifest(published.root)


def test_somebody_elses_lerobot_dataset(tmp_path):
    """Without a manifest nobody knows what its numbers mean."""
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text("{}")
    with pytest.raises(PositronicError, match=r"LeRobot dataset without .*not baked by Positronic.*stage=convert"):
        read_manifest(tmp_path)


def test_any_other_folder(tmp_path):
    """It is not taken for a dataset."""
    with pytest.raises(PositronicError, match="is not a baked dataset"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ('{"format": 99}', "expected manifest format 1, found 99")]
)
def test_a_damaged_or_newer_manifest(tmp_path, text, message):
    """Both are refused by what was found."""
    path = Path(tmp_path / keys.MANIFEST_FILE)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(PositronicError, match=message):
        read_manifest(tmp_path)


def test_a_manifest_with_a_field_missing(record, recipe, baked):
    """It is called damaged."""
    folder = baked(record(), recipe())
    fields = json.loads((folder / keys.MANIFEST_FILE).read_text())
    del fields["recipe"]
    (folder / keys.MANIFEST_FILE).write_text(json.dumps(fields))
    with pytest.raises(PositronicError, match="is damaged"):
        read_manifest(folder)
