"""The parts of the score, each moved alone, and the hold that makes a success."""

from dataclasses import replace

import numpy as np
import pytest

from positronic import keys
from positronic.hardware.sim.scene import SceneState
from positronic.hardware.sim.scoring import SuccessHold, above, below, stacking_metrics, stacking_parts

EDGE = 0.04
BLUE = np.array([0.5, 0.1, 0.02])
STACKED = SceneState(
    tcp=np.array([0.5, 0.1, 0.20]),
    tcp_yaw=0.0,
    width=0.08,
    red=BLUE + np.array([0, 0, EDGE]),
    red_yaw=0.0,
    red_speed=0.0,
    blue=BLUE,
    blue_yaw=0.0,
    blue_start=BLUE[:2],
)
FAULTS = {
    "blue_stable": {"blue_start": BLUE[:2] + np.array([0.1, 0])},
    "blue_on_table": {"blue": BLUE + np.array([0, 0, 0.02]), "red": BLUE + np.array([0, 0, 0.02 + EDGE])},
    "xy_aligned": {"red": BLUE + np.array([0.03, 0, EDGE])},
    "z_stacked": {"red": BLUE + np.array([0, 0, 0.05])},
    "red_stable": {"red_speed": 0.1},
    "gripper_clear": {"tcp": BLUE + np.array([0, 0, EDGE])},
}


def test_below_and_above_have_soft_edges_of_half_a_limit():
    """Whole at the limit, a half a quarter of a limit on, nothing at half a limit on."""
    assert [below(value, 4) for value in (0, 4, 5, 6, 9)] == [1, 1, 0.5, 0, 0]
    assert [above(value, 4) for value in (9, 4, 3, 2, 0)] == [1, 1, 0.5, 0, 0]


def test_a_good_stack_has_every_part_whole(sim_config):
    """Red on blue, at rest, gripper away: the score is 1."""
    assert stacking_metrics(STACKED, sim_config.scoring, EDGE)[keys.SCORE] == 1.0


@pytest.mark.parametrize("part", FAULTS)
def test_each_fault_spoils_its_own_part(sim_config, part):
    """One thing wrong makes one part 0, and that is the score."""
    metrics = stacking_metrics(replace(STACKED, **FAULTS[part]), sim_config.scoring, EDGE)
    spoilt = {name for name, value in metrics.items() if value < 0.5 and name.startswith(keys.SCORE_PREFIX)}
    assert spoilt == {keys.SCORE_PREFIX + part}
    assert metrics[keys.SCORE] == 0.0


def test_the_limits_are_the_scenes_own(sim_config):
    """The same misalignment in metres weighs half as much on cubes twice as large."""
    off = replace(STACKED, red=BLUE + np.array([0.025, 0, EDGE]))
    small = stacking_parts(off, sim_config.scoring, EDGE)["xy_aligned"]
    large = stacking_parts(off, sim_config.scoring, 2 * EDGE)["xy_aligned"]
    assert (small, large) == (pytest.approx(0.5), 1.0)


def test_the_distance_between_the_cubes_is_recorded_in_metres(sim_config):
    """box_distance is that of the centres."""
    assert stacking_metrics(STACKED, sim_config.scoring, EDGE)[keys.BOX_DISTANCE] == pytest.approx(EDGE)


def test_a_success_must_last_a_quarter_of_a_second():
    """0.24 s is too short, 0.25 s is a success, and it is dated when it had lasted."""
    hold = SuccessHold()
    assert [hold.update(ms * 10**6, {keys.SCORE: 1.0}) for ms in (0, 240, 250, 300)] == [False, False, True, True]
    assert hold.success_ns == 250_000_000


def test_a_dip_starts_the_hold_anew():
    """A score below 0.95 in between does not count."""
    hold = SuccessHold()
    scores = {0: 1.0, 200: 0.94, 300: 0.95, 500: 1.0}
    assert not any(hold.update(ms * 10**6, {keys.SCORE: score}) for ms, score in scores.items())
    assert hold.update(550 * 10**6, {keys.SCORE: 1.0})


def test_a_success_stays_one():
    """What comes after does not take it back."""
    hold = SuccessHold()
    for ms, score in ((0, 1.0), (250, 1.0), (300, 0.0)):
        hold.update(ms * 10**6, {keys.SCORE: score})
    assert hold.success_ns == 250_000_000
