"""Pieces encode one frame per packet, and join without losing or moving one."""

from fractions import Fraction

import av
import numpy as np
import pytest

from positronic.bake.config import VideoConfig
from positronic.bake.files import Slot, VideoFiles
from positronic.bake.video import Joiner, check_encoder, piece_writer
from positronic.errors import PositronicError

FPS = 15


def frames(count, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return [av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p") for image in pixels]


def write_piece(path, count, seed=0, fps=FPS, video=None):
    with piece_writer(path, 32, 32, fps, video or VideoConfig()) as writer:
        for frame in frames(count, seed):
            writer.write(frame)
    return path


def read(path):
    """Exact time and pixels of each frame."""
    with av.open(str(path)) as container:
        return [(frame.pts * frame.time_base, frame.to_ndarray()) for frame in container.decode(video=0)]


def test_the_same_frames_give_the_same_bytes(tmp_path):
    """Nothing of time, machine or run is in a piece."""
    first, second = write_piece(tmp_path / "a.mp4", 9), write_piece(tmp_path / "b.mp4", 9)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_keyframes_come_at_their_interval(tmp_path, interval):
    """Every n-th frame can be decoded alone."""
    path = write_piece(tmp_path / "a.mp4", 11, video=VideoConfig(keyframe_interval=interval))
    with av.open(str(path)) as container:
        keyframes = [packet.is_keyframe for packet in container.demux(video=0) if packet.dts is not None]
    assert keyframes == [i % interval == 0 for i in range(11)]


@pytest.mark.parametrize("fps", [7, 15, 30])
def test_joined_pieces_hold_all_frames_at_exact_times(tmp_path, fps):
    """Frame k of the file is at k / fps, and is the frame that was in its piece."""
    pieces = [write_piece(tmp_path / f"{i}.mp4", count, seed=i, fps=fps) for i, count in enumerate((5, 1, 4))]
    joiner = Joiner(tmp_path / "joined.mp4", fps)
    for piece, count in zip(pieces, (5, 1, 4), strict=True):
        joiner.append(piece, count)
    joiner.close()
    found, expected = read(tmp_path / "joined.mp4"), [pixels for piece in pieces for _, pixels in read(piece)]
    assert [time for time, _ in found] == [Fraction(k, fps) for k in range(10)]
    for (_, pixels), wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pixels, wanted)


def test_a_piece_with_another_number_of_frames_stops_the_join(tmp_path):
    """A frame that got lost in an encoder is not passed over."""
    joiner = Joiner(tmp_path / "joined.mp4", FPS)
    with pytest.raises(RuntimeError, match="3 frames were encoded of 4"):
        joiner.append(write_piece(tmp_path / "a.mp4", 3), 4)
    joiner.close()


def test_a_full_file_is_followed_by_the_next(tmp_path):
    """By size: an episode never spans two files, and its frames count from its own file's start."""
    piece = write_piece(tmp_path / "a.mp4", 6)
    videos = VideoFiles(tmp_path, "cam", FPS, limit_bytes=int(2.5 * piece.stat().st_size))
    starts = [videos.append(piece, 6) for _ in range(3)]
    videos.close()
    assert starts == [(Slot(0, 0), 0), (Slot(0, 0), 6), (Slot(0, 1), 0)]
    assert len(read(tmp_path / "videos/cam/chunk-000/file-000.mp4")) == 12


def test_no_file_is_longer_than_float32_can_tell_frames_apart(tmp_path, monkeypatch):
    """LeRobot compares float32 seconds to 1e-4: files end before their steps grow beyond that."""
    from positronic.bake import files

    assert np.spacing(np.float32(files.MAX_VIDEO_SEC)) < 1e-4
    monkeypatch.setattr(files, "MAX_VIDEO_SEC", 1)
    piece, videos = write_piece(tmp_path / "a.mp4", 10), VideoFiles(tmp_path, "cam", FPS)
    assert [videos.append(piece, 10)[0].file_index for _ in range(2)] == [0, 1]
    videos.close()


@pytest.mark.parametrize(
    "video", [VideoConfig(vcodec="libx999"), VideoConfig(preset="hasty"), VideoConfig(pix_fmt="rgb999")]
)
def test_an_encoder_that_refuses_is_named_with_its_settings(tmp_path, video):
    """Before any episode is read."""
    with pytest.raises(PositronicError, match=rf"'{video.vcodec}' refuses 32x32 .*preset={video.preset}"):
        check_encoder(tmp_path / "probe.mp4", 32, 32, FPS, video)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "video",
    [
        VideoConfig(pix_fmt="gray"),
        VideoConfig(options={"colorspace": "bt709"}),
        VideoConfig(options={"x264-params": "colormatrix=bt709"}),
        VideoConfig(options={"color_range": "pc"}),
        VideoConfig(options={"x264-params": "fullrange=on"}),
    ],
)
def test_settings_that_change_the_colours_are_refused(tmp_path, video):
    """Grey, or a name for the colours that the pictures do not have: training would see others than the robot."""
    with pytest.raises(PositronicError, match="does not keep the colours"):
        check_encoder(tmp_path / "probe.mp4", 32, 32, FPS, video)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10le", "nv12"])
def test_pixel_formats_in_colour_are_taken(tmp_path, pix_fmt):
    """More bits and more chroma too, as training reads them."""
    check_encoder(tmp_path / "probe.mp4", 32, 32, FPS, VideoConfig(pix_fmt=pix_fmt))


@pytest.mark.parametrize("video", [VideoConfig(vcodec="libsvtav1", preset="12", crf=30), VideoConfig(vcodec="libx265")])
def test_other_codecs_join_too(tmp_path, video):
    """AV1 and HEVC by config."""
    joiner = Joiner(tmp_path / "joined.mp4", FPS)
    for seed in range(2):
        joiner.append(write_piece(tmp_path / f"{seed}.mp4", 5, seed, video=video), 5)
    joiner.close()
    assert [time for time, _ in read(tmp_path / "joined.mp4")] == [Fraction(k, FPS) for k in range(10)]
