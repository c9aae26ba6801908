"""A recording made by the published package is read, and what is written has the same files and schemas."""

import json

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from positronic import keys
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter

EPOCH_NS = 1_770_000_000_000_000_000


@pytest.fixture
def episode(published):
    return open_dataset(published)[0]


@pytest.fixture
def copy(episode, tmp_path):
    """The published episode, recorded again by us."""
    with DatasetWriter(tmp_path).new_episode() as writer:
        for key, value in episode.statics.items():
            writer.set_static(key, value)
        for name, signal in episode.signals.items():
            is_video = name.startswith(keys.IMAGE_PREFIX)
            values = signal.frames(range(len(signal.times_ns))) if is_video else signal.values
            for time_ns, value in zip(signal.times_ns, values, strict=True):
                writer.append(name, value, time_ns)
    return open_dataset(tmp_path)[0]


def parquet_layout(path):
    """What a reader of parquet depends on, apart from the rows."""
    file = pq.ParquetFile(path)
    group = file.metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    physical = [(column.path_in_schema, column.physical_type, column.compression) for column in columns]
    return (
        file.schema_arrow,
        str(file.schema).splitlines()[1:],
        physical,
        file.metadata.num_rows,
        file.metadata.format_version,
    )


def test_three_episodes_are_found(published):
    """The published recording holds three episodes, numbered from 0."""
    assert [episode.id for episode in open_dataset(published)] == [0, 1, 2]


def test_every_published_episode_is_valid(published):
    """Nothing in a good recording is complained of."""
    for episode in open_dataset(published):
        episode.validate(episode.signals)


def test_shapes_of_published_signals(episode):
    """Joints and poses are vectors of 7, grippers scalars, cameras 240 x 320."""
    shapes = {name: signal.shape for name, signal in episode.signals.items()}
    assert shapes == {
        keys.JOINT_POSITION: (7,),
        keys.JOINT_VELOCITY: (7,),
        keys.EE_POSE: (7,),
        keys.COMMAND_POSE: (7,),
        keys.GRIP: (),
        keys.TARGET_GRIP: (),
        keys.IMAGE_WRIST: (240, 320, 3),
        keys.IMAGE_EXTERIOR: (240, 320, 3),
    }


def test_published_stamps_and_values(episode):
    """The first stamps and values are those in the file, to the nanosecond and to the last digit."""
    assert episode[keys.GRIP].times_ns[:2].tolist() == [EPOCH_NS, EPOCH_NS + 33_333_333]
    assert episode[keys.GRIP].values[:2].tolist() == [0.5, 0.5166635802518027]
    assert episode[keys.EE_POSE].values.dtype == np.float64
    assert episode[keys.IMAGE_WRIST].times_ns[:2].tolist() == [EPOCH_NS + 20_000_000, EPOCH_NS + 86_666_666]


def test_an_episode_starts_when_its_last_signal_has_started(episode):
    """Over all signals the cameras are last to start; over the vectors alone it is earlier."""
    assert episode.start_ns == EPOCH_NS + 20_000_000
    assert episode.start_of([keys.GRIP, keys.EE_POSE]) == EPOCH_NS
    assert episode.last_ns - episode.start_ns == episode.duration_ns == episode.meta["duration_ns"]


def test_published_statics(episode):
    """Nested statics come back as written."""
    assert episode.statics == {
        keys.TASK: "Pick up the green cube and place it on the red cube.",
        "eval.note": {"nested": [1, 2.5, "x", True]},
    }


def test_an_old_recording_goes_by_its_time_of_creation(episode):
    """Without a uid in meta.json, the published rule gives one."""
    assert episode.uid == f"ts-{episode.meta['created_ts_ns']}"


def test_meta_names_the_place_where_the_episode_is_now(episode):
    """The path written at recording time is replaced by the actual one."""
    assert episode.meta["path"] == str(episode.path)


def test_we_write_the_same_files(episode, copy):
    """Same names, nothing more and nothing less."""
    assert sorted(file.name for file in copy.path.iterdir()) == sorted(file.name for file in episode.path.iterdir())


def test_we_write_the_same_parquet(episode, copy):
    """Schema, physical types, compression, row count and format version agree for every parquet file."""
    for file in sorted(episode.path.glob("*.parquet")):
        assert parquet_layout(copy.path / file.name) == parquet_layout(file), file.name


def test_we_write_the_same_rows(episode, copy):
    """Each table holds the same stamps and values."""
    for file in sorted(episode.path.glob("*.parquet")):
        assert pq.read_table(copy.path / file.name).equals(pq.read_table(file)), file.name


def test_we_write_the_same_kind_of_video(episode, copy):
    """Codec, profile, pixel format, size, rate, time base, frame stamps and keyframes agree."""

    def layout(path):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            packets = [(packet.pts, packet.is_keyframe) for packet in container.demux(stream) if packet.size]
            context = stream.codec_context
            look = (context.name, stream.profile, context.pix_fmt, context.height, context.width)
            stamps = sorted(pts for pts, _ in packets)
            keyframes = sorted(pts for pts, is_keyframe in packets if is_keyframe)
            return look, stream.average_rate, stream.time_base, stream.frames, stamps, keyframes, len(container.streams)

    assert layout(copy.path / "image.wrist.mp4") == layout(episode.path / "image.wrist.mp4")


def test_we_write_the_same_statics_and_meta(episode, copy):
    """static.json is byte for byte the same; meta.json has the published fields, and the uid of newer ones."""
    assert (copy.path / "static.json").read_bytes() == (episode.path / "static.json").read_bytes()
    ours, theirs = (json.loads((each.path / "meta.json").read_text()) for each in (copy, episode))
    assert set(ours) == set(theirs) | {"uid", "files"}
    assert set(ours["writer"]) == set(theirs["writer"])
    assert ours["duration_ns"] == theirs["duration_ns"]
    assert ours["schema_version"] == theirs["schema_version"] == 1
