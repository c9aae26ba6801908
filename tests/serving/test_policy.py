import json

import numpy as np
import pytest
from toy_server import COLUMNS, make_checkpoint, make_recipe, observation
from toy_vendor import CHUNK, ToyModel, load_model

from positronic import compose, keys
from positronic.codecs.build import build
from positronic.codecs.config import ModalityConfig
from positronic.commands import CartesianPosition
from positronic.errors import ConventionError, PositronicError
from positronic.serving.policy import ServedPolicy, Typed, load_policy, read_checkpoint
from positronic.serving.scheduler import answer_frames
from positronic.stages.serve import typed
from positronic.training.checkpoints import find_checkpoint, write_info, writing_checkpoint
from positronic.utils.serialization import deserialise, serialise


def toy_policy():
    return ServedPolicy(make_recipe(), ToyModel(), {})


def test_an_observation_becomes_a_chunk_of_steps():
    """The toy repeats the pose, so the commanded pose is the observed one; timestamps start at 0."""
    (steps,) = toy_policy().infer([observation()])
    assert [step.timestamp for step in steps] == [k / 15 for k in range(CHUNK)]
    assert isinstance(steps[0].command, CartesianPosition)
    np.testing.assert_allclose(steps[0].command.pose, observation()[keys.EE_POSE], atol=1e-6)
    assert steps[0].target_grip == 0.25


class NoisyModel(ToyModel):
    """Its chunks are the noise that they start from."""

    noise_shape = (CHUNK, 8)

    def predict(self, observations, noise=None):
        return [np.abs(each) for each in noise]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0], [1]])
def test_a_robots_noise_is_its_own(order):
    """Whoever is in the batch, and in whatever place."""
    policy = ServedPolicy(make_recipe(), NoisyModel(), {})
    alone = [policy.chunks_each([{}], [np.random.default_rng(seed)])[0] for seed in range(3)]
    together = policy.chunks_each([{}] * len(order), [np.random.default_rng(seed) for seed in order])
    np.testing.assert_array_equal(together, [alone[seed] for seed in order])
    assert len({str(each) for each in together}) == len(order)


def test_an_observation_may_say_the_seed_of_its_noise():
    """Then its chunk depends on the observation alone, behind a server and in this process; otherwise each is new."""
    policy = ServedPolicy(make_recipe(), NoisyModel(), {})
    asked = [observation(**{keys.NOISE_SEED: seed}) for seed in ([7, 0], [7, 1], 8, [7, 0])] + [observation()] * 2
    near, behind = policy.infer(asked), answer_frames(policy, [serialise(each) for each in reversed(asked)])
    grips = [[step.target_grip for step in steps] for steps in near]
    served = [[step["target_grip"] for step in deserialise(frame)["result"]] for frame in reversed(behind)]
    assert served[:4] == grips[:4]
    assert grips[0] == grips[3]
    assert len({str(each) for each in [*grips, *served[4:]]}) == 7


def test_lists_and_numbers_are_accepted_where_arrays_are_expected():
    """A list of floats, a bare number, nested lists of pixels, and no task at all."""
    arrays = observation()
    lists = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in arrays.items()}
    del lists[keys.TASK]
    lists[keys.GRIP] = 0.5
    policy = toy_policy()
    expected, found = policy.encode({**arrays, keys.TASK: ""}), policy.encode(lists)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name])


def test_unknown_keys_are_ignored():
    """Other clients send times, status and descriptors."""
    more = {**observation(), keys.WALL_TIME_NS: 1, "robot_state.status": 0, b"bytes": 1, 7: 7}
    assert toy_policy().encode(more).keys() == toy_policy().encode(observation()).keys()


def without(key):
    return {name: value for name, value in observation().items() if name != key}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (
            {**without(keys.EE_POSE), "robot_state.ee_pos": [0]},
            "lacks 'robot_state.ee_pose'.*mean 'robot_state.ee_pos'",
        ),
        (observation(grip=[0.1, 0.2]), "'grip': expected 1 number"),
        (observation(grip=float("nan")), "'grip': expected finite"),
        (observation(grip=np.full(10**6, np.nan)), r"'grip': expected finite numbers, found \[(nan, ){7}nan\]"),
        (observation(grip="open"), "'grip': expected numbers, found str"),
        (observation(**{keys.EE_POSE: np.zeros(7)}), "quaternion of norm 0, expected 1"),
        (observation(grip=100.0), "'grip': gripper at 100, expected 0"),
        (observation(**{keys.IMAGE_WRIST: np.zeros((24, 32, 3))}), "'image.wrist': expected uint8 RGB"),
        (observation(**{keys.IMAGE_WRIST: np.zeros((24, 32), np.uint8)}), "'image.wrist': expected uint8 RGB"),
        (observation(**{keys.NOISE_SEED: -1}), "'noise_seed': expected a whole number, 0 or more, .* found -1"),
        (observation(**{keys.NOISE_SEED: [1.0]}), "'noise_seed': expected a whole number"),
        (observation(**{keys.NOISE_SEED: []}), "'noise_seed': expected a whole number"),
        (observation(task=3), "'task': expected text, found int"),
        (observation(task="stack " * 1000), "'task': expected at most 4096 characters, found 6000"),
        ([1, 2], "Expected an observation as a map, found list"),
        (None, "Expected an observation as a map, found NoneType"),
    ],
)
def test_a_bad_observation_is_refused_with_its_key(bad, says):
    """Missing (the nearest is offered), wrong shape, wrong dtype, not finite, not a map."""
    with pytest.raises(PositronicError, match=says):
        toy_policy().infer([bad])


def test_a_checkpoint_says_which_codec_and_vendor(tmp_path):
    """load_policy needs the experiment's folder and nothing else; the latest is the default, ids are numbers."""
    make_checkpoint(tmp_path, 30, grip=0.3)
    make_checkpoint(tmp_path, 100, grip=0.6)
    latest = load_policy(tmp_path, device="cpu", load=load_model)
    older = load_policy(tmp_path, "30", device="cpu", load=load_model)
    assert latest.infer([observation()])[0][0].target_grip == pytest.approx(0.6)
    assert older.infer([observation()])[0][0].target_grip == pytest.approx(0.3)
    assert (latest.meta[keys.META_CHECKPOINT_ID], older.meta[keys.META_CHECKPOINT_ID]) == ("000100", "000030")


def test_the_meta_is_what_every_client_in_the_field_needs(tmp_path):
    """The rig-side stack, the image size and the rate; and what this policy is, JSON-ready, the same each time."""
    make_checkpoint(tmp_path / "my_run", 30)
    meta = load_policy(tmp_path / "my_run", load=load_model).meta
    assert meta[keys.META_LOCAL_STACK] == {
        "seq": [{"name": "chunked_schedule"}, {"name": "restrict_image_size", "args": {"width": 32, "height": 32}}]
    }
    assert meta[keys.META_IMAGE_SIZES] == [32, 32]
    assert (meta[keys.META_ACTION_FPS], meta[keys.META_COMPRESS_IMAGES]) == (15.0, False)
    assert (meta[keys.META_VENDOR], meta[keys.META_CODEC], meta[keys.META_EXPERIMENT]) == ("toy", "ee", "my_run")
    assert meta[keys.META_CONVENTIONS]["state.grip"] == "gripper 0=open 1=closed absolute"
    assert json.dumps(meta) == json.dumps(load_policy(tmp_path / "my_run", load=load_model).meta)


def asking_for(recipe, vendor=None):
    return Typed(vendor, recipe.codec_config, recipe.modality_config)


def test_a_typed_codec_must_agree_with_the_checkpoint(tmp_path):
    """Both sides are printed, and what to do; one that resolves to the same passes whatever its name."""
    make_checkpoint(tmp_path, 30)
    load_policy(tmp_path, typed=asking_for(make_recipe(name="alias")), load=load_model)
    other = make_recipe(name="ee_rot6d", rotation="rot6d_rows")
    with pytest.raises(ConventionError, match="rot6d_rows.*quat_wxyz[^$]*codec= out"):
        load_policy(tmp_path, typed=asking_for(other), load=load_model)


def test_a_typed_vendor_must_agree_with_the_checkpoint(tmp_path):
    """And then its columns count as well, which are the vendor's."""
    make_checkpoint(tmp_path, 30)
    renamed = {**COLUMNS, "observation.images.right": COLUMNS["observation.images.left"]}
    del renamed["observation.images.left"]
    ours, theirs = make_recipe(), build(make_recipe().codec_config, ModalityConfig([32, 32], renamed))
    load_policy(tmp_path, typed=asking_for(ours, "toy"), load=load_model)
    load_policy(tmp_path, typed=asking_for(theirs), load=load_model)
    with pytest.raises(ConventionError, match="images.right"):
        load_policy(tmp_path, typed=asking_for(theirs, "toy"), load=load_model)
    with pytest.raises(ConventionError, match="the command line has lerobot; checkpoint 000030 .* has toy"):
        load_policy(tmp_path, typed=Typed("lerobot"), load=load_model)


def test_what_is_not_typed_is_for_the_checkpoint_to_say():
    """stage=serve expects nothing by default, and what was typed otherwise."""
    silent = compose(["stage=serve", "checkpoints_dir=x"])
    assert typed(silent) == Typed()
    spoken = typed(compose(["stage=serve", "checkpoints_dir=x", "vendor=lerobot", "codec=joints_traj"]))
    assert (spoken.vendor, spoken.codec.name) == ("lerobot", "joints_traj")


@pytest.mark.parametrize("damage", [{}, {"recipe": {"codec": {}}}, {"recipe": {"codec": {"x": 1}, "modality": {}}}])
def test_a_damaged_checkpoint_names_its_file(tmp_path, damage):
    """Not a KeyError."""
    make_checkpoint(tmp_path, 30)
    path = tmp_path / "checkpoints" / "000030" / keys.CHECKPOINT_FILE
    path.write_text(json.dumps({"format": 1, "vendor": "toy", **damage}))
    with pytest.raises(PositronicError, match=r"000030/positronic\.json( is damaged|: )"):
        read_checkpoint(find_checkpoint(tmp_path))


def test_a_missing_checkpoint_lists_those_that_exist(tmp_path):
    """And a missing folder says how to make one."""
    make_checkpoint(tmp_path, 30)
    with pytest.raises(PositronicError, match="There are: 000030"):
        load_policy(tmp_path, "7", load=load_model)
    with pytest.raises(PositronicError, match="stage=train"):
        load_policy(tmp_path / "nothing", load=load_model)


def test_an_older_checkpoint_is_of_the_joints_that_its_dataset_lists(tmp_path):
    """And has the cameras of its codec, whatever they are called."""
    joints = [f"panda_joint{number}" for number in range(1, 8)]
    config = compose(["stage=train", "vendor=lerobot", "codec=joints"])
    config.codec.images = ["hand"]
    columns = config.modality.columns | {"observation.images.left": ["image.hand"]}
    fields = build(config.codec, ModalityConfig(columns=columns)).to_dict()
    del fields["embodiment"]
    with writing_checkpoint(tmp_path, 10) as folder:
        said = {"vendor": "toy", "training": {"backend": "native"}, "manifest": {"joint_names": joints}}
        write_info(folder, {"recipe": fields, **said})
    codec = read_checkpoint(find_checkpoint(tmp_path))[0].codec
    assert (codec.embodiment.arms[0].joints, codec.cameras) == (tuple(joints), ["hand"])
