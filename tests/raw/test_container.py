"""A file is not what it shows: frames are found by their presentation time; what is no camera is refused by name."""

from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from positronic.raw.decoder import Decoder
from positronic.raw.faults import BadEpisode
from positronic.raw.video import VideoSignal

RATE, FRAMES, LEVEL = 100, 60, 4
SIZE = 64
FINE = {"crf": "5"}
B_FRAMES = {**FINE, "bf": "2", "g": "30", "b-adapt": "0", "sc_threshold": "0"}
AS_IT_IS = {"avoid_negative_ts": "disabled"}


def encode(out, stream, numbers, pts=None):
    """Frame k is the uniform grey LEVEL * k."""
    for number in numbers:
        frame = av.VideoFrame.from_ndarray(np.full((SIZE, SIZE, 3), LEVEL * number, np.uint8), format="rgb24")
        frame.pts = number if pts is None else pts[number]
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def video(path, codec="libx264", pix_fmt="yuv420p", options=None, container=None, pts=None, frames=FRAMES):
    """``frames`` rising greys; ``pts`` in hundredths of a second."""
    container = container or {}
    with av.open(str(path), "w", **container) as out:
        stream = out.add_stream(codec, rate=RATE, options=FINE if options is None else options)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, pix_fmt
        encode(out, stream, range(frames), pts)
    return path


def remux(source, target, change=lambda packet: True, options=None, **container):
    """Copy the packets that ``change`` takes, after it changed them."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options or {}, **container) as out:
        stream = out.add_stream_from_template(read.streams.video[0], opaque=True)
        stream.time_base = read.streams.video[0].time_base
        for packet in read.demux(video=0):
            if packet.size and change(packet):
                packet.stream = stream
                out.mux(packet)
    return target


def earlier(frames):
    """Move everything towards the beginning: what is before 0 is hidden by the edit list."""

    def change(packet):
        ticks = frames * round(1 / (RATE * packet.time_base))
        packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
        return True

    return change


def dropping(count):
    """Without the first packets, as a stream that was joined in its middle."""
    seen = []
    return lambda packet: seen.append(packet) or len(seen) > count


def brightness(frame):
    return float(frame.to_ndarray(format="gray").mean())


def as_shown(path):
    """The brightness of each frame that FFmpeg gives from beginning to end."""
    with av.open(str(path)) as container:
        return [brightness(frame) for frame in container.decode(video=0)]


def index(path, rows):
    pq.write_table(
        pa.table({"ts_ns": pa.array(np.arange(rows) * 10**7, pa.int64())}), path.with_suffix(".frames.parquet")
    )
    return VideoSignal(path.stem, path.parent)


def sources(folder):
    """Containers and codecs that are met in the field: name -> file."""
    whole = video(folder / "whole.mp4", options=B_FRAMES)
    openings = video(folder / "open_gop.mp4", options={**B_FRAMES, "x264-params": "open-gop=1"})
    uneven = np.cumsum(np.random.default_rng(0).integers(1, 7, FRAMES)).tolist()
    fragmented = {"options": {"movflags": "frag_keyframe+empty_moov"}}
    unedited = {"options": {"use_editlist": "0"}}
    return {
        "B-frames": whole,
        "trimmed before a keyframe": remux(whole, folder / "a.mp4", earlier(10), AS_IT_IS),
        "trimmed after a keyframe": remux(whole, folder / "b.mp4", earlier(35), AS_IT_IS),
        "begins between keyframes": remux(whole, folder / "c.mp4", dropping(10)),
        "open groups": openings,
        "open groups, trimmed": remux(openings, folder / "d.mp4", earlier(35), AS_IT_IS),
        "variable rate": video(folder / "e.mp4", options=B_FRAMES, pts=uneven),
        "fragments": video(folder / "f.mp4", options=B_FRAMES, container=fragmented),
        "no edit list": video(folder / "n.mp4", options=B_FRAMES, container=unedited),
        "Matroska": video(folder / "g.mp4", options=B_FRAMES, container={"format": "matroska"}),
        "MPEG-TS": video(folder / "h.mp4", options=B_FRAMES, container={"format": "mpegts"}),
        "H.265": video(folder / "i.mp4", "libx265", options={"x265-params": "log-level=none:bframes=3:keyint=20"}),
        "AV1": video(folder / "j.mp4", "libsvtav1", options={"g": "20", "preset": "12"}),
        "VP9": video(folder / "k.mp4", "libvpx-vp9", options={"g": "20", "cpu-used": "8", "deadline": "realtime"}),
        "MJPEG": video(folder / "l.mp4", "mjpeg", "yuvj420p", {}),
        "RGB": video(folder / "m.mp4", "libx264rgb", "rgb24"),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return sources(tmp_path_factory.mktemp("videos"))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("B-frames", 60),
        ("trimmed before a keyframe", 50),
        ("trimmed after a keyframe", 25),
        ("begins between keyframes", 30),
        ("open groups", 60),
        ("open groups, trimmed", 25),
        ("variable rate", 60),
        ("fragments", 60),
        ("no edit list", 60),
        ("Matroska", 60),
        ("MPEG-TS", 60),
        ("H.265", 60),
        ("AV1", 60),
        ("VP9", 60),
        ("MJPEG", 60),
        ("RGB", 60),
    ],
)
def test_frame_k_is_the_kth_that_is_shown(files, name, count):
    """Counted without decoding, and the right picture in any order: forward, back, near, far."""
    path = files[name]
    truth = as_shown(path)
    order = [*np.random.default_rng(0).integers(0, count, 80), *range(count)]
    with Decoder(path) as decoder:
        assert decoder.count_frames() == len(truth) == count
        assert [brightness(decoder.frame(int(k))) for k in order] == [truth[k] for k in order]


def test_an_index_is_held_against_what_is_shown(files):
    """A row for each frame that is shown passes; a row for each packet does not."""
    path = files["trimmed before a keyframe"]
    index(path, 50).check()
    with pytest.raises(BadEpisode, match="holds 50 frames, but its index a.frames.parquet 60 times"):
        index(path, 60).check()


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "options"),
    [
        ("gray", "libx265", {"x265-params": "log-level=none"}),
        ("gray12le", "libx265", {"x265-params": "lossless=1:log-level=none"}),
        ("yuv420p10le", "libx265", {"x265-params": "log-level=none"}),
        ("yuv444p10le", "libx264", FINE),
        ("rgba", "png", {}),
        ("rgb48be", "png", {}),
        ("pal8", "png", {}),
        ("gray16be", "png", {}),
        ("bayer_rggb8", "rawvideo", {}),
    ],
)
def test_what_is_not_8bit_colour_is_refused_by_name(tmp_path, pix_fmt, codec, options):
    """Grey, depth, more bits, alpha, palettes: nothing is cut to 8 bits or made a colour without a word."""
    path = tmp_path / "cam.mp4"
    with av.open(str(path), "w", format="nut" if codec == "rawvideo" else "mp4") as out:
        stream = out.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, pix_fmt
        for k in range(3):
            frame = av.VideoFrame(SIZE, SIZE, pix_fmt)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts = k
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(BadEpisode, match=f"in the pixel format {pix_fmt}, 8-bit colour .* -pix_fmt yuv420p new.mp4"):
        index(path, 3).check()


def test_pixels_that_are_not_square_are_refused(tmp_path):
    """They would be squeezed: letterboxing keeps the number of pixels in proportion, not the picture."""
    path = tmp_path / "cam.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        encode(out, stream, range(3))
    with pytest.raises(BadEpisode, match=r"pixels that are not square \(aspect 4:3\)"):
        index(path, 3).check()


def test_sound_and_a_cover_picture_are_no_cameras(tmp_path):
    """The one video stream that moves is read, wherever it stands in the file."""
    path, cover = tmp_path / "cam.mp4", video(tmp_path / "cover.mp4", "png", "rgb24", {}, frames=1)
    with av.open(str(cover)) as read, av.open(str(path), "w") as out:
        picture = out.add_stream_from_template(read.streams.video[0])
        picture.disposition = int(av.stream.Disposition.attached_pic.value)
        sound = out.add_stream("aac", rate=44100)
        stream = out.add_stream("libx264", rate=RATE, options=FINE)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        packet = next(packet for packet in read.demux(video=0) if packet.size)
        packet.stream = picture
        out.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        out.mux(sound.encode(silence))
        out.mux(sound.encode(None))
        encode(out, stream, range(10, 20))
    with VideoSignal("cam", tmp_path).decoder() as decoder:
        assert decoder.count_frames() == 10
        assert brightness(decoder.frame(9)) == pytest.approx(LEVEL * 19, abs=1)


def test_two_cameras_in_one_file_are_refused(tmp_path):
    """Which of them is meant cannot be known."""
    path = tmp_path / "cam.mp4"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("libx264", rate=RATE) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for stream in streams:
            encode(out, stream, range(3))
    with pytest.raises(BadEpisode, match="has 2 video streams, one was expected"):
        index(path, 3).check()


def test_frames_at_one_time_are_refused(tmp_path):
    """Frame k would be either of them."""

    def change(packet):
        if packet.pts == 256:
            packet.pts = packet.dts = 128
        return True

    video(tmp_path / "whole.mp4", options={**FINE, "bf": "0"})
    remux(tmp_path / "whole.mp4", tmp_path / "cam.mp4", change, format="matroska")
    with pytest.raises(BadEpisode, match="two frames at one time"):
        index(tmp_path / "cam.mp4", FRAMES).check()


def test_frames_without_a_time_are_refused(tmp_path):
    """A Matroska file that was trimmed so has them; it is not guessed which they are."""
    video(tmp_path / "whole.mp4", options=B_FRAMES)
    remux(tmp_path / "whole.mp4", tmp_path / "cam.mp4", earlier(10), AS_IT_IS, format="matroska")
    with pytest.raises(BadEpisode, match="frames without a presentation time"):
        index(tmp_path / "cam.mp4", FRAMES).check()


def test_interlaced_pictures_are_refused(tmp_path):
    """Two moments in one picture are not what a camera of a policy sees."""
    path = video(tmp_path / "cam.mp4", options={**FINE, "x264-params": "interlaced=1"})
    with pytest.raises(BadEpisode, match="interlaced"):
        index(path, FRAMES).frame(3)


@pytest.mark.parametrize("degrees", [90, 180])
def test_a_picture_that_is_turned_by_its_container_is_refused(tmp_path, degrees):
    """As telephones record: a player turns it, and a policy would see it lying on its side."""
    path = video(tmp_path / "cam.mp4")
    one, minus_one = (1 << 16).to_bytes(4), (-1 << 16).to_bytes(4, signed=True)
    none, last = bytes(4), (1 << 30).to_bytes(4)
    upright = one + none * 3 + one + none * 3 + last  # the matrix of the track's header (ISO 14496-12, 8.3.2)
    turned = {
        90: none + one + none + minus_one + none * 4 + last,
        180: minus_one + none * 3 + minus_one + none * 3 + last,
    }[degrees]
    start = path.read_bytes().index(b"tkhd")
    content = bytearray(path.read_bytes())
    place = content.index(upright, start)
    content[place : place + len(upright)] = turned
    path.write_bytes(content)
    with pytest.raises(BadEpisode, match=f"turned by -?{degrees} degrees"):
        index(path, FRAMES).frame(0)


def test_full_range_and_the_matrix_of_high_definition_are_kept(tmp_path):
    """What the file says of its colours is believed: H.264 in full range, and tagged BT.709."""
    colour = np.full((SIZE, SIZE, 3), (180, 90, 40), np.uint8)
    for name, colorspace, color_range in (("full", 5, 2), ("hd", 1, 1)):
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=RATE, options=FINE)
            stream.width, stream.height = SIZE, SIZE
            stream.pix_fmt = "yuvj420p" if color_range == 2 else "yuv420p"
            stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, color_range
            frame = av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(
                format=stream.pix_fmt,
                src_colorspace=5 if colorspace == 1 else 1,
                dst_colorspace=colorspace,
                dst_color_range=color_range,
            )
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        assert np.abs(index(tmp_path / f"{name}.mp4", 1).frame(0).astype(int) - colour).max() <= 2


def test_a_codec_that_nobody_knows_is_refused(tmp_path):
    """There is a stream, but nothing to decode it with."""
    path = video(tmp_path / "cam.mp4")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"none").replace(b"avcC", b"nonC"))
    with pytest.raises(BadEpisode, match="in a codec that cannot be decoded here"):
        index(path, FRAMES).check()


def test_a_camera_that_changes_its_size_is_refused(tmp_path):
    """Two recordings that were joined: the file's header knows the first size only."""
    parts = []
    for side in (32, 64):
        with av.open(str(tmp_path / "part.h264"), "w") as out:
            stream = out.add_stream("libx264", rate=RATE, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
            for k in range(5):
                frame = av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="rgb24")
                frame.pts = k
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        parts.append((tmp_path / "part.h264").read_bytes())
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    numbers = iter(range(10))

    def at_its_time(packet):
        packet.pts = packet.dts = round(next(numbers) / RATE / packet.time_base)
        return True

    camera = index(remux(tmp_path / "both.h264", tmp_path / "cam.mp4", at_its_time), 10)
    assert camera.frame(4).shape == (32, 32, 3)
    with pytest.raises(BadEpisode, match="at frame 5 is 64 x 64 pixels large"):
        camera.frame(5)
