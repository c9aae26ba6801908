"""The simulated Panda: physics, clock, servos, cameras, scores behind the Robot protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic import conventions, geometry, keys
from positronic.commands import CartesianPosition, Command, JointDelta, JointPosition, Reset
from positronic.embodiments.published import FRANKA
from positronic.errors import PositronicError
from positronic.hardware.robot import RobotContract
from positronic.hardware.sim import panda
from positronic.hardware.sim.config import SimConfig
from positronic.hardware.sim.engine import mujoco
from positronic.hardware.sim.kinematics import DOF, Kinematics
from positronic.hardware.sim.rendering import Cameras
from positronic.hardware.sim.scene import (
    Placement,
    build_model,
    finger_width,
    place_thing,
    read_state,
    sample_placement,
)
from positronic.hardware.sim.state import SceneState
from positronic.hardware.sim.task import SuccessHold, Task, task_of
from positronic.hardware.sim.things import shape_of

Floats = NDArray[np.float64]

TOOL_DOWN = np.array([0.0, 1.0, 0.0, 0.0])  # quat_wxyz: the tool points at the table
SETTLED = 2 / 3  # of a control step, after which a small motion has reached its target
RECORDED_CAMERAS = {keys.IMAGE_WRIST: "wrist", keys.IMAGE_EXTERIOR: "exterior"}


@dataclass(frozen=True)
class Motion:
    """The servos' targets (8,), seven joints in rad and a finger's opening in m, on their way from start to goal."""

    start: Floats
    goal: Floats
    begin_ns: int
    duration_ns: int

    def at(self, time_ns: int) -> Floats:
        """Targets (8,) at a moment."""
        share = min((time_ns - self.begin_ns) / self.duration_ns, 1.0)
        return self.start + (self.goal - self.start) * share


class SimRobot:
    """A Panda at a table in MuJoCo, on a virtual clock. ``task``: the present episode's.

    The physics runs on its own grid of ``timestep_sec``. Targets move linearly in time, no faster than the joints can.
    So the result depends on when commands came, not on how ``advance`` was cut into pieces.
    """

    def __init__(self, config: SimConfig) -> None:
        self.config = config
        self._task_of_seed = task_of(config)
        self.model = build_model(config)
        self.data = mujoco.MjData(self.model)
        self.contract = sim_contract(config)
        self._kinematics = Kinematics(self.model)
        self._cameras = Cameras(self.model)
        self._timestep_ns = round(config.timestep_sec * 1e9)
        self.reset(0)

    @property
    def time_ns(self) -> int:
        """Nanoseconds since the reset."""
        return self._time_ns

    def reset(self, seed: int) -> None:
        """Place the things and the tool as ``seed`` says; the clock goes to 0, the gripper is open."""
        scene = self.config.scene
        self.task = self._task_of_seed(self.config, seed)
        self._scorer = self.task.scorer()
        self.placement = sample_placement(scene, np.random.default_rng(self.task.scene_seed))
        self._time_ns, self._steps = 0, 0
        mujoco.mj_resetData(self.model, self.data)
        self._start_joints = self._kinematics.inverse(panda.HOME, self.placement.start, TOOL_DOWN)
        targets = np.append(self._start_joints, panda.MAX_OPENING)
        self.data.qpos[:DOF] = self._start_joints
        self.data.qpos[DOF : DOF + 2] = panda.MAX_OPENING
        for name, thing in scene.things.items():
            place_thing(self.model, self.data, name, shape_of(name, thing), self.placement.things[name])
        self.data.ctrl[:] = targets
        self._motion = Motion(targets, targets, begin_ns=0, duration_ns=1)
        mujoco.mj_forward(self.model, self.data)

    def observe(self, images: bool = True) -> dict[str, Any]:
        """Every signal of the contract, measured now; ``images=False`` leaves the cameras out."""
        observation: dict[str, Any] = {
            keys.JOINT_POSITION: self.data.qpos[:DOF].copy(),
            keys.JOINT_VELOCITY: self.data.qvel[:DOF].copy(),
            keys.EE_POSE: self._ee_pose(),
            keys.GRIP: float(np.clip(1 - finger_width(self.data) / panda.MAX_WIDTH, 0, 1)),
        }
        if images:
            height, width = self.config.image_size
            for key, camera in RECORDED_CAMERAS.items():
                observation[key] = self._cameras.render(self.data, camera, height, width)
        return observation

    def command(self, command: Command, target_grip: float | None, arm: str = "") -> None:
        """Make a command current from now on.

        Cartesian targets are clamped into the workspace, joint targets to the joint limits, ``target_grip`` to 0..1; a
        target out of reach is approached as far as it goes. Raises PositronicError for an unknown kind or a wrong size.
        """
        self.contract.require_command(command, arm)
        if target_grip is None or not np.isfinite(target_grip):
            raise PositronicError(f"target_grip: expected a number from 0 (open) to 1 (closed), found {target_grip}.")
        joints = np.clip(self._target_joints(command), panda.JOINT_LOW, panda.JOINT_HIGH)
        opening = panda.MAX_OPENING * (1 - float(np.clip(target_grip, 0, 1)))
        start = self._motion.at(self._time_ns)
        travel_sec = float(np.max(np.abs(joints - start[:DOF]) / panda.JOINT_SPEED))
        duration_ns = max(round(SETTLED * 1e9 / self.config.control_fps), round(travel_sec * 1e9))
        self._motion = Motion(start, np.append(joints, opening), self._time_ns, duration_ns)

    def advance(self, until_ns: int) -> None:
        """Run the physics up to ``until_ns``. Raises PositronicError when that is in the past."""
        if until_ns < self._time_ns:
            raise PositronicError(f"The simulator is at {self._time_ns} ns and cannot go back to {until_ns} ns.")
        steps = until_ns // self._timestep_ns
        for step in range(self._steps + 1, steps + 1):
            self.data.ctrl[:] = self._motion.at(step * self._timestep_ns)
            mujoco.mj_step(self.model, self.data)
        self._steps, self._time_ns = steps, until_ns
        mujoco.mj_kinematics(self.model, self.data)  # mj_step leaves the positions of the step before
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def scene_state(self) -> SceneState:
        """The whole truth about the scene, for the expert and the scores."""
        return read_state(self.data, self.config.scene, self.placement)

    def metrics(self) -> dict[str, float]:
        """The task's score, its parts, and its course."""
        return self._scorer.metrics(self._time_ns, self.scene_state())

    def judge(self) -> SuccessHold:
        """Says when the task has been done for long enough."""
        return self.task.judge()

    def statics(self) -> dict[str, Any]:
        """The task, and how this episode's scene was set up (``simulation.*``)."""
        facts = scene_facts(self.config, self.task, self.placement)
        named = {keys.SIMULATION_PREFIX + name: value for name, value in facts.items()}
        return {keys.TASK: self.task.instruction} | named

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """A smooth picture (height, width, 3) for people, from ``wrist``, ``exterior`` or ``view``."""
        return self._cameras.render(self.data, camera, height, width, smooth=True)

    def close(self) -> None:
        """Free the OpenGL contexts."""
        self._cameras.close()

    def _ee_pose(self) -> Floats:
        tcp = self.data.site(panda.TCP_SITE)
        quat_wxyz = geometry.matrix_to_quat(tcp.xmat.reshape(3, 3))
        return np.concatenate([tcp.xpos, quat_wxyz if quat_wxyz[1] > 0 else -quat_wxyz])

    def _target_joints(self, command: Command) -> Floats:
        match command:
            case CartesianPosition(pose):
                pose = _checked(pose, 7, command.kind)
                position = np.clip(pose[:3], self.config.workspace_min, self.config.workspace_max)
                current = self._motion.at(self._time_ns)[:DOF]
                return self._kinematics.inverse(current, position, geometry.quat_normalise(pose[3:]))
            case JointPosition(positions):
                return _checked(positions, DOF, command.kind)
            case JointDelta(velocities):
                return self.data.qpos[:DOF] + _checked(velocities, DOF, command.kind)
            case Reset():
                return self._start_joints


def sim_contract(config: SimConfig) -> RobotContract:
    """What the simulated Panda measures and takes; quaternions of a downward tool have x > 0."""
    height, width = config.image_size
    cameras = dict.fromkeys(RECORDED_CAMERAS, (height, width, 3))
    speed = conventions.Convention("joint", "rad/s", reference="")
    meanings = conventions.MEASURED | {keys.JOINT_VELOCITY: speed} | dict.fromkeys(cameras, conventions.IMAGE)
    vectors = {keys.JOINT_POSITION: (DOF,), keys.JOINT_VELOCITY: (DOF,), keys.EE_POSE: (7,), keys.GRIP: ()}
    return RobotContract(
        name=config.name,
        signals=vectors | cameras,
        commands=frozenset(kind.kind for kind in (CartesianPosition, JointPosition, JointDelta, Reset)),
        conventions={key: str(meaning) for key, meaning in meanings.items()},
        scores=task_of(config).scores,
        embodiment=FRANKA,
    )


def scene_facts(config: SimConfig, task: Task, placement: Placement) -> dict[str, Any]:
    """How a scene was set up: JSON-ready, without prefix."""
    return {
        "hardware": config.name,
        "mujoco_version": mujoco.__version__,
        "control_fps": config.control_fps,
        **task.facts(),
        "start": placement.start.tolist(),
        **{name: place.tolist() for name, place in placement.things.items()},
    }


def _checked(values: Floats, size: int, kind: str) -> Floats:
    values = np.asarray(values, np.float64)
    if values.shape != (size,) or not np.all(np.isfinite(values)):
        raise PositronicError(f"Command '{kind}': expected {size} finite numbers, found {values.tolist()}.")
    return values
