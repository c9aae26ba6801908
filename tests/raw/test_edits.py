import json

import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.faults import BadEpisode
from positronic.raw.leftout import LeftOut

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


@pytest.mark.parametrize("damage", ["cut", "removed", "without uid"])
@pytest.mark.parametrize("edit", [drop(0), set_static(0, task="sort")])
def test_an_edited_episode_whose_uid_cannot_be_read(edited, edit, damage):
    """It may be the one that was dropped or changed, so it does not come back as it was: it is a bad episode."""
    edited(edit)
    episode = open_dataset(edited().root)[0]
    meta = episode.path / "meta.json"
    {
        "cut": lambda: meta.write_bytes(meta.read_bytes()[:-8]),
        "removed": meta.unlink,
        "without uid": lambda: meta.write_text('{"uid": [1], "created_ts_ns": 0}'),
    }[damage]()
    again = edited(edit)[0]
    assert again.id == 0
    with pytest.raises(BadEpisode, match=r"meta\.json is missing or broken, so that its uid is not known"):
        again.validate([])


def test_meta_data_is_not_missed_without_edits(edited):
    """Nothing depends on it then; it is noted."""
    dataset = edited()
    (dataset[0].path / "meta.json").unlink()
    episode = dataset[0]
    episode.validate(episode.signals)
    assert episode.notes == ["meta.json is missing or broken, so its notes cannot be compared."]


def test_what_is_left_out_is_known(edited):
    """Unfinished and dropped episodes are counted, and a drop of an episode that is not there is named."""
    dataset = edited(drop(0), '{"op": "drop", "v": 1, "ep": "gone"}')
    marker = dataset[0].path / keys.UNFINISHED
    marker.touch()
    with pytest.raises(PositronicError, match=r"1 unfinished, 1 dropped"):
        open_dataset(dataset.root)
    marker.unlink()
    assert open_dataset(dataset.root).left_out == LeftOut((), 1, ("gone",))


@pytest.mark.parametrize(
    "content", [b"\xff\n", b'{"op": "set_static", "v": 1, "ep": "x", "data": {"a": {"__bytes_b64__": 3}}}']
)
def test_an_edit_log_that_is_not_text(edited, content):
    """The line is named."""
    root = edited().root
    (root / EDITS_FILE).write_bytes(content)
    with pytest.raises(PositronicError, match=rf"{EDITS_FILE}:1: not JSON"):
        open_dataset(root)


def test_a_text_may_hold_other_ends_of_lines(edited):
    """U+2028 and U+0085 end a line for some programs; in JSON they are characters."""
    line = json.dumps(set_static(0, task="a\u2028b\u0085c") | {"v": 1}, ensure_ascii=False)
    uid = edited()[0].uid
    assert edited(line.replace('"ep": 0', f'"ep": "{uid}"'))[0].statics[keys.TASK] == "a\u2028b\u0085c"
