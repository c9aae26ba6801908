"""The smallest robot that can be told where to go, policies that tell it, and a server that has one."""

import contextlib
import threading

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from positronic import keys
from positronic.commands import ActionStep, CartesianPosition, JointPosition, chunk_to_wire
from positronic.hardware.robot import RobotContract, Scores
from positronic.raw.writer import DatasetWriter
from positronic.utils.serialization import deserialise, serialise

REACHED = "reached"
GOAL = np.array([0.5, 0.0, 0.1])


class Held:
    """A task of this robot's own: at the goal for 0.25 s."""

    success_ns = since_ns = None

    def update(self, time_ns, metrics):
        self.since_ns = None if not metrics[REACHED] else time_ns if self.since_ns is None else self.since_ns
        if self.success_ns is None and self.since_ns is not None and time_ns - self.since_ns >= 250_000_000:
            self.success_ns = time_ns
        return self.success_ns is not None


class PointRobot:
    """A tool that is at once where it is told to be; its score is 1 while it is within 1 cm of GOAL."""

    contract = RobotContract(
        "point",
        {keys.EE_POSE: (7,), keys.GRIP: ()},
        frozenset({CartesianPosition.kind}),
        {},
        Scores("reached", REACHED, REACHED, "At the goal", "0 or 1"),
    )

    def __init__(self):
        self.reset(0)

    def reset(self, seed):
        self.time_ns = 0
        self.pose = np.array([0.4, 0.01 * seed, 0.3, 1.0, 0.0, 0.0, 0.0])
        self.grip = 0.0

    def observe(self):
        return {keys.EE_POSE: self.pose.copy(), keys.GRIP: self.grip}

    def command(self, command, target_grip, arm=""):
        self.contract.require_command(command, arm)
        self.pose, self.grip = command.pose.copy(), target_grip

    def advance(self, until_ns):
        assert until_ns >= self.time_ns
        self.time_ns = until_ns

    def metrics(self):
        return {REACHED: float(np.linalg.norm(self.pose[:3] - GOAL) < 0.01)}

    def judge(self):
        return Held()

    def statics(self):
        return {keys.TASK: "Reach."}

    def close(self):
        pass


class Approach:
    """Goes to GOAL in ``steps`` steps at 10 Hz; remembers the observations it was sent."""

    def __init__(self, steps=4, command=CartesianPosition):
        self.meta = {keys.META_TYPE: "approach", keys.META_ACTION_FPS: 10.0, "server": {"size": (1, 2), "id": None}}
        self.steps, self.kind, self.seen, self.resets, self.rests = steps, command, [], 0, 0

    def reset(self):
        self.resets += 1

    def infer(self, observation):
        self.seen.append(observation)
        start = observation[keys.EE_POSE]
        shares = (np.arange(self.steps) + 1) / self.steps
        places = [np.append(start[:3] + share * (GOAL - start[:3]), start[3:]) for share in shares]
        return [ActionStep.of_one(self.kind(place), 0.0, k / 10) for k, place in enumerate(places)]

    def rest(self):
        self.rests += 1

    def close(self):
        pass


@pytest.fixture
def point_robot():
    return PointRobot()


@pytest.fixture
def approach():
    """The class of a policy: ``approach(steps=4, command=CartesianPosition)``."""
    return Approach


class PolicyServer:
    """Speaks the inference API for ``policy``; hangs up instead of giving the answers ``hangs_up``, 0 the first.

    ``refuses``: close codes of the sessions that are refused, by their number, 1 the first.
    """

    def __init__(self, policy, port=0, hangs_up=(), max_size=None, refuses=None):
        self.policy, self.hangs_up, self.sessions, self.asked = policy, hangs_up, 0, 0
        self.refuses = refuses or {}
        self._server = serve(self._session, "127.0.0.1", port, max_size=max_size)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()

    def _session(self, connection):
        self.sessions += 1
        if self.sessions in self.refuses:
            connection.send(serialise({keys.STATUS: "error", keys.ERROR: "A new worker starts."}))
            connection.close(self.refuses[self.sessions])
            return
        connection.send(serialise({keys.STATUS: "ready", keys.META: self.policy.meta}))
        with contextlib.suppress(ConnectionClosed):
            while True:
                observation = deserialise(connection.recv())
                self.asked += 1
                if self.asked - 1 in self.hangs_up:
                    return
                steps = chunk_to_wire(self.policy.infer(observation))
                connection.send(serialise({keys.RESULT: steps}))


@pytest.fixture
def serving():
    """``serving(policy, port=..., hangs_up=...)`` starts a server, on a free port if none is given."""
    with contextlib.ExitStack() as servers:
        yield lambda *args, **values: servers.enter_context(contextlib.closing(PolicyServer(*args, **values)))


@pytest.fixture
def joint_command():
    return JointPosition


@pytest.fixture
def writer(tmp_path):
    """An episode that is being recorded."""
    return DatasetWriter(tmp_path / "rollouts").new_episode()
