"""Pictures: what is in them, and what is said when there can be none."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from positronic import keys
from positronic.errors import PositronicError

ROOT = Path(__file__).parents[2]
OPEN_AND_LOOK = """
import sys
import positronic
from positronic.errors import PositronicError
from positronic.hardware.factory import open_robot
try:
    open_robot(positronic.compose(["stage=collect"]).hardware).observe()
except PositronicError as error:
    sys.exit(str(error))
"""


def centre_of(image, channel):
    """Mean (row, column) of the pixels where one channel dominates."""
    others = np.delete(image.astype(int), channel, axis=2).max(axis=2)
    return np.argwhere(image[..., channel].astype(int) - others > 60).mean(axis=0)


def test_the_cubes_are_seen_where_they_are(robot):
    """In the exterior picture, red is left of blue when its y is smaller (the camera looks at the robot)."""
    robot.config.image_size = [96, 96]
    for seed in range(3):
        robot.reset(seed)
        image = robot.observe()[keys.IMAGE_EXTERIOR]
        (_, red), (_, blue) = centre_of(image, 0), centre_of(image, 2)
        assert (red < blue) == (robot.placement.things["red"][1] < robot.placement.things["blue"][1])


def test_the_wrist_camera_sees_what_is_gripped(robot):
    """With the tool at the red cube, red fills the lower middle of the wrist picture, between dark fingers."""
    robot.config.image_size = [96, 96]
    robot.data.joint("red").qpos[:3] = robot.scene_state().tcp
    robot.advance(0)
    row, column = centre_of(robot.observe()[keys.IMAGE_WRIST], 0)
    assert 55 < row < 90
    assert column == pytest.approx(47.5, abs=4)


def test_pictures_for_people_come_in_any_size(robot):
    """render gives a smooth picture of the size asked for, and leaves the recorded ones as they are."""
    before = robot.observe()[keys.IMAGE_WRIST]
    assert robot.render("view", 240, 320).shape == (240, 320, 3)
    np.testing.assert_array_equal(robot.observe()[keys.IMAGE_WRIST], before)


def test_pictures_are_the_callers_own(robot):
    """A picture does not change when the next one is taken."""
    first = robot.observe()[keys.IMAGE_EXTERIOR]
    kept = first.copy()
    robot.reset(9)
    robot.observe()
    np.testing.assert_array_equal(first, kept)


def test_an_unknown_camera_is_refused_with_a_hint(robot):
    """The message lists the cameras and suggests the nearest."""
    with pytest.raises(PositronicError, match="exterior, view, wrist. Did you mean 'wrist'"):
        robot.render("wrst", 32, 32)


@pytest.mark.parametrize("broken", [{"MUJOCO_GL": "nonsense"}, {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "osmesa"}])
def test_without_opengl_the_message_names_the_packages(broken):
    """Whether OpenGL fails at import or when the first picture is taken."""
    command = [sys.executable, "-c", OPEN_AND_LOOK]
    environment = os.environ | broken
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "sudo apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri" in result.stderr
    assert "libosmesa6" in result.stderr
