"""LeRobot's own reader opens what we bake, and finds every frame in its place."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import positronic
from positronic.bake.config import VideoConfig
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.sampling import episode_grid
from positronic.codecs.build import build
from positronic.raw.dataset import open_dataset

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
TASK = "Pick up the green cube and place it on the red cube."
FPS, CHUNK, SIDE = 15, 10, 64
BORDERS = [0, 1, 59, 60, 61, 119, 120, 178, 179]  # three episodes of 60 frames
MAX_CODEC_ERROR = 8.0  # mean absolute, of 255: small pictures of noise


@pytest.fixture(scope="module")
def recipe():
    sizes = [f"modality.image_size=[{SIDE},{SIDE}]", f"modality.action_fps={FPS}"]
    config = positronic.compose(["stage=convert", "vendor=lerobot", "codec=ee", "dataset.path=unused", *sizes])
    return build(config.codec, config.modality)


@pytest.fixture(scope="module")
def folder(recipe, tmp_path_factory):
    """The published recordings, baked. Read only."""
    output = tmp_path_factory.mktemp("lerobot") / "baked"
    bake(open_dataset(PUBLISHED), recipe, output, BakeOptions("lerobot", num_workers=1), {})
    return output


@pytest.fixture(scope="module")
def loaded(folder):
    """As LeRobot reads it, with chunks of actions. Read only."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [i / FPS for i in range(CHUNK)]}
    return LeRobotDataset("local/baked", root=folder, delta_timestamps=deltas, video_backend="pyav")


@pytest.fixture(scope="module")
def given_frames(recipe):
    """What went into the encoder: column -> all frames, uint8 (T, H, W, 3). Read only."""
    frames = {column.name: [] for column in recipe.modality.image_columns}
    for episode in open_dataset(PUBLISHED):
        times = episode_grid(episode, recipe.codec.signals, FPS)
        for column in recipe.modality.image_columns:
            signal, image = episode[column.sources[0].signal], column.sources[0]
            frames[column.name] += [image.encode(frame) for frame in signal.frames(signal.index_at(times))]
    return {name: np.stack(each) for name, each in frames.items()}


def test_counts_rate_and_task(loaded):
    """Episodes, frames, rate and language instruction arrive."""
    assert (loaded.num_episodes, loaded.num_frames, loaded.fps) == (3, 180, FPS)
    assert loaded[75]["task"] == TASK


@pytest.mark.parametrize("index", BORDERS)
def test_every_item_is_the_right_one(loaded, given_frames, index):
    """At the borders of episodes too: the frame is the one that was given, within what the video codec loses."""
    item = loaded[index]
    assert (item["index"], item["episode_index"], item["frame_index"]) == (index, index // 60, index % 60)
    np.testing.assert_allclose(item["timestamp"], index % 60 / FPS, rtol=1e-6)
    for name, frames in given_frames.items():
        pixels = item[name].numpy().transpose(1, 2, 0) * 255
        errors = {near: np.abs(pixels - frames[near]).mean() for near in range(max(0, index - 2), min(180, index + 3))}
        assert min(errors, key=errors.get) == index, name
        assert errors[index] < MAX_CODEC_ERROR


@pytest.mark.parametrize("index", [0, 55, 60])
def test_vectors_and_action_chunks_are_exact(loaded, folder, index):
    """Chunks end with their episode: what lies beyond repeats its last action and is marked as padding."""
    table = pq.read_table(folder / "data/chunk-000/file-000.parquet")
    states, actions = (np.array(table.column(name).to_pylist(), np.float32) for name in ("observation.state", "action"))
    item, last = loaded[index], index // 60 * 60 + 59
    steps = np.arange(index, index + CHUNK)
    np.testing.assert_array_equal(item["observation.state"].numpy(), states[index])
    np.testing.assert_array_equal(item["action"].numpy(), actions[np.minimum(steps, last)])
    np.testing.assert_array_equal(item["action_is_pad"].numpy(), steps > last)


def test_one_episode_alone_can_be_opened(folder, given_frames):
    """Its frames are found within the shared video file."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    alone = LeRobotDataset("local/baked", root=folder, episodes=[1], video_backend="pyav")
    assert len(alone) == 60
    for name, frames in given_frames.items():
        assert np.abs(alone[0][name].numpy().transpose(1, 2, 0) * 255 - frames[60]).mean() < MAX_CODEC_ERROR


def test_statistics_load_with_lerobots_shapes(loaded):
    """A vector's per dimension, an image's per channel as (3, 1, 1)."""
    stats = loaded.meta.stats
    assert {name: values.shape for name, values in stats["action"].items() if name != "count"}["q99"] == (8,)
    assert stats["observation.images.left"]["mean"].shape == (3, 1, 1)
    assert 0 <= stats["observation.images.left"]["min"].min() <= stats["observation.images.left"]["max"].max() <= 1


@pytest.fixture(scope="module")
def theirs(folder, recipe, tmp_path_factory):
    """A dataset with our columns by LeRobot's own writer. Read only."""
    from lerobot.configs import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    info, video, root = json.loads((folder / "meta/info.json").read_text()), VideoConfig(), tmp_path_factory.mktemp("t")
    columns = {column.name: info["features"][column.name] for column in recipe.modality.columns}
    features = {name: {k: v for k, v in each.items() if k != "info"} for name, each in columns.items()}
    encoder = RGBEncoderConfig(vcodec="h264", preset=video.preset, crf=video.crf)
    dataset = LeRobotDataset.create(
        "local/t", FPS, features, root=root / "t", streaming_encoding=True, rgb_encoder=encoder
    )
    for _ in range(2):
        for _ in range(4):
            values = {
                n: np.zeros(f["shape"], np.uint8 if f["dtype"] == "video" else np.float32) for n, f in features.items()
            }
            dataset.add_frame(values | {"task": TASK})
        dataset.save_episode()
    dataset.finalize()
    return root / "t"


def described(folder):
    """info.json without counts."""
    info = json.loads((folder / "meta/info.json").read_text())
    return {key: value for key, value in info.items() if not key.startswith("total") and key != "splits"}


def test_info_is_what_lerobot_writes(folder, theirs):
    """Field by field, how the video is encoded included."""
    assert described(folder) == described(theirs)


@pytest.mark.parametrize("file", ["data/chunk-000/file-000.parquet", "meta/tasks.parquet"])
def test_tables_have_lerobots_schema(folder, theirs, file):
    """Names, types and order of the columns."""
    assert pq.read_schema(folder / file).equals(pq.read_schema(theirs / file))


def test_episodes_have_lerobots_columns(folder, theirs):
    """Names and types, statistics per episode included."""
    ours, expected = (pq.read_schema(root / "meta/episodes/chunk-000/file-000.parquet") for root in (folder, theirs))
    assert dict(zip(ours.names, ours.types, strict=True)) == dict(zip(expected.names, expected.types, strict=True))


def test_statistics_have_lerobots_keys(folder, theirs):
    """The same features, each with the same statistics."""
    ours, expected = (json.loads((root / "meta/stats.json").read_text()) for root in (folder, theirs))
    assert {name: set(stats) for name, stats in ours.items()} == {name: set(stats) for name, stats in expected.items()}
