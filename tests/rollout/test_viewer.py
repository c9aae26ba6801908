"""A window on the episode, where there is a display."""

import sys

import pytest

from positronic.errors import PositronicError
from positronic.rollout.viewer import viewer


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_without_a_display_it_says_what_to_do_instead(point_robot, monkeypatch):
    """Which variables were looked at, and how to get a video."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(PositronicError, match=r"DISPLAY(.|\n)*driver\.save_videos"), viewer(point_robot):
        pass


def test_a_robot_that_is_not_simulated_has_nothing_to_show(point_robot, monkeypatch):
    """The window shows the simulator; the message names the robot found instead."""
    monkeypatch.setenv("DISPLAY", ":99")
    with pytest.raises(PositronicError, match=r"'point'.*hardware=sim"), viewer(point_robot):
        pass
