"""Episodes that a script records, and what is left of them."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from small_robot import CAMERAS, FRONT, SIZE, STEP_NS, append, sample

import positronic
from positronic import keys
from positronic.config import read_embodiment
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import ConventionError, PositronicError


def test_an_episode_that_is_left_is_saved_as_it_was_appended(recorder, root):
    """Numbers exactly, frames in their order, each with its stamp, and what is true throughout."""
    with recorder.episode() as episode:
        append(episode)
        episode.note("operator", "Ada")
        episode.outcome(success=True)
    (saved,) = positronic.open_raw(root)
    saved.validate(saved.signals)
    assert set(saved.signals) == set(sample(0))
    assert saved[keys.JOINT_POSITION].values.tolist() == [list(sample(step)[keys.JOINT_POSITION]) for step in range(20)]
    assert saved[keys.TARGET_GRIP].values.tolist() == [1.0] * 20
    for camera in (keys.IMAGE_WRIST, FRONT):
        assert saved[camera].times_ns.tolist() == [step * STEP_NS for step in range(20)]
        means = [frame[..., 0].mean() for frame in saved[camera].frames(range(20))]
        assert means == pytest.approx([5 * step for step in range(20)], abs=3)
    noted = {keys.TASK: "Stack the cubes.", "operator": "Ada", keys.EVAL_SUCCESS: True}
    assert noted.items() <= saved.statics.items()
    assert saved.joint_names == ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")


def test_each_episode_says_which_robot_it_is_of(recorder, root):
    """With the cameras that were declared, whatever others the robot may have."""
    with recorder.episode() as episode:
        append(episode)
    (saved,) = positronic.open_raw(root)
    robot = Embodiment.from_dict(saved.statics[keys.EMBODIMENT])
    assert robot == read_embodiment("so101")
    assert robot.cameras.keys() == CAMERAS.keys()


def test_two_arms_have_keys_of_their_own(root):
    """Those of ALOHA, with one of its three cameras."""
    both = {f"robot_state.{arm}.q": np.zeros(6) for arm in ("left", "right")}
    both |= {"grip.left": 0.5, "target_grip.right": 1.0, "image.cam_high": np.zeros((*SIZE, 3), np.uint8)}
    with (
        positronic.record(root, "aloha", cameras={"cam_high": SIZE}, task="Fold.") as recorder,
        recorder.episode() as episode,
    ):
        for step in range(10):
            episode.append(both, time_ns=step * STEP_NS)
        with pytest.raises(PositronicError, match=r"'robot_state\.q' is none of embodiment aloha"):
            episode.append({keys.JOINT_POSITION: np.zeros(6)}, time_ns=10 * STEP_NS)
    (saved,) = positronic.open_raw(root)
    assert set(saved.signals) == set(both)
    assert saved.statics[keys.EMBODIMENT]["cameras"] == {"cam_high": "exterior"}


def test_signals_may_come_at_their_own_times_from_several_threads(recorder, root):
    """A camera's thread and the control loop append to one episode."""

    def camera(name):
        for step in range(20):
            episode.append({name: sample(step)[name]}, time_ns=step * STEP_NS + 7)

    with recorder.episode() as episode:
        threads = [threading.Thread(target=camera, args=(name,)) for name in (keys.IMAGE_WRIST, FRONT)]
        for thread in threads:
            thread.start()
        for step in range(100):
            episode.append({keys.GRIP: step / 100}, time_ns=step * STEP_NS // 5)
        for thread in threads:
            thread.join()
    (saved,) = positronic.open_raw(root)
    counts = {name: len(saved[name].times_ns) for name in saved.signals}
    assert counts == {keys.GRIP: 100, keys.IMAGE_WRIST: 20, FRONT: 20}


def test_a_value_may_be_changed_after_it_was_appended(recorder, root):
    """Robots and cameras give the same buffer again and again."""
    joints, frame = np.zeros(5), np.zeros((*SIZE, 3), np.uint8)
    with recorder.episode() as episode:
        for step in range(10):
            joints[:] = step / 10
            frame[:] = 20 * step
            episode.append({keys.JOINT_POSITION: joints, keys.IMAGE_WRIST: frame, FRONT: frame}, time_ns=step * STEP_NS)
    (saved,) = positronic.open_raw(root)
    assert saved[keys.JOINT_POSITION].values[:, 0].tolist() == [step / 10 for step in range(10)]
    means = [frame.mean() for frame in saved[keys.IMAGE_WRIST].frames(range(10))]
    assert means == pytest.approx([20 * step for step in range(10)], abs=3)


def test_frames_that_a_view_turns_to_rgb_keep_their_colours(recorder, root):
    """OpenCV's frames are blue, green, red; turning them is left to the encoder. Crops are views, too."""
    bgr = np.zeros((*SIZE, 3), np.uint8)
    bgr[..., 2] = 200
    large = np.zeros((2 * SIZE[0], 2 * SIZE[1], 3), np.uint8)
    large[..., 1] = 200
    with recorder.episode() as episode:
        views = {keys.IMAGE_WRIST: bgr[..., ::-1], FRONT: large[10 : 10 + SIZE[0], : SIZE[1]]}
        for step in range(5):
            episode.append(views, time_ns=step * STEP_NS)
    (saved,) = positronic.open_raw(root)
    for camera, colour in ((keys.IMAGE_WRIST, [200, 0, 0]), (FRONT, [0, 200, 0])):
        frame = next(iter(saved[camera].frames([4])))
        assert frame.mean(axis=(0, 1)) == pytest.approx(colour, abs=4)


def test_a_frame_may_be_written_where_it_is_encoded(recorder, root):
    """More frames than are held at once, so that each place is used again; the other camera's are copied."""
    with recorder.episode() as episode:
        for step in range(2 * recorder.frames_held):
            buffer = until_there_is_room(lambda: episode.frame_buffer(keys.IMAGE_WRIST))
            assert (buffer.shape, buffer.dtype) == ((*SIZE, 3), np.uint8)
            buffer[:] = 4 * step
            images = {keys.IMAGE_WRIST: buffer, FRONT: np.full((*SIZE, 3), 4 * step, np.uint8)}
            until_there_is_room(lambda images=images, step=step: episode.append(images, time_ns=step * STEP_NS))
    (saved,) = positronic.open_raw(root)
    count = 2 * recorder.frames_held
    for camera in (keys.IMAGE_WRIST, FRONT):
        means = [frame.mean() for frame in saved[camera].frames(range(count))]
        assert means == pytest.approx([4 * step for step in range(count)], abs=3)


def until_there_is_room(call):
    while True:
        try:
            return call()
        except PositronicError as error:
            if "frames behind" not in str(error):
                raise


def test_a_frame_written_in_place_may_be_blue_green_red(recorder, root):
    """As OpenCV writes it; the view says so."""
    with recorder.episode() as episode:
        for step in range(5):
            buffer = episode.frame_buffer(keys.IMAGE_WRIST)
            buffer[:] = [0, 0, 200]
            episode.append({keys.IMAGE_WRIST: buffer[..., ::-1], FRONT: sample(step)[FRONT]}, time_ns=step * STEP_NS)
    (saved,) = positronic.open_raw(root)
    frame = next(iter(saved[keys.IMAGE_WRIST].frames([4])))
    assert frame.mean(axis=(0, 1)) == pytest.approx([200, 0, 0], abs=4)


def crash_in_an_episode(recorder):
    with recorder.episode() as episode:
        append(episode)
        _ = 1 / 0


def test_an_exception_drops_the_episode_and_says_so(recorder, root, capsys):
    """The ones before and after are whole; numbers are not given twice."""
    with recorder.episode() as episode:
        append(episode)
    with pytest.raises(ZeroDivisionError):
        crash_in_an_episode(recorder)
    with recorder.episode() as episode:
        append(episode)
    assert "Episode 1 dropped: ZeroDivisionError\n" in capsys.readouterr().out
    assert [saved.id for saved in positronic.open_raw(root)] == [0, 2]


def test_a_discarded_episode_is_dropped_without_an_error(recorder, root, capsys):
    """And takes no further sample."""
    with recorder.episode() as episode:
        append(episode)
        episode.discard("the cube fell")
        with pytest.raises(PositronicError, match="Episode 0 is over"):
            append(episode)
    assert "Episode 0 dropped: the cube fell\n" in capsys.readouterr().out
    assert not list(root.glob("*/*"))


def test_at_the_end_it_says_where_the_recordings_are_and_what_to_type(root, capsys):
    """How many, how long, and the command."""
    with positronic.record(root, "so101", cameras=CAMERAS, task="x") as recorder:
        with recorder.episode() as episode:
            append(episode)
        with recorder.episode() as episode:
            episode.discard()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Episode 0 saved: 0.4 s")
    assert lines[1] == "Episode 1 dropped: discarded by the script"
    assert lines[2:4] == ["1 episodes, 0.4 s of robot time; 1 dropped", f"  dataset: {root}"]
    assert lines[4].startswith("  next:    python run.py stage=convert ")
    assert f"dataset.path={root}" in lines[4]


def test_nothing_is_left_where_nothing_was_saved(root, capsys):
    """No folder, and no command that would find nothing."""
    with positronic.record(root, "so101", task="x") as recorder, recorder.episode() as episode:
        episode.append({keys.GRIP: 0}, time_ns=0)
        episode.discard()
    assert not root.exists()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"0 episodes, 0.0 s of robot time; 1 dropped. Nothing is in {root}."


def test_a_later_run_adds_episodes(root):
    """To those that are there."""
    for _ in range(2):
        with positronic.record(root, "so101", task="x") as recorder, recorder.episode() as episode:
            for step in range(3):
                episode.append({keys.GRIP: 0.0}, time_ns=step * STEP_NS)
    assert [saved.id for saved in positronic.open_raw(root)] == [0, 1]


def test_recordings_of_two_robots_are_not_mixed(root):
    """Both sides are printed."""
    with positronic.record(root, "so101", task="x") as recorder, recorder.episode() as episode:
        for step in range(3):
            episode.append({keys.GRIP: 0.0}, time_ns=step * STEP_NS)
    other = positronic.record(root, "ur5e")
    with pytest.raises(ConventionError, match=r"arm: joints: .*ur5e.* has 6: .* has 5: "), other:
        pass


def test_two_scripts_do_not_record_into_one_folder(recorder, root):
    """The second one would take the first one's episode for one that was left."""
    with pytest.raises(PositronicError, match="Another process is writing"), positronic.record(root, "so101"):
        pass


def test_a_robot_of_ones_own_is_a_value_or_a_file(root, tmp_path):
    """With the joints and cameras that it has."""
    one = replace(read_embodiment("so101").arms[0], joints=("knee",), lower=None, upper=None)
    robot = replace(read_embodiment("so101"), name="leg", arms=(one,), cameras={"eye": "exterior"})
    with positronic.record(root, robot, task="x") as recorder, recorder.episode() as episode:
        episode.append({keys.JOINT_POSITION: [0.0]}, time_ns=0)
        episode.append({keys.JOINT_POSITION: [0.1]}, time_ns=STEP_NS)
    (tmp_path / "leg.yaml").write_text("arms: {arm: {joints: [knee], ee_frame: null}}\ncameras: {eye: exterior}\n")
    recorder = positronic.record(root, tmp_path / "leg.yaml", cameras={"eye": SIZE})
    assert (recorder.robot.name, recorder.robot.arms[0].joints) == ("leg", ("knee",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arms: {arm: {joints: [a], unit: deg}}", r"embodiment\.arms\.arm\.unit=deg: expected one of rad"),
        ("arms: {arm: {joint: [a]}}", "describes no embodiment: .*joint"),
        ("arms: [", "describes no embodiment"),
        ("{}", "it has no arm"),
    ],
)
def test_a_file_that_describes_no_robot_is_refused(tmp_path, text, message):
    """Its units, too, are those of recordings."""
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(PositronicError, match=message):
        positronic.record("x", tmp_path / "mine.yaml")
