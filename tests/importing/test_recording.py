"""A source's episodes as raw ones: values, times, pictures, statics; whole or not at all; and going on."""

from dataclasses import replace

import av
import h5py
import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError
from positronic.importing.folder import MAPPING_FILE, RECORD_FILE, ImportFolder, places
from positronic.importing.hdf5 import Hdf5Source
from positronic.importing.mapping import read_mapping
from positronic.importing.propose import propose
from positronic.importing.recording import Plan, Recorded, Refused
from positronic.importing.run import record_all
from positronic.importing.source import VideoSpan
from positronic.raw.writer import DatasetWriter


@pytest.fixture
def plan(robot):
    """The plan that a source's proposal leads to, if somebody agrees."""

    def make(source, embodiment="aloha", **values):
        mapping = propose("hdf5", source.fields(), robot(embodiment), has_task=False).agreed()
        return Plan(replace(mapping, **values), robot(embodiment), source.fields())

    return make


def run(source, plan, root, num_workers=1):
    """Name -> result of the episodes that are not there yet."""
    root.mkdir(exist_ok=True)
    there = ImportFolder(root, str(source.path), plan.mapping, plan.embodiment).begin()
    episodes = source.episodes()
    asked = places([episode.name for episode in episodes], there)
    return {result.name: result for result in record_all(episodes, asked, root, plan, num_workers)}


def test_values_times_and_pictures_are_those_of_the_recording(teleoperated, plan, frames_of, tmp_path):
    """ALOHA's grippers say 1 when open; ours 0."""
    source = Hdf5Source(teleoperated())
    run(source, plan(source), tmp_path / "raw")
    (episode,) = positronic.open_raw(tmp_path / "raw")
    with h5py.File(source.files[0]) as file:
        qpos, action = file["observations/qpos"][:], file["action"][:]
    assert np.array_equal(episode["robot_state.right.q"].values, qpos[:, 7:13])
    assert np.array_equal(episode["robot_commands.left.joints"].values, action[:, :6])
    assert np.allclose(episode["grip.left"].values, 1 - qpos[:, 6])
    assert episode["grip.left"].times_ns[:3].tolist() == [0, 20_000_000, 40_000_000]
    camera = episode["image.cam_high"]
    assert camera.times_ns.tolist() == episode["grip.left"].times_ns.tolist()
    found = np.stack(list(camera.frames(range(30)))).astype(int)
    assert np.abs(found - frames_of(30)).max() <= 12  # H.264


def test_an_episode_says_where_it_comes_from_and_which_robot_it_is_of(teleoperated, plan, robot, tmp_path):
    """Its name in the source and what else the source said; no path, so that a moved source gives the same."""
    source = Hdf5Source(teleoperated())
    run(source, plan(source, task="Fold the cloth."), tmp_path / "raw")
    statics = positronic.open_raw(tmp_path / "raw")[0].statics
    assert Embodiment.from_dict(statics[keys.EMBODIMENT]) == robot("aloha")
    assert statics[keys.TASK] == "Fold the cloth."
    said = {"sim": True, "compress": False}
    assert statics[keys.IMPORTED] == {"source": "hdf5", "episode": "episode_0.hdf5", "statics": said}


def test_a_task_may_be_a_text_of_the_recording(tmp_path, plan):
    """The first that is not empty."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["q"], file["instruction"] = np.zeros((9, 6)), np.array([b""] + [b"Pour."] * 8)
    source = Hdf5Source(tmp_path)
    run(source, plan(source, "ur5e", fps=10.0), tmp_path / "raw")
    assert positronic.open_raw(tmp_path / "raw")[0].statics[keys.TASK] == "Pour."


def test_processes_change_nothing(teleoperated, plan, tmp_path):
    """Ids are positions in the source."""
    for length in (40, 20, 30):
        source = Hdf5Source(teleoperated(length))
    for count in (1, 2):
        results = run(source, plan(source), tmp_path / f"raw{count}", count)
        assert [results[f"episode_{number}.hdf5"].episode_id for number in range(3)] == [0, 1, 2]
    one, two = (positronic.open_raw(tmp_path / f"raw{count}") for count in (1, 2))
    assert [episode.fingerprint() for episode in one] == [episode.fingerprint() for episode in two]


def test_an_episode_that_is_damaged_spoils_only_itself(teleoperated, plan, tmp_path):
    """Nothing of it is left; when it is mended, the same run imports it alone."""
    teleoperated()
    source = Hdf5Source(teleoperated())
    whole = source.files[0].read_bytes()
    with h5py.File(source.files[0], "a") as file:
        file["observations/qpos"][7, 3] = np.nan
    results = run(source, plan(source), tmp_path / "raw")
    assert isinstance(results["episode_0.hdf5"], Refused)
    assert "sample 7 holds nan" in results["episode_0.hdf5"].reason
    assert [episode.id for episode in positronic.open_raw(tmp_path / "raw")] == [1]
    source.files[0].write_bytes(whole)
    again = run(source, plan(source), tmp_path / "raw")
    assert [(name, result.episode_id) for name, result in again.items()] == [("episode_0.hdf5", 0)]


def test_a_refusal_names_the_episode(teleoperated, plan, tmp_path):
    """Also where the fault was found while it was written."""
    source = Hdf5Source(teleoperated())
    with h5py.File(source.files[0], "a") as file:
        del file["observations/images/cam_high"]
        file["observations/images/cam_high"] = np.zeros((30, 33, 48, 3), np.uint8)
    source = Hdf5Source(source.path)
    refused = run(source, plan(source), tmp_path / "raw")["episode_0.hdf5"]
    assert refused.reason.startswith("episode_0.hdf5: Camera 'image.cam_high' sends frames of 33 x 48")


def test_new_episodes_of_the_source_are_added(teleoperated, plan, tmp_path):
    """Those that are there keep their ids, wherever the new ones stand."""
    teleoperated()
    source = Hdf5Source(teleoperated())
    run(source, plan(source), tmp_path / "raw")
    (source.path / "episode_0.hdf5").rename(source.path / "episode_7.hdf5")
    source = Hdf5Source(source.path)
    assert {name: result.episode_id for name, result in run(source, plan(source), tmp_path / "raw").items()} == {
        "episode_7.hdf5": 2
    }


def test_what_a_killed_run_left_unfinished_is_imported_again(teleoperated, plan, tmp_path):
    """Its folder would be in the way."""
    source = Hdf5Source(teleoperated())
    half = DatasetWriter(tmp_path / "raw").new_episode(0)
    half.append("grip.left", 0.0, 0)
    results = run(source, plan(source), tmp_path / "raw")
    assert isinstance(results["episode_0.hdf5"], Recorded)
    assert len(positronic.open_raw(tmp_path / "raw")) == 1


def test_another_mapping_is_refused_with_both_values(teleoperated, plan, tmp_path):
    """As long as there are episodes."""
    source = Hdf5Source(teleoperated())
    run(source, plan(source), tmp_path / "raw")
    other = plan(source, fps=25.0)
    with pytest.raises(PositronicError, match=r"mapping.fps: there 50.0; now 25.0\n.*output_dir=.*raw_2"):
        run(source, other, tmp_path / "raw")


def test_a_first_run_that_imported_nothing_binds_nobody(teleoperated, plan, tmp_path):
    """Its mapping may be mended."""
    source = Hdf5Source(teleoperated())
    ImportFolder(tmp_path, "x", plan(source, fps=25.0).mapping, plan(source).embodiment).begin()
    assert ImportFolder(tmp_path, "x", plan(source).mapping, plan(source).embodiment).begin() == {}
    assert read_mapping(tmp_path / MAPPING_FILE) == plan(source).mapping


def test_recordings_of_others_are_not_added_to(teleoperated, plan, tmp_path):
    """Nor those of which it is not known how they were imported."""
    source = Hdf5Source(teleoperated())
    run(source, plan(source), tmp_path / "raw")
    (tmp_path / "raw" / RECORD_FILE).write_text("{")
    with pytest.raises(PositronicError, match=r"import.json is missing or damaged"):
        run(source, plan(source), tmp_path / "raw")
    with DatasetWriter(tmp_path / "mine").new_episode() as episode:
        episode.append(keys.GRIP, 0.0, 0)
    with pytest.raises(PositronicError, match="that stage=import did not write"):
        run(source, plan(source), tmp_path / "mine")


def test_silences_and_clipped_grippers_are_told(teleoperated, plan, tmp_path):
    """In seconds after the start, and in percent."""
    qpos = np.zeros((100, 14))
    qpos[:10, 6] = 1.2
    source = Hdf5Source(teleoperated(100, **{"observations/qpos": qpos}))
    asked = plan(source)
    (episode,) = source.episodes()
    result = record_with_gap(episode, asked, tmp_path / "raw")
    assert "grip.left: 10.0% of the samples outside of open and closed, set to the nearer" in result.remarks
    assert "robot_commands.left.joints: nothing from 0.4 to 2.0 s" in result.remarks


def record_with_gap(episode, asked, root):
    """The episode, of whose action only the first 21 samples were recorded."""
    from positronic.importing.recording import record

    class Gap:
        def __init__(self, reading):
            self.reading = reading

        def read(self, field):
            times, values = self.reading.read(field)
            return type(self.reading.read(field))(
                *((times[:21], values[:21]) if field == "action" else (times, values))
            )

        def frames(self, field):
            return self.reading.frames(field)

        def video(self, field):
            return None

    return record(DatasetWriter(root), Wrapped(episode, Gap), 0, asked)


class Wrapped:
    """An episode whose reading is another one."""

    def __init__(self, episode, reading):
        self.name, self.task, self.statics = episode.name, episode.task, episode.statics
        self._episode, self._reading = episode, reading

    def open(self, fields):
        return Opened(self._episode.open(fields), self._reading)


class Opened:
    def __init__(self, opened, reading):
        self._opened, self._make = opened, reading

    def __enter__(self):
        return self._make(self._opened.__enter__())

    def __exit__(self, *error):
        return self._opened.__exit__(*error)


@pytest.mark.parametrize(("first", "is_copied"), [(10, True), (5, False)])
def test_a_video_is_copied_where_it_can_be_cut(teleoperated, plan, tmp_path, first, is_copied):
    """From keyframe to keyframe; otherwise its frames are encoded again."""
    from positronic.importing.recording import record

    source = Hdf5Source(teleoperated())
    path = tmp_path / "source.mp4"
    write_video(path)

    class WithVideo:
        def __init__(self, reading):
            self.read, self.frames = reading.read, reading.frames

        def video(self, field):
            return VideoSpan(path, first, np.arange(20) * 20_000_000)

    (episode,) = source.episodes()
    result = record(DatasetWriter(tmp_path / "raw"), Wrapped(episode, WithVideo), 0, plan(source))
    assert result.copied == (("image.cam_high", "image.cam_left_wrist", "image.cam_right_wrist") if is_copied else ())
    camera = positronic.open_raw(tmp_path / "raw")[0]["image.cam_high"]
    assert len(camera.times_ns) == (20 if is_copied else 30)


def write_video(path):
    """40 grey frames with a keyframe every 10th."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=50, options={"bf": "0", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.gop_size = 10
        for at in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 6 * at, np.uint8))
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
