"""stage=infer: a policy runs a robot; every rollout is recorded and scored."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from positronic import keys
from positronic.stages.base import Parts
from positronic.stages.compare import Compared
from positronic.utils.command_line import RESUME, again
from positronic.utils.fields import ANY, WITH, between, path, several
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from positronic.codecs.codec import Codec
    from positronic.hardware.robot import Robot
    from positronic.rollout.campaign import Campaign
    from positronic.rollout.policies import Policy
    from positronic.rollout.report import Rollouts
    from positronic.rollout.results import EpisodeResult
    from positronic.rollout.verdict import Verdict
    from positronic.storage.config import StorageConfig

DECIDED = "The comparison was decided"


@dataclass
class Infer(Parts):
    """A policy runs a robot.

    output_dir: folder to record into; null is a new one, <paths.root>/rollouts/<experiment>
    seed: of the first episode's scene; the next ones have seed + 1, seed + 2, ...
    resume: go on where an interrupted run into output_dir stopped; finished episodes stay
    policies: several on the same seeds, compared with the first: checkpoints, <host>:<port>, <host>:<port>/<checkpoint>
    """

    uses: ClassVar[tuple[str, ...]] = ("hardware", "policy", "driver", "storage")
    choices: ClassVar[tuple[str, ...]] = ("embodiment", "vendor", "codec")  # compared with the policy's
    null_takes: ClassVar[Mapping[str, str]] = {"output_dir": "paths.root"}

    output_dir: str | None = path(None)
    seed: int = between(0, default=0)
    resume: bool = field(default=False, metadata={WITH: {"output_dir": ANY}})
    policies: list[str] | None = field(default=None, metadata=several(2, "policies"))


@dataclass(frozen=True)
class Evaluated:
    """The result of stage=infer. ``path``: of the rollouts, which are a raw dataset, a folder or a URI; the reports lie
    beside them. ``rollouts``: every episode's result."""

    path: str
    rollouts: Rollouts

    @property
    def report(self) -> dict[str, Any]:
        """What ``report.json`` holds: times in seconds unless the name says otherwise, rates 0..1."""
        from positronic.rollout.report import report

        return report(self.rollouts)

    def __rich__(self) -> Rollouts:
        return self.rollouts

    def _repr_html_(self) -> str:
        return as_html(self)


def run(config: Infer) -> Evaluated | Compared:
    """Run the episodes, write the report, print the result and where everything is; with ``policies``, compare them.

    Raises PositronicError when nothing could start, or when an episode was aborted; then the report covers the episodes
    before.
    """
    from positronic.stages.contest import contest

    return _alone(config) if config.policies is None else contest(config, config.policies)


def _alone(config: Infer) -> Evaluated:
    from positronic.hardware.factory import open_robot
    from positronic.rollout.campaign import Campaign
    from positronic.rollout.policies import open_policy
    from positronic.utils.provenance import provenance
    from positronic.utils.threads import wait_quietly

    wait_quietly()
    with contextlib.ExitStack() as parts:
        place = config.output_dir
        if place is not None:  # claimed before a server is called or a model is loaded
            root = parts.enter_context(output_folder(place, config.storage, config.resume))
        robot = parts.enter_context(contextlib.closing(open_robot(config.hardware)))
        policy = parts.enter_context(contextlib.closing(open_policy(config.policy, robot)))
        check_codec(config, policy.meta)
        if place is None:  # only the policy knows the experiment that the folder is named after
            place = free_place(named_after(policy.meta, config), config.storage)
            root = parts.enter_context(output_folder(place, config.storage))
        campaign = Campaign(config.hardware, config.policy, config.driver, config.seed, root, provenance(), place)
        return Evaluated(place, play(taken_up(campaign, policy.meta, config), robot, policy))


def taken_up(campaign: Campaign, meta: Mapping[str, Any], config: Infer) -> Campaign:
    """The campaign of the policy with this ``meta``, with the episodes that an earlier run has finished if it is to be
    resumed."""
    from positronic.rollout.continuation import asked_for, begin, go_on
    from positronic.storage.folder import folder

    campaign = replace(campaign, meta=meta)
    jpeg_quality = getattr(campaign.policy, "jpeg_quality", None)
    asked = asked_for(campaign.hardware, campaign.driver, campaign.seed, meta, jpeg_quality)
    if not config.resume:
        begin(campaign.root, asked)
        return campaign
    place = folder(campaign.place or campaign.root, config.storage)
    return replace(campaign, done=go_on(campaign.root, place, asked, campaign.driver.num_episodes))


def play(campaign: Campaign, robot: Robot, policy: Policy) -> Rollouts:
    """Run the episodes and report the finished ones, also if Ctrl-C, an aborted episode or a bug ended the run early;
    that is then raised."""
    return play_all([campaign], robot, [policy])[0]


def play_all(
    campaigns: Sequence[Campaign], robot: Robot, policies: Sequence[Policy], verdict: Verdict | None = None
) -> list[Rollouts]:
    """Like ``play``, each campaign's policy on the same seeds. ``verdict``: what may end the run early."""
    from positronic.rollout.continuation import EVALUATION_FILE

    begin = time.monotonic()
    played, problem = _episodes(campaigns, robot, policies, verdict)
    decided, reports = verdict.seeds if verdict else None, []
    for campaign, policy, results in zip(campaigns, policies, played, strict=True):
        finished = sorted([*campaign.done, *results], key=lambda result: result.id)
        counting = [result for result in finished if decided is None or result.id < decided]
        if counting:
            stopped = reason(problem) if decided is None else decided_early(decided, campaign.driver.num_episodes)
            reports.append(_report(campaign, robot, policy, counting, stopped, time.monotonic() - begin))
        elif not finished:
            (campaign.root / EVALUATION_FILE).unlink(missing_ok=True)
    if problem is not None:
        raise problem
    return reports


def named_after(meta: Mapping[str, Any], config: Infer) -> str:
    """Where rollouts of this policy go if no folder is typed."""
    name = meta.get(keys.META_EXPERIMENT) or meta.get(keys.META_TYPE) or config.policy.name
    return f"{config.paths.root}/rollouts/{name}"


def free_place(place: str, storage: StorageConfig) -> str:
    """``place``, or the first of ``place_2``, ``place_3``, ... that does not exist: each evaluation has its
    own folder."""
    from positronic.storage.folder import folder
    from positronic.utils.files import numbered

    def is_free(candidate: str) -> bool:
        found = folder(candidate, storage)
        return (found.local is not None and not found.local.exists()) or not found.entries()

    return next(filter(is_free, numbered(place)))


@contextlib.contextmanager
def output_folder(place: str, storage: StorageConfig, resume: bool = False) -> Iterator[Path]:
    """The folder to record into; what is for an object store is uploaded meanwhile, and when the context is left.

    Raises PositronicError when there are rollouts already and nobody asks to ``resume``, or when they cannot be.
    """
    from positronic.raw.layout import require_empty
    from positronic.raw.upload import RECORDING
    from positronic.rollout.campaign import REPORT_FILE
    from positronic.rollout.continuation import require_resumable
    from positronic.storage.outgoing import synced_output

    hint = f"To continue an interrupted run, type:\n  {to_go_on(place)}"
    with synced_output(place, RECORDING, storage, resume, hint) as root:
        if resume:
            require_resumable(root, place)
        else:
            require_empty(root, "rollouts", beside=REPORT_FILE, advice=f"{hint}\n")
        yield root


def to_go_on(place: str, stopped: str | None = None) -> str:
    """The command that continues what was recorded into ``place``. ``stopped``: why it ended, which may be said to take
    another value."""
    from positronic.rollout.check import GO_ON_WITH

    return again(f"output_dir={place}", RESUME, *([GO_ON_WITH] if stopped and GO_ON_WITH in stopped else []))


def check_codec(config: Infer, meta: Mapping[str, Any]) -> None:
    """Raise ConventionError when an embodiment, vendor or codec was typed and the policy has another, or does not say
    which.

    Names of embodiment and codec may differ; what the policy needs of the robot, and its features, may not.
    """
    from positronic import conventions
    from positronic.codecs.config import FROM_CHECKPOINT
    from positronic.errors import ConventionError

    vendor, told = meta.get(keys.META_VENDOR), meta.get(keys.META_CONVENTIONS)
    if config.vendor.name not in (FROM_CHECKPOINT, vendor):
        theirs = f"is of vendor {vendor}" if vendor else "names none"
        raise ConventionError(f"vendor={config.vendor.name} was typed, and the policy {theirs}. Leave vendor= out.")
    _check_embodiment(config, meta)
    if config.codec.name == FROM_CHECKPOINT:
        return
    if not told:
        raise ConventionError(
            f"codec={config.codec.name} was typed, and the policy does not say its own. Leave codec= out."
        )
    typed = {name: str(value) for name, value in _typed_codec(config, meta).conventions.items()}
    hint = "Leave codec= out: the checkpoint says which codec it was trained with."
    theirs = f"the policy's codec '{meta.get(keys.META_CODEC, '?')}'"
    conventions.require_equal(f"codec={config.codec.name}", typed, theirs, told, hint)


def _check_embodiment(config: Infer, meta: Mapping[str, Any]) -> None:
    from positronic.embodiments.embodiment import Embodiment, require_needed, typed_embodiment
    from positronic.errors import ConventionError

    typed, stated = typed_embodiment(config.embodiment), meta.get(keys.META_EMBODIMENT)
    if typed is None:
        return
    if not stated or keys.META_ROBOT not in meta:
        raise ConventionError(
            f"embodiment={typed.name} was typed, and the policy does not say its own. Leave embodiment= out."
        )
    theirs = f"the policy's robot '{Embodiment.from_dict(stated).name}'"
    require_needed(theirs, meta[keys.META_ROBOT], typed, "Leave embodiment= out: the policy says what it needs.")


def _typed_codec(config: Infer, meta: Mapping[str, Any]) -> Codec:
    """What was typed, for the policy's robot and, unless cameras were typed, with its cameras."""
    from positronic.codecs.build import build
    from positronic.embodiments.embodiment import Embodiment

    stated, images = meta.get(keys.META_EMBODIMENT), config.codec.images
    if images is None:
        seen = [name for name in meta[keys.META_CONVENTIONS] if name.startswith(keys.IMAGE_PREFIX)]
        images = [name.removeprefix(keys.IMAGE_PREFIX) for name in seen]
    robot = Embodiment.from_dict(stated) if stated else None
    return build(replace(config.codec, images=images), config.modality, embodiment=robot).codec


def _episodes(
    campaigns: Sequence[Campaign], robot: Robot, policies: Sequence[Policy], verdict: Verdict | None
) -> tuple[list[list[EpisodeResult]], BaseException | None]:
    """The episodes of each campaign that were finished now, and what ended the run before its time."""
    from positronic.rollout.campaign import run_campaigns
    from positronic.rollout.progress import progress_bar
    from positronic.rollout.report import done_word
    from positronic.rollout.viewer import viewer

    word, driver = done_word(robot.contract.scores), campaigns[0].driver
    done = [result for campaign in campaigns for result in campaign.done]
    results: list[list[EpisodeResult]] = [[] for _ in campaigns]
    try:
        with contextlib.ExitStack() as parts:
            watch = parts.enter_context(viewer(robot)) if driver.show_gui else None
            episodes = parts.enter_context(contextlib.closing(run_campaigns(campaigns, robot, policies, watch)))
            show = parts.enter_context(progress_bar(driver.num_episodes * len(campaigns), word, done))
            while not (verdict and verdict.seeds) and (one := next(episodes, None)):
                number, result = one
                results[number].append(result)
                show(result)
                if verdict:
                    verdict.note(number, result)
        _tidy(campaigns)
        aborted = (campaign.aborted(each) for campaign, each in zip(campaigns, results, strict=True))
        return results, next(filter(None, aborted), None)
    except (
        BaseException
    ) as problem:  # Ctrl-C and bugs too: finished episodes are reported before these are raised again
        _tidy(campaigns)
        return results, problem


def _tidy(campaigns: Sequence[Campaign]) -> None:
    """Remove what a process left that was ended before it could do so itself."""
    from positronic.raw.layout import remove_unfinished

    for campaign in campaigns:
        with contextlib.suppress(OSError):
            remove_unfinished(campaign.root)


def _report(
    campaign: Campaign,
    robot: Robot,
    policy: Policy,
    results: list[EpisodeResult],
    stopped: str | None,
    wall_sec: float,
) -> Rollouts:
    from positronic.rollout.publish import closing_words, film_all, publish
    from positronic.rollout.report import Rollouts, headline
    from positronic.rollout.results import instructions
    from positronic.rollout.video import choose

    whole = stopped is None or stopped.startswith(DECIDED)
    rollouts = Rollouts(
        root=campaign.root,
        results=results,
        planned=campaign.driver.num_episodes,
        robot=robot.contract.name,
        scores=robot.contract.scores,
        task=instructions(results),
        policy=policy.meta,
        config=campaign.to_dict(),
        provenance=campaign.provenance,
        wall_sec=wall_sec,
        earlier=len(campaign.done),
        stopped=stopped,
    )
    try:
        publish(rollouts)
    except OSError:  # on a full disk the number is printed at least
        print(headline(rollouts))
        raise
    chosen = choose(results, campaign.driver.save_videos) if whole else []
    try:
        if chosen:
            rollouts = film_all(rollouts, chosen, campaign.hardware)
            publish(rollouts)
    finally:  # the numbers are there, even if filming is interrupted
        place = str(campaign.place or campaign.root)
        print(closing_words(rollouts, place, None if whole else to_go_on(place, stopped)))
    return rollouts


def decided_early(seeds: int, planned: int) -> str:
    """What the report of a policy says whose comparison was decided before its time."""
    return (
        f"{DECIDED} after {seeds} of {planned} seeds, by a sequential test (driver.stop_when=decided). The interval of"
        " the difference takes account of that; the interval of one policy's rate does not."
    )


def reason(problem: BaseException | None) -> str | None:
    """Why the run ended early, for the report."""
    if isinstance(problem, KeyboardInterrupt):
        return "Interrupted by Ctrl-C."
    return None if problem is None else str(problem) or type(problem).__name__
