"""Pictures of the scene: small and quick for the policy, large and smooth for people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError, did_you_mean, listing
from positronic.hardware.sim.engine import mujoco, opengl_error
from positronic.hardware.sim.scene import CAMERAS

SMOOTH_SAMPLES = 4
SMOOTH_FACETS = (28, 16, 4)  # round shapes around, along; flat ones along each edge
QUICK_FACETS = (10, 5, 1)
SHADOW_SIZE = 2048


class Cameras:
    """Renderers of one model, made when first needed, kept by size and quality, freed by ``close``."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._renderers: dict[tuple[int, int, bool], mujoco.Renderer] = {}

    def render(
        self, data: mujoco.MjData, camera: str, height: int, width: int, smooth: bool = False
    ) -> NDArray[np.uint8]:
        """Picture (height, width, 3) of the present moment. ``smooth``: shadows and soft edges, some 6 times slower.

        Raises PositronicError for an unknown camera, or a machine without OpenGL.
        """
        if camera not in CAMERAS:
            hint = did_you_mean(camera, CAMERAS)
            raise PositronicError(f"No camera '{camera}' here. There are {listing(CAMERAS)}.{hint}")
        renderer = self._renderer(height, width, smooth)
        renderer.update_scene(data, camera=camera)
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = smooth
        return renderer.render().copy()

    def close(self) -> None:
        """Free the OpenGL contexts; a later ``render`` makes new ones."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _renderer(self, height: int, width: int, smooth: bool) -> mujoco.Renderer:
        key = (height, width, smooth)
        if key not in self._renderers:
            self._renderers[key] = self._open(height, width, smooth)
        return self._renderers[key]

    def _open(self, height: int, width: int, smooth: bool) -> mujoco.Renderer:
        buffer, quality = self._model.vis.global_, self._model.vis.quality  # read once, when a renderer is made
        buffer.offheight, buffer.offwidth = height, width  # no larger: all of it is cleared for each picture
        quality.offsamples = SMOOTH_SAMPLES if smooth else 0
        quality.shadowsize = SHADOW_SIZE if smooth else 0
        quality.numslices, quality.numstacks, quality.numquads = SMOOTH_FACETS if smooth else QUICK_FACETS
        try:
            return mujoco.Renderer(self._model, height, width)
        except (AttributeError, ImportError, OSError, RuntimeError, mujoco.FatalError) as problem:
            raise opengl_error(problem) from problem
