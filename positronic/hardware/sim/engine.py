"""Imports MuJoCo where no display is needed, or raises a message that names what is missing.

MuJoCo looks for OpenGL while it is imported, so only this place imports it.
"""

from __future__ import annotations

import os

from positronic.errors import PositronicError

OPENGL_HELP = (
    "On Debian or Ubuntu: sudo apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri\n"
    "Or, all in software: sudo apt-get install libosmesa6, then set MUJOCO_GL=osmesa."
)


def opengl_error(problem: BaseException) -> PositronicError:
    """The message for a machine that cannot draw, with ``problem`` as the reason."""
    backend = os.environ.get("MUJOCO_GL", "the default")
    return PositronicError(
        f"The simulator cannot draw its cameras: OpenGL did not start (MUJOCO_GL is {backend}).\n"
        f"Found: {type(problem).__name__}: {problem}\n{OPENGL_HELP}"
    )


if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's own threads only get in the way of pictures this small
try:
    import mujoco
except ModuleNotFoundError as missing:
    if missing.name != "mujoco":
        raise opengl_error(missing) from missing
    raise PositronicError("The simulator needs MuJoCo: pip install -e '.[sim]'") from missing
except (ImportError, AttributeError, OSError, RuntimeError) as problem:
    raise opengl_error(problem) from problem

__all__ = ["OPENGL_HELP", "mujoco", "opengl_error"]
