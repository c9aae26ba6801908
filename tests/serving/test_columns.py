"""What clients of openpi send, as the model takes it: DROID's, LIBERO's and ALOHA's keys, and raw signals."""

import numpy as np
import pytest
from toy_server import make_recipe, observation
from toy_vendor import ToyModel

import positronic
from positronic import keys
from positronic.codecs.images import letterbox
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.errors import PositronicError
from positronic.serving.columns import ModelInputs
from positronic.serving.policy import ServedPolicy
from positronic.utils.serialization import deserialise_lazily, serialise

RNG = np.random.default_rng(0)
WIDE, TALL = (RNG.integers(0, 255, (*size, 3), np.uint8) for size in ((24, 32), (32, 24)))


def inputs_of(recipe):
    return ModelInputs.of(ServedPolicy(recipe, ToyModel(), {}))


@pytest.fixture(scope="module")
def libero():
    return inputs_of(positronic.codec("openpi", "ee"))


@pytest.fixture(scope="module")
def droid():
    return inputs_of(positronic.codec("openpi", "droid"))


@pytest.fixture(scope="module")
def aloha():
    return inputs_of(positronic.codec("openpi", "joints_cmd", embodiment="aloha"))


def libero_sends(**changes):
    sent = {"observation/image": WIDE, "observation/wrist_image": TALL, "observation/state": np.arange(8.0)}
    return {**sent, "prompt": "stack", **changes}


def encoded(inputs, sent):
    """What becomes of a frame, as the server reads it."""
    return inputs.encode(deserialise_lazily(serialise(sent)))


def test_the_keys_of_openpis_policies_are_the_columns_of_a_policy_that_openpi_trained(libero):
    """The exterior camera, the wrist's, the state and the instruction; pictures are letterboxed as everywhere."""
    seen = encoded(libero, libero_sends())
    assert set(seen) == {"observation.images.side", "observation.images.left", "observation.state", "prompt"}
    np.testing.assert_array_equal(seen["observation.images.side"], letterbox(WIDE, 224, 224))
    np.testing.assert_array_equal(seen["observation.images.left"], letterbox(TALL, 224, 224))
    np.testing.assert_array_equal(seen["observation.state"], np.arange(8, dtype=np.float32))
    assert (seen["observation.state"].dtype, seen["prompt"]) == (np.float32, "stack")


def test_droids_keys_are_its_columns(droid):
    """As openpi's DROID client writes them: a gripper of one number, pictures of the model's size."""
    picture = np.full((224, 224, 3), 7, np.uint8)
    sent = {
        "observation/exterior_image_1_left": picture,
        "observation/wrist_image_left": picture + 1,
        "observation/joint_position": np.arange(7.0),
        "observation/gripper_position": np.array([0.5]),
        "prompt": "stack",
    }
    seen = encoded(droid, sent)
    assert seen.keys() == sent.keys()
    for name, value in sent.items():
        np.testing.assert_array_equal(seen[name], value)
    gripper = "observation/gripper_position"
    np.testing.assert_array_equal(encoded(droid, {**sent, gripper: 0.5})[gripper], np.array([0.5], np.float32))


def test_alohas_maps_inside_a_map_are_read_by_the_cameras_names(aloha):
    """Pictures with their colours first, in a map of their own, and a state without the word observation."""
    pictures = {
        name: np.full((3, 48, 64), k, np.uint8) for k, name in enumerate(aloha.policy.recipe.embodiment.cameras)
    }
    seen = encoded(aloha, {"state": np.arange(14.0), "images": pictures, "prompt": "fold"})
    columns = ["observation.images.side", "observation.images.left", "observation.images.right"]
    for k, column in enumerate(columns):
        np.testing.assert_array_equal(seen[column], letterbox(np.full((48, 64, 3), k, np.uint8), 224, 224))
    np.testing.assert_array_equal(seen["observation.state"], np.arange(14))


def test_raw_signals_are_read_as_in_our_own_protocol(libero):
    """Through the codec; the instruction under either name."""
    policy = libero.policy
    expected = policy.encode(observation(task="stack"))
    for task in ({"task": "stack"}, {"prompt": "stack"}, {"task": "stack", "prompt": "stack"}):
        sent = {key: value for key, value in observation().items() if key != keys.TASK} | task
        seen = encoded(libero, sent)
        assert seen.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(seen[name], value)


@pytest.mark.parametrize("name", ["observation.state", "observation/state", "state"])
def test_a_column_is_called_by_its_own_name_with_either_separator(libero, name):
    """And without the word observation; a map inside a map is the same."""
    sent = {key: value for key, value in libero_sends().items() if key != "observation/state"}
    for state in ({name: np.ones(8)}, {"observation": {"state": np.ones(8)}}):
        np.testing.assert_array_equal(encoded(libero, sent | state)["observation.state"], np.ones(8))


def test_no_instruction_is_an_empty_one_and_other_keys_are_not_read(libero):
    """Also a damaged value, and one in a map that nothing of is needed."""
    sent = libero_sends(extra={"deep": {"deeper": 1}}, broken={b"__ndarray__": True, b"dtype": "O"})
    del sent["prompt"]
    assert encoded(libero, sent)["prompt"] == ""
    assert encoded(libero, {**sent, "prompt": np.array("stack")})["prompt"] == "stack"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"observation/state": np.zeros(7)}, r"expected 8 numbers, state.ee_pose \(7\) \+ state.grip \(1\), found"),
        ({"observation/state": np.zeros((1, 8))}, r"shape \(1, 8\)"),
        ({"observation/state": ["0.1"] * 8}, "found list"),
        ({"observation/state": [[0.1], [1, 2]]}, "found list"),
        ({"observation/state": np.full(8, np.nan)}, "expected finite numbers"),
        ({"observation/state": np.full(8, 1e300)}, "expected finite numbers"),
        ({"observation/image": np.zeros((24, 32, 3), np.float32)}, r"found float32 of shape \(24, 32, 3\)"),
        ({"observation/image": np.zeros((24, 32, 4), np.uint8)}, r"shape \(24, 32, 4\)"),
        ({"observation/image": np.zeros((1, 24, 32, 3), np.uint8)}, r"shape \(1, 24, 32, 3\)"),
        ({"observation/image": np.zeros((3, 0, 9), np.uint8)}, "has no pixels"),
        ({"observation/image": "a picture"}, "found str"),
        ({"prompt": 3}, "'prompt': expected text, found int"),
        ({"task": "other"}, "different instructions in prompt, task"),
        ({"prompt": "x" * 5000}, "at most 4096 characters"),
        ({"state": np.zeros(8)}, "'observation/state' and 'state' are both 'observation.state'"),
        (observation(), "the model's columns and the raw signals too"),
    ],
)
def test_what_cannot_be_taken_is_refused(libero, changes, says):
    """A wrong shape, dtype, number or text; anything that is said twice."""
    with pytest.raises(PositronicError, match=says):
        encoded(libero, libero_sends(**changes))


def test_what_is_missing_is_named_with_every_name_that_it_may_have(libero):
    """What was sent instead is listed, and that raw signals would do."""
    sent = libero_sends()
    del sent["observation/wrist_image"]
    says = (
        r"lacks 'observation.images.left' \(or images/wrist, observation/images/left, observation/wrist_image\).*"
        "raw signals, grip, image.exterior, .*It holds observation/image, observation/state, prompt"
    )
    with pytest.raises(PositronicError, match=says):
        encoded(libero, sent)
    with pytest.raises(PositronicError, match="as a map, found list"):
        libero.encode([1])


def test_a_name_that_may_mean_two_columns_means_none():
    """A camera called as the column of another one."""
    robot = Embodiment("odd", (Arm("", ("a",)),), {"wrist": "exterior", "left": "wrist"})
    columns = {
        "observation.state": ["state.ee_pose", "state.grip"],
        "observation.images.left": ["image.wrist"],
        "observation.images.side": ["image.left"],
        "action": ["action.ee_pose", "action.grip"],
    }
    inputs = inputs_of(make_recipe(columns=columns, embodiment=robot, images=["wrist", "left"]))
    sent = {"state": np.zeros(8), "images": {"left": WIDE}, "observation/images/side": WIDE}
    with pytest.raises(PositronicError, match="lacks 'observation.images.left'"):
        encoded(inputs, sent)
    assert "observation.images.left" in encoded(inputs, {**sent, "observation.images.left": TALL})


def test_a_client_can_ask_what_the_model_takes(libero):
    """Dtype, shape and other names of each column."""
    described = libero.described["observation.images.side"]
    names = ["observation/images/side", "images/exterior", "observation/image"]
    assert described == {"dtype": "uint8", "shape": [224, 224, 3], "names": names}
