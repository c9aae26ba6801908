"""One rotation is one row of numbers, in every episode and live."""

import json
from dataclasses import replace

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.bake.columns import episode_columns
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.inspection import inspect
from positronic.bake.manifest import read_manifest, write_manifest
from positronic.bake.orientation import movement_of, reference_rotation, with_reference_rotations
from positronic.codecs.build import Recipe, build
from positronic.codecs.parts import EePose
from positronic.embodiments.published import FRANKA
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.training.agreement import agreed_recipe

STATE, ACTION = "observation.state", "action"
FRAME = np.zeros((32, 32, 3), np.uint8)


def quat(angle: float) -> np.ndarray:
    """About an axis near x: the first and the last number are small, as of a gripper that points down."""
    return np.array([np.cos(angle / 2), np.sin(angle / 2) * 0.96, 0.0, np.sin(angle / 2) * 0.28])


@pytest.fixture
def turning(tmp_path):
    """``turning(angle_at, sign_at)`` adds an episode of 2 s at 15 Hz to ``tmp_path / name``, and opens the dataset."""

    def make(angle_at, sign_at=lambda k: 1, name="raw"):
        with DatasetWriter(tmp_path / name).new_episode() as episode:
            for k in range(31):
                now, pose = k * 10**9 // 15, np.append([0.4, 0.01 * k, 0.3], sign_at(k) * quat(angle_at(k)))
                for signal in (keys.EE_POSE, keys.COMMAND_POSE):
                    episode.append(signal, pose, now)
                for signal in (keys.GRIP, keys.TARGET_GRIP):
                    episode.append(signal, k / 31, now)
                for signal in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                    episode.append(signal, FRAME + k, now)
        return open_dataset(tmp_path / name)

    return make


def rotations(folder, column=STATE):
    return np.concatenate([rows[column][:, 3:-1] for rows in episode_columns(folder, [column])])


def vectors(folder):
    return [{name: rows.tobytes() for name, rows in each.items()} for each in episode_columns(folder, [STATE, ACTION])]


def with_rotation(recipe: Recipe, rotation: str) -> Recipe:
    fields = recipe.to_dict()
    return Recipe.from_dict(fields | {"codec": fields["codec"] | {"rotation": rotation}})


def near_pi(k):
    return np.pi + 0.3 * np.sin(k / 5)


def pairs(k):
    return 1 - 2 * (k // 2 % 2)


@pytest.mark.parametrize("dataset_format", ["v3.0", "v2.1"])
def test_samples_of_the_other_sign_are_turned_and_counted(turning, recipe, baked, dataset_format):
    """A recording whose sign changes bakes to the numbers of one whose sign does not."""
    steady = baked(turning(near_pi, name="steady"), recipe(), "one", dataset_format=dataset_format)
    mixed = turning(near_pi, lambda k: -1 if k in (3, 4, 9) else 1, name="mixed")
    folder = baked(mixed, recipe(), "two", dataset_format=dataset_format)
    assert vectors(folder) == vectors(steady)
    assert inspect(folder, read_manifest(folder)).turned == {keys.EE_POSE: 3, keys.COMMAND_POSE: 3}
    assert inspect(steady, read_manifest(steady)).turned == {keys.EE_POSE: 0, keys.COMMAND_POSE: 0}


@pytest.mark.parametrize("sign", [1, -1])
def test_a_recording_without_flips_bakes_to_what_was_recorded(turning, recipe, baked, sign):
    """Whatever its sign, to the last bit."""
    dataset = turning(near_pi, lambda k: sign)
    episode, plain = dataset[0], recipe().codec
    folder = baked(dataset, recipe())
    times = [k * 10**9 // 15 for k in range(30)]
    expected = plain.encode_episode({name: episode[name].at(times) for name in plain.vector_signals})
    assert rotations(folder).tobytes() == expected["state.ee_pose"][:, 3:].tobytes()
    assert read_manifest(folder).recipe["reference_rotations"].keys() == {keys.EE_POSE, keys.COMMAND_POSE}


@pytest.mark.parametrize(("rotation", "far"), [("quat_wxyz", 3.9), ("rotvec", 2.8)])
def test_one_movement_over_more_than_half_a_turn_stays_in_one_piece(turning, recipe, baked, rotation, far):
    """Although most of it is at one end, so that the other end lies beyond half a turn from the principal direction."""
    start = 0.1 if rotation == "quat_wxyz" else -2.5  # as rotation vectors, from before 0 to after it

    def angle(k):
        return start + (far - start) * max(0, k - 20) / 10

    used = with_rotation(recipe(), rotation)
    dataset = turning(angle)
    expected = used.codec.encode_episode(
        {name: dataset[0][name].at([k * 10**9 // 15 for k in range(30)]) for name in used.codec.vector_signals}
    )
    folder = baked(dataset, used)
    assert rotations(folder).tobytes() == expected["state.ee_pose"][:, 3:].tobytes()
    assert inspect(folder, read_manifest(folder)).turned == {keys.EE_POSE: 0, keys.COMMAND_POSE: 0}
    assert read_manifest(folder).load_recipe().reference_rotations.keys() == {keys.EE_POSE, keys.COMMAND_POSE}


def test_changes_of_sign_in_a_wide_movement_are_undone(turning, recipe, baked):
    """To the numbers of the same movement without them."""

    def angle(k):
        return 0.1 + 3.8 * max(0, k - 20) / 10

    steady = baked(turning(angle, name="steady"), recipe(), "one")
    mixed = baked(turning(angle, lambda k: -1 if k in (2, 3, 22, 27) else 1, name="mixed"), recipe(), "two")
    assert vectors(mixed) == vectors(steady)


def test_more_than_a_full_turn_without_changes_of_sign_stays_as_recorded(turning, recipe, baked):
    """There the same rotation is recorded with both signs, and no reference can tell which is meant."""
    dataset = turning(lambda k: 0.25 * k)
    folder = baked(dataset, recipe())
    assert "reference_rotations" not in read_manifest(folder).recipe
    assert np.abs(np.diff(rotations(folder), axis=0)).max() < 0.2


def test_no_movement_is_cut_where_a_reference_exists():
    """Movements over 286 degrees in any place, most of the time at one end."""
    part, random = EePose(FRANKA.arms[0], "quat_wxyz"), np.random.default_rng(0)
    half = np.append(np.full(300, 1.25), np.linspace(1.25, -1.25, 100))[:, None]
    for _ in range(20):
        ends, _ = np.linalg.qr(random.normal(size=(4, 2)))
        quats = np.cos(half) * ends[:, 0] + np.sin(half) * ends[:, 1]
        reference = reference_rotation(part, [movement_of(quats)])
        encoded = part.toward(reference).encode(np.hstack([np.zeros((400, 3)), quats]))
        np.testing.assert_allclose(encoded[:, 3:], quats, atol=1e-12)


def test_whole_episodes_of_the_other_sign_are_turned(turning, recipe, baked):
    """The sign of most samples counts."""
    for sign in (1, 1, -1):
        dataset = turning(lambda k: 1.0 + 0.01 * k, lambda k, sign=sign: sign)
    folder = baked(dataset, recipe())
    assert (rotations(folder)[:, 0] > 0).all()
    assert inspect(folder, read_manifest(folder)).turned[keys.EE_POSE] == 30


def test_rotation_vectors_do_not_jump_at_pi(turning, recipe, baked):
    """Both sides of half a turn are neighbours; samples are counted, and nothing looks wrong."""
    folder = baked(turning(near_pi, pairs), with_rotation(recipe(), "rotvec"))
    assert np.abs(np.diff(rotations(folder), axis=0)).max() < 0.1
    inspection = inspect(folder, read_manifest(folder))
    assert 0 < inspection.turned[keys.EE_POSE] < 30
    assert not [finding for finding in inspection.findings if "turns over" in finding.text]


def test_rot6d_needs_no_reference(turning, recipe, baked):
    """It has one row of numbers for a rotation."""
    folder = baked(turning(near_pi, pairs), with_rotation(recipe(), "rot6d_rows"))
    assert "reference_rotations" not in read_manifest(folder).recipe


@pytest.mark.parametrize("rotation", ["quat_wxyz", "rotvec"])
def test_live_and_baked_are_equal_and_live_q_is_live_minus_q(turning, recipe, baked, rotation):
    """To the last bit, with the recipe as a checkpoint carries it; decoding gives one command."""
    dataset = turning(near_pi, pairs)
    folder = baked(dataset, with_rotation(recipe(), rotation))
    codec = Recipe.from_dict(json.loads(json.dumps(read_manifest(folder).recipe))).codec
    expected, episode = rotations(folder), dataset[0]
    for k in range(30):
        pose = episode[keys.EE_POSE].at([k * 10**9 // 15])[0]
        for sign in (1, -1):
            seen = {keys.EE_POSE: np.append(pose[:3], sign * pose[3:]), keys.GRIP: 0.0}
            live = codec.encode(seen | {keys.IMAGE_WRIST: FRAME, keys.IMAGE_EXTERIOR: FRAME})["state.ee_pose"]
            np.testing.assert_array_equal(live[3:], expected[k])


@pytest.mark.parametrize("mixed", [[keys.EE_POSE], [keys.COMMAND_POSE], [keys.EE_POSE, keys.COMMAND_POSE]])
def test_where_signs_are_mixed_commands_have_that_of_what_is_measured(tmp_path, recipe, baked, mixed):
    """As most samples are says nothing there; opposite ones would be a large step for a model that subtracts them."""
    sign = {keys.EE_POSE: pairs, keys.COMMAND_POSE: lambda k: -pairs(k)}
    with DatasetWriter(tmp_path / "raw").new_episode() as episode:
        for k in range(31):
            now = k * 10**9 // 15
            for name in (keys.EE_POSE, keys.COMMAND_POSE):
                turned = sign[name](k) if name in mixed else 1
                episode.append(name, np.append([0.4, 0.01 * k, 0.3], turned * quat(1 + 0.3 * np.sin(k / 5))), now)
            for name in (keys.GRIP, keys.TARGET_GRIP):
                episode.append(name, k / 31, now)
            for name in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                episode.append(name, FRAME + k, now)
    folder = baked(open_dataset(tmp_path / "raw"), recipe())
    np.testing.assert_array_equal(rotations(folder), rotations(folder, ACTION))


def test_a_policy_s_q_and_minus_q_command_the_same(turning, recipe, baked):
    """Number by number."""
    codec = read_manifest(baked(turning(near_pi), recipe())).load_recipe().codec
    one, two = codec.decode([[0.4, 0, 0.3, *(sign * quat(1.0)), 0.5] for sign in (1, -1)])
    np.testing.assert_array_equal(one.command.pose, two.command.pose)


def test_appended_episodes_take_the_reference_of_the_dataset(turning, recipe, baked, tmp_path):
    """Also when most of them have the other sign; and what was turned is counted over both."""
    folder = baked(turning(near_pi, name="first"), recipe())
    before = read_manifest(folder).recipe
    later = turning(near_pi, lambda k: -1, name="second")
    bake(later, recipe(), folder, BakeOptions("lerobot", num_workers=1, append=True), {"versions": {}})
    manifest = read_manifest(folder)
    assert manifest.recipe == before
    first, second = np.split(rotations(folder), 2)
    np.testing.assert_array_equal(first, second)
    assert inspect(folder, manifest).turned == {keys.EE_POSE: 30, keys.COMMAND_POSE: 30}


def test_a_dataset_of_an_older_version_stays_as_recorded_and_the_report_says_so(turning, recipe, baked):
    """It has no reference: nothing is turned, appending does not give it one, and the flips are named."""
    dataset = turning(near_pi, pairs)
    folder = baked(dataset, recipe())
    manifest = read_manifest(folder)
    del manifest.recipe["reference_rotations"]
    write_manifest(folder, replace(manifest, file_list=False))  # nor had older versions a list of files
    (folder / keys.FILE_LIST).unlink()
    options = BakeOptions("lerobot", num_workers=1, append=True)
    bake(turning(lambda k: 1.0, pairs, name="more"), recipe(), folder, options, {"versions": {}})
    manifest = read_manifest(folder)
    assert "reference_rotations" not in manifest.recipe
    assert (rotations(folder)[30:, 0] < 0).any()
    found = [finding.text for finding in inspect(folder, manifest).findings if "turns over" in finding.text]
    assert len(found) == 2
    assert "14 times, first in episode 1, frame 2 (q and -q are one rotation: convert it again)" in found[0]


def test_training_takes_the_reference_of_its_dataset(turning, recipe, baked):
    """And agrees with a codec that was typed, which has none."""
    used = recipe()
    manifest = read_manifest(baked(turning(near_pi, pairs), used))
    agreed = agreed_recipe(used.codec_config, used.modality_config, manifest, "data", "convert")
    assert agreed.to_dict() == manifest.recipe


def test_the_reference_does_not_depend_on_the_number_of_threads_and_bad_samples_are_left_out(turning, recipe):
    """Zero quaternions and numbers that are not finite are the bake's to name."""
    turning(near_pi)
    dataset = turning(near_pi, lambda k: 0 if k == 5 else np.nan if k == 6 else 1)
    one, four = (with_reference_rotations(recipe(), dataset, count) for count in (1, 4))
    assert one == four
    values = one.reference_rotations[keys.EE_POSE]
    np.testing.assert_allclose(np.abs(values), np.abs(quat(np.pi)), atol=0.05)


@pytest.mark.parametrize("values", [np.zeros((4, 3)), np.zeros(4), np.full((4, 7), 1e300), np.zeros((4, 12))])
def test_samples_that_are_no_poses_give_no_reference(values, tmp_path, recipe):
    """They are the bake's to name."""
    with DatasetWriter(tmp_path / "raw").new_episode() as episode:
        for k, value in enumerate(values):
            episode.append(keys.EE_POSE, value, k * 10**9)
    assert with_reference_rotations(recipe(), open_dataset(tmp_path / "raw"), 1) == recipe()


@pytest.mark.parametrize(("vendor", "codec", "state"), [("gr00t", "ee_quat", "ee_pose"), ("openpi", "ee", STATE)])
def test_other_vendors_columns_have_one_sign_too(turning, baked, vendor, codec, state):
    """They are made of the same features."""
    typed = ["stage=convert", f"vendor={vendor}", f"codec={codec}", "modality.image_size=[32,32]"]
    config = positronic.compose(typed)
    used = build(config.codec, config.modality)
    steady = baked(turning(near_pi, name="steady"), used, "one", vendor=vendor)
    mixed = baked(turning(near_pi, lambda k: 1 if k % 5 else -1, name="mixed"), used, "two", vendor=vendor)
    for one, two in zip(episode_columns(steady, [state, ACTION]), episode_columns(mixed, [state, ACTION]), strict=True):
        np.testing.assert_array_equal(one[state], two[state])
        np.testing.assert_array_equal(one[ACTION], two[ACTION])
