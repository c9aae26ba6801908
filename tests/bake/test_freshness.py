"""A picture, a state or a command that was no longer true makes a bad episode, where something else shows it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from positronic import keys
from positronic.bake.freshness import require_fresh_vectors
from positronic.bake.manifest import read_manifest
from positronic.bake.sampling import episode_grid
from positronic.errors import PositronicError
from positronic.raw.dataset import Dataset, open_dataset
from positronic.raw.faults import BadEpisode
from positronic.raw.writer import DatasetWriter

NS, FPS, SECONDS = 10**9, 15, 5
VECTORS = (keys.EE_POSE, keys.COMMAND_POSE, keys.GRIP, keys.TARGET_GRIP)
Way = Callable[[float], float]


def sway(time_sec: float) -> float:
    """Metres: 10 cm each way."""
    return 0.1 * np.sin(time_sec)


def still(time_sec: float) -> float:
    return 0.0


def pose(x: float) -> np.ndarray:
    return np.array([0.4 + x, 0.1, 0.3, 1.0, 0.0, 0.0, 0.0])


def picture(x: float, background: np.ndarray, pixels_per_metre: float = 160.0) -> np.ndarray:
    """A bright arm, 4 pixels wide, before a background of its own texture."""
    image = background.copy()
    left = 28 + round(pixels_per_metre * x)
    image[10:38, left : left + 4] = 230
    return image


def robot(arm: Way) -> dict[str, Callable]:
    """Every signal of an arm that moves so, as a function of seconds."""
    return {
        keys.EE_POSE: lambda t: pose(arm(t)),
        keys.COMMAND_POSE: lambda t: pose(arm(t + 0.1)),
        keys.GRIP: lambda t: 0.5 + 5 * arm(t),
        keys.TARGET_GRIP: lambda t: 0.5 + 5 * arm(t),
    }


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Dataset]:
    """``recording(arm=sway, ...)`` adds an episode of 5 s, everything at 15 Hz, and opens the dataset.

    ``values``: what a signal is as a function of seconds; None at a moment without a sample. ``hangs``: camera -> when
    its picture stops. ``image``: picture of a position of the arm.
    """
    background = np.random.default_rng(0).integers(60, 120, (48, 64, 3)).astype(np.uint8)

    def make(
        arm: Way = sway,
        values: Mapping[str, Callable] | None = None,
        hangs: Mapping[str, float] | None = None,
        image: Callable = picture,
    ) -> Dataset:
        with DatasetWriter(tmp_path / "raw").new_episode() as episode:
            episode.set_static(keys.TASK, "stack")
            for k in range(SECONDS * FPS + 1):
                time_sec, time_ns = k / FPS, k * NS // FPS
                for name, value in (robot(arm) | dict(values or {})).items():
                    if (sample := value(time_sec)) is not None:
                        episode.append(name, sample, time_ns)
                for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                    seen = min(time_sec, (hangs or {}).get(camera, SECONDS))
                    episode.append(camera, image(arm(seen), background), time_ns)
        return open_dataset(tmp_path / "raw")

    return make


def until(stop_sec: float, value: Callable) -> Callable:
    """No samples from ``stop_sec`` on."""
    return lambda t: value(t) if t < stop_sec else None


def on_change(value: Callable) -> Callable:
    """As a recorder writes it that leaves out what it wrote before."""
    last = []

    def sample(time_sec: float) -> object:
        now = value(time_sec)
        if last and np.array_equal(last[-1], now):
            return None
        last.append(now)
        return now

    return sample


def check(dataset: Dataset, limit_sec: float = 1.0, names: tuple[str, ...] = VECTORS) -> None:
    times = episode_grid(dataset[0], dataset[0].signals, FPS)
    require_fresh_vectors(dataset[0], names, times, limit_sec)


def test_a_camera_that_hangs_while_the_arm_moves_makes_a_bad_episode(recording, recipe, baked):
    """Its stamps run on and every repeated picture is encoded anew; camera and span are named."""
    with pytest.raises(
        PositronicError, match=r"'image.wrist' shows the same picture from 1\.[234]\d s to 4\.[789]\d s, while"
    ):
        baked(recording(hangs={keys.IMAGE_WRIST: 1.3}), recipe())


def test_a_camera_may_hang_when_that_is_allowed(recording, recipe, baked):
    """max_staleness_sec: null allows any time, and a longer limit allows a shorter span."""
    dataset = recording(hangs={keys.IMAGE_WRIST: 3.0})
    assert read_manifest(baked(dataset, recipe(), name="any", max_staleness_sec=None)).episodes == 1
    assert read_manifest(baked(dataset, recipe(), name="longer", max_staleness_sec=3.0)).episodes == 1


def test_a_camera_that_goes_black_makes_a_bad_episode(recording, recipe, baked):
    """From 2 s on there is nothing to see, though there was before."""

    def image(x: float, background: np.ndarray) -> np.ndarray:
        return picture(x, background) * np.uint8(x != sway(2))

    with pytest.raises(PositronicError, match="shows the same picture"):
        baked(recording(image=image, hangs=dict.fromkeys((keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR), 2.0)), recipe())


def test_a_scene_in_which_nothing_moves_is_no_fault(recording, recipe, baked):
    """One picture for 5 s of a robot that stands still."""
    assert read_manifest(baked(recording(arm=still), recipe())).episodes == 1


def test_a_late_picture_is_no_fault(recording, recipe, baked):
    """The arm starts after 3 s, and is seen to do so half a second later."""

    def arm(time_sec: float) -> float:
        return 0.1 * max(0.0, time_sec - 3.0)

    late = {keys.EE_POSE: lambda t: pose(arm(t + 0.5)), keys.COMMAND_POSE: lambda t: pose(arm(t + 0.6))}
    assert read_manifest(baked(recording(arm=arm, values=late), recipe())).episodes == 1


def test_a_small_slow_arm_is_no_fault(recording, recipe, baked):
    """4 pixels wide, 1 pixel a second: 4 cm/s, seen from afar."""

    def image(x: float, background: np.ndarray) -> np.ndarray:
        return picture(x, background, pixels_per_metre=25)

    assert read_manifest(baked(recording(arm=lambda t: 0.04 * t, image=image), recipe())).episodes == 1


def test_a_camera_of_one_colour_is_no_fault(recording, recipe, baked):
    """It says nothing about time; ``stage=stats`` says that it has no contrast."""
    dataset = recording(image=lambda x, background: np.full_like(background, 90))
    assert read_manifest(baked(dataset, recipe())).episodes == 1


def test_a_piece_of_an_interrupted_bake_is_judged_by_the_limit_of_the_next(recording, recipe, baked, tmp_path):
    """Baked where any time was allowed, interrupted by a bad episode, gone on with where it is not."""
    recording(hangs={keys.IMAGE_WRIST: 1.3})
    dataset = recording(values={keys.GRIP: lambda t: np.nan})
    with pytest.raises(PositronicError, match=r"1 of 2 episodes are bad.*\n.*not finite"):
        baked(dataset, recipe(), max_staleness_sec=None)
    with pytest.raises(PositronicError, match=r"2 of 2 episodes are bad.*\n.*shows the same picture"):
        baked(dataset, recipe(), on_bad_episode="skip")
    assert not (tmp_path / "baked").exists()


def test_a_hanging_camera_can_be_left_out(recording, recipe, baked):
    """on_bad_episode=skip bakes the others."""
    recording(hangs={keys.IMAGE_EXTERIOR: 2.0})
    dataset = recording(arm=lambda t: sway(t + 0.2))
    assert read_manifest(baked(dataset, recipe(), on_bad_episode="skip")).episodes == 1


@pytest.mark.parametrize("name", VECTORS)
def test_a_signal_that_ends_while_the_rest_moves_makes_a_bad_episode(recording, name):
    """At 1 s of 5; the signal, the span and what contradicts it are named."""
    value = (lambda t: pose(sway(t))) if "pose" in name else (lambda t: 0.5 + 0.5 * np.sin(t))
    dataset = recording(values={name: until(1.0, value)})
    with pytest.raises(BadEpisode, match=rf"'{name}' stands still from 0.93 s to 4.9\d s, while '.*max_state_stale"):
        check(dataset)
    check(dataset, limit_sec=5.0)


@pytest.mark.parametrize("name", VECTORS)
def test_a_value_that_repeats_with_running_stamps_is_no_newer(recording, name):
    """A reader that hangs hands on what it has: content counts."""
    value = (lambda t: pose(sway(min(t, 1.0)))) if "pose" in name else (lambda t: 0.5 + 0.5 * np.sin(min(t, 1.0)))
    with pytest.raises(BadEpisode, match=f"'{name}' stands still from 1.00 s"):
        check(recording(values={name: value}))


def test_a_state_that_hangs_in_the_middle_makes_a_bad_episode(recording):
    """Nothing else says that the arm moved, but it is 10 cm further on afterwards."""
    values = {
        keys.EE_POSE: lambda t: pose(0.05 * t) if not 1 < t < 3.5 else None,
        keys.COMMAND_POSE: until(0.5, lambda t: pose(0.3)),
    }
    with pytest.raises(BadEpisode, match=r"'robot_state.ee_pose' stands still from 1.00 s to 3.53 s, while it is else"):
        check(recording(values=values))


def test_a_gripper_that_was_recorded_at_a_rate_and_ends_makes_a_bad_episode(recording):
    """It came also when nothing changed, so a recorder that writes on change is no excuse."""
    values = {keys.GRIP: until(1.0, lambda t: 0.0), keys.TARGET_GRIP: lambda t: 0.0}
    with pytest.raises(BadEpisode, match="'grip' stands still"):
        check(recording(values=values))


def test_joints_are_held_against_poses(recording):
    """Signals that the codec does not use are witnesses too."""
    joints = {keys.JOINT_POSITION: until(1.0, lambda t: np.full(7, np.sin(t)))}
    with pytest.raises(BadEpisode, match="'robot_state.q' stands still"):
        check(recording(values=joints), names=(keys.JOINT_POSITION,))


def test_equal_joint_steps_are_no_fault(recording):
    """A steady motion repeats them."""
    step = np.full(7, 0.02)
    check(recording(values={keys.COMMAND_JOINT_DELTAS: lambda t: step}), names=(keys.COMMAND_JOINT_DELTAS,))


def test_joint_steps_that_end_make_a_bad_episode(recording):
    """Each moves the joints for one control step only."""
    dataset = recording(values={keys.COMMAND_JOINT_DELTAS: until(1.0, lambda t: np.full(7, 0.02))})
    with pytest.raises(BadEpisode, match="'robot_commands.joint_deltas' stands still"):
        check(dataset, names=(keys.COMMAND_JOINT_DELTAS,))


def test_a_recorder_that_writes_on_change_is_no_fault_on_a_robot_that_stands_still(recording):
    """The arm waits for 4 s, with pictures going on, and then moves."""

    def arm(time_sec: float) -> float:
        return 0.1 * max(0.0, time_sec - 4.0)

    values = {keys.EE_POSE: on_change(lambda t: pose(arm(t))), keys.COMMAND_POSE: on_change(lambda t: pose(arm(t)))}
    values |= {keys.GRIP: on_change(lambda t: 0.0), keys.TARGET_GRIP: on_change(lambda t: 0.0)}
    check(recording(values=values))


def test_a_gripper_that_is_commanded_once_is_no_fault(recording):
    """It closes at 1 s and stays closed, while the arm goes on."""
    closed = {keys.TARGET_GRIP: on_change(lambda t: float(t >= 1)), keys.GRIP: lambda t: float(np.clip(t - 1, 0, 0.6))}
    check(recording(values=closed))


def test_a_gripper_that_is_told_to_hold_tighter_is_no_fault(recording):
    """What it holds keeps it where it is."""
    check(recording(values={keys.GRIP: lambda t: 0.4, keys.TARGET_GRIP: lambda t: min(1.0, 0.4 + 0.2 * t)}))


def test_a_command_on_which_the_arm_settles_is_no_fault(recording):
    """One goal, 30 cm away, for all of the episode: the arm comes nearer all the time."""
    goal = {keys.COMMAND_POSE: lambda t: pose(0.3), keys.EE_POSE: lambda t: pose(0.3 - 0.3 * np.exp(-t))}
    check(recording(values=goal))


def test_the_published_recording_has_no_fault(published):
    """And neither have its pictures (``tests/bake/test_bake.py``)."""
    for episode in published:
        times = episode_grid(episode, episode.signals, FPS)
        require_fresh_vectors(episode, VECTORS, times, 1.0)


def test_an_episode_whose_robot_signals_all_end_before_its_pictures_is_bad(recording, recipe, baked):
    """In the middle of a movement: nothing but the pictures tells that it went on."""
    ending = {name: until(2.9, value) for name, value in robot(sway).items()}
    said = r"'robot_state.ee_pose' stands still from 2\.87 s to 4\.93 s, while it moved until then and 'image.wrist'"
    with pytest.raises(PositronicError, match=said):
        baked(recording(values=ending), recipe())


def test_a_longer_limit_allows_robot_signals_to_end_earlier(recording, recipe, baked):
    """``max_state_staleness_sec`` is the one for them."""
    dataset = recording(values={name: until(2.9, value) for name, value in robot(sway).items()})
    for limit in (3.0, None):
        assert read_manifest(baked(dataset, recipe(), name=str(limit), max_state_staleness_sec=limit)).episodes == 1


def test_an_arm_that_came_to_rest_before_its_signals_end_is_no_fault(recording, recipe, baked):
    """A recorder that writes on change, and somebody who walks past the camera."""
    places = iter(np.linspace(0, 40, 2 * (SECONDS * FPS + 1)).astype(int).tolist())

    def arm(time_sec: float) -> float:
        return 0.1 * np.sin(min(time_sec, 2.0) * np.pi / 4)

    def image(x: float, background: np.ndarray) -> np.ndarray:
        someone = picture(x, background)
        left = next(places)
        someone[:8, left : left + 8] = 255
        return someone

    resting = {name: on_change(value) for name, value in robot(arm).items()}
    assert read_manifest(baked(recording(arm=arm, values=resting, image=image), recipe())).episodes == 1
