"""Every way in which a recording is known to go wrong, and what is said about it."""

import pickle

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.episode import BadEpisode, Episode, MissingSignal

VIDEO = f"{keys.IMAGE_WRIST}.mp4"
INDEX = f"{keys.IMAGE_WRIST}.frames.parquet"
JOINTS = f"{keys.JOINT_POSITION}.parquet"


@pytest.fixture
def episode(record):
    return record(samples=4, frames=40)


def vectors(episode, times, values):
    """Put another table in the place of the joints."""
    table = pa.table({"timestamp": pa.array(times, pa.int64()), "value": pa.array(values)})
    pq.write_table(table, episode.path / JOINTS)


def index(episode, times):
    """Put another index beside the video."""
    pq.write_table(pa.table({"ts_ns": pa.array(times, pa.int64())}), episode.path / INDEX)


def rewrite_with_header_first(path):
    """As some recorders do, so that a file which was cut off can still be opened."""
    moved = path.with_suffix(".moved.mp4")
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    moved.replace(path)


def cut(path, share):
    """Keep the first ``share`` of the file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def refused(episode, *names):
    """The error that ``validate`` raises."""
    with pytest.raises(BadEpisode) as caught:
        Episode(episode.path).validate(names or episode.signals)
    return caught.value


def test_a_good_episode_passes(episode):
    """Nothing is raised for what was recorded well."""
    episode.validate(episode.signals)


def test_the_error_carries_id_path_and_reason(episode):
    """A list of bad episodes can be made from the errors, also from those of worker processes."""
    (episode.path / INDEX).unlink()
    error = refused(episode)
    again = pickle.loads(pickle.dumps(error))
    assert (
        (again.id, again.path, again.reason) == (error.id, error.path, error.reason) == (0, episode.path, error.reason)
    )
    assert str(again) == f"Bad episode 0 ({episode.path}): {error.reason}"
    assert isinstance(error, PositronicError)


def test_a_truncated_video(episode):
    """A file that was cut off, as when a disk fills up."""
    cut(episode.path / VIDEO, 0.5)
    assert f"{VIDEO} is cut short or damaged" in refused(episode).reason


def test_a_video_whose_last_bytes_are_gone(episode):
    """A player does not need them; what was recorded did not end there."""
    (episode.path / VIDEO).write_bytes((episode.path / VIDEO).read_bytes()[:-8])
    assert f"{VIDEO} is cut short or damaged" in refused(episode).reason


def test_a_truncated_video_whose_header_is_whole(episode):
    """With the header at the front the file opens; the missing packets are noticed all the same."""
    rewrite_with_header_first(episode.path / VIDEO)
    Episode(episode.path).validate(episode.signals)
    cut(episode.path / VIDEO, 0.7)
    assert VIDEO in refused(episode).reason


def test_a_truncated_video_read_without_validation(episode):
    """Reading on into the missing part is an error, not a shorter video."""
    rewrite_with_header_first(episode.path / VIDEO)
    cut(episode.path / VIDEO, 0.7)
    with pytest.raises(BadEpisode, match=VIDEO):
        list(Episode(episode.path)[keys.IMAGE_WRIST].frames(range(40)))


def test_a_video_that_is_something_else(episode):
    """Other content under the video's name."""
    (episode.path / VIDEO).write_bytes(b"not a video" * 100)
    assert f"{VIDEO} cannot be opened" in refused(episode).reason


def test_a_video_without_index(episode):
    """The message names both files."""
    (episode.path / INDEX).unlink()
    assert refused(episode).reason == f"{VIDEO} has no index {INDEX}."


def test_an_index_without_video(episode):
    """The camera is still listed, and is bad."""
    (episode.path / VIDEO).unlink()
    assert keys.IMAGE_WRIST in Episode(episode.path).signals
    assert refused(episode).reason == f"{VIDEO} is missing."


@pytest.mark.parametrize("stamps", [39, 41])
def test_another_number_of_frames_than_stamps(episode, stamps):
    """Both counts are in the message."""
    index(episode, range(stamps))
    assert f"holds 40 frames, but its index {INDEX} {stamps} times" in refused(episode).reason


def test_an_index_that_promises_more_frames(episode):
    """Without validation, reading past the video's end says so."""
    index(episode, range(50))
    with pytest.raises(BadEpisode, match=r"ends after 40 frames|holds 40 frames"):
        list(Episode(episode.path)[keys.IMAGE_WRIST].frames(range(50)))


def test_the_camera_is_not_asked_for(episode):
    """Only the named signals are looked at: a broken camera does not matter to a codec without images."""
    (episode.path / VIDEO).unlink()
    Episode(episode.path).validate([keys.GRIP, keys.JOINT_POSITION])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite(episode, bad):
    """The row is named."""
    vectors(episode, [0, 1, 2], [[0.0, 1.0], [0.0, bad], [0.0, 1.0]])
    assert refused(episode).reason == f"{JOINTS}: row 1 of 3 is not finite: [0.0, {bad}]."


def test_ragged_vectors(episode):
    """The row with another length is named, with both lengths."""
    vectors(episode, [0, 1, 2], [[0.0, 1.0], [0.0, 1.0], [0.0]])
    assert f"{JOINTS}: vectors have length 2, but row 2 has length 1" in refused(episode).reason


@pytest.mark.parametrize("values", [[[0.0], None], [[0.0], [None]]])
def test_null_values(episode, values):
    """A hole in the table, or in a vector, is not taken for a number."""
    vectors(episode, [0, 1], values)
    assert "null" in refused(episode).reason


def test_matrices(episode):
    """Nested lists are no signal of this format."""
    vectors(episode, [0], [[[0.0, 1.0]]])
    assert "expected scalars or lists of numbers" in refused(episode).reason


def test_time_that_goes_back(episode):
    """The row and both stamps are named."""
    vectors(episode, [0, 20, 10], [0.0, 0.0, 0.0])
    assert f"{JOINTS}: time goes back at row 2, from 20 to 10 ns" in refused(episode).reason


def test_time_that_goes_back_in_a_video_index(episode):
    """Cameras as well."""
    index(episode, [*range(39), 7])
    assert f"{INDEX}: time goes back at row 39, from 38 to 7 ns" in refused(episode).reason


def test_time_that_goes_back_is_an_error_without_validation(episode):
    """A search in unsorted stamps would answer anything, so the signal refuses to be read."""
    vectors(episode, [0, 20, 10], [0.0, 0.0, 0.0])
    with pytest.raises(BadEpisode, match="time goes back"):
        Episode(episode.path)[keys.JOINT_POSITION].at([5])


def test_a_signal_without_samples(episode):
    """An empty file is a bad signal, not one that is absent."""
    vectors(episode, [], pa.array([], pa.float64()))
    assert refused(episode, keys.JOINT_POSITION).reason == "signal 'robot_state.q' has no samples."


def test_a_missing_signal(episode):
    """The nearest present name, all present names, and how to say that it goes by another one."""
    error = refused(episode, "robot_state.joints_q")
    assert isinstance(error, MissingSignal)
    assert "Did you mean 'robot_state.q'?" in error.reason
    assert "Present: grip, image.wrist, robot_state.q" in error.reason
    assert "dataset.aliases={robot_state.joints_q: <recorded name>}" in error.reason


def test_a_table_without_its_columns(episode):
    """Expected and found column names are in the message."""
    pq.write_table(pa.table({"time": [0], "value": [0.0]}), episode.path / JOINTS)
    assert f"{JOINTS} has no time column 'timestamp', only ['time', 'value']" in refused(episode).reason


def test_a_table_that_is_not_parquet(episode):
    """The file is named."""
    (episode.path / JOINTS).write_bytes(b"not parquet")
    assert f"{JOINTS} cannot be read" in refused(episode).reason


def test_statics_that_are_not_json(episode):
    """The file is named."""
    (episode.path / "static.json").write_text("{")
    with pytest.raises(BadEpisode, match=r"static\.json is not JSON"):
        _ = Episode(episode.path).statics


def test_broken_meta_data_is_tolerated(episode):
    """Nothing of the recording depends on meta.json, so the episode stays usable."""
    (episode.path / "meta.json").write_text("{")
    again = Episode(episode.path)
    again.validate(again.signals)
    assert again.uid == "id-000000000000"
    assert again.duration_ns == again.last_ns - again.start_ns


def test_an_unfinished_episode_is_not_opened(episode):
    """Opening one directly says what it is."""
    (episode.path / keys.UNFINISHED).touch()
    with pytest.raises(BadEpisode, match="unfinished"):
        Episode(episode.path)


def test_statics_that_are_missing(episode):
    """A finished episode has the file, be it empty: without it the task would be lost without a word."""
    (episode.path / "static.json").unlink()
    with pytest.raises(BadEpisode, match=r"static\.json is missing.*write \{\} into it"):
        _ = Episode(episode.path).statics


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a": {"__bytes_b64__": 3}}', '{"a": {"__bytes_b64__": "x"}}', "\xff"])
def test_statics_that_no_reader_can_take(episode, text):
    """The file is named, whatever it is."""
    (episode.path / "static.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadEpisode, match=r"static\.json"):
        _ = Episode(episode.path).statics


def test_a_static_that_is_null(record):
    """Newer recordings may hold one; it has a fingerprint."""
    episode = record()
    (episode.path / "static.json").write_text('{"note": null, "nested": [null]}')
    (episode.path / "meta.json").write_text("{}")
    again = Episode(episode.path)
    assert again.statics == {"note": None, "nested": [None]}
    assert len(again.fingerprint()) == 64


def test_joint_names_of_another_number(record):
    """Both numbers are in the message."""
    episode = record(statics={keys.JOINT_NAMES: ["a", "b"]})
    assert refused(episode).reason == "static 'joint_names' lists 2 joints, 'robot_state.q' has shape (7,)."


@pytest.mark.parametrize("names", ["a b", [1, 2]])
def test_joint_names_that_are_none(record, names):
    """A list of names is expected."""
    assert "a list of names was expected" in refused(record(statics={keys.JOINT_NAMES: names})).reason


def test_a_file_that_was_replaced_is_mentioned(episode):
    """Somebody wrote the video again, and it has another size: it is judged by what it holds."""
    with (episode.path / VIDEO).open("ab") as file:
        file.write(b"\0\0\0\x08free")
    again = Episode(episode.path)
    again.validate(again.signals)
    again.fingerprint()
    assert again.notes == [f"{VIDEO} is not the file that was recorded."]
