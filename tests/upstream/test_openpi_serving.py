"""π0.5 served by openpi's own server, through a checkout that stands in for it, on its wire."""

import json

import numpy as np
import pytest
from shell import ROOT, Shell, play

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.training.checkpoints import list_checkpoints, read_info, trained_recipe
from positronic.vendors import registry
from positronic.vendors.config import VendorConfig
from positronic.vendors.openpi.served import Contract, WarmUp
from positronic.vendors.openpi.wire import reason

RAW = ROOT / "tests" / "data" / "raw_v1"
STEPS = 50


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
        WarmUp(Contract(trained_recipe(info), policy))(port)
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
