"""Jumps, speeds and accelerations of a chunk: found, and brought within limits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from positronic import geometry
from positronic.rollout.motion import JOINTS, PLACE, TURN, Course, MotionLimits, Ways, excess, within


def limits(jump=np.inf, speed=np.inf, acceleration=np.inf):
    return MotionLimits(*(np.atleast_1d(np.asarray(value, float)) for value in (jump, speed, acceleration)))


def places(*rows, start=None, step_sec=0.1):
    values = np.array([[x, 0.0, 0.0] for x in rows])
    origin = None if start is None else np.array([start, 0.0, 0.0])
    return Course(PLACE, values, np.arange(len(rows)) * step_sec, origin)


def test_a_jump_is_measured_from_where_the_robot_is():
    """Of the first step alone, and only where it is known."""
    found = excess(places(0.5, 0.6, start=0.1), limits(jump=0.3))
    assert (found.step, found.does, found.allowed, found.key) == (
        *(0, "jumps by 0.4 m from where it is measured", 0.3, "max_jump"),
    )
    assert excess(places(0.5, 0.6), limits(jump=0.3)) is None
    assert excess(places(0.5, 0.6, start=0.2), limits(jump=0.3)) is None


def test_the_step_that_is_arrived_at_too_fast_is_named():
    """By its number within the chunk."""
    found = excess(places(0.0, 0.1, 0.3), limits(speed=1.5))
    assert (found.step, found.does, found.unit, found.key) == (2, "moves at 2 m/s", "m/s", "max_speed")


def test_an_acceleration_is_between_two_speeds():
    """Timestamps need not be regular: 1 m/s, then 4 m/s, 0.15 s later."""
    course = replace(places(0.0, 0.1, 0.9), times_sec=np.array([0.0, 0.1, 0.3]))
    found = excess(course, limits(acceleration=19.0))
    assert (found.step, found.does, found.key) == (2, "accelerates by 20 m/s²", "max_acceleration")
    assert excess(course, limits(acceleration=20.0)) is None


def test_one_quaternion_and_its_opposite_are_one_rotation():
    """No turn is seen where the sign changes."""
    quats = np.array([[1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]])
    assert excess(Course(TURN, quats, np.array([0.0, 0.1]), -quats[0]), limits(0.01, 0.01, 0.01)) is None


def test_each_joint_has_a_speed_of_its_own():
    """The one that is too fast is told by its place."""
    course = Course(JOINTS, np.array([[0.0, 0.0], [0.15, 0.15]]), np.array([0.0, 0.1]))
    found = excess(course, limits(speed=[2.0, 1.0]))
    assert (found.part, found.allowed, found.does) == (1, 1.0, "moves at 1.5 rad/s")


def test_ways_are_speeds_already():
    """A joint's step within 0.1 s; it has no jump."""
    ways = Ways(JOINTS, np.array([[0.1], [0.3]]), np.full(2, 0.1))
    assert excess(ways, limits(jump=0.0, speed=3.0, acceleration=20.0)) is None
    assert excess(ways, limits(speed=2.0)).step == 1
    assert excess(ways, limits(acceleration=19.0)).step == 1
    np.testing.assert_allclose(within(ways, limits(speed=2.0)), [[0.1], [0.2]])


def test_ways_are_as_fast_as_their_own_spans_are_short():
    """The same way in half the time is twice as fast."""
    ways = Ways(JOINTS, np.array([[0.1], [0.1]]), np.array([0.1, 0.05]))
    found = excess(ways, limits(speed=1.5))
    assert (found.step, found.does) == (1, "moves at 2 rad/s")
    np.testing.assert_allclose(within(ways, limits(speed=1.5)), [[0.1], [0.075]])


@pytest.mark.parametrize("step_sec", [1 / 15, 1 / 30, 1 / 50])
@pytest.mark.parametrize("acceleration", [10.0, 40.0])
def test_what_was_brought_within_limits_brakes_before_its_target(step_sec, acceleration):
    """A step down to a table ends there, not below."""
    course = places(0.3, 0.3, *[0.03] * 40, step_sec=step_sec)
    kept = within(course, limits(speed=2.5, acceleration=acceleration))
    assert kept[:, 0].min() >= 0.03 - 1e-9
    assert kept[-1, 0] == 0.03
    assert excess(replace(course, values=kept), limits(speed=2.5, acceleration=acceleration)) is None


def test_a_step_goes_as_far_towards_its_target_as_it_may():
    """From where the one before it was brought to; what is slow enough later catches up."""
    kept = within(places(0.5, 0.5, 0.5, 0.5, start=0.0), limits(jump=0.2, speed=1.2))
    np.testing.assert_allclose(kept[:, 0], [0.2, 0.32, 0.44, 0.5])


numbers = st.floats(-2, 2, allow_nan=False)
bounds = st.floats(0.01, 50)
spans = st.lists(st.floats(0.01, 0.06), min_size=1, max_size=8)  # at most half a turn at 50 rad/s


@st.composite
def courses(draw):
    times = np.append(0.0, np.cumsum(draw(spans)))
    rows = st.lists(st.tuples(numbers, numbers, numbers), min_size=len(times) + 1, max_size=len(times) + 1)
    values = np.array(draw(rows))
    quantity = draw(st.sampled_from([PLACE, TURN, JOINTS]))
    values = geometry.rotvec_to_quat(values) if quantity is TURN else values
    return Course(quantity, values[1:], times, values[0])


@given(courses(), st.tuples(bounds, bounds, bounds))
def test_what_was_brought_within_limits_is_within_them(course, three):
    """Whatever the chunk and the limits; a chunk that was within them stays to its last bit."""
    kept = within(course, limits(*three))
    assert excess(replace(course, values=kept), limits(*three)) is None
    if excess(course, limits(*three)) is None:
        np.testing.assert_array_equal(kept, course.values)


@pytest.mark.parametrize("quantity", [PLACE, TURN, JOINTS])
def test_without_limits_everything_stays(quantity):
    """None is infinite."""
    values = geometry.rotvec_to_quat(np.eye(3)) if quantity is TURN else np.eye(3)
    course = Course(quantity, values, np.arange(3.0), values[1])
    assert excess(course, limits()) is None
    np.testing.assert_array_equal(within(course, limits()), values)
