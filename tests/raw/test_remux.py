"""Frames of an existing video in an episode, bit for bit, where they can be cut out of it."""

import av
import numpy as np
import pytest

from positronic.errors import PositronicError
from positronic.raw.decoder import Decoder
from positronic.raw.episode import Episode
from positronic.raw.remux import copy_frames
from positronic.raw.writer import DatasetWriter

FRAMES = 40


@pytest.fixture
def video(tmp_path):
    """Writes 40 frames at 30 fps with a keyframe every 10th; B-frames are decoded after later ones."""

    def make(codec="libx264", b_frames=2, name="source.mp4"):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=30)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.gop_size, stream.codec_context.max_b_frames = 10, b_frames
            for at in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 6 * at, np.uint8))
                frame.pts = at
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make


def frames(path, first, count):
    with Decoder(path) as decoder:
        return np.stack([decoder.rgb(first + at) for at in range(count)])


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
@pytest.mark.parametrize(("first", "count"), [(0, FRAMES), (10, 20), (30, 10)])
def test_what_stands_between_keyframes_is_copied_bit_for_bit(video, tmp_path, codec, first, count):
    """A run from the start, from the middle, to the end; the copy is numbered as an encoded one."""
    source, target = video(codec), tmp_path / "target.mp4"
    assert copy_frames(source, first, count, target)
    assert np.array_equal(frames(target, 0, count), frames(source, first, count))
    with av.open(str(target)) as container:
        (stream,) = container.streams.video
        assert (stream.frames, stream.average_rate) == (count, 100)


@pytest.mark.parametrize(("first", "count"), [(5, 10), (10, 7), (0, 39)])
def test_what_needs_frames_outside_is_not_copied(video, tmp_path, first, count):
    """Nothing is left at the target."""
    target = tmp_path / "target.mp4"
    assert not copy_frames(video(), first, count, target)
    assert not target.exists()


def test_a_codec_that_no_mp4_of_ours_holds_is_not_copied(video, tmp_path):
    """It is encoded again instead."""
    assert not copy_frames(video("mpeg4", 0, "old.mp4"), 0, FRAMES, tmp_path / "target.mp4")


def test_more_frames_than_there_are_is_a_fault_of_the_file(video, tmp_path):
    """Both numbers are named."""
    with pytest.raises(PositronicError, match=r"source.mp4 holds 40 frames; 45 were expected"):
        copy_frames(video(), 20, 25, tmp_path / "target.mp4")


def test_an_episode_with_a_copied_camera_is_read_like_any_other(video, tmp_path):
    """Its stamps are those of the recording, not those of the file."""
    times = [at * 50_000_000 + 7 for at in range(10)]
    with DatasetWriter(tmp_path / "raw").new_episode() as out:
        assert out.copy_video("image.wrist", video(), 10, times)
        out.append("grip", 0.0, 0)
    camera = Episode(out.path)["image.wrist"]
    camera.check()
    assert camera.times_ns.tolist() == times
    assert np.array_equal(np.stack(list(camera.frames(range(10)))), frames(video(), 10, 10))


def test_copied_stamps_must_increase_and_a_name_is_used_once(video, tmp_path):
    """As for frames that are appended."""
    with DatasetWriter(tmp_path / "raw").new_episode() as out:
        with pytest.raises(PositronicError, match="stamps that increase"):
            out.copy_video("image.wrist", video(), 0, [1, 1])
        assert out.copy_video("image.wrist", video(), 0, range(0, 10**9, 10**8))
        with pytest.raises(PositronicError, match="a name of its own"):
            out.copy_video("image.wrist", video(), 0, range(0, 10**9, 10**8))
        with pytest.raises(PositronicError, match="takes no further frames"):
            out.append("image.wrist", np.zeros((48, 64, 3), np.uint8), 10**9)
