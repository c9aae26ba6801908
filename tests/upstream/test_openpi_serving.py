"""π0.5 served by openpi's own server, through a checkout that stands in for it, on its wire."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shell import ROOT, Shell, free_port, play

import positronic
from positronic import keys
from positronic.client.client import InferenceClient
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.serving.policy import load_policy
from positronic.stages.serve import what
from positronic.training.checkpoints import list_checkpoints, read_info, trained_recipe
from positronic.vendors import registry
from positronic.vendors.config import VendorConfig
from positronic.vendors.openpi.contract import pretrained_contract, trained_contract
from positronic.vendors.openpi.served import WarmUp
from positronic.vendors.openpi.wire import reason
from positronic.vendors.served import Elsewhere

RAW = ROOT / "tests" / "data" / "raw_v1"
STEPS = 50
SPLIT_IMAGES = ("observation/wrist_image_left", "observation/exterior_image_1_left")


@pytest.fixture(scope="module", autouse=True)
def cache(openpi_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENPI_DATA_HOME", str(openpi_cache))
        yield


@pytest.fixture
def serve(openpi_trained, openpi_checkout):
    """``serve(**values of the config)``: a model, closed at the end."""
    models = []

    def start(**values):
        config = VendorConfig(name="openpi", backend="upstream", repo=str(openpi_checkout.root), **values)
        checkpoint = list_checkpoints(openpi_trained)[-1].path
        models.append(registry.serve_upstream("openpi", checkpoint, "cpu", "upstream", config=config))
        return models[-1]

    yield start
    for model in models:
        model.close()


def observation(number, task="Pick up the cube."):
    """All of its state is ``number``."""
    names = ("observation.images.left", "observation.images.side")
    seen = {name: np.zeros((32, 32, 3), np.uint8) for name in names}
    return seen | {"observation.state": np.full(8, number, np.float32), keys.OPENPI_PROMPT: task}


def test_robots_are_answered_one_after_the_other_each_by_its_own_state(serve, openpi_trained):
    """The stand-in's chunk goes from the 1st to the 99th percentile, beyond the state but for the gripper."""
    chunks = serve().predict([observation(0.25), observation(0.5, "Put it down.")])
    folder = list_checkpoints(openpi_trained)[-1].pretrained_model / "assets" / "lerobot"
    stats = json.loads((folder / "norm_stats.json").read_text())["norm_stats"]["actions"]
    for chunk, number in zip(chunks, (0.25, 0.5), strict=True):
        assert (chunk.shape, chunk.dtype) == ((STEPS, 8), np.float32)
        beyond = [number] * 7 + [0]
        np.testing.assert_allclose(chunk[0], np.add(stats["q01"][:8], beyond), atol=1e-5)
        np.testing.assert_allclose(chunk[-1], np.add(stats["q99"][:8], beyond), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"kind": "error"}, "refuses: ValueError: operands could not be broadcast"),
        ({"kind": "nan"}, "is not a finite number"),
        ({"kind": "shape"}, r"with shape \(50, 8\), found \(49, 8\)"),
        ({"kind": "missing"}, "expected actions as numbers, found nothing"),
        ({"kind": "garbage"}, "cannot be read"),
    ],
)
def test_a_bad_answer_is_told_and_the_next_one_counts(serve, openpi_checkout, kind, said):
    """In the server's own words where it has some, although it closes the connection then."""
    model = serve()
    openpi_checkout.tell(answers=[kind])
    with pytest.raises(PositronicError, match=said):
        model.predict([observation(0.1)])
    openpi_checkout.tell(answers=None)
    assert model.predict([observation(0.1)])[0].shape == (STEPS, 8)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"observation.state": np.full(8, np.nan, np.float32)}, "expected finite numbers"),
        ({"observation.state": np.zeros(9, np.float32)}, r"expected float32 \(8,\), found float32 \(9,\)"),
        ({"observation.images.left": np.zeros((32, 32, 3), np.float32)}, "expected uint8"),
        ({"observation.images.side": np.zeros((16, 32, 3), np.uint8)}, r"found uint8 \(16, 32, 3\)"),
        ({"observation.images.side": None}, "found NoneType"),
    ],
)
def test_what_openpi_would_take_without_a_word_is_refused(serve, wrong, said):
    model = serve()
    with pytest.raises(PositronicError, match=said):
        model.predict([observation(0.1) | wrong])


def test_a_late_answer_is_nobodys(serve, openpi_checkout, tmp_path):
    """A request that is not answered in time says which parameter; the next one has an answer of its own."""
    model, until = serve(infer_timeout_sec=1.0), tmp_path / "until"
    first = model.predict([observation(0.1)])[0]
    openpi_checkout.tell(answers=[{"kind": "silence", "until": str(until)}])
    with pytest.raises(PositronicError, match=r"within 1 s.*vendor.infer_timeout_sec=<seconds>"):
        model.predict([observation(0.1)])
    openpi_checkout.tell(answers=None)
    until.touch()
    late = _until_answered(model, observation(0.7))
    np.testing.assert_allclose(late[:, :7] - first[:, :7], 0.6, atol=1e-5)


def test_a_server_that_ends_is_started_again(serve, openpi_checkout):
    """Who asks when it ends is told."""
    model = serve()
    first = model._link.service.port()
    openpi_checkout.tell(answers=[{"kind": "death"}])
    with pytest.raises(PositronicError, match="started again"):
        model.predict([observation(0.3)])
    openpi_checkout.tell(answers=None)
    assert _until_answered(model, observation(0.3)).shape == (STEPS, 8)
    assert model._link.service.port() != first


def test_what_is_of_another_training_is_refused_with_both_sides(serve, openpi_trained, monkeypatch):
    """A server, and the file beside the weights."""
    port, whole = serve()._link.service.port(), Recipe.from_dict

    def shorter(said, *more):
        return whole(said | {"modality": said["modality"] | {"action_chunk": 8}}, *more)

    monkeypatch.setattr(Recipe, "from_dict", shorter)
    info = read_info(list_checkpoints(openpi_trained)[-1].path)
    policy = info["training"]["policy"] | {"chunk_size": 8, "mask_missing_camera": False}
    told = r"(?s)mask_missing: the checkpoint's recipe has False; openpi's server has True.*horizon: .* 8; .* 50"
    with pytest.raises(PositronicError, match=told):
        WarmUp(trained_contract(trained_recipe(info), policy))(port)
    names = {"config_name": "pi05_positronic"}
    monkeypatch.setattr(Recipe, "from_dict", lambda said, *more: whole(said | {"modality": said["modality"] | names}))
    with pytest.raises(PositronicError, match=r"name: the checkpoint's recipe has pi05_positronic; .*openpi.json has "):
        serve()


@pytest.mark.parametrize(
    ("told", "values", "said"),
    [
        ({"out_of_memory": True}, {}, "(?i)memory"),
        ({"answers": [{"kind": "error", "call": 1}]}, {}, "refuses: ValueError: operands"),
        ({"answers": [{"kind": "shape", "call": 1}]}, {}, r"found \(49, 8\)"),
        ({"answers": [{"kind": "death", "call": 1}]}, {}, "SIGKILL"),
        (
            {"answers": [{"kind": "silence", "until": "/nowhere/at/all", "call": 1}]},
            {"ready_timeout_sec": 8.0},
            "vendor.ready_timeout_sec",
        ),
        ({"wait_for": "/nowhere/at/all"}, {"ready_timeout_sec": 2.0}, "vendor.ready_timeout_sec"),
    ],
)
def test_a_server_that_does_not_start_says_why(serve, openpi_checkout, told, values, said):
    """Also one that listens, but does not answer its first observation as it should."""
    openpi_checkout.tell(**told)
    with pytest.raises(PositronicError, match=said):
        serve(**values)


def test_a_missing_tokenizer_is_told_at_once(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "empty"))
    with pytest.raises(PositronicError, match=r"(?s)The tokenizer of π0.5 is missing.*maybe_download"):
        serve()


@pytest.mark.parametrize(
    ("traceback", "last"),
    {
        "Traceback (most recent call last):\n  ...\nKeyError: 'observation/image'\n": "KeyError: 'observation/image'",
        "FileNotFoundError: No file '/home/someone/stats.json'": "FileNotFoundError: No file 'stats.json'",
        "\n": "it gives no reason",
    }.items(),
)
def test_of_a_traceback_the_last_line_reaches_a_robot_without_folders(traceback, last):
    assert reason(traceback) == last


def _until_answered(model, seen):
    for _ in range(20):
        try:
            return model.predict([seen])[0]
        except PositronicError as error:
            said = error
            model._link.service.port()  # when it is ready again
    raise said


def test_it_is_served_and_played_by_the_commands_of_a_user(openpi_trained, openpi_checkout, tmp_path):
    """A checkpoint that openpi trained needs no word about who serves it: the checkout is beside the working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    rollout = play(Shell(folder), f"python run.py stage=serve checkpoints_dir={openpi_trained}", RAW)
    assert keys.TARGET_GRIP in rollout.signals


@pytest.fixture
def published(openpi_trained, openpi_cache, tmp_path):
    """A checkpoint as openpi publishes them, in its cache: weights, and statistics by robot."""
    bucket = openpi_cache / "openpi-assets" / "checkpoints"
    folder, trained = bucket / "pi05_droid", list_checkpoints(openpi_trained)[-1].pretrained_model
    shutil.copytree(trained / "params", folder / "params")
    shutil.copytree(trained / "assets" / "lerobot", folder / "assets" / "droid")
    yield folder
    shutil.rmtree(folder)


DROID = "vendor=openpi vendor.backend=upstream codec=droid"


def test_a_published_checkpoint_of_droid_is_served_by_the_command_of_a_user(published, openpi_checkout, tmp_path):
    """From openpi's cache, by its own config: 8 of 15 steps, which are parts of 0.2 rad."""
    folder, port = tmp_path / "work", free_port()
    folder.mkdir()
    where = f"checkpoints_dir=gs://openpi-assets/checkpoints/pi05_droid server.host=127.0.0.1 server.port={port}"
    seen = {keys.JOINT_POSITION: np.full(7, 0.5), keys.GRIP: 0.0, keys.TASK: "Pick it up."}
    seen |= {name: np.zeros((48, 64, 3), np.uint8) for name in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR)}
    with (
        Shell(folder).started(f"python run.py stage=serve {where} {DROID}"),
        InferenceClient("127.0.0.1", port).session() as session,
    ):
        steps = session.infer(seen)
    assert [step.timestamp for step in steps] == [k / 15 for k in range(8)]
    assert all(np.abs(step.command.velocities).max() <= 0.2 for step in steps)


def droid(published, checkout, *more):
    """What stage=serve would serve."""
    typed = ["stage=serve", f"checkpoints_dir={published}", *DROID.split(), f"vendor.repo={checkout.root}", *more]
    return what(positronic.compose(typed))


def test_droid_s_chunks_are_those_of_openpi_s_config(published, openpi_checkout):
    """Split keys of the state; 15 steps from the 1st to the 99th percentile, not relative to the state."""
    place, load = droid(published, openpi_checkout)
    policy = load_policy(place, device="cpu", load=load)
    try:
        seen = {name: np.zeros((224, 224, 3), np.uint8) for name in SPLIT_IMAGES}
        seen |= {"observation/joint_position": np.full(7, 0.5, np.float32), keys.OPENPI_PROMPT: "Pick it up."}
        (chunk,) = policy.model.predict([seen | {"observation/gripper_position": np.zeros(1, np.float32)}])
        stats = json.loads((published / "assets/droid/norm_stats.json").read_text())["norm_stats"]["actions"]
        assert chunk.shape == (15, 8)
        np.testing.assert_allclose(chunk[-1], stats["q99"][:8], atol=1e-5)
        steps = policy.recipe.codec.decode(chunk)
        assert len(steps) == 8
        np.testing.assert_allclose(steps[0].command.velocities, np.clip(stats["q01"][:7], -1, 1) * 0.2, atol=1e-5)
        with pytest.raises(PositronicError, match=r"joint_position': expected float32 \(7,\), found float32 \(8,\)"):
            policy.model.predict([seen | {"observation/joint_position": np.zeros(8, np.float32)}])
    finally:
        policy.model.close()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["codec=ee"], "codec=ee is for what was trained from here. Type codec=droid"),
        (["vendor.backend=native"], "Type it as well: vendor=openpi vendor.backend=upstream codec=droid"),
        (["checkpoints_dir=gs://openpi-assets/checkpoints/pi0_droid"], "(?s)is not in openpi's cache.*maybe_download"),
    ],
)
def test_what_a_published_checkpoint_lacks_must_be_typed(published, openpi_checkout, more, said):
    names = [each.partition("=")[0] for each in more]
    typed = ["stage=serve", f"checkpoints_dir={published}", *DROID.split()]
    typed = [each for each in typed if each.partition("=")[0] not in names]
    with pytest.raises(PositronicError, match=said):
        what(positronic.compose([*typed, *more]))


def test_another_config_than_the_checkout_s_is_refused(published, openpi_checkout):
    """In openpi's words."""
    place, load = droid(published, openpi_checkout, "vendor.config_name=pi05_droit")
    with pytest.raises(PositronicError, match="Config 'pi05_droit' not found. Did you mean 'pi05_droid'"):
        load_policy(place, device="cpu", load=load)


def test_a_server_that_somebody_started_for_a_published_checkpoint_may_say_nothing(published, openpi_checkout):
    """As openpi's own script does; one that says another config is refused."""
    place, _ = droid(published, openpi_checkout)
    contract = pretrained_contract(trained_recipe(read_info(place)), "pi05_droid")
    contract.require_same("a server", {})
    with pytest.raises(PositronicError, match="recipe has pi05_droid; a server has pi0_droid"):
        contract.require_same("a server", {"name": "pi0_droid"})


def test_a_config_is_not_typed_for_a_checkpoint_of_ours(openpi_trained):
    typed = ["stage=serve", f"checkpoints_dir={openpi_trained}", "vendor=openpi", "vendor.backend=upstream"]
    with pytest.raises(PositronicError, match="says itself how it was trained: leave it out"):
        what(positronic.compose([*typed, "vendor.config_name=pi05_droid"]))


def test_a_server_that_became_another_one_is_not_asked(serve):
    """Its description counts each time, not that of the start."""
    own = serve()
    model = serve(upstream_url=f"127.0.0.1:{own._link.service.port()}")
    model._contract = replace(model._contract, said={**model._contract.said, "name": "another"})
    with pytest.raises(PositronicError, match="name: the checkpoint's recipe has another"):
        model.predict([observation(0.1)])


def test_what_is_no_address_is_told_before_the_server_listens(openpi_trained):
    typed = ["stage=serve", f"checkpoints_dir={openpi_trained}", "vendor=openpi", "vendor.backend=upstream"]
    with pytest.raises(PositronicError, match="expected <host>:<port>"):
        what(positronic.compose([*typed, "vendor.upstream_url=box"]))


def test_a_server_that_runs_already_is_compared_asked_and_left_alone(serve, openpi_checkout):
    """It needs no checkout here; where nobody listens, that is said at once."""
    own = serve()
    port = own._link.service.port()
    shutil.move(openpi_checkout.root / "scripts", openpi_checkout.root / "elsewhere")
    for address in (f"127.0.0.1:{port}", f"ws://127.0.0.1:{port}"):
        model = serve(upstream_url=address)
        np.testing.assert_array_equal(model.predict([observation(0.1)])[0], own.predict([observation(0.1)])[0])
        model.close()
    assert own.predict([observation(0.1)])[0].shape == (STEPS, 8)
    with pytest.raises(PositronicError, match="answers for checkpoint .* and this session asked for 000099"):
        Elsewhere(address).standing_for(Path("000099"))
    for address, said in ((f"127.0.0.1:{free_port()}", "Nobody answers at"), ("8000", "expected <host>:<port>")):
        with pytest.raises(PositronicError, match=said):
            serve(upstream_url=address)
