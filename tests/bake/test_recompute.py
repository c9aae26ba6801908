"""Statistics computed again are those of the bake, and of numpy over all frames."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from positronic import keys
from positronic.bake.manifest import read_manifest
from positronic.bake.recompute import stats_json
from positronic.bake.sampling import episode_grid
from positronic.bake.whole import require_whole

FORMATS = ["v3.0", "v2.1"]


@pytest.fixture(params=FORMATS)
def dataset_format(request):
    return request.param


@pytest.fixture
def dataset(record):
    """Three short episodes of two tasks."""
    return [record(seconds=0.4 + 0.3 * seed, seed=seed, task=f"task {seed % 2}") for seed in range(3)][-1]


@pytest.fixture
def folder(dataset, recipe, baked, dataset_format):
    """It, baked with codec ee."""
    return baked(dataset, recipe(), dataset_format=dataset_format)


def again(folder):
    manifest = read_manifest(folder)
    require_whole(folder, manifest, anew=[keys.STATS_FILE])
    return stats_json(folder, manifest)


def assert_numpy(found, rows, shape):
    quantiles = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
    expected = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    expected |= {name: np.quantile(rows, q, axis=0) for name, q in quantiles.items()}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values.reshape(shape), rtol=1e-12, atol=1e-15, err_msg=name)


def test_they_are_the_bake_s_to_the_last_byte(folder):
    """Vectors, images and LeRobot's own columns."""
    assert again(folder) == (folder / "meta/stats.json").read_text()


def test_an_appended_dataset_s_are_the_bake_s_too(record, recipe, baked, dataset_format):
    """Also where the episodes lie in several files."""
    baked(record(seed=0), recipe(), dataset_format=dataset_format)
    folder = baked(record(seed=1)[1:], recipe(), dataset_format=dataset_format, append=True)
    assert read_manifest(folder).episodes == 2
    assert again(folder) == (folder / "meta/stats.json").read_text()


def test_vectors_equal_numpy_over_all_frames(folder):
    """What the data files hold."""
    stats = json.loads(again(folder))
    for name in ("observation.state", "action"):
        tables = [pq.read_table(path, columns=[name]) for path in sorted(folder.glob("data/*/*.parquet"))]
        rows = np.array([row for table in tables for row in table[name].to_pylist()], np.float64)
        assert_numpy(stats[name], rows, shape=(8,))
        assert stats[name]["count"] == [len(rows)]


def test_images_equal_numpy_over_all_pixels_of_all_frames(folder, dataset, recipe):
    """Of the frames as a robot's would be encoded, scaled to 0..1, per channel."""
    stats, codec, modality = json.loads(again(folder)), recipe().codec, recipe().modality
    for column in modality.image_columns:
        image, frames = column.sources[0], []
        for episode in dataset:
            video = episode[image.signal]
            times = episode_grid(episode, codec.signals, codec.timing.fps)
            frames += [image.encode(video.frame(video.index_at(time))) for time in times]
        assert_numpy(stats[column.name], np.concatenate(frames).reshape(-1, 3) / 255, shape=(3, 1, 1))
        assert stats[column.name]["count"] == [len(frames)]


def test_what_stands_in_the_file_of_statistics_does_not_matter(folder):
    """It is no input."""
    before = again(folder)
    (folder / "meta/stats.json").write_text("{")
    assert again(folder) == before
