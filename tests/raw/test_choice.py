"""Which episodes of a recording are meant."""

import json

import numpy as np
import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.choice import Choice, choose
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter

TASKS = ("stack", "stack", "sort", "stack", "wipe", "sort")
OUTCOMES = ("Success", "timeout", "success", None, True, False)  # truths are those of eval.success


@pytest.fixture
def raw(tmp_path):
    """Six episodes, numbered 0 to 5."""
    writer = DatasetWriter(tmp_path / "raw")
    for task, outcome in zip(TASKS, OUTCOMES, strict=True):
        with writer.new_episode() as episode:
            episode.append(keys.JOINT_POSITION, np.zeros(7), 0)
            episode.set_static(keys.TASK, task)
            if outcome is not None:
                episode.set_static(keys.EVAL_SUCCESS if isinstance(outcome, bool) else keys.EVAL_OUTCOME, outcome)
    return tmp_path / "raw"


def chosen(raw, **values):
    return [episode.id for episode in choose(open_dataset(raw), Choice(**values))]


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"episodes": (4, 0, 3)}, [0, 3, 4]),
        ({"outcome": "success"}, [0, 2, 4]),
        ({"outcome": "SUCCESS"}, [0, 2, 4]),
        ({"outcome": "failure"}, [5]),
        ({"tasks": ("sort", "wipe")}, [2, 4, 5]),
        ({"max_episodes": 2}, [0, 1]),
        ({"max_episodes": 99}, [0, 1, 2, 3, 4, 5]),
        ({"tasks": ("stack", "sort"), "outcome": "success", "max_episodes": 1}, [0]),
        ({"episodes": (2, 3, 5), "tasks": ("sort",)}, [2, 5]),
    ],
)
def test_all_that_is_asked_for_holds(raw, values, ids):
    """In the order of the recording; the first so many are those for which the rest holds."""
    assert chosen(raw, **values) == ids


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"episodes": (0, 17)}, r"dataset.episodes=\[0,17\]: .* has no episode 17. It has 6, numbered 0-5"),
        ({"outcome": "sucess"}, "has the outcome 'sucess'. Did you mean 'success'.*'success' .3.,.*'timeout' .1."),
        ({"tasks": ("stack", "stak")}, "dataset.tasks: no episode .* has the task 'stak'. Did you mean 'stack'"),
        ({"tasks": ("wipe",), "outcome": "timeout"}, "chosen by outcome timeout, tasks 'wipe' together"),
    ],
)
def test_what_no_episode_has_is_refused_with_the_nearest(raw, values, said):
    """And with what there is."""
    with pytest.raises(PositronicError, match=said):
        chosen(raw, **values)


def test_a_recording_without_outcomes_says_so(tmp_path):
    """Rather than choosing none of it."""
    with DatasetWriter(tmp_path / "raw").new_episode() as episode:
        episode.append(keys.JOINT_POSITION, np.zeros(7), 0)
    with pytest.raises(PositronicError, match="None of them says its outcome"):
        chosen(tmp_path / "raw", outcome="success")


def test_a_number_stays_when_another_episode_is_dropped(raw):
    """It is the folder's, not a position; a dropped episode cannot be chosen."""
    uid = open_dataset(raw)[1].uid
    (raw / "edits.jsonl").write_text(json.dumps({"op": "drop", "v": 1, "ep": uid}) + "\n")
    assert chosen(raw, episodes=(3,)) == [3]
    with pytest.raises(PositronicError, match="no episode 1. It has 5, numbered 0, 2-5. Unfinished and dropped"):
        chosen(raw, episodes=(1,))


def test_a_number_that_two_folders_have_is_refused(raw):
    """A tree of datasets counts in each of them."""
    with DatasetWriter(raw / "more").new_episode() as episode:
        episode.append(keys.JOINT_POSITION, np.zeros(7), 0)
    dataset = open_dataset(raw, layout="local_all")
    with pytest.raises(PositronicError, match="more than one episode .* number 0: .*dataset.layout=local"):
        choose(dataset, Choice(episodes=(0,)))
    assert [each.id for each in choose(dataset, Choice(episodes=(3,)))] == [3]


def test_an_episode_whose_statics_are_damaged_is_left_to_the_bake(raw):
    """Whether it succeeded is not known; the bake names it as a bad episode."""
    path = open_dataset(raw)[1].path / "static.json"
    path.write_text("{")
    assert chosen(raw, outcome="success") == [0, 1, 2, 4]


def test_an_edited_outcome_counts(raw):
    """Statics are those after edits."""
    dataset = open_dataset(raw)
    edit = {"op": "set_static", "v": 1, "ep": dataset[3].uid, "data": {keys.EVAL_OUTCOME: "success"}}
    (raw / "edits.jsonl").write_text(json.dumps(edit) + "\n")
    assert chosen(raw, outcome="success") == [0, 2, 3, 4]


def test_what_was_chosen_is_said(raw):
    """By the parameters' names, with the uids of the episodes."""
    dataset = open_dataset(raw)
    found = choose(dataset, Choice(outcome="success", max_episodes=2)).chosen
    assert str(found) == "2 of 6 episodes (outcome success, max_episodes 2)"
    said = {"outcome": "success", "max_episodes": 2}
    assert found.to_dict() == {"said": said, "uids": [dataset[0].uid, dataset[2].uid], "of": 6}
    assert choose(dataset, Choice()).chosen is None
