"""MuJoCo's own window on the running episode, in real time, where there is a display."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

from positronic.errors import PositronicError
from positronic.hardware.robot import Robot

CAMERA = "view"  # where the window looks from at first; Esc and the mouse take over


@contextlib.contextmanager
def viewer(robot: Robot) -> Iterator[Callable[[int], None]]:
    """Open the window. Yields a function to call with the robot's time in ns; it draws, and waits for the wall clock.

    If the window is closed, the episodes continue without it. Raises PositronicError without a display or a simulator.
    """
    require_display()
    from positronic.hardware.sim.robot import SimRobot

    if not isinstance(robot, SimRobot):
        raise PositronicError(
            f"driver.show_gui=true shows the simulator; the robot '{robot.contract.name}' has none to show."
            " Leave it out, or add hardware=sim."
        )
    import mujoco.viewer

    with mujoco.viewer.launch_passive(robot.model, robot.data, show_left_ui=False, show_right_ui=False) as window:
        window.cam.type, window.cam.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, robot.model.camera(CAMERA).id
        clock = WallClock()

        def show(time_ns: int) -> None:
            if window.is_running():
                window.sync()
                clock.wait_for(time_ns)

        yield show


def require_display() -> None:
    """Raise PositronicError when no window can be opened here."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise PositronicError(
            "driver.show_gui=true opens a window and needs a display; here neither DISPLAY nor WAYLAND_DISPLAY is set."
            "\nRun it at a desk, or over 'ssh -X', or with driver.show_gui=false: driver.save_videos=4 records videos."
        )


class WallClock:
    """Keeps a robot's clock from running faster than the wall clock. It starts again with each episode."""

    def __init__(self) -> None:
        self._last_ns = -1
        self._origin_ns = 0

    def wait_for(self, time_ns: int) -> None:
        """Sleep until ``time_ns`` after the episode's first call."""
        now_ns = time.monotonic_ns()
        if time_ns <= self._last_ns or self._last_ns < 0:
            self._origin_ns = now_ns - time_ns
        self._last_ns = time_ns
        time.sleep(max(0, self._origin_ns + time_ns - now_ns) / 1e9)
