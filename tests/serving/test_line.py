"""Whom a forward pass waits for, on a clock that the tests set."""

import math

import numpy as np
import pytest
from toy_server import make_recipe
from toy_vendor import ToyModel

from positronic.serving.failures import Failure
from positronic.serving.line import READ_SEC, Line
from positronic.serving.policy import ServedPolicy
from positronic.serving.readers import Observed
from positronic.serving.rhythm import Rhythm

PASS_SEC = 0.02
TURN_SEC = 0.003  # from an answer to the same client's next observation


def make_line(sessions, most=16):
    line = Line(ServedPolicy(make_recipe(), ToyModel(), {}), most)
    for session in sessions:
        line.join(session)
    for _ in range(3):
        line.took(PASS_SEC)
    return line


def come(line, sessions, now):
    for session in sessions:
        line.ask(session, now)
        assert line.take(Observed(session, {}))


def batch_of(line):
    return [each.session for each in line.take_batch()]


def in_step(line, sessions, rounds=3):
    """Everybody asks together and is answered together, some times over; the time of the last answers."""
    now = 0.0
    for _ in range(rounds):
        come(line, sessions, now + TURN_SEC)
        assert batch_of(line) == sessions
        now += TURN_SEC + PASS_SEC
        line.answered(sessions, now)
    return now


def test_a_lone_robot_never_waits():
    """However evenly it asks."""
    line = make_line("a")
    now = in_step(line, ["a"]) + TURN_SEC
    come(line, ["a"], now)
    assert line.begin_at(now, now) == now


def test_a_pass_waits_for_those_who_are_in_step_and_begins_when_all_are_in():
    """The fewer there are to come and the more are in, the shorter."""
    line = make_line("abc")
    due = in_step(line, ["a", "b", "c"]) + TURN_SEC
    come(line, ["a"], due - 0.002)
    assert line.begin_at(0.0, due - 0.002) == pytest.approx(due + PASS_SEC * 2 / 3)
    come(line, ["b"], due - 0.001)
    assert line.begin_at(0.0, due - 0.001) == pytest.approx(due + PASS_SEC * 1 / 3)
    come(line, ["c"], due)
    assert line.begin_at(0.0, due) == due
    assert batch_of(line) == ["a", "b", "c"]


def test_many_do_not_wait_long_for_one():
    """It costs each of fifteen what it saves the one: a sixteenth of a pass."""
    sessions = [f"{number:02d}" for number in range(16)]
    line = make_line(sessions)
    due = in_step(line, sessions) + TURN_SEC
    come(line, sessions[:15], due - 0.010)
    assert line.begin_at(0.0, due - 0.010) == due - 0.010
    assert line.begin_at(0.0, due - 0.001) == pytest.approx(due + PASS_SEC / 16)
    assert line.begin_at(0.0, due + PASS_SEC / 16) == due + PASS_SEC / 16


def test_a_wait_ends_after_a_pass_whoever_is_due():
    """However many are to come."""
    sessions = [f"{number:02d}" for number in range(16)]
    line = make_line(sessions)
    due = in_step(line, sessions) + TURN_SEC
    come(line, sessions[:1], due - TURN_SEC)
    assert line.begin_at(0.0, due - TURN_SEC) == pytest.approx(due - TURN_SEC + PASS_SEC)


def test_who_does_not_come_is_not_waited_for_again():
    """The next pass does not wait for a robot that has stopped."""
    line = make_line("ab")
    now = in_step(line, ["a", "b"]) + TURN_SEC
    come(line, ["a"], now)
    end = line.begin_at(0.0, now)
    assert now < end <= now + PASS_SEC
    assert line.begin_at(0.0, end) == end
    assert batch_of(line) == ["a"]
    line.answered(["a"], end + PASS_SEC)
    later = end + PASS_SEC + TURN_SEC
    come(line, ["a"], later)
    assert line.begin_at(end + PASS_SEC, later) == later


def test_one_late_observation_does_not_put_a_robot_out_of_step():
    """It is waited for in the next round as before; two are too many."""
    rhythm, now = Rhythm(), 0.0
    for pause, is_even in ((TURN_SEC, False), (TURN_SEC, True), (0.5, True), (0.7, False)):
        rhythm.answer(now)
        rhythm.ask(now + pause)
        now += 1
        assert (rhythm.spread < 0.005) == is_even
        assert rhythm.due == math.inf
    rhythm.answer(now)
    assert rhythm.due == pytest.approx(now + 0.5)


def test_robots_out_of_step_do_not_wait_for_each_other():
    """One asks at an even pace, but its time has not come; another at none."""
    line, rng = make_line("abc"), np.random.default_rng(0)
    for round_number in range(5):
        begin = round_number * 1.0
        come(line, ["b"], begin)
        line.take_batch()
        line.answered(["b"], begin + PASS_SEC)
        come(line, ["c"], begin + rng.uniform(0.1, 0.8))
        line.take_batch()
        line.answered(["c"], begin + 0.9)
    come(line, ["a"], 4.95)
    assert line.begin_at(0.0, 4.95) == 4.95


def test_a_frame_that_is_being_read_is_waited_for_unless_its_sender_was_clumsy():
    """An honest one takes less than that."""
    line = make_line("ab")
    come(line, ["a"], 1.0)
    line.ask("b", 1.0)
    assert line.begin_at(0.0, 1.0) == pytest.approx(1.0 + READ_SEC)
    assert line.take(Observed("b", Failure("noise")))
    line.ask("b", 1.001)
    assert line.begin_at(0.0, 1.001) == 1.001


def test_a_pass_takes_those_that_asked_first_and_no_more_than_there_is_room_for():
    """The others wait for the next one, and a full pass waits for nobody."""
    line = make_line("abcd", most=2)
    come(line, ["c", "a", "b"], 1.0)
    assert line.begin_at(0.0, 1.0) == 1.0
    assert [batch_of(line), batch_of(line)] == [["c", "a"], ["b"]]
    line.policy.batch_limit.most = 1
    come(line, ["d", "a"], 2.0)
    assert batch_of(line) == ["d"]


def test_what_a_session_asked_that_has_left_is_not_computed():
    """Nor is what is still being read."""
    line = make_line("ab")
    come(line, ["a", "b"], 1.0)
    line.leave("a")
    assert batch_of(line) == ["b"]
    line.ask("b", 2.0)
    line.leave("b")
    assert not line.take(Observed("b", {}))


def test_an_observation_whose_answer_is_not_wanted_any_more_is_given_up():
    """Counted from when it came, not from when it was read."""
    line = make_line("ab")
    for session, within_sec in (("a", 0.5), ("b", 5.0)):
        line.ask(session, 1.0)
        line.take(Observed(session, {}, within_sec=within_sec))
    assert line.take_expired(1.4) == []
    assert [each.session for each in line.take_expired(1.6)] == ["a"]
    assert batch_of(line) == ["b"]


def test_a_wait_ends_before_an_observation_expires():
    """Nobody is refused because the line itself was waiting."""
    line = make_line("ab")
    due = in_step(line, ["a", "b"]) + TURN_SEC
    line.ask("a", due)
    line.take(Observed("a", {}, within_sec=0.004))
    assert due < line.begin_at(0.0, due) < line.next_expiry == pytest.approx(due + 0.004)


def test_one_slow_pass_makes_nobody_wait():
    """Nor does a first one, however long it takes."""
    fresh = Line(ServedPolicy(make_recipe(), ToyModel(), {}), 16)
    for session in "ab":
        fresh.join(session)
    fresh.took(30.0)
    now = in_step(fresh, ["a", "b"]) + TURN_SEC
    come(fresh, ["a"], now)
    assert fresh.begin_at(0.0, now) == now
    line = make_line("ab")
    now = in_step(line, ["a", "b"]) + TURN_SEC
    line.took(30.0)
    come(line, ["a"], now)
    assert line.begin_at(0.0, now) <= now + PASS_SEC
