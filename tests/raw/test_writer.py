import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.episode import Episode
from positronic.raw.video_writer import VideoOptions
from positronic.raw.writer import DatasetWriter


@pytest.fixture
def writer(tmp_path):
    return DatasetWriter(tmp_path / "raw")


@pytest.fixture
def episode(writer):
    """An episode that is being recorded; removed in the end unless the test has finished it."""
    with writer.new_episode() as episode:
        yield episode
        episode.abort()


def record_one(writer, **options):
    with writer.new_episode(**options) as episode:
        episode.append(keys.GRIP, 0.0, 0)
    return episode.id


def refusal(function, *args):
    with pytest.raises(PositronicError) as caught:
        function(*args)
    return str(caught.value)


def test_the_marker_stands_from_the_first_moment_to_the_last(writer, tmp_path):
    """Readers see no episode before it is finished."""
    with writer.new_episode() as episode:
        episode.append(keys.GRIP, 0.0, 0)
        assert (episode.path / keys.UNFINISHED).read_text() == "unfinished"
        with pytest.raises(PositronicError, match="1 unfinished"):
            open_dataset(tmp_path / "raw")
    assert sorted(path.name for path in episode.path.iterdir()) == ["grip.parquet", "meta.json", "static.json"]


def test_the_marker_goes_last(writer):
    """When it is removed, everything else is already there and stays as it is."""
    with writer.new_episode() as episode:
        for i in range(3):
            episode.append(keys.IMAGE_WRIST, np.zeros((16, 16, 3), np.uint8), i)
    marker_gone = episode.path.stat().st_mtime_ns
    assert all(file.stat().st_mtime_ns <= marker_gone for file in episode.path.iterdir())


CRASH = """
import sys
import numpy as np
from positronic.raw.writer import DatasetWriter
episode = DatasetWriter(sys.argv[1]).new_episode()
for i in range(20):
    episode.append("grip", 0.0, i)
    episode.append("image.wrist", np.zeros((16, 16, 3), np.uint8), i)
print("recording", flush=True)
sys.stdin.read()
"""


def test_a_crash_leaves_an_episode_that_readers_skip(writer, tmp_path):
    """A process killed while recording: its episode is marked for ever, the next one gets another id."""
    record_one(writer)
    command = [sys.executable, "-c", CRASH, str(tmp_path / "raw")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "recording\n"
        os.kill(process.pid, signal.SIGKILL)
    crashed = tmp_path / "raw" / "000000000000" / "000000000001"
    assert (crashed / keys.UNFINISHED).exists()
    assert record_one(DatasetWriter(tmp_path / "raw")) == 2
    assert [episode.id for episode in open_dataset(tmp_path / "raw")] == [0, 2]


def test_an_exception_removes_the_episode(writer):
    """Nothing of it is left, not even under another name, and its id stays unused."""
    episode = writer.new_episode()

    def fail():
        with episode:
            episode.append(keys.IMAGE_WRIST, np.zeros((16, 16, 3), np.uint8), 0)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(episode.path.parent.iterdir()) == []
    assert record_one(writer) == 1


def test_abort_removes_the_episode(writer):
    """From within the ``with``, which then ends quietly."""
    with writer.new_episode() as episode:
        episode.append(keys.GRIP, 0.0, 0)
        episode.abort()
    assert not episode.path.exists()


def test_a_closed_episode_takes_nothing_more(writer):
    """The error names the episode and the way on."""
    with writer.new_episode() as episode:
        episode.append(keys.GRIP, 0.0, 0)
    message = refusal(episode.append, keys.GRIP, 0.0, 1)
    assert "Episode 0" in message
    assert "new_episode()" in message


def test_aborting_a_finished_episode_changes_nothing(writer):
    """What is finished stays."""
    with writer.new_episode() as episode:
        episode.append(keys.GRIP, 0.0, 0)
    episode.abort()
    assert episode.path.exists()


def test_a_failed_finish_removes_the_episode(writer):
    """An episode is never finished by half."""
    episode = writer.new_episode()
    episode.append(keys.IMAGE_WRIST, np.zeros((16, 16, 3), np.uint8), 0)
    (episode.path / f"{keys.IMAGE_WRIST}.frames.parquet").mkdir()
    with pytest.raises(OSError, match="frames.parquet"):
        episode.finish()
    assert not episode.path.exists()


def test_ids_continue_after_those_present(writer, tmp_path):
    """Over blocks, gaps and unfinished episodes alike."""
    (tmp_path / "raw" / "000000001000" / "000000001998").mkdir(parents=True)
    again = DatasetWriter(tmp_path / "raw")
    assert [record_one(again) for _ in range(3)] == [1999, 2000, 2001]
    assert (tmp_path / "raw" / "000000002000" / "000000002001").is_dir()


def test_an_explicit_id(writer):
    """Numbering then does not depend on who is first; free ids go on after it."""
    assert [record_one(writer, episode_id=5), record_one(writer, episode_id=2), record_one(writer)] == [5, 2, 6]


def test_an_id_that_is_taken(writer):
    """A recorded episode is never written over."""
    record_one(writer, episode_id=5)
    assert "Episode 5 exists already" in refusal(writer.new_episode, 5)


def test_two_writers_take_turns(writer, tmp_path):
    """Each skips what the other has taken since."""
    other = DatasetWriter(tmp_path / "raw")
    assert [record_one(writer), record_one(other), record_one(other), record_one(writer)] == [0, 1, 2, 3]


MANY = """
import sys
from positronic.raw.writer import DatasetWriter
writer = DatasetWriter(sys.argv[1])
sys.stdin.readline()
for i in range(15):
    with writer.new_episode() as episode:
        episode.append("grip", 0.0, 0)
        episode.set_static("from", [sys.argv[2], i])
"""


def test_several_processes_write_one_dataset(tmp_path):
    """No episode is lost or written twice, and the numbering has no gaps."""
    commands = [[sys.executable, "-c", MANY, str(tmp_path), str(worker)] for worker in range(3)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    dataset = open_dataset(tmp_path)
    assert [episode.id for episode in dataset] == list(range(45))
    assert sorted(episode.statics["from"] for episode in dataset) == [[w, i] for w in "012" for i in range(15)]


def test_a_root_is_made(tmp_path):
    """With the folders above it."""
    assert record_one(DatasetWriter(tmp_path / "a" / "b")) == 0


VALUES = [0.5, 3, True, "open", np.float32(0.5), np.arange(3), np.arange(3, dtype=np.float32), [1.0, 2.0], (1.0, 2.0)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}")
def test_every_kind_of_value_comes_back(episode, value):
    """Scalars, text and vectors, in the type in which they were recorded."""
    episode.append("x", value, 0)
    episode.finish()
    values = Episode(episode.path)["x"].values
    assert np.array_equal(values[0], value)
    if not isinstance(value, str):
        assert values.dtype == np.asarray(value).dtype


def test_a_sample_is_what_it_was_when_it_was_appended(episode):
    """A robot may reuse its buffers."""
    buffer = np.zeros(7)
    for i in range(3):
        buffer += 1.0
        episode.append(keys.JOINT_POSITION, buffer, i)
    episode.finish()
    assert Episode(episode.path)[keys.JOINT_POSITION].values[:, 0].tolist() == [1.0, 2.0, 3.0]


def test_long_signals_are_written_in_groups(episode):
    """10,000 samples per row group, as published, and all of them are read back."""
    for i in range(25_000):
        episode.append(keys.GRIP, float(i), i)
    episode.finish()
    assert pq.ParquetFile(episode.path / "grip.parquet").num_row_groups == 3
    assert Episode(episode.path)[keys.GRIP].values.tolist() == list(range(25_000))


@pytest.mark.parametrize("second", [10, 9])
def test_time_must_increase(episode, second):
    """Signal and stamps are named, and the unit: seconds that were cut to whole numbers come twice."""
    episode.append(keys.GRIP, 0.0, 10)
    message = refusal(episode.append, keys.GRIP, 0.0, second)
    assert f"Signal 'grip': time must increase; after 10 ns it got {second} ns (stamps are whole nanoseconds" in message


CHANGES = [(0.0, 0), (0.0, "x"), (np.zeros(3), np.zeros(4)), (np.zeros(3), np.zeros(3, np.float32)), (np.zeros(1), 0.0)]


@pytest.mark.parametrize(("first", "second"), CHANGES)
def test_a_signal_keeps_its_type_and_shape(episode, first, second):
    """What came first is what is expected."""
    episode.append("x", first, 0)
    assert "Signal 'x' holds" in refusal(episode.append, "x", second, 1)


@pytest.mark.parametrize("value", [np.zeros((2, 2)), None, {"a": 1}, np.zeros((4, 4, 3)), b"x", [[1, 2], [3]]])
def test_values_that_cannot_be_recorded(episode, value):
    """What is accepted is said, and the episode goes on, with a right value under the same name."""
    assert "expected a scalar, a vector, or an image" in refusal(episode.append, "x", value, 0)
    episode.append("x", np.zeros((16, 16, 3), np.uint8), 0)
    episode.finish()
    assert Episode(episode.path)["x"].shape == (16, 16, 3)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "image.wrist.frames"])
def test_names_that_cannot_be_files(episode, name):
    """A signal's name is its file's name."""
    assert "not a name" in refusal(episode.append, name, 0.0, 0)


@pytest.mark.parametrize("shape", [(15, 16, 3), (16, 15, 3), (0, 16, 3)])
def test_odd_frame_sizes(episode, shape):
    """The camera, its size and a way out are named; the episode goes on."""
    message = refusal(episode.append, keys.IMAGE_WRIST, np.zeros(shape, np.uint8), 0)
    assert f"Camera 'image.wrist' sends frames of {shape[0]} x {shape[1]} (height x width)" in message
    assert "even sides" in message
    episode.append(keys.GRIP, 0.0, 0)
    episode.finish()
    assert list(Episode(episode.path).signals) == [keys.GRIP]


@pytest.mark.parametrize("frame", [np.zeros((16, 32, 3), np.uint8), np.zeros((16, 16, 3)), np.zeros(3, np.uint8)])
def test_a_camera_keeps_its_size(episode, frame):
    """Another shape or type later is refused."""
    episode.append(keys.IMAGE_WRIST, np.zeros((16, 16, 3), np.uint8), 0)
    assert "records uint8 frames of shape (16, 16, 3)" in refusal(episode.append, keys.IMAGE_WRIST, frame, 1)


def test_frames_that_are_not_contiguous(episode):
    """Views, such as flipped or cropped pictures, are recorded as they look."""
    image = np.zeros((32, 16, 3), np.uint8)
    image[:, :8] = 200
    episode.append(keys.IMAGE_WRIST, image[::2, ::-1], 0)
    episode.finish()
    frame = Episode(episode.path)[keys.IMAGE_WRIST].frame(0)
    assert frame[:, :6].max() < 20
    assert frame[:, 10:].min() > 180


def test_a_recording_looks_like_what_the_camera_saw(episode):
    """A smooth picture comes back within a few grey levels, colours in their place."""
    rows, columns = np.mgrid[0:64, 0:96]
    image = np.stack([rows * 4, columns * 2, np.full_like(rows, 60)], axis=-1).astype(np.uint8)
    episode.append(keys.IMAGE_WRIST, image, 0)
    episode.finish()
    error = np.abs(Episode(episode.path)[keys.IMAGE_WRIST].frame(0).astype(int) - image)
    assert error.mean() < 3


def test_the_same_frames_make_the_same_file(tmp_path):
    """Recording is deterministic, byte for byte, whatever the time."""
    pictures = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8)
    files = []
    for _ in range(2):
        with DatasetWriter(tmp_path).new_episode() as episode:
            for i, picture in enumerate(pictures):
                episode.append(keys.IMAGE_WRIST, picture, i)
        files.append((episode.path / "image.wrist.mp4").read_bytes())
    assert files[0] == files[1]


def test_video_options(tmp_path):
    """A coarser quality makes a smaller file."""
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    sizes = []
    for options in (VideoOptions(crf=10), VideoOptions(preset="ultrafast", crf=40)):
        with DatasetWriter(tmp_path, video=options).new_episode() as episode:
            episode.append(keys.IMAGE_WRIST, picture, 0)
        sizes.append((episode.path / "image.wrist.mp4").stat().st_size)
    assert sizes[1] < sizes[0]


STATICS = {
    keys.TASK: "stapeln: über",
    "n": 3,
    "rate": 0.5,
    "flag": False,
    "scene": b"\x00\xff",
    "nested": {"list": [1, 2.5, "x", True, [b"y"]], "dict": {"a": {}, "none": None}, "nulls": [None]},
}


def test_statics_come_back(episode):
    """Every allowed type, nested, bytes too."""
    for key, value in STATICS.items():
        episode.set_static(key, value)
    episode.finish()
    assert Episode(episode.path).statics == STATICS


def test_bytes_are_written_as_published(episode):
    """Base64 under one agreed key."""
    episode.set_static("scene", b"\x00\x01")
    episode.finish()
    assert json.loads((episode.path / "static.json").read_text()) == {"scene": {"__bytes_b64__": "AAE="}}


@pytest.mark.parametrize("value", [None, np.float64(1.0), np.int64(1), np.zeros(2), {1: "x"}, [object()], object()])
def test_statics_that_cannot_be_recorded(episode, value):
    """The key and what is accepted are named."""
    assert "Static 'x' holds" in refusal(episode.set_static, "x", value)


def test_a_static_is_set_once(episode):
    """A second value is a mistake, not a correction."""
    episode.set_static("x", 1)
    assert "has a static of that name already" in refusal(episode.set_static, "x", 1)


def test_signals_and_statics_share_their_names(episode):
    """Either way round."""
    episode.append("signal", 0.0, 0)
    episode.set_static("static", 1)
    assert "has a signal of that name already" in refusal(episode.set_static, "signal", 1)
    assert "has a static of that name already" in refusal(episode.append, "static", 0.0, 0)


def test_duration(episode):
    """From when the last signal starts to the last stamp of any."""
    for time_ns in (0, 100):
        episode.append("early", 0.0, time_ns)
        episode.append("late", 0.0, time_ns + 30)
    episode.finish()
    reopened = Episode(episode.path)
    assert reopened.meta["duration_ns"] == reopened.duration_ns == reopened.last_ns - reopened.start_ns == 100


def test_an_episode_without_samples(episode):
    """It can be recorded, has no duration, and is a bad one as soon as its time is asked for."""
    episode.finish()
    reopened = Episode(episode.path)
    assert "duration_ns" not in reopened.meta
    with pytest.raises(PositronicError, match="no signal has any samples"):
        _ = reopened.duration_ns


def test_meta_data(tmp_path):
    """Who wrote it, when and where; the commit, where the writer was told."""
    with DatasetWriter(tmp_path, git={"commit": "abc", "dirty": False}).new_episode() as episode:
        episode.append(keys.GRIP, 0.0, 0)
    meta = json.loads((episode.path / "meta.json").read_text())
    assert list(meta) == ["schema_version", "uid", "created_ts_ns", "writer", "path", "duration_ns", "files"]
    assert meta["path"] == str(episode.path)
    assert meta["writer"]["git"] == {"commit": "abc", "dirty": False}
    assert Episode(episode.path).uid == meta["uid"]


@pytest.mark.parametrize("stamp", [0.033, 33.0, np.float64(1e9), True, "0", None, 2**63])
def test_a_stamp_is_a_whole_number_of_nanoseconds(episode, stamp):
    """Seconds and milliseconds are not cut to whole numbers; what to type is said."""
    message = refusal(episode.append, keys.GRIP, 0.0, stamp)
    assert "Signal 'grip': a stamp is a whole number of nanoseconds" in message
    assert "round(seconds * 10**9)" in message


def test_whole_numbers_of_any_type_are_stamps(episode):
    """As clocks and arrays give them; a clock may start at 0."""
    for stamp in (0, np.int64(10**7), np.uint32(2 * 10**7)):
        episode.append(keys.GRIP, 0.0, stamp)
    episode.finish()
    assert Episode(episode.path)[keys.GRIP].times_ns.tolist() == [0, 10**7, 2 * 10**7]


def test_an_episode_in_another_unit_is_said_at_once(episode, caplog):
    """While the recording program can still be mended."""
    for i in range(40):
        episode.append(keys.GRIP, 0.0, 33 * i)
    episode.finish()
    assert "lasts 1287 ns; stamps are whole nanoseconds" in caplog.text


def test_half_a_character_is_refused_at_once(episode):
    """Not when the episode is finished, which would lose it."""
    assert "holds half a character" in refusal(episode.set_static, keys.TASK, "\ud800")
