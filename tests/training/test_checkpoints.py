"""Checkpoints on disk."""

import json
import zlib
from pathlib import Path

import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.training.checkpoints import (
    find_checkpoint,
    list_checkpoints,
    read_info,
    remove_partial,
    write_info,
    writing_checkpoint,
)


def save(experiment, step, content="weights"):
    with writing_checkpoint(experiment, step) as folder:
        (folder / "model").write_text(content)
        write_info(folder, {"step": step})


def test_ids_are_ordered_and_found_as_numbers(tmp_path):
    """Step 1000000 comes after 200, and 10000 finds 010000."""
    for step in (10000, 200, 1_000_000):
        save(tmp_path, step)
    assert [c.id for c in list_checkpoints(tmp_path)] == ["000200", "010000", "1000000"]
    assert find_checkpoint(tmp_path, "10000").id == find_checkpoint(tmp_path, 10000).id == "010000"
    assert find_checkpoint(tmp_path).step == 1_000_000


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def turn_a_bit(path):
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut, "expected the 9 bytes .* found 1"),
        (turn_a_bit, "some of its bytes have changed"),
        (Path.unlink, "it is missing"),
    ],
)
def test_a_damaged_file_is_named_with_the_checkpoint_before(tmp_path, harm, said):
    """And with what to type instead."""
    for step in (99, 1_000_000):
        save(tmp_path, step, "weights 1")
    last = find_checkpoint(tmp_path)
    last.require_intact()
    harm(last.path / "model")
    advice = r"The one before it is 000099: .* checkpoint=000099; after `rm -r .*1000000` training .*resume=true"
    with pytest.raises(PositronicError, match=rf"1000000/model is damaged: .*{said}.*{advice}"):
        last.require_intact()


def test_a_checkpoint_that_says_nothing_of_its_files_is_taken_as_it_is(tmp_path):
    """Those of older versions."""
    save(tmp_path, 1)
    path = find_checkpoint(tmp_path).path / keys.CHECKPOINT_FILE
    info = json.loads(path.read_text())
    del info["files"]
    path.write_text(json.dumps(info))
    find_checkpoint(tmp_path).require_intact()


def test_a_missing_checkpoint_names_those_that_exist(tmp_path):
    """The message lists every id that could have been typed."""
    save(tmp_path, 10)
    save(tmp_path, 20)
    with pytest.raises(PositronicError, match=r"No checkpoint '15'.*000010, 000020"):
        find_checkpoint(tmp_path, "15")
    with pytest.raises(PositronicError, match="'last'"):
        find_checkpoint(tmp_path, "last")
    with pytest.raises(PositronicError, match="'٢٠'"):  # digits, but none that a folder's name has
        find_checkpoint(tmp_path, "٢٠")


def test_an_experiment_that_is_not_there_names_its_neighbours(tmp_path):
    """A mistyped folder is answered with what lies beside it."""
    save(tmp_path / "run_a", 10)
    with pytest.raises(PositronicError, match="Beside it there are: run_a"):
        find_checkpoint(tmp_path / "run_b")


@pytest.mark.parametrize("inside", ["checkpoints", "checkpoints/000010", "checkpoints/000010/pretrained_model"])
def test_a_folder_inside_an_experiment_names_the_experiment(tmp_path, inside):
    """The checkpoint itself is what a person finds first."""
    save(tmp_path / "run_a", 10)
    (tmp_path / "run_a" / inside).mkdir(exist_ok=True)
    with pytest.raises(PositronicError, match=rf"give the experiment's folder itself: {tmp_path}/run_a\.$"):
        find_checkpoint(tmp_path / "run_a" / inside)


@pytest.mark.parametrize("above", ["checkpoints", "checkpoints/lerobot"])
def test_a_folder_above_experiments_names_them(tmp_path, above):
    """Experiments lie below a folder that is called checkpoints, too, and no experiment is above that one."""
    save(tmp_path / "checkpoints/lerobot/run_a", 10)
    with pytest.raises(PositronicError, match=rf"Give one of them: {tmp_path}/checkpoints/lerobot/run_a\.$"):
        find_checkpoint(tmp_path / above)


def test_a_baked_dataset_is_no_experiment(tmp_path):
    """It is told what one does with it."""
    (tmp_path / "meta").mkdir()
    (tmp_path / keys.MANIFEST_FILE).write_text("{}")
    with pytest.raises(PositronicError, match=rf"is a baked dataset.*stage=train input_path={tmp_path}"):
        find_checkpoint(tmp_path)


def test_a_checkpoint_that_was_not_finished_is_none(tmp_path):
    """An exception while writing leaves the last checkpoint as it was, and nothing else."""
    save(tmp_path, 10)
    with pytest.raises(TypeError):
        save(tmp_path, 20, content=None)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["000010"]


def test_what_a_killed_process_left_is_not_listed_and_can_be_removed(tmp_path):
    """A folder without its last file, or under its temporary name, is no checkpoint."""
    save(tmp_path, 10)
    (tmp_path / "checkpoints" / "000020").mkdir()
    partial = tmp_path / "checkpoints" / ".partial-000030-1"
    partial.mkdir()
    assert [c.step for c in list_checkpoints(tmp_path)] == [10]
    remove_partial(tmp_path)
    assert not partial.exists()


def test_writing_a_step_again_replaces_it(tmp_path):
    """A resumed run may come to the same step once more."""
    save(tmp_path, 10, "old")
    save(tmp_path, 10, "new")
    assert (find_checkpoint(tmp_path).path / "model").read_text() == "new"
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "said"), [("{", "damaged"), ('{"format": 99}', "expected checkpoint format 1, found 99")]
)
def test_an_unreadable_description_is_refused(tmp_path, text, said):
    """Damaged or newer: the message names the file and what is wrong with it."""
    save(tmp_path, 10)
    path = find_checkpoint(tmp_path).path
    (path / keys.CHECKPOINT_FILE).write_text(text)
    with pytest.raises(PositronicError, match=said):
        read_info(path)


def test_a_folder_of_another_kind_is_refused(tmp_path):
    """Something without positronic.json is called what it is."""
    with pytest.raises(PositronicError, match="is not a checkpoint of Positronic"):
        read_info(tmp_path)


def test_the_description_is_json_for_people(tmp_path):
    """What was given is in the file, with the format's number first, and CRC-32 and bytes of every other file."""
    save(tmp_path, 10)
    said = json.loads((find_checkpoint(tmp_path).path / keys.CHECKPOINT_FILE).read_text())
    assert said == {"format": 1, "step": 10, "files": {"model": [f"{zlib.crc32(b'weights'):08x}", 7]}}
