"""Several experiments behind one server."""

import pytest
from toy_server import make_checkpoint, observation, running

from positronic.client.client import InferenceClient
from positronic.errors import PositronicError
from positronic.serving.offer import find_offered, offered


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """``first`` with two checkpoints, ``second`` with one, and a folder that is none."""
    folder = tmp_path_factory.mktemp("experiments")
    make_checkpoint(folder / "first", 10, grip=0.1)
    make_checkpoint(folder / "first", 20, grip=0.2)
    make_checkpoint(folder / "second", 10, grip=0.7)
    (folder / "notes").mkdir()
    return folder


def test_a_checkpoint_is_named_by_its_experiment(experiments):
    """By its number as well, and an experiment alone is its latest."""
    assert [each.id for each in offered(experiments)] == ["first/000010", "first/000020", "second/000010"]
    asked = {"first/10": "first/000010", "first": "first/000020", "second/000010": "second/000010"}
    for wanted, found in asked.items():
        checkpoint = find_offered(experiments, wanted)
        assert (checkpoint.id, checkpoint.path.parent.parent.name) == (found, found.split("/")[0])


def test_an_experiment_alone_is_as_before(experiments):
    assert [each.id for each in offered(experiments / "first")] == ["000010", "000020"]
    assert find_offered(experiments / "first").id == "000020"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (None, r"holds several experiments: type checkpoint=<experiment>.*There are: first, second"),
        ("20", r"holds no experiment '20'"),
        ("frist/20", r"no experiment 'frist/20'.*Did you mean 'first'\?"),
        ("first/30", r"No checkpoint '30' in .*first/checkpoints\. There are: 000010, 000020"),
        ("../first/10", r"no experiment '\.\./first/10'"),
        ("first/../second/10", r"No checkpoint '\.\./second/10'"),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(experiments, wanted, said):
    with pytest.raises(PositronicError, match=said):
        find_offered(experiments, wanted)


def test_a_folder_without_any_says_what_was_expected(experiments):
    with pytest.raises(PositronicError, match="train"):
        find_offered(experiments / "notes")


def test_two_experiments_are_compared_on_one_server(experiments):
    """Each session is answered by its own, side by side; one that names none gets the default."""
    with running(experiments, checkpoint="first") as (port, _):
        client = InferenceClient("127.0.0.1", port)
        assert client.models() == ["first/000010", "first/000020", "second/000010"]
        with client.session() as default, client.session("second/10") as other, client.session("second") as latest:
            for session, experiment, grip in ((default, "first", 0.2), (other, "second", 0.7), (latest, "second", 0.7)):
                assert session.meta["experiment_name"] == experiment
                assert session.infer(observation())[0].target_grip == pytest.approx(grip)
