import os

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.episode import Episode
from positronic.raw.writer import DatasetWriter

FRAMES = 75  # with a keyframe about every 30
LEVEL = 3


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A camera alone, in which each frame's number can be read from its brightness."""
    with DatasetWriter(tmp_path_factory.mktemp("raw")).new_episode() as writer:
        for i in range(FRAMES):
            writer.append(keys.IMAGE_WRIST, np.full((32, 48, 3), LEVEL * i, np.uint8), i * 10)
    return writer.path


@pytest.fixture
def video(path):
    return Episode(path)[keys.IMAGE_WRIST]


def number(frame):
    """The frame's number, from its brightness."""
    return round(float(frame.mean()) / LEVEL)


def open_files(path):
    """How often this process has the file open."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.path.realpath(link) == str(path) for link in links)


def test_sequential_reading(video):
    """All frames in order, uint8 RGB, height before width."""
    frames = list(video.frames(range(FRAMES)))
    assert {(frame.shape, frame.dtype) for frame in frames} == {((32, 48, 3), np.dtype(np.uint8))}
    assert [number(frame) for frame in frames] == list(range(FRAMES))


@settings(deadline=None, max_examples=30)
@given(indices=st.lists(st.integers(0, FRAMES - 1), max_size=12))
def test_any_order_gives_the_frames_asked_for(path, indices):
    """Forward, backward, repeated: one frame for each index, the right one."""
    video = Episode(path)[keys.IMAGE_WRIST]
    assert [number(frame) for frame in video.frames(indices)] == indices


def test_random_access_equals_sequential_access(video):
    """A frame reached by seeking is the same, pixel for pixel."""
    in_order = list(video.frames(range(FRAMES)))
    assert all(np.array_equal(video.frame(i), in_order[i]) for i in (74, 0, 31, 30, 29, 59, 60, 61))


def test_going_on_after_the_last_frame(video):
    """An exhausted decoder can go back to earlier frames."""
    with video.decoder() as decoder:
        assert [decoder.frame(i).pts for i in (FRAMES - 1, 3, FRAMES - 1)] == [
            (FRAMES - 1) * 128,
            3 * 128,
            (FRAMES - 1) * 128,
        ]


def test_a_repeated_frame_is_not_decoded_or_converted_again(video):
    """Equal neighbours are the same object."""
    first, again, other = video.frames([7, 7, 8])
    assert first is again
    assert other is not again


def test_only_requested_frames_are_converted(video):
    """A conversion of one's own sees each requested frame once, as decoded (yuv420p)."""
    seen = []

    def convert(frame):
        seen.append(frame.format.name)
        return frame.width

    assert list(video.frames_as([0, 40, 40, 70], convert)) == [48] * 4
    assert seen == ["yuv420p"] * 3


def test_a_far_frame_is_reached_from_its_keyframe(video):
    """Reaching frame 61 from frame 0 decodes a few frames from the keyframe before 61, not the 60 between."""
    with video.decoder() as decoder:
        decoder.frame(0)
        steps = []
        step = decoder._step
        decoder._step = lambda target: (steps.append(target), step(target))
        decoder.frame(61)
    assert len(steps) < 10


def test_frames_by_time(video):
    """A camera is a step function as well: the frame shown is the last one at or before."""
    assert video.index_at([0, 9, 10, 735, 10_000]).tolist() == [0, 0, 1, 73, 74]
    with pytest.raises(PositronicError, match=keys.IMAGE_WRIST):
        video.index_at([-1])


@pytest.mark.parametrize("index", [-1, FRAMES])
def test_a_frame_that_is_not_there(video, index):
    """Numbers outside the video are an IndexError that names the range."""
    with pytest.raises(IndexError, match="frames 0 to 74"):
        video.frame(index)


def test_no_file_stays_open(video):
    """After a frame, after a whole pass, and after a pass that is given up half way."""
    video.frame(3)
    list(video.frames([1, 2]))
    frames = video.frames([1, 2])
    next(frames)
    assert open_files(video.path) == 1
    frames.close()
    assert open_files(video.path) == 0


def test_several_decoder_threads_give_the_same_frames(path):
    """The number of threads changes nothing but speed."""
    video = Episode(path)[keys.IMAGE_WRIST]
    one = list(video.frames(range(40)))
    video.threads = 2
    assert all(np.array_equal(a, b) for a, b in zip(one, video.frames(range(40)), strict=True))


def test_the_size_comes_from_the_header(video):
    """Height and width are known without decoding."""
    assert (video.height, video.width) == (32, 48)


def test_a_published_video_is_read_in_any_order(published):
    """B-frames of the published encoder come in display order, by sequence and by seeking."""
    video = Episode(published / "000000000000" / "000000000001")[keys.IMAGE_EXTERIOR]
    in_order = list(video.frames(range(60)))
    assert len({frame.tobytes() for frame in in_order}) == 60
    assert all(np.array_equal(video.frame(i), in_order[i]) for i in (59, 2, 31, 30))


def test_foreign_keyframes(tmp_path, path):
    """A video with its keyframes elsewhere, from another encoder's settings, is read by number just the same."""
    target = tmp_path / "000000000000"
    target.mkdir()
    with av.open(str(target / "image.wrist.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=100, options={"g": "7", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for i in range(FRAMES):
            image = np.full((32, 48, 3), LEVEL * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    (target / "image.wrist.frames.parquet").write_bytes((path / "image.wrist.frames.parquet").read_bytes())
    video = Episode(target)[keys.IMAGE_WRIST]
    assert [number(frame) for frame in video.frames([70, 5, 50, 51, 6])] == [70, 5, 50, 51, 6]
