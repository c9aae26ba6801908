"""Where the tool is for given joints, and the joints that bring it somewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from positronic.hardware.sim import panda
from positronic.hardware.sim.engine import mujoco

Floats = NDArray[np.float64]

DOF = len(panda.JOINTS)
LIMIT_MARGIN = 0.01  # rad kept from the joint limits
DAMPING = 1e-4
HOME_PULL = 0.05  # how strongly the spare joint is drawn to the home posture, per iteration
MAX_STEP = 0.2  # rad per joint and iteration
TOLERANCE = 1e-4  # m and rad
MAX_ITERATIONS = 50


class Kinematics:
    """Forward and inverse kinematics of the arm in ``model``, on its own data: the simulation is not touched."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._site = model.site(panda.TCP_SITE).id
        self._jacobian = np.zeros((6, model.nv))

    def forward(self, joints: Floats) -> tuple[Floats, Floats]:
        """Joints (7,) rad -> tool position (3,) m and rotation matrix (3, 3)."""
        self._data.qpos[:DOF] = joints
        mujoco.mj_kinematics(self._model, self._data)
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()

    def inverse(self, start: Floats, position: Floats, quat_wxyz: Floats) -> Floats:
        """Joints (7,) near ``start`` (7,) that bring the tool to ``position`` (3,) and unit ``quat_wxyz`` (4,).

        Damped least squares (Wampler, IEEE Trans. SMC 16(1), 1986), with the spare joint drawn to the home posture.
        A pose out of reach gives the joints where the search ended, near the reachable pose that is closest to it.
        """
        joints = start.copy()
        for _ in range(MAX_ITERATIONS):
            error = self._pose_error(joints, position, quat_wxyz)
            if np.abs(error).max() < TOLERANCE:
                break
            step = np.clip(self._step(joints, error), -MAX_STEP, MAX_STEP)
            joints = np.clip(joints + step, panda.JOINT_LOW + LIMIT_MARGIN, panda.JOINT_HIGH - LIMIT_MARGIN)
        return joints

    def _pose_error(self, joints: Floats, position: Floats, quat_wxyz: Floats) -> Floats:
        found, matrix = self.forward(joints)
        current, difference, rotation = np.zeros(4), np.zeros(4), np.zeros(3)
        mujoco.mju_mat2Quat(current, matrix.reshape(9))
        mujoco.mju_negQuat(current, current)
        mujoco.mju_mulQuat(difference, quat_wxyz, current)
        mujoco.mju_quat2Vel(rotation, difference, 1.0)
        return np.concatenate([position - found, rotation])

    def _step(self, joints: Floats, error: Floats) -> Floats:
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
        jacobian = self._jacobian[:, :DOF]
        square = jacobian @ jacobian.T + DAMPING * np.eye(6)
        pull = HOME_PULL * (panda.HOME - joints)
        # One solve for both terms: J+ e + (1 - J+ J) pull = pull + J+ (e - J pull).
        return pull + jacobian.T @ np.linalg.solve(square, error - jacobian @ pull)
