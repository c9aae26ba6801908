"""Format v2.1: the files that upstream GR00T and openpi read, with the numbers of v3.0."""

import json

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from positronic.bake.columns import episode_columns
from positronic.bake.reader import open_baked


@pytest.fixture
def both(record, recipe, baked):
    """The same two episodes in both formats: v3.0, v2.1."""
    record(seconds=1.2, seed=1, task="one")
    dataset = record(seconds=0.8, seed=2, task="two")
    return baked(dataset, recipe(), "new"), baked(dataset, recipe(), "old", dataset_format="v2.1")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def frames(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_files_are_those_of_the_format(both):
    """A parquet file per episode, an mp4 per episode and camera, meta data, and our own files beside it."""
    _, old = both
    names = {str(path.relative_to(old)) for path in old.rglob("*") if path.is_file()}
    camera = "observation.images"
    assert names == {
        *(f"data/chunk-000/episode_00000{i}.parquet" for i in (0, 1)),
        *(f"videos/chunk-000/{camera}.{side}/episode_00000{i}.mp4" for i in (0, 1) for side in ("left", "side")),
        *(f"meta/{name}" for name in ("info.json", "stats.json", "bake_report.json", "positronic.json")),
        *(f"meta/{name}.jsonl" for name in ("episodes", "episodes_stats", "tasks")),
        *(f"meta/positronic_{name}" for name in ("episodes.parquet", "histograms.parquet", "files.txt")),
    }


def test_the_meta_data_has_the_formats_keys(both):
    """Key for key; paths are templates over episode_chunk and episode_index."""
    _, old = both
    info = json.loads((old / "meta/info.json").read_text())
    assert list(info) == [
        *("codebase_version", "robot_type", "total_episodes", "total_frames", "total_tasks", "total_videos"),
        *("total_chunks", "chunks_size", "fps", "splits", "data_path", "video_path", "features"),
    ]
    assert (info["codebase_version"], info["total_episodes"], info["total_videos"], info["total_chunks"]) == (
        *("v2.1", 2, 4, 1),
    )
    assert info["splits"] == {"train": "0:2"}
    assert (old / info["data_path"].format(episode_chunk=0, episode_index=1)).exists()
    wrist = "observation.images.left"
    assert (old / info["video_path"].format(episode_chunk=0, episode_index=1, video_key=wrist)).exists()
    assert lines(old / "meta/tasks.jsonl") == [{"task_index": 0, "task": "one"}, {"task_index": 1, "task": "two"}]
    lengths = [pq.read_metadata(path).num_rows for path in sorted((old / "data").glob("*/*"))]
    assert lines(old / "meta/episodes.jsonl") == [
        {"episode_index": i, "tasks": [task], "length": lengths[i]} for i, task in enumerate(("one", "two"))
    ]


def test_episode_statistics_are_numpys_over_the_episode(both):
    """min, max, mean, std and count of each column; images (3, 1, 1)."""
    _, old = both
    for row in lines(old / "meta/episodes_stats.jsonl"):
        table = pq.read_table(old / f"data/chunk-000/episode_{row['episode_index']:06d}.parquet")
        action = np.array(table.column("action").to_pylist(), np.float64)
        found = row["stats"]["action"]
        assert list(found) == ["min", "max", "mean", "std", "count"]
        np.testing.assert_allclose(found["mean"], action.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found["std"], action.std(axis=0), rtol=1e-12)
        assert found["count"] == [len(action)]
        assert np.shape(row["stats"]["observation.images.left"]["mean"]) == (3, 1, 1)


def test_both_formats_hold_the_same_numbers(both):
    """Every column, every statistic, every decoded frame."""
    new, old = both
    assert (new / "meta/stats.json").read_bytes() == (old / "meta/stats.json").read_bytes()
    for name in pq.read_schema(new / "data/chunk-000/file-000.parquet").names:
        one, other = (np.concatenate([e[name] for e in episode_columns(folder, [name])]) for folder in both)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, err_msg=name)
    for camera in ("left", "side"):
        column = f"observation.images.{camera}"
        pieces = [old / f"videos/chunk-000/{column}/episode_00000{i}.mp4" for i in (0, 1)]
        joined = frames(new / f"videos/{column}/chunk-000/file-000.mp4")
        np.testing.assert_array_equal(joined, [frame for piece in pieces for frame in frames(piece)])


def test_columns_are_typed_as_older_readers_know_it(both):
    """``Sequence``, which Hugging Face's datasets before and after its release 4 reads."""
    _, old = both
    schema = pq.read_schema(old / "data/chunk-000/episode_000000.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["action"]["_type"] == "Sequence"
    assert features["timestamp"] == {"dtype": "float32", "_type": "Value"}


def test_any_number_of_workers_gives_the_same_bytes(record, recipe, baked):
    """Every file, videos included."""
    for seed in range(3):
        dataset = record(seed=seed)
    one, two = (baked(dataset, recipe(), f"{n}", num_workers=n, dataset_format="v2.1") for n in (1, 2))
    found, same = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in (one, two))
    assert found == same


def test_lerobots_own_converter_takes_it_to_v30(both, tmp_path):
    """And finds in it what our v3.0 holds: the same frames and numbers through LeRobot's reader."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    new, old = both
    convert_dataset(repo_id="local/old", root=str(old), push_to_hub=False, force_conversion=True)
    ours = LeRobotDataset("local/new", root=new, video_backend="pyav")
    theirs = LeRobotDataset("local/old", root=old, video_backend="pyav")
    assert len(ours) == len(theirs)
    for index in range(0, len(ours), 4):
        one, other = ours[index], theirs[index]
        assert one["task"] == other["task"]
        for name in ("observation.state", "action", "timestamp", "observation.images.left"):
            np.testing.assert_array_equal(one[name].numpy(), other[name].numpy(), err_msg=f"{name} at {index}")


def test_training_here_reads_it(both):
    """The same numbers as in the other format."""
    new, old = map(open_baked, both)
    assert len(new) == len(old)
    for name, values in new.vectors.items():
        np.testing.assert_array_equal(old.vectors[name], values, err_msg=name)
