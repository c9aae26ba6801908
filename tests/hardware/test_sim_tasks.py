"""Each task: the parts of its score, each moved alone; its expert; what it tells. And the hold that makes a success."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.errors import PositronicError
from positronic.hardware.robot import tick_ns
from positronic.hardware.sim import tasks
from positronic.hardware.sim.expert import CLOSED, OPEN, Expert, Phase, decision
from positronic.hardware.sim.robot import SimRobot
from positronic.hardware.sim.state import SceneState, Thing
from positronic.hardware.sim.task import SuccessHold, above, below, task_of

AWAY = np.array([0.5, 0.1, 0.25])
ORIGIN = np.array([0.5, 0.1, 0.0])
ASIDE = np.array([1.0, 0.0, 0.0])
UP = np.array([0.0, 0.0, 1.0])


def thing(height, speed=0.0):
    """At rest at one place of the table, its centre at ``height``."""
    return Thing(ORIGIN + height * UP, yaw=0.0, speed=speed, start=ORIGIN)


def done(**things):
    return SceneState(tcp=AWAY, tcp_yaw=0.0, width=0.08, things=things)


@dataclass(frozen=True)
class Example:
    """``state``: a success. ``faults``: part -> what is moved, by how much, to spoil that part alone."""

    state: SceneState
    faults: Mapping[str, Mapping[str, np.ndarray]]


STACK = {
    "lower_stable": {"lower.start": 0.1 * ASIDE},
    "lower_on_table": {"lower": 0.02 * UP, "upper": 0.02 * UP},
    "xy_aligned": {"upper": 0.03 * ASIDE},
    "z_stacked": {"upper": 0.01 * UP},
    "upper_stable": {"upper.speed": 0.1},
    "gripper_clear": {"tcp": ORIGIN + 0.06 * UP - AWAY},
}
COLOURS = {"upper": "red", "lower": "blue"}


def coloured(name):
    head, _, rest = name.partition("_" if "_" in name else ".")
    return name.replace(head, COLOURS.get(head, head), 1) if rest else COLOURS.get(name, name)


EXAMPLES = {
    "sim": Example(
        done(red=thing(0.06), blue=thing(0.02)),
        {coloured(part): {coloured(what): by for what, by in moved.items()} for part, moved in STACK.items()},
    ),
    "sim_told": Example(
        done(red=thing(0.06), blue=thing(0.02)),
        {part: {coloured(what): by for what, by in moved.items()} for part, moved in STACK.items()},
    ),
    "sim_tray": Example(
        done(cube=thing(0.026), tray=thing(0.0)),
        {
            "inside": {"cube": 0.08 * ASIDE},
            "on_the_floor": {"cube": 0.01 * UP},
            "stable": {"cube.speed": 0.1},
            "gripper_clear": {"tcp": ORIGIN + 0.026 * UP - AWAY},
        },
    ),
    "sim_push": Example(
        done(puck=thing(0.015), target=thing(0.0)),
        {
            "on_target": {"puck": 0.04 * ASIDE},
            "on_table": {"puck": 0.01 * UP},
            "stable": {"puck.speed": 0.1},
            "gripper_clear": {"tcp": ORIGIN + 0.02 * UP - AWAY},
        },
    ),
}
FAULTS = [(hardware, part) for hardware, example in EXAMPLES.items() for part in example.faults]


def config_of(hardware):
    return positronic.compose(["stage=collect", f"hardware={hardware}", "hardware.image_size=[32,48]"]).hardware


@pytest.fixture(scope="module")
def configs():
    return {hardware: config_of(hardware) for hardware in EXAMPLES}


def task(configs, hardware, seed=0):
    return task_of(configs[hardware])(configs[hardware], seed)


def moved(state, what, by):
    """The state with one thing of it moved: its position, or ``<name>.speed``, or ``<name>.start``, or the tool's."""
    name, _, value = what.partition(".")
    if name == "tcp":
        return replace(state, tcp=state.tcp + by)
    value = value or "position"
    return replace(
        state, things={**state.things, name: replace(state[name], **{value: getattr(state[name], value) + by})}
    )


def played(robot: SimRobot, expert: Expert, seconds: int = 8) -> Iterator[tuple[Phase, bool]]:
    """Each control step of an expert: what it was doing, and whether there has been a success so far."""
    judge, fps = robot.judge(), robot.config.control_fps
    for tick in range(seconds * fps):
        decided = expert.decide(robot.scene_state())
        robot.command(decided.step.command, decided.step.target_grip)
        robot.advance(tick_ns(tick + 1, fps))
        yield decided.phase, judge.update(robot.time_ns, robot.metrics())


def test_every_task_has_an_example_here(configs):
    """A new task is added to ``EXAMPLES``, by a hardware that has it."""
    assert {config.task_name for config in configs.values()} == set(tasks.names())


@pytest.mark.parametrize("hardware", EXAMPLES)
def test_a_success_has_every_part_whole(configs, hardware):
    """Everything where it belongs, at rest, the gripper away: the score is 1, under the task's own name."""
    one = task(configs, hardware)
    metrics = one.metrics(EXAMPLES[hardware].state)
    assert set(metrics.values()) <= {1.0, one.course(EXAMPLES[hardware].state)}
    assert metrics.keys() - {one.scores.course, one.scores.score} == {
        f"{one.scores.score}.{part}" for part in EXAMPLES[hardware].faults
    }


@pytest.mark.parametrize(("hardware", "part"), FAULTS)
def test_each_fault_spoils_its_own_part(configs, hardware, part):
    """One thing wrong makes one part 0, and that is the score."""
    one, state = task(configs, hardware), EXAMPLES[hardware].state
    for what, by in EXAMPLES[hardware].faults[part].items():
        state = moved(state, what, by)
    parts = one.parts(state)
    assert {name for name, value in parts.items() if value < 0.5} == {part}
    assert one.metrics(state)[one.scores.score] == 0.0


def test_the_limits_of_stacking_are_the_scenes_own(configs):
    """The same misalignment in metres weighs half as much on cubes twice as large."""
    off = moved(EXAMPLES["sim"].state, "red", 0.025 * ASIDE)
    small = task(configs, "sim").parts(off)["xy_aligned"]
    larger = config_of("sim")
    for cube in larger.scene.things.values():
        cube.size = [0.08] * 3
    large = task_of(larger)(larger, 0).parts(off)["xy_aligned"]
    assert (small, large) == (pytest.approx(0.5), 1.0)


@pytest.mark.parametrize(("x", "inside"), [(0.045, 1.0), (0.06, 0.46), (0.075, 0.0)])
def test_a_turned_tray_is_left_where_its_walls_are(configs, x, inside):
    """The cube is judged along the tray's own sides."""
    state = EXAMPLES["sim_tray"].state
    yaw = 0.3
    turned = replace(state["tray"], yaw=yaw)
    state = replace(state, things={**state.things, "tray": turned})
    along = moved(state, "cube", x * np.array([np.cos(yaw), np.sin(yaw), 0.0]))
    assert task(configs, "sim_tray").parts(along)["inside"] == pytest.approx(inside, abs=0.01)


@pytest.mark.parametrize("hardware", EXAMPLES)
def test_the_expert_does_it_and_says_when_it_is_done(configs, hardware):
    """From three starts, within 8 s, at less than 1 m/s and 3 rad/s."""
    robot = SimRobot(configs[hardware])
    fps = robot.config.control_fps
    for seed in range(3):
        robot.reset(seed)
        expert, before = robot.task.expert(), robot.observe(images=False)[keys.EE_POSE]
        for _, succeeded in played(robot, expert):
            after = robot.observe(images=False)[keys.EE_POSE]
            assert np.linalg.norm(after[:3] - before[:3]) * fps < 1.0
            assert 2 * np.arccos(min(1.0, abs(before[3:] @ after[3:]))) * fps < 3.0
            if succeeded and expert.is_done(robot.scene_state()):
                break
            before = after
        else:
            pytest.fail(f"seed {seed}: not done, {robot.metrics()}")
    robot.close()


def test_a_puck_that_slipped_aside_is_pushed_from_behind_anew(configs):
    """Moved across in the middle of a push, it reaches the target all the same."""
    robot = SimRobot(configs["sim_push"])
    robot.reset(0)
    moved = False
    for phase, succeeded in played(robot, robot.task.expert(), seconds=14):
        if not moved and phase is Phase.PUSH:
            robot.data.joint("puck").qpos[1] += 0.06
            moved = True
        if succeeded:
            break
    robot.close()
    assert (moved, succeeded) == (True, True)


def lifted(diameter: float) -> float:
    """How far a puck has risen that the gripper closed on, and rose with, in m."""
    config = config_of("sim_push")
    config.scene.things["puck"].size[0] = diameter
    robot = SimRobot(config)
    robot.reset(0)
    puck, fps = robot.scene_state()["puck"].position.copy(), config.control_fps
    way = ((puck + 0.1 * UP, OPEN), (puck, OPEN), (puck, CLOSED), (puck + 0.1 * UP, CLOSED))
    for tick in range(6 * fps):
        position, grip = way[len(way) * tick // (6 * fps)]
        step = decision(Phase.GRASP, position, 0.0, grip).step
        robot.command(step.command, step.target_grip)
        robot.advance(tick_ns(tick + 1, fps))
    rise = robot.scene_state()["puck"].position[2] - puck[2]
    robot.close()
    return float(rise)


def test_the_puck_cannot_be_lifted(configs):
    """It is too wide for the gripper, which would lift one half as wide."""
    diameter = configs["sim_push"].scene.things["puck"].size[0]
    assert lifted(diameter) < 0.005
    assert lifted(diameter / 2) > 0.08


def test_two_seeds_share_a_scene_and_differ_in_the_instruction(configs):
    """Seeds 2k and 2k + 1; the next pair has another scene."""
    robot = SimRobot(configs["sim_told"])
    told, reds = [], []
    for seed in (6, 7, 8, 9):
        robot.reset(seed)
        told.append(robot.statics()[keys.TASK])
        reds.append(robot.placement.things["red"].tolist())
    robot.close()
    one, other = "Put the red cube on the blue cube.", "Put the blue cube on the red cube."
    assert told == [one, other, one, other]
    assert reds[0] == reds[1] != reds[2] == reds[3]


def test_who_does_not_heed_the_instruction_succeeds_in_one_of_two(configs):
    """The expert of one instruction, in both episodes of a scene."""
    robot = SimRobot(configs["sim_told"])
    succeeded = []
    for seed in (0, 1):
        robot.reset(seed)
        deaf = task(configs, "sim_told", seed=0).expert()
        succeeded.append(any(success for _, success in played(robot, deaf)))
    robot.close()
    assert succeeded == [True, False]


def test_who_stacks_both_ways_succeeds_where_the_first_was_told(configs):
    """Red on blue, which lasts, then blue on red: the score of the second seed has become 0 for good."""
    first = EXAMPLES["sim_told"].state
    second = replace(first, things={"red": first["blue"], "blue": first["red"]})
    succeeded = []
    for seed in (0, 1):
        one = task(configs, "sim_told", seed)
        scorer, judge = one.scorer(), one.judge()
        for ms, state in ((0, first), (250, first), (300, second), (700, second)):
            metrics = scorer.metrics(ms * 10**6, state)
            judge.update(ms * 10**6, metrics)
        succeeded.append(judge.success_ns is not None)
    assert succeeded == [True, False]
    assert (one.metrics(second)["stacking_success"], metrics["stacking_success"]) == (1.0, 0.0)


def test_a_stack_that_does_not_last_is_no_answer(configs):
    """The cubes stand the other way round for less than 0.25 s, and then as told."""
    told = EXAMPLES["sim_told"].state
    other = replace(told, things={"red": told["blue"], "blue": told["red"]})
    scorer, judge = (one := task(configs, "sim_told")).scorer(), one.judge()
    for ms, state in ((0, other), (240, other), (300, told), (550, told)):
        judge.update(ms * 10**6, scorer.metrics(ms * 10**6, state))
    assert judge.success_ns == 550 * 10**6


def test_a_robot_that_is_reset_forgets_how_the_cubes_stood(configs):
    """Its score is that of the new episode."""
    robot = SimRobot(configs["sim_told"])
    for seed in (1, 3):
        robot.reset(seed)
        before = robot.metrics()["stacking_success.never_reversed"]
        deaf = task(configs, "sim_told", seed=0).expert()
        list(played(robot, deaf))
        after = robot.metrics()["stacking_success.never_reversed"]
        assert (before, after) == (1.0, 0.0)
    robot.close()


def test_an_instruction_without_both_colours_is_refused(configs):
    """What is told must say which cube goes where."""
    config = replace(configs["sim_told"], task="Put the {upper} cube on the other one.")
    with pytest.raises(PositronicError, match=r"expected an instruction with \{upper\} and \{lower\}"):
        SimRobot(config)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("hardware.task_name=stak", "there is no module .*tasks.stak. Tasks here are .*Did you mean 'stack'"),
        ("hardware.task_name=push", "needs hardware.scene.things puck, target; found blue, red. A file of conf"),
        ("hardware.task_name=positronic.keys", "positronic.keys names no task: expected TASK = .*found 'task'"),
        ("hardware.scoring.xy=0", r"hardware.scoring.xy=0.0: expected a number above 0"),
        ("+hardware.scoring.xyz=1", "needs hardware.scoring .*; found .*xyz"),
    ],
)
def test_a_config_that_is_not_the_tasks_is_refused(typed, message):
    """When the robot is opened, before anything moves."""
    with pytest.raises(PositronicError, match=message):
        SimRobot(positronic.compose(["stage=collect", typed]).hardware)


def test_below_and_above_have_soft_edges_of_half_a_limit():
    """Whole at the limit, a half a quarter of a limit on, nothing at half a limit on."""
    assert [below(value, 4) for value in (0, 4, 5, 6, 9)] == [1, 1, 0.5, 0, 0]
    assert [above(value, 4) for value in (9, 4, 3, 2, 0)] == [1, 1, 0.5, 0, 0]


def test_a_success_must_last_a_quarter_of_a_second():
    """0.24 s is too short, 0.25 s is a success, and it is dated when it had lasted."""
    hold = SuccessHold("score")
    assert [hold.update(ms * 10**6, {"score": 1.0}) for ms in (0, 240, 250, 300)] == [False, False, True, True]
    assert hold.success_ns == 250_000_000


def test_a_dip_starts_the_hold_anew():
    """A score below 0.95 in between does not count."""
    hold = SuccessHold("score")
    scores = {0: 1.0, 200: 0.94, 300: 0.95, 500: 1.0}
    assert not any(hold.update(ms * 10**6, {"score": score}) for ms, score in scores.items())
    assert hold.update(550 * 10**6, {"score": 1.0})


def test_a_success_stays_one():
    """What comes after does not take it back."""
    hold = SuccessHold("score")
    for ms, score in ((0, 1.0), (250, 1.0), (300, 0.0)):
        hold.update(ms * 10**6, {"score": score})
    assert hold.success_ns == 250_000_000
