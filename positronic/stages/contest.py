"""stage=infer policies=[first,second]: several policies on the same seeds, each with its evaluation, then compared."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from positronic.errors import PositronicError
from positronic.stages.compare import Compared, compare_folders

if TYPE_CHECKING:
    from positronic.hardware.robot import Robot
    from positronic.rollout.campaign import Campaign
    from positronic.rollout.candidates import Candidate
    from positronic.rollout.policies import Policy
    from positronic.rollout.verdict import Verdict
    from positronic.stages.infer import Infer


def contest(config: Infer, texts: Sequence[str]) -> Compared:
    """Run the episodes of each seed one policy after another, report each policy, and compare them with the first.

    Raises PositronicError when nothing could start, or when an episode was aborted; then what all have finished is
    compared.
    """
    from positronic.rollout.candidates import candidate
    from positronic.storage import join
    from positronic.utils.threads import wait_quietly

    wait_quietly()
    entries = [candidate(text) for text in texts]
    place = config.output_dir or _free_place(config, entries)
    folders = [str(join(place, entry.name)) for entry in entries]
    try:
        _play(config, entries, folders)
    except BaseException:  # also Ctrl-C: what there is of all is worth a page
        with contextlib.suppress(PositronicError):
            compare_folders(folders, config.storage, place, config.driver.save_videos)
        raise
    return compare_folders(folders, config.storage, place, config.driver.save_videos)


def _play(config: Infer, entries: Sequence[Candidate], folders: Sequence[str]) -> None:
    from positronic.hardware.factory import open_robot
    from positronic.stages.infer import output_folder, play_all

    with contextlib.ExitStack() as parts:
        roots = [parts.enter_context(output_folder(each, config.storage, config.resume)) for each in folders]
        robot = parts.enter_context(contextlib.closing(open_robot(config.hardware)))
        policies = [_opened(config, entry, robot, parts) for entry in entries]
        campaigns = [_campaign(config, *each) for each in zip(entries, roots, folders, policies, strict=True)]
        play_all(campaigns, robot, policies, _verdict(config, campaigns))


def _opened(config: Infer, entry: Candidate, robot: Robot, parts: contextlib.ExitStack) -> Policy:
    from positronic.rollout.policies import open_policy
    from positronic.stages.infer import check_codec

    policy = parts.enter_context(contextlib.closing(open_policy(entry.of(config.policy), robot)))
    check_codec(config, policy.meta)
    policy.rest()
    return policy


def _campaign(config: Infer, entry: Candidate, root: Path, place: str, policy: Policy) -> Campaign:
    from positronic.rollout.campaign import Campaign
    from positronic.stages.infer import taken_up
    from positronic.utils.provenance import provenance

    one = Campaign(config.hardware, entry.of(config.policy), config.driver, config.seed, root, provenance(), place)
    return taken_up(one, policy.meta, config)


def _verdict(config: Infer, campaigns: Sequence[Campaign]) -> Verdict | None:
    from positronic.rollout.config import DECIDED
    from positronic.rollout.verdict import Verdict

    return Verdict([campaign.done for campaign in campaigns]) if config.driver.stop_when == DECIDED else None


def _free_place(config: Infer, entries: Sequence[Candidate]) -> str:
    from positronic.stages.infer import free_place

    return free_place(f"{config.paths.root}/rollouts/{'_and_'.join(each.name for each in entries)}", config.storage)
