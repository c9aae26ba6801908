import json

import numpy as np
import pytest
from PIL import Image

from positronic import geometry, keys
from positronic.codecs.build import Recipe, build
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.codecs.images import letterbox
from positronic.commands import CartesianPosition, JointPosition
from positronic.errors import ConventionError, PositronicError

IMAGES = {"observation.images.left": ["image.wrist"], "observation.images.side": ["image.exterior"]}


def make_recipe(state=("ee_pose", "grip"), action="ee_pose", image_size=(224, 224), horizon=None, **codec):
    columns = {
        "observation.state": [f"state.{part}" for part in state],
        **IMAGES,
        "action": [f"action.{action}", "action.grip"],
    }
    config = CodecConfig(name="test", state=list(state), images=["wrist", "exterior"], action=action, **codec)
    return build(config, ModalityConfig(list(image_size), columns, action_horizon_sec=horizon))


def observation():
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    return {
        keys.EE_POSE: [0.4, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0],
        keys.JOINT_POSITION: np.linspace(-1, 1, 7),
        keys.GRIP: [0.25],
        keys.IMAGE_WRIST: frame,
        keys.IMAGE_EXTERIOR: frame[::2, ::2],
    }


def test_a_recipe_of_a_newer_version_is_refused_by_its_field():
    """In one sentence, wherever it is read: manifest, checkpoint."""
    fields = make_recipe().to_dict()
    with pytest.raises(PositronicError, match=r"written by a newer version: .* not know codec\.tempo\. Update"):
        Recipe.from_dict(fields | {"codec": fields["codec"] | {"tempo": 1}})
    with pytest.raises(PositronicError, match=r"not know modality\.tempo"):
        Recipe.from_dict(fields | {"modality": fields["modality"] | {"tempo": 1}})


@pytest.mark.parametrize(
    "damage",
    [
        {"codec": None},
        {"codec": "ee"},
        {"modality": []},
        {"codec": {"name": "x", "state": 3}},
        {"modality": {"image_size": 3}},
    ],
)
def test_a_damaged_recipe_is_refused(damage):
    """Whatever stands where an object, or a list in it, is expected."""
    with pytest.raises(PositronicError, match="The recipe is damaged"):
        Recipe.from_dict(make_recipe().to_dict() | damage)


EE_VARIANTS = [("quat_wxyz", 7), ("rot6d_rows", 9), ("rotvec", 6)]


@pytest.mark.parametrize(("rotation", "size"), EE_VARIANTS)
@pytest.mark.parametrize("label", ["commanded", "measured"])
def test_a_commanded_step_comes_back(rotation, size, label):
    """decode of the encoded label is the commanded pose and (binarised) grip, for every rotation."""
    recipe = make_recipe(rotation=rotation, label=label)
    rng = np.random.default_rng(1)
    poses = np.concatenate([rng.normal(size=(20, 3)), geometry.quat_normalise(rng.normal(size=(20, 4)))], axis=1)
    grips = rng.uniform(size=20)
    samples = {keys.EE_POSE: poses, keys.COMMAND_POSE: poses, keys.GRIP: grips, keys.TARGET_GRIP: grips}
    encoded = recipe.codec.encode_episode(samples)
    action = recipe.modality.action_column.join(encoded)
    assert action.shape == (20, size + 1)
    for step, pose, grip in zip(recipe.codec.decode(action), poses, grips, strict=True):
        assert isinstance(step.command, CartesianPosition)
        turn = abs(np.dot(step.command.pose[3:], pose[3:]))
        np.testing.assert_allclose(step.command.pose[:3], pose[:3], atol=1e-6)
        assert turn == pytest.approx(1.0, abs=1e-6)
        assert step.target_grip == pytest.approx(float(grip > 0.5) if label == "measured" else grip, abs=1e-6)


def test_measured_labels_binarise_the_label_and_not_the_observation():
    """The observed gripper stays as it is, in training as in serving."""
    codec = make_recipe(label="measured").codec
    pose = np.tile([0, 0, 0, 1.0, 0, 0, 0], (3, 1))
    encoded = codec.encode_episode({keys.EE_POSE: pose, keys.GRIP: np.array([0.5, 0.51, 0.2])})
    np.testing.assert_array_equal(encoded["action.grip"][:, 0], [0, 1, 0])
    np.testing.assert_array_equal(encoded["state.grip"][:, 0], np.float32([0.5, 0.51, 0.2]))


@pytest.mark.parametrize(("rotation", "size"), EE_VARIANTS)
def test_an_episode_and_a_live_observation_encode_to_the_same_bits(rotation, size):
    """The vectorised encoding at every time equals the live one."""
    codec = make_recipe(state=("ee_pose", "grip", "joint_position"), rotation=rotation).codec
    rng = np.random.default_rng(2)
    samples = {
        keys.EE_POSE: rng.normal(size=(37, 7)),
        keys.JOINT_POSITION: rng.normal(size=(37, 7)),
        keys.GRIP: rng.uniform(size=37),
        keys.COMMAND_POSE: rng.normal(size=(37, 7)),
        keys.TARGET_GRIP: rng.uniform(size=37),
    }
    encoded = codec.encode_episode(samples)
    for k in range(37):
        live = codec.encode({**observation(), **{name: values[k] for name, values in samples.items()}})
        for feature in codec.state:
            assert encoded[feature.name][k].tobytes() == live[feature.name].tobytes()


def test_joint_actions_decode_to_joint_commands():
    """joints_traj moves the joints."""
    codec = make_recipe(state=("joint_position", "grip"), action="joint_position", label="measured").codec
    step = codec.decode(np.arange(8.0)[None])[0]
    assert isinstance(step.command, JointPosition)
    np.testing.assert_array_equal(step.command.positions, np.arange(7.0))


def test_droid_actions_are_clipped_scaled_and_the_gripper_switched():
    """Joint velocities beyond 1 are clipped, 1 is 0.2 rad a step, a grip above 0.5 is closed."""
    codec = make_recipe(state=("joint_position", "grip"), action="joint_delta", switch_grip=True).codec
    open_step, closed_step = codec.decode([[2.0, -2.0, 0.5, 0, 0, 0, 0, 0.5], [0.0] * 7 + [0.51]])
    np.testing.assert_allclose(open_step.command.velocities, [0.2, -0.2, 0.1, 0, 0, 0, 0])
    assert (open_step.target_grip, closed_step.target_grip) == (0.0, 1.0)


def test_a_chunk_is_cut_at_the_horizon_and_stamped_in_seconds():
    """16 steps at 15 Hz with a horizon of 0.53 s play 8 steps, the k-th at k/15 s."""
    steps = make_recipe(horizon=0.53).codec.decode(np.tile([0, 0, 0, 1.0, 0, 0, 0, 0], (16, 1)))
    assert [step.timestamp for step in steps] == [k / 15 for k in range(8)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({keys.GRIP: None}, "Observation 'grip': expected numbers, found NoneType"),
        ({keys.EE_POSE: [0.0] * 6}, "expected 7 numbers a sample, found shape"),
        ({keys.EE_POSE: "home"}, "expected numbers, found str"),
        ({keys.GRIP: "0.5"}, "expected numbers, found str"),
        ({keys.GRIP: b"0.5"}, "expected numbers, found bytes"),
        ({keys.GRIP: np.array(["0.5"])}, "expected numbers, found <U3"),
        ({keys.EE_POSE: ["0.4"] * 7}, "expected numbers, found list"),
        ({keys.EE_POSE: [0.4, [0.1], 0, 1, 0, 0, 0]}, "expected numbers, found list"),
        ({keys.IMAGE_WRIST: b"\xff\xd8"}, "found bytes. A JPEG travels as"),
        ({keys.EE_POSE: [0.0] * 7}, "Signal 'robot_state.ee_pose': Quaternion has no direction"),
        ({keys.IMAGE_WRIST: np.zeros((4, 4, 3))}, "expected uint8 RGB"),
        ({keys.IMAGE_WRIST: np.zeros((3, 4, 4), np.uint8)}, "found uint8 of shape"),
        (
            {keys.IMAGE_WRIST: [[[0.25, 0.5, 1.0]] * 4] * 4},
            r"'image.wrist': expected whole numbers 0..255 \(height, width, 3\), found float64 of shape .* 0.25 to 1",
        ),
        ({keys.IMAGE_WRIST: [[[0, 0, 256]]]}, r"found int64 of shape \(1, 1, 3\), 0 to 256"),
        ({keys.IMAGE_WRIST: [[[0, -1, 0]]]}, r"found int64 of shape \(1, 1, 3\), -1 to 0"),
        ({keys.IMAGE_WRIST: [[[0, 0, 0]], [[0]]]}, "found rows of different lengths"),
        ({keys.IMAGE_WRIST: []}, r"found float64 of shape \(0,\)"),
        ({keys.IMAGE_WRIST: [["a"]]}, "found <U1 of shape"),
        ({keys.IMAGE_WRIST: np.zeros((0, 4, 3), np.uint8)}, r"'image.wrist': .* found uint8 of shape \(0, 4, 3\)"),
        ({keys.IMAGE_WRIST: np.zeros((1, 5000, 3), np.uint8)}, "1 x 5000 .* no pixel of it is left at 224 x 224"),
    ],
)
def test_a_bad_observation_is_refused_with_its_key(change, says):
    """Wrong shape, dtype or value names the key and what was expected."""
    with pytest.raises(PositronicError, match=says):
        make_recipe().codec.encode({**observation(), **change})


def test_an_image_may_come_as_a_list():
    """Clients without numpy send whole numbers."""
    seen = observation()
    listed = make_recipe().codec.encode({**seen, keys.IMAGE_WRIST: seen[keys.IMAGE_WRIST].tolist()})
    np.testing.assert_array_equal(listed[keys.IMAGE_WRIST], make_recipe().codec.encode(seen)[keys.IMAGE_WRIST])


def test_a_missing_key_names_the_nearest_present():
    """robot_state.ee_pos is offered for robot_state.ee_pose."""
    renamed = observation()
    renamed["robot_state.ee_pos"] = renamed.pop(keys.EE_POSE)
    with pytest.raises(PositronicError, match="Did you mean 'robot_state.ee_pos'"):
        make_recipe().codec.encode(renamed)


@pytest.mark.parametrize("chunk", [np.zeros((4, 7)), np.zeros(8), np.full((4, 8), np.nan)])
def test_a_chunk_that_does_not_fit_is_refused(chunk):
    """Wrong width, missing axis and NaN never reach the robot."""
    with pytest.raises(PositronicError, match="Codec 'test'"):
        make_recipe().codec.decode(chunk)


def test_a_task_travels_under_the_modalitys_key():
    """The model's observation holds its columns and the instruction, no action."""
    recipe = make_recipe()
    columns = recipe.modality.observation(recipe.codec.encode(observation()), "stack")
    assert list(columns) == ["observation.state", *IMAGES, "task"]
    assert columns["observation.state"].shape == (8,)


def test_letterbox_keeps_the_aspect_and_pads_with_black():
    """320 x 240 into 224: 168 rows of Pillow's BILINEAR, 28 black rows above and below."""
    frame = observation()[keys.IMAGE_WRIST]
    boxed = letterbox(frame, 224, 224)
    assert not boxed[:28].any()
    assert not boxed[196:].any()
    expected = Image.fromarray(frame).resize((224, 168), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(boxed[28:196], expected)


def test_a_recipe_survives_json():
    """What a checkpoint stores builds the same recipe again."""
    recipe = make_recipe(rotation="rot6d_rows")
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_recipes_that_differ_print_both_sides():
    """quat against rot6d is refused, each side with its own value."""
    left, right = make_recipe(), make_recipe(rotation="rot6d_rows")
    with pytest.raises(ConventionError) as refusal:
        left.require_same(right, "the config", "the dataset", "Type codec=x.")
    assert "the config has float32[7] cartesian m quat_wxyz" in str(refusal.value)
    assert "the dataset has float32[9] cartesian m rot6d_rows" in str(refusal.value)
    assert str(refusal.value).endswith("Type codec=x.")


def test_the_name_and_the_horizon_are_not_part_of_the_contract():
    """Two codecs are the same when their features and conventions are."""
    assert make_recipe(horizon=0.5).contract == make_recipe(horizon=1.0).contract


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"action": ["action.ee_pose", "action.grip"]}, "No column of the modality takes"),
        ({"observation.state": ["state.ee_pos"]}, "Did you mean 'state.ee_pose'"),
        (
            {
                "observation.state": ["state.ee_pose", "state.grip"],
                **IMAGES,
                "action": ["action.grip", "action.ee_pose"],
            },
            "this order",
        ),
        ({"all": ["state.ee_pose", "state.grip", "action.ee_pose", "action.grip"], **IMAGES}, "mixes kinds"),
    ],
)
def test_columns_that_do_not_fit_the_codec_are_refused(columns, says):
    """A feature without a column, an unknown one, a wrong order and a mix each have their sentence."""
    config = CodecConfig(name="test", state=["ee_pose", "grip"], images=["wrist", "exterior"])
    with pytest.raises(PositronicError, match=says):
        build(config, ModalityConfig(columns=columns))


@pytest.mark.parametrize(("rotation", "size"), EE_VARIANTS)
def test_a_chunk_decodes_at_once_to_what_its_steps_decode_to_one_by_one(rotation, size):
    """To the last bit."""
    codec = make_recipe(rotation=rotation).codec
    chunk = np.random.default_rng(3).normal(size=(16, size + 1))
    for row, step in zip(chunk, codec.decode(chunk), strict=True):
        (alone,) = codec.decode(row[None])
        assert step.command.pose.tobytes() == alone.command.pose.tobytes()
        assert step.target_grip == alone.target_grip


@pytest.mark.parametrize(
    ("part", "array"),
    [("ee_pose", "pose"), ("joint_position", "positions"), ("joint_delta", "velocities")],
)
def test_a_decoded_command_belongs_to_its_reader(part, array):
    """It can be written to in place, and neither its neighbours nor the policy's chunk change."""
    codec = make_recipe(state=("grip",), action=part).codec
    chunk = np.ones((2, 8), np.float64)
    chunk.setflags(write=False)
    first, second = (getattr(step.command, array) for step in codec.decode(chunk))
    before = second.copy()
    first += 1.0
    np.testing.assert_array_equal(second, before)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({keys.GRIP: 100}, r"Observation 'grip': gripper at 100, expected 0 \(open\) to 1 \(closed\)\."),
        ({keys.EE_POSE: [400, 100, 300, 0, 1, 0, 0]}, "'robot_state.ee_pose': 509.9 m from the base.*not millimetres"),
        ({keys.EE_POSE: [0.4, 0, 0.3, 0, 0, 0, 0]}, "'robot_state.ee_pose': quaternion of norm 0, expected 1"),
        ({keys.EE_POSE: [0.4, 0, 0.3, 0, 2, 0, 0]}, "'robot_state.ee_pose': quaternion of norm 2, expected 1"),
        ({keys.JOINT_POSITION: [0, -90, 0, 0, 0, 0, 0]}, "'robot_state.q': joint at -90.*radians, not degrees"),
    ],
)
def test_an_observation_in_other_units_is_named_with_value_and_expectation(change, says):
    """One sentence; what a robot can measure passes."""
    codec = make_recipe(state=("ee_pose", "grip", "joint_position")).codec
    codec.encode(observation(), plausible=True)
    with pytest.raises(PositronicError, match=says):
        codec.encode(observation() | change, plausible=True)
