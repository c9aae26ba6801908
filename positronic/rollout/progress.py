"""The progress bar: episodes done, and how many of them succeeded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from positronic.rollout.results import REPLAYED, EpisodeResult


@contextlib.contextmanager
def progress_bar(
    total: int, done_word: str, earlier: Sequence[EpisodeResult] = ()
) -> Iterator[Callable[[EpisodeResult], None]]:
    """Yields what to call with each finished episode. ``done_word``: what the robot's task calls a success.
    ``earlier``: episodes that were finished before."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("Episodes", total=total, completed=len(earlier))
        successes, done = sum(result.success for result in earlier), len(earlier)

        def show(result: EpisodeResult) -> None:
            nonlocal successes, done
            successes, done = successes + result.success, done + 1
            words = "Replayed" if result.outcome == REPLAYED else f"{done_word.capitalize()} {successes}/{done}"
            progress.update(bar, description=words, advance=1)

        yield show
