"""What an episode says at one moment, and how it and its dataset are shown."""

import re
import subprocess
import sys
from html import unescape

import numpy as np
import pytest
from rich.console import Console

import positronic
from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.faults import MissingSignal
from positronic.raw.writer import DatasetWriter

SEC = 10**9
START = 5 * SEC  # when the camera, which is the last, begins
HOSTILE = "<script>alert(1)</script> [bold]put[/bold] & go"


@pytest.fixture
def episode(tmp_path):
    """The gripper at 4, 5, 6, 7 s; the camera at 5 and 6.5 s; a word at 4 s; a signal that never said anything."""
    with DatasetWriter(tmp_path / "raw").new_episode() as recording:
        for second in (4, 5, 6, 7):
            recording.append(keys.GRIP, (second - 4) / 10, second * SEC)
            recording.append(keys.JOINT_POSITION, np.full(3, float(second)), second * SEC)
        for level, stamp in ((40, START), (200, 6 * SEC + SEC // 2)):
            recording.append(keys.IMAGE_WRIST, np.full((32, 48, 3), level, np.uint8), stamp)
        recording.append("mode", "teleoperated", 4 * SEC)
        recording.set_static(keys.TASK, HOSTILE)
    return open_dataset(tmp_path / "raw")[0]


@pytest.mark.parametrize(
    ("seconds", "grip", "level"),
    [(0, 0.1, 40), (0.999, 0.1, 40), (1, 0.2, 40), (1.4999, 0.2, 40), (1.5, 0.2, 200), (2.0, 0.3, 200)],
)
def test_every_signal_says_its_last_sample_at_or_before_the_moment(episode, seconds, grip, level):
    """Vectors, numbers, text and decoded frames, in seconds from when the last signal has started, or by stamp."""
    said = episode.at(seconds)
    assert said.keys() == set(episode.signals)
    assert said[keys.GRIP] == pytest.approx(grip)
    assert said[keys.JOINT_POSITION].tolist() == [round(grip * 10 + 4)] * 3
    assert said["mode"] == "teleoperated"
    frame = said[keys.IMAGE_WRIST]
    assert (frame.shape, frame.dtype) == ((32, 48, 3), np.uint8)
    assert abs(frame.mean() - level) < 3
    by_stamp = episode.at(time_ns=START + round(seconds * SEC))
    assert all(np.array_equal(by_stamp[name], value) for name, value in said.items())


def test_an_episode_ends_at_its_last_stamp(episode):
    """The number of seconds that it lasts is a moment in it, whatever floats make of it."""
    assert episode.duration_sec == 2.0
    assert episode.at(episode.duration_sec)[keys.GRIP] == pytest.approx(0.3)


@pytest.mark.parametrize("moment", [{"t": 2.1}, {"t": -0.1}, {"time_ns": 8 * SEC}])
def test_a_moment_outside_of_the_episode_is_refused(episode, moment):
    """Nanoseconds given as seconds would otherwise show the end."""
    with pytest.raises(PositronicError, match="is not in the episode, which lasts from 0 to 2 s"):
        episode.at(**moment)


def test_before_its_first_sample_a_signal_has_no_value(episode):
    """The camera began later than the gripper, which may be asked alone."""
    with pytest.raises(PositronicError, match="'image.wrist' has no value yet"):
        episode.at(time_ns=START - 1)
    assert episode.at(time_ns=START - 1, signals=[keys.GRIP]) == {keys.GRIP: 0.0}


@pytest.mark.parametrize("moment", [{}, {"t": 1.0, "time_ns": START}])
def test_one_moment_is_asked_for(episode, moment):
    """Neither none nor two."""
    with pytest.raises(PositronicError, match=r"at\(1.5\).*at\(time_ns=...\)"):
        episode.at(**moment)


def test_a_signal_that_is_not_there_is_named(episode):
    """With the nearest one."""
    with pytest.raises(MissingSignal, match="no signal 'image.wirst'"):
        episode.at(0, signals=["image.wirst"])


def test_a_camera_gives_one_frame_or_several(episode):
    """As a vector signal: an axis of time only if several times were asked for."""
    camera = episode[keys.IMAGE_WRIST]
    assert camera.at(START).shape == (32, 48, 3)
    assert camera.at([START, 7 * SEC]).shape == (2, 32, 48, 3)
    assert camera.at([]).shape == (0, 32, 48, 3)


def test_the_plot_has_a_row_for_every_signal_that_can_be_drawn(episode):
    """Cameras first; all over the same seconds; a notebook shows it as PNG."""
    figure = episode.plot()
    titles = [axes.get_title(loc="left").partition(" ")[0] for axes in figure.axes]
    assert titles == [keys.IMAGE_WRIST, keys.GRIP, keys.JOINT_POSITION]
    assert {axes.get_xlim() for axes in figure.axes} == {(0.0, 2.0)}
    assert [len(axes.lines) for axes in figure.axes] == [0, 1, 3]
    assert figure._repr_png_().startswith(b"\x89PNG")
    (strip,) = figure.axes[0].images
    assert abs(strip.get_array()[:, 0].mean() - 40) < 3
    assert abs(strip.get_array()[:, -1].mean() - 200) < 3


def test_a_plot_of_nothing_is_refused(episode):
    """Text cannot be drawn."""
    with pytest.raises(PositronicError, match="no camera and no signal of numbers"):
        episode.plot(signals=["mode"])


def test_without_matplotlib_a_plot_says_what_to_install(episode):
    """It is part of the extras that train and simulate."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import positronic\n"
        "try: positronic.open_raw(sys.argv[1])[0].plot()\n"
        "except positronic.PositronicError as error: print(error)"
    )
    root = episode.path.parents[1]
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True)
    assert done.stdout == "Pictures need matplotlib. Type `uv pip install matplotlib`.\n"


def text_of(html):
    return re.sub(r"<[^>]*>", "", html)


def test_a_notebook_shows_the_tables_of_the_terminal(episode, capsys):
    """Of the dataset its episodes, of the episode its signals with their clocks."""
    dataset = positronic.open_raw(episode.path.parents[1])
    assert all(name in text_of(dataset._repr_html_()) for name in episode.signals)
    shown = text_of(episode._repr_html_())
    (row,) = (line for line in shown.splitlines() if "image.wrist" in line)
    assert row.split() == ["image.wrist", "pictures", "32x48x3", "2", "0.7", "0.00", "1.50"]
    Console(width=110).print(episode)
    assert unescape(shown).strip() == capsys.readouterr().out.strip()


def test_what_a_recording_says_is_text_in_the_page(episode):
    """Neither HTML nor markup; and nothing is fetched from elsewhere, no colour is set."""
    dataset = positronic.open_raw(episode.path.parents[1])
    for html in (episode._repr_html_(), dataset._repr_html_()):
        assert "&lt;script&gt;alert(1)&lt;/script&gt; [bold]put[/bold] &amp; go" in html
        assert set(re.findall(r"<(\w+)", html)) <= {"pre", "span"}
        assert not re.search(r"url\(|src=|href=|background-color", html)


def test_a_damaged_episode_is_shown_with_what_is_wrong(episode):
    """A table is how one finds out."""
    (episode.path / "grip.parquet").write_bytes(b"no parquet")
    again = positronic.open_raw(episode.path.parents[1])
    shown = " ".join(text_of(again[0]._repr_html_()).split())
    assert "grip.parquet" in shown
    assert "pictures" in shown
    (episode.path / "static.json").write_text("[")
    assert "is not JSON" in " ".join(text_of(again._repr_html_()).split())
    assert "is not JSON" in " ".join(text_of(again[0]._repr_html_()).split())


def test_a_long_dataset_shows_its_first_episodes(tmp_path):
    """And says of how many."""
    writer = DatasetWriter(tmp_path / "raw")
    for _ in range(12):
        with writer.new_episode() as recording:
            recording.append(keys.GRIP, 0.0, SEC)
    shown = text_of(positronic.open_raw(tmp_path / "raw")._repr_html_())
    assert "the first 10 of 12" in shown
    assert repr(positronic.open_raw(tmp_path / "raw")).startswith("Dataset('raw', 12 episodes, ")
