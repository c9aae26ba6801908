"""How chunks are played, by the driver's names for it."""

from __future__ import annotations

from functools import partial

from positronic.errors import PositronicError
from positronic.rollout.ask_ahead import ask_ahead
from positronic.rollout.config import ASK_AHEAD, NO_REAL_TIME, PLAY_OUT, REAL_TIME, TEMPORAL_ENSEMBLE, DriverConfig
from positronic.rollout.ensemble import NOTHING_KNOWN, Limited, temporal_ensemble
from positronic.rollout.playback import Strategy, play_out


def strategy_of(driver: DriverConfig, step_sec: float, limited: Limited = NOTHING_KNOWN) -> Strategy:
    """The driver's way of playing chunks. ``step_sec``: length of a control step. ``limited``: which
    joints have limits.

    Raises PositronicError for one that no policy supports.
    """
    if driver.playback == REAL_TIME:
        raise PositronicError(NO_REAL_TIME)
    ways: dict[str, Strategy] = {
        PLAY_OUT: partial(play_out, step_sec=step_sec),
        ASK_AHEAD: partial(ask_ahead, step_sec=step_sec, remaining=driver.ask_ahead_steps),
        TEMPORAL_ENSEMBLE: partial(temporal_ensemble, step_sec=step_sec, decay=driver.ensemble_decay, limited=limited),
    }
    return ways[driver.playback]
