"""Raw datasets in an object store: the same as on a disk, fetched when they are read."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.leftout import LeftOut
from positronic.raw.writer import DatasetWriter

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
STEP_NS = 10_000_000


@pytest.fixture
def record(tmp_path):
    """Records episodes with a gripper that closes, under ``tmp_path / name``."""

    def make(name="raw", episodes=2, task="stack"):
        for _ in range(episodes):
            with DatasetWriter(tmp_path / name).new_episode() as writer:
                for i in range(4):
                    writer.append(keys.GRIP, i / 4, i * STEP_NS)
                    writer.append(keys.IMAGE_WRIST, np.full((16, 16, 3), 40 * i, np.uint8), i * STEP_NS)
                writer.set_static(keys.TASK, task)
        return tmp_path / name

    return make


def test_a_remote_dataset_is_the_local_one(bucket):
    """Signals, frames, statics, fingerprints, of a real published dataset."""
    bucket.put_folder(PUBLISHED, "raw/published")
    local, remote = open_dataset(PUBLISHED), open_dataset(bucket.uri("raw/published"), storage=bucket.config())
    assert (len(remote), remote.name) == (len(local), "published")
    for ours, theirs in zip(local, remote, strict=True):
        assert (theirs.id, theirs.uid, theirs.statics) == (ours.id, ours.uid, ours.statics)
        assert list(theirs.signals) == list(ours.signals)
        assert theirs.fingerprint() == ours.fingerprint()
        np.testing.assert_array_equal(theirs[keys.JOINT_POSITION].values, ours[keys.JOINT_POSITION].values)
        np.testing.assert_array_equal(theirs[keys.IMAGE_WRIST].frame(3), ours[keys.IMAGE_WRIST].frame(3))


def test_opening_lists_and_reads_nothing(bucket, proxy, record):
    """Not even to tell which signals there are."""
    bucket.put_folder(record(), "raw/demo")
    dataset = open_dataset(bucket.uri("raw/demo"), storage=bucket.config(proxy.url))
    assert [episode.id for episode in dataset] == [0, 1]
    assert keys.GRIP in dataset[0].signals
    assert keys.GRIP in dataset._repr_html_()
    assert proxy.gets() == []


def test_only_the_episodes_that_are_read_are_fetched(bucket, proxy, record):
    """One of them here."""
    bucket.put_folder(record(episodes=3), "raw/demo")
    dataset = open_dataset(bucket.uri("raw/demo"), storage=bucket.config(proxy.url))
    assert dataset[1][keys.GRIP].values.tolist() == [0, 0.25, 0.5, 0.75]
    fetched = [request.path for request in proxy.requests if "list-type" not in request.path]
    assert fetched
    assert all("/000000000001/" in path for path in fetched)


def test_a_reader_of_vectors_fetches_no_video(bucket, proxy, record):
    """And who reads the whole episode later fetches only the videos."""
    bucket.put_folder(record(episodes=1), "raw/demo")
    episode = open_dataset(bucket.uri("raw/demo"), storage=bucket.config(proxy.url))[0]
    assert episode.without_cameras()[keys.GRIP].values[1] == 0.25
    first = proxy.gets()
    assert first
    assert not any(path.endswith(".mp4") for path in first)
    assert len(episode[keys.IMAGE_WRIST].times_ns) == 4
    assert [path.endswith(".mp4") for path in proxy.gets()[len(first) :]] == [True]


def test_an_episode_travels_to_another_process_by_name(bucket, proxy, record):
    """Workers fetch for themselves, in parallel, and share what is there."""
    bucket.put_folder(record(), "raw/demo")
    episode = open_dataset(bucket.uri("raw/demo"), storage=bucket.config(proxy.url))[0]
    sent = pickle.dumps(episode)
    assert episode[keys.GRIP].values[1] == 0.25
    del proxy.requests[:]
    assert pickle.loads(sent)[keys.GRIP].values[1] == 0.25
    assert pickle.loads(pickle.dumps(episode)).uid == episode.uid
    assert proxy.requests == []


def test_an_episode_can_be_fetched_ahead(bucket, proxy, record):
    """Who reads it later, or meanwhile, asks for nothing again."""
    bucket.put_folder(record(), "raw/demo")
    dataset = open_dataset(bucket.uri("raw/demo"), storage=bucket.config(proxy.url))
    dataset.prefetch(1)
    assert dataset[1][keys.GRIP].values[1] == 0.25
    dataset.prefetch(2)
    assert sorted(set(proxy.gets())) == sorted(proxy.gets()) != []


def test_unfinished_and_dropped_episodes_are_left_out(bucket, record):
    """As on a disk: by the marker, and by the edits."""
    root = record(episodes=4)
    (root / "000000000000" / "000000000001" / keys.UNFINISHED).write_text("unfinished")
    uid = open_dataset(root)[1].uid
    edits = [
        {"op": "drop", "v": 1, "ep": uid},
        {"op": "set_static", "v": 1, "ep": open_dataset(root)[0].uid, "data": {"task": "edited"}},
    ]
    (root / "edits.jsonl").write_text("\n".join(map(json.dumps, edits)))
    bucket.put_folder(root, "raw/demo")
    dataset = open_dataset(bucket.uri("raw/demo"), storage=bucket.config())
    assert [episode.id for episode in dataset] == [0, 3]
    assert dataset[0].statics[keys.TASK] == "edited"


def test_a_tree_of_datasets_is_read_in_the_order_of_a_local_one(bucket, record, tmp_path):
    """Parents before children, by name."""
    for name, task in (("tree/b", "b"), ("tree/a/deep", "a"), ("tree", "root")):
        record(name, 1, task)
    bucket.put_folder(tmp_path / "tree", "raw/tree")
    tasks = [e.statics[keys.TASK] for e in open_dataset(bucket.uri("raw/tree"), "local_all", storage=bucket.config())]
    assert tasks == [e.statics[keys.TASK] for e in open_dataset(tmp_path / "tree", "local_all")] == ["root", "a", "b"]


def test_an_episode_that_changed_since_is_refused(bucket, record):
    """What was opened is what is read, or an error."""
    bucket.put_folder(record(), "raw/demo")
    dataset = open_dataset(bucket.uri("raw/demo"), storage=bucket.config())
    bucket.put_key("raw/demo/000000000000/000000000000/grip.parquet", b"other")
    with pytest.raises(PositronicError, match="000000000000 has changed since it was listed"):
        dataset[0][keys.GRIP].values  # noqa: B018


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("raw", "raw does not exist, or has no episode.*dataset.layout=local_all"),
        ("raw/demo/000000000000", "is inside a raw dataset"),
        ("raw/nothing", "does not exist, or has no episode"),
    ],
)
def test_a_wrong_folder_is_refused_with_what_to_type(bucket, record, path, message):
    """Too high, too low, or not there."""
    bucket.put_folder(record(), "raw/demo")
    with pytest.raises(PositronicError, match=message):
        open_dataset(bucket.uri(path), storage=bucket.config())


def test_a_bucket_of_unfinished_and_dropped_episodes(bucket, record):
    """The dataset is what is blamed, with both counts, and not the codec that finds no signal in it."""
    root = record()
    dropped, unfinished = open_dataset(root)
    (unfinished.path / keys.UNFINISHED).touch()
    (root / "edits.jsonl").write_text(json.dumps({"op": "drop", "v": 1, "ep": dropped.uid}) + "\n")
    bucket.put_folder(root, "raw/demo")
    with pytest.raises(PositronicError, match=r"no finished episode \(1 unfinished, 1 dropped by edits\)"):
        open_dataset(bucket.uri("raw/demo"), storage=bucket.config())


def test_what_is_left_out_of_a_bucket_is_known(bucket, record):
    """As on a disk."""
    root = record(episodes=3)
    dropped, unfinished, _ = open_dataset(root)
    (unfinished.path / keys.UNFINISHED).touch()
    lines = [{"op": "drop", "v": 1, "ep": uid} for uid in (dropped.uid, "gone")]
    (root / "edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    bucket.put_folder(root, "raw/demo")
    remote = open_dataset(bucket.uri("raw/demo"), storage=bucket.config())
    assert remote.left_out == open_dataset(root).left_out == LeftOut((unfinished.place.name,), 1, ("gone",))


def test_a_dropped_episode_in_a_bucket_whose_uid_cannot_be_read(bucket, record):
    """It does not come back."""
    root = record()
    dropped = open_dataset(root)[0]
    (root / "edits.jsonl").write_text(json.dumps({"op": "drop", "v": 1, "ep": dropped.uid}) + "\n")
    (dropped.path / "meta.json").write_text("{")
    bucket.put_folder(root, "raw/demo")
    episode = open_dataset(bucket.uri("raw/demo"), storage=bucket.config())[0]
    with pytest.raises(PositronicError, match=r"meta\.json is missing or broken"):
        episode.validate([keys.GRIP])
