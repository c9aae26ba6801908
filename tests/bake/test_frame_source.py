"""A frame of a baked video is the one at its time, or an error that names the file."""

import av
import numpy as np
import pytest

from positronic.bake.config import VideoConfig
from positronic.bake.frame_source import VideoFile
from positronic.bake.video import piece_writer
from positronic.errors import PositronicError
from positronic.utils.colour import FromRgb

FPS, FRAMES, LEVEL, SIDE = 15, 20, 10, 32


@pytest.fixture
def path(tmp_path):
    """Frame k is the uniform grey LEVEL * k."""
    from_rgb = FromRgb()
    with piece_writer(tmp_path / "video.mp4", SIDE, SIDE, FPS, VideoConfig()) as writer:
        for k in range(FRAMES):
            writer.write(from_rgb.from_array(np.full((SIDE, SIDE, 3), LEVEL * k, np.uint8)))
    return tmp_path / "video.mp4"


def test_any_order_gives_the_frames_asked_for(path):
    """Forward, back and again."""
    with VideoFile(path, FPS) as video:
        assert [round(float(video.frame(k).mean()) / LEVEL) for k in (0, 19, 7, 7, 3, 18)] == [0, 19, 7, 7, 3, 18]


def test_a_frame_that_is_missing_is_not_the_next_one(path, tmp_path):
    """The last frame of a file's middle group is left out: the one after it is not shown in its place."""
    with av.open(str(path)) as source, av.open(str(tmp_path / "gap.mp4"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.time_base = source.streams.video[0].time_base
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            if number != 9:
                packet.stream = stream
                out.mux(packet)
    with VideoFile(tmp_path / "gap.mp4", FPS) as video:
        assert round(float(video.frame(10).mean()) / LEVEL) == 10
        with pytest.raises(PositronicError, match=r"gap.mp4: frame 9 is missing"):
            video.frame(9)


def test_a_codec_that_nobody_knows_is_a_sentence(path):
    """Such a stream cannot even be tried: FFmpeg would end the process."""
    path.write_bytes(path.read_bytes().replace(b"avc1", b"none").replace(b"avcC", b"nonC"))
    with pytest.raises(PositronicError, match="in a codec that cannot be decoded here"):
        VideoFile(path, FPS)


def test_a_title_in_another_encoding_is_no_fault(path):
    """Text in a file is not always UTF-8."""
    path.write_bytes(path.read_bytes().replace(b"VideoHandler", b"Vid\xe9oHandler"))
    with VideoFile(path, FPS) as video:
        assert round(float(video.frame(1).mean()) / LEVEL) == 1
