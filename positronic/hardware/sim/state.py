"""The whole truth about a scene at one moment, for experts and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Thing:
    """Something on the table: ``position`` (3,) of its centre in m, ``yaw`` in rad, ``speed`` in m/s.

    ``yaw`` is the least of those that look alike, 0 for what is round. ``start`` (3,): x, y, yaw at the reset. The
    centre of a tray or a mark is on the table.
    """

    position: Floats
    yaw: float
    speed: float
    start: Floats


@dataclass(frozen=True)
class SceneState:
    """``tcp`` (3,): tool centre point in m; ``tcp_yaw``: rad; ``width``: m between the finger pads; ``things`` by name,
    which ``state[name]`` gives too."""

    tcp: Floats
    tcp_yaw: float
    width: float
    things: Mapping[str, Thing]

    def __getitem__(self, name: str) -> Thing:
        return self.things[name]
