"""Many episodes: by one robot in this process, or by several at the same time, each in a process with a session of its
own, so that physics and rendering use all cores.

Episode i starts from seed + i and is recorded under the id i. The policy's random numbers follow from the seed too. So
the recordings do not depend on how many robots there were or which was faster.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from positronic.errors import PositronicError
from positronic.hardware.config import HardwareConfig
from positronic.hardware.factory import open_robot
from positronic.hardware.robot import Robot
from positronic.raw.writer import DatasetWriter
from positronic.rollout.config import DriverConfig, PolicyConfig
from positronic.rollout.policies import Policy, open_policy
from positronic.rollout.results import ABORTED, EpisodeResult
from positronic.rollout.runner import ignore, run_episode
from positronic.utils.pool import WorkerPool, worker_count

REPORT_FILE = "report.json"


@dataclass(frozen=True)
class Campaign:
    """What is to be run, where it is recorded, and with which software (``provenance``). ``place``: where ``root`` is
    uploaded to, None for nowhere. ``done``: episodes that an earlier run has finished there."""

    hardware: HardwareConfig
    policy: PolicyConfig
    driver: DriverConfig
    seed: int
    root: Path
    provenance: Mapping[str, Any] = field(default_factory=dict)
    place: str | None = None
    done: Sequence[EpisodeResult] = ()

    @property
    def missing(self) -> list[int]:
        """Ids of the episodes that are to be played."""
        done = {result.id for result in self.done}
        return [index for index in range(self.driver.num_episodes) if index not in done]

    def to_dict(self) -> dict[str, Any]:
        """For the report: the configs as they were, without the token."""
        policy = {name: value for name, value in asdict(self.policy).items() if name != "token"}
        return {
            "hardware": asdict(self.hardware),
            "policy": policy,
            "driver": asdict(self.driver),
            "seed": self.seed,
        }

    @property
    def git(self) -> dict[str, Any] | None:
        """Commit and whether the tree was dirty, for each recording; None outside a checkout."""
        known = {name: self.provenance.get(name) for name in ("commit", "dirty")}
        return known if known["commit"] else None

    def aborted(self, results: Sequence[EpisodeResult]) -> PositronicError | None:
        """The error to end with when an episode was aborted."""
        for result in results:
            if result.outcome == ABORTED:
                return PositronicError(
                    f"Episode {result.id} (seed {result.seed}) was aborted at {result.duration_sec:.2f} s, and the run"
                    f" stopped after {len(results)} of {self.driver.num_episodes} episodes.\n{result.reason}"
                )
        return None


def run_campaign(
    campaign: Campaign, robot: Robot, policy: Policy, watch: Callable[[int], None] | None = None
) -> Generator[EpisodeResult]:
    """Run the missing episodes. Yields each when it is done, in the order in which they end, and stops after an aborted
    one.

    With one robot, or with somebody to ``watch``, ``robot`` and ``policy`` run the episodes. Otherwise ``policy`` is
    closed, and each process opens its own. Leaving early drops the unfinished episodes. Raises PositronicError when an
    episode could not start.
    """
    count = 1 if watch else worker_count(campaign.driver.num_robots, len(campaign.missing))
    if count == 1:
        results = _in_turn(campaign, _runner(campaign, robot, policy, watch or ignore))
    else:
        policy.close()  # its place in the server, or its memory on the GPU, is for the workers
        results = _side_by_side(campaign, count)
    with contextlib.closing(results):
        for result in results:
            yield result
            if result.outcome == ABORTED:
                return


def _in_turn(campaign: Campaign, run: Callable[[int], EpisodeResult]) -> Generator[EpisodeResult]:
    for index in campaign.missing:
        yield run(index)


def _side_by_side(campaign: Campaign, count: int) -> Generator[EpisodeResult]:
    with WorkerPool(count, rollout_worker, campaign) as pool:
        for index in campaign.missing:
            pool.submit(index)
        yield from pool.results()


@contextlib.contextmanager
def rollout_worker(campaign: Campaign) -> Iterator[Callable[[int], EpisodeResult]]:
    """What a worker process does: yields what runs one episode, with a robot and a policy of its own."""
    with contextlib.ExitStack() as open_parts:
        robot = open_parts.enter_context(contextlib.closing(open_robot(campaign.hardware)))
        policy = open_parts.enter_context(contextlib.closing(open_policy(campaign.policy, robot)))
        yield _runner(campaign, robot, policy)


def _runner(
    campaign: Campaign, robot: Robot, policy: Policy, watch: Callable[[int], None] = ignore
) -> Callable[[int], EpisodeResult]:
    writer = DatasetWriter(campaign.root, git=campaign.git)

    def run(index: int) -> EpisodeResult:
        with writer.new_episode(index) as episode:
            return run_episode(robot, policy, episode, campaign.seed + index, campaign.driver, watch)

    return run
