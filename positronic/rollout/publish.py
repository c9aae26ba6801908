"""The files of a report: report.json, report.html, report.png and the videos, all in the rollouts' folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from positronic.hardware.config import HardwareConfig
from positronic.hardware.factory import open_robot
from positronic.raw.episode import Episode
from positronic.rollout.campaign import REPORT_FILE
from positronic.rollout.page import page_html
from positronic.rollout.plot import plot_png
from positronic.rollout.report import Rollouts, headline, instruction_lines, write_json
from positronic.rollout.results import EpisodeResult
from positronic.storage import join
from positronic.utils.files import replace_bytes, replace_text
from positronic.utils.pool import WorkerPool, worker_count

PAGE_FILE, PLOT_FILE, VIDEO_FOLDER = "report.html", "report.png", "videos"


def publish(rollouts: Rollouts) -> None:
    """Write numbers, picture and page."""
    write_json(rollouts, rollouts.root / REPORT_FILE)  # first: on a full disk the numbers matter most
    plot = plot_png(rollouts)
    replace_bytes(rollouts.root / PLOT_FILE, plot)
    replace_text(rollouts.root / PAGE_FILE, page_html(rollouts, plot))


def film_all(rollouts: Rollouts, chosen: list[EpisodeResult], hardware: HardwareConfig) -> Rollouts:
    """Render a video of each chosen episode, several at once. Returns the rollouts with the paths of the videos."""
    tasks = [(result, rollouts.root / video_path(result)) for result in chosen]
    with WorkerPool(worker_count(0, len(tasks)), film_worker, hardware) as pool:
        for task in tasks:
            pool.submit(task)
        for _ in pool.results():
            pass
    return replace(rollouts, videos={result.id: video_path(result) for result in chosen})


def video_path(result: EpisodeResult) -> str:
    """Where an episode's video lies, within the rollouts' folder."""
    return f"{VIDEO_FOLDER}/{result.id:06d}_seed{result.seed}_{result.outcome}.mp4"


@contextlib.contextmanager
def film_worker(hardware: HardwareConfig) -> Iterator[Callable[[tuple[EpisodeResult, Path]], None]]:
    """What a filming process does: yields what renders one episode, with a robot of its own."""
    from positronic.rollout.video import film

    with contextlib.closing(open_robot(hardware)) as robot:
        yield lambda task: film(Episode(Path(task[0].path)), task[0], robot, task[1])


def closing_words(rollouts: Rollouts, place: str | None, to_go_on: str | None) -> str:
    """What is printed at the end: the headline, the same for each of several instructions, and where each file is, or
    will be if ``place`` is given. ``to_go_on``: the command that plays what is missing, None if nothing is."""
    root = place or rollouts.root
    videos = list(rollouts.videos.values())
    lines = [
        headline(rollouts),
        *(f"  {line}" for line in instruction_lines(rollouts)),
        f"  report:   {join(root, PAGE_FILE)}",
        f"  numbers:  {join(root, REPORT_FILE)}",
        f"  plot:     {join(root, PLOT_FILE)}",
        *(f"  video:    {join(root, video)}" for video in videos),
        f"  rollouts: {root} ({len(rollouts.results)} raw episodes)",
        f"  next:     {f'to go on, type: {to_go_on}' if to_go_on else 'open the report in a browser'}",
    ]
    return "\n".join(lines)
