"""GR00T served by Isaac-GR00T's own server, through a checkout that stands in for it, on its wire in both dialects."""

import numpy as np
import pytest
from shell import ROOT, Shell, play

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.training.checkpoints import list_checkpoints
from positronic.vendors import registry
from positronic.vendors.config import VendorConfig
from positronic.vendors.gr00t.wire import Connection

RAW = ROOT / "tests" / "data" / "raw_v1"
STEPS = 16


@pytest.fixture
def serve(gr00t_toy, gr00t_checkout):
    """``serve(version, **values of the config)``: a model, closed at the end."""
    models = []

    def start(version="main", **values):
        gr00t_checkout.become(version)
        config = VendorConfig(name="gr00t", backend="upstream", repo=str(gr00t_checkout.root), **values)
        checkpoint = list_checkpoints(gr00t_toy)[-1].path
        models.append(registry.serve_upstream("gr00t", checkpoint, "cpu", "native", config=config))
        return models[-1]

    yield start
    for model in models:
        model.close()


def observation(number, task="Pick up the cube."):
    """All of its state is ``number``."""
    seen = {"ee_pose": np.full(9, number, np.float32), "grip": np.full(1, number, np.float32)}
    seen |= {name: np.zeros((32, 32, 3), np.uint8) for name in ("exterior_image_1", "wrist_image")}
    return seen | {"annotation.language.language_instruction": task}


@pytest.mark.parametrize("version", ["main", "n1.7"])
def test_robots_are_answered_together_each_by_its_own_state(serve, version):
    """The stand-in's action is the state, its first number a thousandth more at each step."""
    chunks = serve(version).predict([observation(0.25), observation(0.5, "Put it down.")])
    for chunk, number in zip(chunks, (0.25, 0.5), strict=True):
        assert (chunk.shape, chunk.dtype) == ((STEPS, 10), np.float32)
        np.testing.assert_allclose(chunk[0, 1:], number, atol=1e-6)
        np.testing.assert_allclose(np.diff(chunk[:, 0]), 0.001, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("error", "refuses: "),
        ("nan", "is not a finite number"),
        ("shape", r"with shape \(1, 16, "),
        ("missing_part", "expected part"),
        ("garbage", "cannot be read|something else"),
    ],
)
def test_a_bad_answer_is_told_and_the_next_one_counts(serve, gr00t_checkout, kind, said):
    """In the server's own words where it has some."""
    model = serve()
    gr00t_checkout.tell(answers=[{"kind": kind}])
    with pytest.raises(PositronicError, match=said):
        model.predict([observation(0.1)])
    gr00t_checkout.tell(answers=None)
    assert model.predict([observation(0.1)])[0].shape == (STEPS, 10)


def test_a_late_answer_is_nobodys(serve, gr00t_checkout, tmp_path):
    """A request that is not answered in time says which parameter; the next one has an answer of its own."""
    model, until = serve(infer_timeout_sec=1.0), tmp_path / "until"
    gr00t_checkout.tell(answers=[{"kind": "silence", "until": str(until)}])
    with pytest.raises(PositronicError, match=r"within 1 s.*vendor.infer_timeout_sec=<seconds>"):
        model.predict([observation(0.1)])
    gr00t_checkout.tell(answers=None)
    until.touch()
    np.testing.assert_allclose(_until_answered(model, observation(0.7))[0, 1:], 0.7, atol=1e-6)


def test_a_server_that_ends_is_started_again(serve):
    """Who asks meanwhile is told."""
    model = serve(infer_timeout_sec=2.0)
    first = model._link.service.port()
    with Connection(first) as connection:
        connection.ask("kill")
    np.testing.assert_allclose(_until_answered(model, observation(0.3))[0, 1:], 0.3, atol=1e-6)
    assert model._link.service.port() != first


def test_a_server_that_describes_another_robot_is_refused(gr00t_toy, gr00t_checkout, serve, monkeypatch):
    """Both sides printed, before the first action."""
    whole = Recipe.from_dict

    def shorter(said, *more):
        said = said | {"modality": said["modality"] | {"action_chunk": 8}}
        return whole(said, *more)

    monkeypatch.setattr(Recipe, "from_dict", shorter)
    with pytest.raises(PositronicError, match=r"(?s)action steps.*8.*16"):
        serve()


@pytest.mark.parametrize(
    ("told", "values", "said"),
    [
        ({"out_of_memory": True}, {}, "(?i)memory"),
        ({"wait_for": "/nowhere/at/all"}, {"ready_timeout_sec": 2.0}, "vendor.ready_timeout_sec"),
    ],
)
def test_a_server_that_does_not_start_says_why(serve, gr00t_checkout, told, values, said):
    """With the lines that matter."""
    gr00t_checkout.tell(**told)
    with pytest.raises(PositronicError, match=said):
        serve(**values)


def test_a_server_that_runs_already_is_compared_asked_and_left_alone(serve):
    own = serve()
    model = serve(upstream_url=f"tcp://127.0.0.1:{own._link.service.port()}")
    model.predict([observation(0.1)])
    said = model._recipe.to_dict()
    model._recipe = Recipe.from_dict(said | {"modality": said["modality"] | {"action_chunk": 8}})
    with pytest.raises(PositronicError, match=r"(?s)action steps.*8.*16"):  # as if it had become another one
        model.predict([observation(0.1)])
    model.close()
    assert own.predict([observation(0.1)])[0].shape == (STEPS, 10)


def _until_answered(model, seen):
    for _ in range(20):
        try:
            return model.predict([seen])[0]
        except PositronicError as error:
            said = error
            model._link.service.port()  # when it is ready again
    raise said


def test_it_is_served_and_played_by_the_commands_of_a_user(gr00t_toy, gr00t_checkout, tmp_path):
    """The stand-in's robot stays where it is: each command is the pose that was seen."""
    by_vendor = f"vendor.backend=upstream vendor.repo={gr00t_checkout.root}"
    rollout = play(Shell(tmp_path), f"python run.py stage=serve checkpoints_dir={gr00t_toy} {by_vendor}", RAW)
    assert keys.TARGET_GRIP in rollout.signals
