"""A person is asked once about each convention that is open, and what is typed follows the rules of the file."""

from dataclasses import replace

import numpy as np
import pytest

from positronic.importing.asking import ask, questions
from positronic.importing.check import problems
from positronic.importing.hdf5 import Hdf5Source
from positronic.importing.propose import propose


@pytest.fixture
def fields(teleoperated):
    """Of ALOHA."""
    return Hdf5Source(teleoperated()).fields()


@pytest.fixture
def proposal(fields, robot):
    """Of ALOHA."""
    return propose("hdf5", fields, robot("aloha"), has_task=False)


def answer(proposal, *answers, faults=lambda mapping: []):
    """The mapping, and what was said of wrong answers. What is not answered is agreed to."""
    left, said = list(answers), []
    mapping = ask(proposal, faults, lambda prompt: left.pop(0) if left else "", said.append)
    return mapping, said


def test_one_question_covers_all_places_where_the_same_is_believed(proposal):
    """Rate, unit, open, closed, channels: five for fourteen signals."""
    found = questions(proposal, proposal.mapping)
    assert [question.name for question in found] == ["fps", "unit", "open", "closed", "channels"]
    assert len(found[1].keys) == 6
    assert found[2].prompt().startswith("open of grip.left, target_grip.left, grip.right, target_grip.right: 1? (ALOHA")


def test_enter_agrees_to_what_is_believed(proposal):
    """The same as agree=true."""
    assert answer(proposal) == (proposal.agreed(), [])


def test_what_is_typed_takes_the_place_of_the_belief(proposal):
    """In all places that the question names."""
    mapping, _ = answer(proposal, "30", "degrees", "0", "255")
    assert mapping.fps == 30
    assert {s.unit for key, s in mapping.signals.items() if key.startswith("robot_")} == {"degrees"}
    assert (mapping.signals["target_grip.right"].open, mapping.signals["grip.left"].closed) == (0, 255)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["30", "degree", "degrees"], "unit: degree; expected one of rad, degrees, m100_100, m, cm, mm. Did you mean"),
        (["fast", "30"], "answer: fps: expected a number, found 'fast'."),
        (["[30", "30"], "expected ',' or ']'"),
    ],
)
def test_a_wrong_answer_is_asked_again(proposal, answers, said):
    """With what is wrong with it."""
    mapping, found = answer(proposal, *answers)
    assert mapping.fps == 30
    assert [said in each for each in found] == [True]


def test_an_answer_that_cannot_be_is_asked_again_at_once(proposal, fields, robot):
    """And not found in the end, when all answers would be lost."""
    mapping, said = answer(proposal, "30", "mm", faults=lambda mapping: problems(mapping, fields, robot("aloha")))
    assert mapping.signals["robot_state.left.q"].unit == "rad"
    assert said[0] == "robot_state.left.q: unit: mm; expected one of rad, degrees, m100_100."


def test_a_signal_that_nobody_knows_can_be_left_out(proposal):
    """Fields that no other signal needs are left out, too."""
    mapping, _ = answer(proposal, "", "", "", "", "-")
    assert not any(key.startswith("image.") for key in mapping.signals)
    assert [field for field in mapping.left_out if "cam" in field] == [
        f"observations/images/cam_{name}" for name in ("high", "left_wrist", "right_wrist")
    ]


def test_without_a_belief_a_value_is_needed(robot, tmp_path):
    """Enter is no answer, and an order is a list."""
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["action"] = np.linspace(0, 3, 20)[:, None] + np.zeros(7)
    found = propose("hdf5", Hdf5Source(tmp_path).fields(), robot("ur5e"), has_task=False)
    found = replace(found, mapping=replace(found.mapping, fps=10.0))
    mapping, said = answer(found, "0", "[5, 4, 3, 2, 1, 0]", "", "", "", "0", "4")
    assert mapping.signals["robot_commands.joints"].dims == (5, 4, 3, 2, 1, 0)
    assert mapping.signals["target_grip"].dims == (6,)
    assert (mapping.signals["target_grip"].open, mapping.signals["target_grip"].closed) == (0, 4)
    assert said == ["dims: expected [<first>, ...], found 0.", "A value is needed."]
