"""How well red stands on blue: parts 0..1, their minimum as the score, and when it counts as a success."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from positronic import keys
from positronic.hardware.robot import Scores
from positronic.hardware.sim.config import ScoringConfig
from positronic.hardware.sim.scene import SceneState

SCORES = Scores("stacked", keys.SCORE, keys.BOX_DISTANCE, "Distance between the cubes' centres", "cm", 1e2)
SUCCESS_SCORE = 0.95
SUCCESS_HOLD_NS = 250_000_000


def below(value: float, limit: float) -> float:
    """1 up to ``limit``, falling to 0 half a limit further on."""
    return float(np.clip(3 - 2 * value / limit, 0, 1))


def above(value: float, limit: float) -> float:
    """1 from ``limit`` on, falling to 0 half a limit before it."""
    return float(np.clip(2 * value / limit - 1, 0, 1))


def stacking_parts(state: SceneState, scoring: ScoringConfig, cube_size: float) -> dict[str, float]:
    """What stacking consists of, each part 0..1. Limits are in edges of a cube (``ScoringConfig``)."""
    beside = np.linalg.norm(state.red[:2] - state.blue[:2]) / cube_size
    higher = (state.red[2] - state.blue[2]) / cube_size
    lifted = (state.blue[2] - cube_size / 2) / cube_size
    shift = np.linalg.norm(state.blue[:2] - state.blue_start[:2]) / cube_size
    clearance = np.linalg.norm(state.tcp - state.red) / cube_size
    return {
        "blue_stable": below(shift, scoring.blue_shift),
        "blue_on_table": below(abs(lifted), scoring.z),
        "xy_aligned": below(beside, scoring.xy),
        "z_stacked": below(abs(higher - 1), scoring.z),
        "red_stable": below(state.red_speed, scoring.red_speed),
        "gripper_clear": above(clearance, scoring.clearance),
    }


def stacking_metrics(state: SceneState, scoring: ScoringConfig, cube_size: float) -> dict[str, float]:
    """The score, its parts and the cubes' distance in m, by the names under which they are recorded."""
    parts = stacking_parts(state, scoring, cube_size)
    named = {keys.SCORE_PREFIX + name: value for name, value in parts.items()}
    distance = float(np.linalg.norm(state.red - state.blue))
    return {keys.SCORE: min(parts.values()), **named, keys.BOX_DISTANCE: distance}


class SuccessHold:
    """A success is a score of at least 0.95 that lasts 0.25 s. ``success_ns``: when it had lasted, None until then."""

    def __init__(self, score: float = SUCCESS_SCORE, hold_ns: int = SUCCESS_HOLD_NS) -> None:
        self._score, self._hold_ns = score, hold_ns
        self._since_ns: int | None = None
        self.success_ns: int | None = None

    def update(self, time_ns: int, metrics: Mapping[str, float]) -> bool:
        """Take the metrics at ``time_ns``, in order of time; whether there has been a success so far."""
        if metrics[keys.SCORE] < self._score:
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = time_ns
        elif self.success_ns is None and time_ns - self._since_ns >= self._hold_ns:
            self.success_ns = time_ns
        return self.success_ns is not None
