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
Turn = tuple[int, int]  # id of an episode, number of its campaign
Played = tuple[int, EpisodeResult]  # number of the campaign, one of its episodes


@dataclass(frozen=True)
class Campaign:
    """What is to be run, where it is recorded, and with which software (``provenance``). ``place``: where ``root`` is
    uploaded to, None for nowhere. ``done``: episodes that an earlier run has finished there. ``meta``: what the policy
    said of itself when the run began; a process that finds another one refuses it."""

    hardware: HardwareConfig
    policy: PolicyConfig
    driver: DriverConfig
    seed: int
    root: Path
    provenance: Mapping[str, Any] = field(default_factory=dict)
    place: str | None = None
    done: Sequence[EpisodeResult] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

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


def run_campaigns(
    campaigns: Sequence[Campaign],
    robot: Robot,
    policies: Sequence[Policy],
    watch: Callable[[int], None] | None = None,
) -> Generator[Played]:
    """Run the missing episodes of campaigns that differ in policy and place alone: of each seed those of all, then the
    next seed. Yields the campaign's number and each episode when it is done, in the order in which they end, and stops
    after an aborted one.

    With one robot, or with somebody to ``watch``, ``robot`` and ``policies`` run the episodes. Otherwise the policies
    are closed, and each process opens its own. Leaving early drops the unfinished episodes. Raises PositronicError when
    an episode could not start.
    """
    turns = sorted((index, number) for number, campaign in enumerate(campaigns) for index in campaign.missing)
    driver = campaigns[0].driver
    count = 1 if watch else worker_count(driver.num_robots, len(turns))
    if count == 1:
        results = _in_turn(Player(campaigns, robot, policies, watch or ignore), turns)
    else:
        for policy in policies:
            policy.close()  # its place in the server, or its memory on the GPU, is for the processes
        results = _side_by_side(campaigns, turns, count)
    with contextlib.closing(results):
        for number, result in results:
            yield number, result
            if result.outcome == ABORTED:
                return


def _in_turn(player: Player, turns: Sequence[Turn]) -> Generator[Played]:
    for turn in turns:
        yield player.play(turn)


def _side_by_side(campaigns: Sequence[Campaign], turns: Sequence[Turn], count: int) -> Generator[Played]:
    with WorkerPool(count, rollout_worker, campaigns) as pool:
        for turn in turns:
            pool.submit(turn)
        yield from pool.results()


@contextlib.contextmanager
def rollout_worker(campaigns: Sequence[Campaign]) -> Iterator[Callable[[Turn], Played]]:
    """What a process does: yields what runs one episode, with a robot and policies of its own."""
    with contextlib.ExitStack() as open_parts:
        robot = open_parts.enter_context(contextlib.closing(open_robot(campaigns[0].hardware)))
        opened = OpenedOnDemand(campaigns, robot)
        open_parts.callback(opened.close)
        yield Player(campaigns, robot, opened).play


class OpenedOnDemand(Sequence[Policy]):
    """The campaigns' policies; each is opened when it plays first, so that one of many holds nothing before."""

    def __init__(self, campaigns: Sequence[Campaign], robot: Robot) -> None:
        self._campaigns, self._robot = campaigns, robot
        self._opened: dict[int, Policy] = {}

    def __getitem__(self, number: Any) -> Any:
        from positronic.rollout.remote import require_same_policy

        if number not in self._opened:
            campaign = self._campaigns[number]
            policy = self._opened[number] = open_policy(campaign.policy, self._robot)
            if campaign.meta:
                require_same_policy("the policy as the run began", campaign.meta, "the policy now", policy.meta)
        return self._opened[number]

    def __len__(self) -> int:
        return len(self._campaigns)

    def close(self) -> None:
        """Close those that were opened."""
        for policy in self._opened.values():
            policy.close()


class Player:
    """Plays episodes of several campaigns with one robot."""

    def __init__(
        self,
        campaigns: Sequence[Campaign],
        robot: Robot,
        policies: Sequence[Policy],
        watch: Callable[[int], None] = ignore,
    ) -> None:
        self._campaigns, self._robot, self._policies, self._watch = campaigns, robot, policies, watch
        self._writers = [DatasetWriter(campaign.root, git=campaign.git) for campaign in campaigns]

    def play(self, turn: Turn) -> Played:
        """Play one episode of one campaign."""
        index, number = turn
        campaign, policy = self._campaigns[number], self._policies[number]
        with self._writers[number].new_episode(index) as episode:
            result = run_episode(self._robot, policy, episode, campaign.seed + index, campaign.driver, self._watch)
        if len(self._campaigns) > 1:
            policy.rest()
        return number, result
