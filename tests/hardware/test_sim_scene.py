"""Where things start."""

import numpy as np
import pytest

from positronic.errors import PositronicError
from positronic.hardware.sim.scene import build_model, sample_placement


def placements(scene, count=200):
    return [sample_placement(scene, np.random.default_rng(seed)) for seed in range(count)]


def test_things_start_within_their_ranges_and_apart(sim_config):
    """Every drawn start keeps the ranges of the config and the gap between the things."""
    scene = sim_config.scene
    for placement in placements(scene):
        for name, thing in scene.things.items():
            low, high = np.transpose([thing.x, thing.y, thing.yaw])
            assert np.all((placement.things[name] >= low) & (placement.things[name] <= high))
        red, blue = placement.things["red"], placement.things["blue"]
        assert np.linalg.norm(red[:2] - blue[:2]) > scene.gap


def test_the_tool_starts_within_its_ranges(sim_config):
    """Every drawn start of the tool lies in the config's box."""
    low, high = np.transpose([sim_config.scene.start_x, sim_config.scene.start_y, sim_config.scene.start_z])
    assert all(np.all((one.start >= low) & (one.start <= high)) for one in placements(sim_config.scene))


def test_no_room_is_refused(sim_config):
    """A gap larger than the range says which values to change."""
    sim_config.scene.gap = 1.0
    with pytest.raises(PositronicError, match=r"red in x \[0.4, 0.6\].*Lower hardware.scene.gap"):
        sample_placement(sim_config.scene, np.random.default_rng(0))


def test_the_scene_starts_where_it_was_drawn(robot):
    """After a reset the tool and the things are where the placement says, at rest on the table."""
    robot.reset(7)
    state = robot.scene_state()
    np.testing.assert_allclose(state.tcp, robot.placement.start, atol=2e-4)
    np.testing.assert_allclose(state["red"].position[:2], robot.placement.things["red"][:2], atol=1e-9)
    assert state["blue"].yaw == pytest.approx(robot.placement.things["blue"][2])
    assert (state["red"].position[2], state["red"].speed) == (0.02, 0.0)


def test_a_cube_turned_by_a_quarter_looks_the_same(robot):
    """A cube's yaw is given between -45 and 45 degrees, as its faces are alike."""
    yaw = np.pi / 2 + 0.1
    robot.data.joint("red").qpos[3:] = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
    robot.advance(0)
    assert robot.scene_state()["red"].yaw == pytest.approx(0.1)


def test_a_checkered_table_needs_only_a_second_colour(sim_config):
    """table_checker_rgb turns the plain table into a checkered one."""
    plain = build_model(sim_config).ntex
    sim_config.scene.table_checker_rgb = [0.5, 0.4, 0.3]
    assert build_model(sim_config).ntex == plain + 1


@pytest.mark.parametrize(
    ("shape", "size", "mass", "message"),
    [
        ("box", [0.04], 0.05, r"red.size=\[0.04\]: expected, of a box, x, y, z\."),
        ("tray", [0.1, 0.1], None, "expected, of a tray, inner length, inner width, height of the walls"),
        ("cylinder", [0.04, 0.03], None, "red.mass=None: expected a mass in kg, as it is a cylinder"),
        ("mark", [0.04], 0.05, "red.mass=0.05: expected null, as it is a mark"),
    ],
)
def test_a_size_or_mass_of_another_shape_is_refused(sim_config, shape, size, mass, message):
    """With what the shape needs."""
    red = sim_config.scene.things["red"]
    red.shape, red.size, red.mass = shape, size, mass
    with pytest.raises(PositronicError, match=message):
        build_model(sim_config)
