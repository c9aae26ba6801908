"""How smoothly a tool moved."""

import math

import numpy as np
import pytest

from positronic import keys
from positronic.rollout.smoothness import ToolPaths, log_dimensionless_jerk

TIMES = np.array([0.0, 1.0, 3.0, 4.0, 6.0])


def line(values):
    """(n, 3): a path along the diagonal of x and y, as far as ``values``."""
    return np.outer(values, [0.6, 0.8, 0.0])


def measured(tools, arm=""):
    paths = ToolPaths()
    for time_sec, place in tools:
        time_ns, name = round(time_sec * 1e9), keys.of_arm(keys.EE_POSE, arm)
        paths.note({name: np.append(place, [1.0, 0.0, 0.0, 0.0]), keys.GRIP: 0.5}, {name: time_ns, keys.GRIP: time_ns})
    return paths.smoothness()


def test_a_cubic_path_has_its_own_jerk():
    """t cubed: 6 m/s³ all the way, at most 76 m/s between samples, in 6 s, however the samples are spaced."""
    assert log_dimensionless_jerk(TIMES, line(TIMES**3)) == pytest.approx(-math.log(6**4 * 6**2 / 76**2), abs=1e-12)


def test_the_smoothest_way_from_rest_to_rest_has_the_published_value():
    """Of the minimum-jerk path, 720 / 1.875²: T. Flash and N. Hogan, J. Neuroscience 5(7), 1985."""
    share = np.linspace(0, 1, 2001)
    path = line(0.3 * (10 * share**3 - 15 * share**4 + 6 * share**5))
    assert log_dimensionless_jerk(2 * share, path) == pytest.approx(-math.log(720 / 1.875**2), abs=5e-3)


def test_neither_size_nor_speed_changes_it():
    """A path that is twice as large and three times as slow is as smooth."""
    path = np.random.default_rng(0).normal(size=(30, 3))
    times = np.linspace(0, 2, 30)
    assert log_dimensionless_jerk(3 * times, 2 * path) == pytest.approx(log_dimensionless_jerk(times, path))


def test_a_trembling_tool_is_less_smooth():
    times = np.arange(45) / 15
    path = line(0.1 * times)
    trembling = path + 1e-3 * np.random.default_rng(0).normal(size=path.shape)
    swaying = path + 1e-3 * np.sin(times)[:, None]
    assert log_dimensionless_jerk(times, trembling) < log_dimensionless_jerk(times, swaying)


@pytest.mark.parametrize("path", [line(np.zeros(5)), line(1e-4 * TIMES**3 / 216), line(TIMES)[:3]])
def test_of_a_tool_that_stands_still_nothing_is_said(path):
    """Nor of fewer than four moments."""
    assert log_dimensionless_jerk(TIMES[: len(path)], path) is None
    assert measured(zip(TIMES, path, strict=False)) is None
    assert ToolPaths().smoothness() is None


@pytest.mark.parametrize("arm", ["", "left"])
def test_a_pose_that_was_not_measured_again_is_no_sample(arm):
    """Nor is one that follows by a rounding error of the clock."""
    tools = [*zip(TIMES, line(TIMES**3), strict=True)]
    again = [*tools[:2], tools[1], *tools[2:], (tools[-1][0] + 1e-9, tools[-1][1] + 1e-6)]
    expected = pytest.approx(log_dimensionless_jerk(TIMES, line(TIMES**3)), abs=1e-6)
    assert measured(tools, arm) == measured(again, arm) == expected


def test_two_arms_are_as_smooth_as_they_are_on_average():
    """Over those that moved."""
    paths, courses = ToolPaths(), {"left": TIMES**3, "right": TIMES**2 + 1e-2 * TIMES**3, "still": 0 * TIMES}
    values = {keys.of_arm(keys.EE_POSE, arm): line(course) for arm, course in courses.items()}
    for index, time_sec in enumerate(TIMES):
        observed = {name: np.append(path[index], [1.0, 0.0, 0.0, 0.0]) for name, path in values.items()}
        paths.note(observed, dict.fromkeys(observed, round(time_sec * 1e9)))
    each = [log_dimensionless_jerk(TIMES, line(courses[arm])) for arm in ("left", "right")]
    assert paths.smoothness() == pytest.approx(np.mean(each), abs=1e-6)
