"""Where things start."""

import numpy as np
import pytest

from positronic.errors import PositronicError
from positronic.hardware.sim.scene import sample_placement


def placements(scene, count=200):
    return [sample_placement(scene, np.random.default_rng(seed)) for seed in range(count)]


def test_cubes_start_within_their_ranges_and_apart(sim_config):
    """Every drawn start keeps the ranges of the config and the gap between the cubes."""
    scene = sim_config.scene
    low = [scene.cube_x[0], scene.cube_y[0], scene.cube_yaw[0]]
    high = [scene.cube_x[1], scene.cube_y[1], scene.cube_yaw[1]]
    for placement in placements(scene):
        for cube in (placement.red, placement.blue):
            assert np.all((cube >= low) & (cube <= high))
        assert np.linalg.norm(placement.red[:2] - placement.blue[:2]) > scene.cube_gap


def test_the_tool_starts_within_its_ranges(sim_config):
    """Every drawn start of the tool lies in the config's box."""
    low, high = np.transpose([sim_config.scene.start_x, sim_config.scene.start_y, sim_config.scene.start_z])
    assert all(np.all((one.start >= low) & (one.start <= high)) for one in placements(sim_config.scene))


def test_no_room_for_two_cubes_is_refused(sim_config):
    """A gap larger than the range says which values to change."""
    sim_config.scene.cube_gap = 1.0
    with pytest.raises(PositronicError, match=r"Lower hardware.scene.cube_gap"):
        sample_placement(sim_config.scene, np.random.default_rng(0))


def test_the_scene_starts_where_it_was_drawn(robot):
    """After a reset the tool and the cubes are where the placement says, at rest on the table."""
    robot.reset(7)
    state = robot.scene_state()
    np.testing.assert_allclose(state.tcp, robot.placement.start, atol=2e-4)
    np.testing.assert_allclose(state.red[:2], robot.placement.red[:2], atol=1e-9)
    assert state.blue_yaw == pytest.approx(robot.placement.blue[2])
    assert (state.red[2], state.red_speed) == (0.02, 0.0)


def test_a_cube_turned_by_a_quarter_looks_the_same(robot):
    """A cube's yaw is given between -45 and 45 degrees, as its faces are alike."""
    yaw = np.pi / 2 + 0.1
    robot.data.joint("red").qpos[3:] = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
    robot.advance(0)
    assert robot.scene_state().red_yaw == pytest.approx(0.1)


def test_a_checkered_table_needs_only_a_second_colour(sim_config):
    """table_checker_rgb turns the plain table into a checkered one."""
    from positronic.hardware.sim.scene import build_model

    plain = build_model(sim_config).ntex
    sim_config.scene.table_checker_rgb = [0.5, 0.4, 0.3]
    assert build_model(sim_config).ntex == plain + 1
