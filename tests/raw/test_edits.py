import json

import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset

EDITS_FILE = "edits.jsonl"


@pytest.fixture
def edited(record, tmp_path):
    """Records two episodes, writes edits of them (``ep`` by position) and opens the result."""
    uids = [record(statics={keys.TASK: "stack", "n": i}).uid for i in range(2)]

    def edit(*lines):
        texts = [
            line if isinstance(line, str) else json.dumps(line | {"v": 1, "ep": uids[line["ep"]]}) for line in lines
        ]
        (tmp_path / "raw" / EDITS_FILE).write_text("".join(f"{text}\n" for text in texts))
        return open_dataset(tmp_path / "raw")

    return edit


def set_static(position, **data):
    return {"op": "set_static", "ep": position, "data": data}


def drop(position):
    return {"op": "drop", "ep": position}


def undrop(position):
    return {"op": "undrop", "ep": position}


def test_statics_are_changed_and_added(edited):
    """The last edit wins, other statics and other episodes stay as recorded."""
    dataset = edited(set_static(1, task="sort", note="x"), set_static(1, task="pick"))
    assert dataset[1].statics == {keys.TASK: "pick", "n": 1, "note": "x"}
    assert dataset[0].statics == {keys.TASK: "stack", "n": 0}


def test_bytes_in_an_edit(edited):
    """Written as in static.json."""
    assert edited(set_static(0, scene={"__bytes_b64__": "AAE="}))[0].statics["scene"] == b"\x00\x01"


def test_a_dropped_episode_is_left_out(edited):
    """The others keep their ids."""
    assert [episode.id for episode in edited(drop(0))] == [1]


@pytest.mark.parametrize(("edits", "count"), [((drop(0), undrop(0)), 2), ((undrop(0), drop(0)), 1)])
def test_the_last_of_drop_and_undrop_wins(edited, edits, count):
    """Edits are applied in the order in which they stand."""
    assert len(edited(*edits)) == count


def test_an_edit_log_only_names_its_own_root(edited, tmp_path):
    """An edit of an episode that is not there, for it was deleted, changes nothing."""
    assert len(edited('{"op": "drop", "v": 1, "ep": "gone"}', "")) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "a JSON object was expected, got list"),
        ('{"op": "dropp", "v": 1, "ep": "x"}', "unknown op 'dropp'.*Did you mean 'drop'"),
        ('{"op": "drop", "v": 2, "ep": "x"}', "edit version 2; this reader knows 1"),
        ('{"op": "drop", "v": 1}', "'ep' must be an episode's uid"),
        ('{"op": "set_static", "v": 1, "ep": "x"}', "'set_static' needs 'data'"),
    ],
)
def test_a_line_that_cannot_be_applied(edited, line, message):
    """File and line are named; nothing is guessed or skipped."""
    with pytest.raises(PositronicError, match=rf"{EDITS_FILE}:2: {message}"):
        edited(drop(0), line)
