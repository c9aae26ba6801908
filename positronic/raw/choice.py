"""Which episodes of a raw dataset are meant, when not all of them are.

Episodes are chosen by the numbers of their folders and not by their position: a position changes as soon as another
episode is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from positronic import keys
from positronic.errors import PositronicError, clipped, did_you_mean, listing
from positronic.raw.faults import BadEpisode

if TYPE_CHECKING:
    from positronic.raw.config import DatasetConfig
    from positronic.raw.dataset import Dataset
    from positronic.raw.episode import Episode

SUCCESS, FAILURE = "success", "failure"  # of an episode that says only whether it succeeded
SHOWN_CHARS = 60  # of a task
READERS = 16  # statics are small files, which may be in an object store


@dataclass(frozen=True)
class Choice:
    """What was asked for; None asks for nothing. All that is asked for must hold.

    ``episodes``: the numbers of their folders. ``outcome``: eval.outcome, case ignored. ``tasks``: as recorded.
    ``max_episodes``: the first so many of those for which the rest holds.
    """

    episodes: tuple[int, ...] | None = None
    outcome: str | None = None
    tasks: tuple[str, ...] | None = None
    max_episodes: int | None = None

    @classmethod
    def of(cls, config: DatasetConfig) -> Choice:
        """What the dataset group says."""
        episodes, tasks = (None if each is None else tuple(each) for each in (config.episodes, config.tasks))
        return cls(episodes, config.outcome, tasks, config.max_episodes)

    def said(self) -> dict[str, Any]:
        """JSON-ready: what was asked for, by the parameter's name; empty when all episodes are meant."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value is not None
        }


@dataclass(frozen=True)
class Chosen:
    """What a choice came to. ``said``: of the Choice. ``uids``: the chosen episodes, in order. ``total``: how many
    there were to choose from."""

    said: Mapping[str, Any]
    uids: tuple[str, ...]
    total: int

    def __str__(self) -> str:
        """For people: ``12 of 50 episodes (outcome success)``."""
        return f"{len(self.uids)} of {self.total} episodes ({in_words(self.said)})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"said": dict(self.said), "uids": list(self.uids), "of": self.total}


def in_words(said: Mapping[str, Any]) -> str:
    """What was asked for, for people: ``outcome success, tasks 'stack'``."""
    return ", ".join(f"{name} {_in_words(value)}" for name, value in said.items())


def choose(dataset: Dataset, choice: Choice) -> Dataset:
    """The chosen episodes of ``dataset``; all of it where nothing is asked for.

    An episode whose statics cannot be read is kept, so that whoever uses it says what is wrong with it. Raises
    PositronicError for a number, an outcome or a task that no episode has, with the nearest one, and when no episode is
    left.
    """
    if not choice.said():
        return dataset
    numbers = _by_number(dataset, choice.episodes) if choice.episodes is not None else list(range(len(dataset)))
    if choice.outcome is not None or choice.tasks is not None:
        numbers = _by_statics(dataset, choice, numbers)
    numbers = numbers[: choice.max_episodes]
    uids = _over(numbers, lambda number: dataset[number].without_cameras().uid)
    return dataset.only(numbers, Chosen(choice.said(), tuple(uids), len(dataset)))


def outcome_of(statics: Mapping[str, Any]) -> str | None:
    """How the episode ended, in lower case; None when it does not say."""
    if keys.EVAL_OUTCOME in statics:
        return str(statics[keys.EVAL_OUTCOME]).casefold()
    success = statics.get(keys.EVAL_SUCCESS)
    return None if success is None else SUCCESS if success else FAILURE


def _by_number(dataset: Dataset, wanted: Sequence[int]) -> list[int]:
    """Positions of the episodes with these numbers, in the dataset's order."""
    ids = [dataset[position].id for position in range(len(dataset))]
    there = Counter(ids)
    missing = [number for number in wanted if number not in there]
    if missing:
        left_out = " Unfinished and dropped episodes cannot be chosen." if any(dataset.left_out) else ""
        raise PositronicError(
            f"dataset.episodes={_list(wanted)}: {dataset.root} has no episode {missing[0]}. It has {len(ids)}, "
            f"numbered {_ranges(ids)}.{left_out}"
        )
    twice = [number for number in wanted if there[number] > 1]
    if twice:
        places = [str(dataset[position].place) for position, number in enumerate(ids) if number == twice[0]]
        raise PositronicError(
            f"dataset.episodes={_list(wanted)}: more than one episode of {dataset.root} has the number {twice[0]}: "
            f"{listing(places)}. Choose in one of these folders: dataset.path=<folder> dataset.layout=local."
        )
    return [position for position, number in enumerate(ids) if number in set(wanted)]


def _by_statics(dataset: Dataset, choice: Choice, numbers: Sequence[int]) -> list[int]:
    statics = dict(zip(numbers, _over(numbers, lambda number: _statics(dataset[number])), strict=True))
    known = [each for each in statics.values() if each is not None]
    tasks = Counter(_task_of(each) for each in known)
    outcomes = Counter(outcome for outcome in map(outcome_of, known) if outcome is not None)
    if choice.tasks is not None:
        _require_there("dataset.tasks", choice.tasks, tasks, dataset)
    if choice.outcome is not None:
        _require_there("dataset.outcome", [choice.outcome.casefold()], outcomes, dataset)
    chosen = [number for number, each in statics.items() if each is None or _fits(each, choice)]
    if not any(statics[number] is not None for number in chosen):
        raise PositronicError(
            f"No episode of {dataset.root} is chosen by {in_words(choice.said())} together. Ask for less."
        )
    return chosen


def _fits(statics: Mapping[str, Any], choice: Choice) -> bool:
    by_task = choice.tasks is None or _task_of(statics) in choice.tasks
    return by_task and (choice.outcome is None or outcome_of(statics) == choice.outcome.casefold())


def _require_there(key: str, wanted: Iterable[str], there: Mapping[str, int], dataset: Dataset) -> None:
    for each in wanted:
        if each not in there:
            raise PositronicError(no_such(key, each, there, f"episode of {dataset.root}"))


def no_such(key: str, wanted: str, there: Mapping[str, int], what: str) -> str:
    """The sentence about a text that no ``what`` has, with the nearest of those ``there`` (text -> how many)."""
    name = key.rpartition(".")[2].removesuffix("s")
    found = [f"'{clipped(text, SHOWN_CHARS)}' ({count})" for text, count in there.items()]
    recorded = f" Recorded: {listing(found)}." if found else f" None of them says its {name}."
    return f"{key}: no {what} has the {name} '{clipped(wanted)}'.{did_you_mean(wanted, there)}{recorded}"


def _statics(episode: Episode) -> Mapping[str, Any] | None:
    try:
        return episode.without_cameras().statics
    except BadEpisode:
        return None


def _task_of(statics: Mapping[str, Any]) -> str:
    return str(statics.get(keys.TASK, ""))


def _over[T](numbers: Sequence[int], look: Callable[[int], T]) -> list[T]:
    """``look`` at each of the numbers, several at a time."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(look, numbers))


def _in_words(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    if all(isinstance(item, int) for item in value):
        return _ranges(value)
    return ", ".join(f"'{clipped(item, SHOWN_CHARS)}'" for item in value)


def _list(numbers: Iterable[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def _ranges(numbers: Iterable[int]) -> str:
    """Whole numbers for people: ``0-3, 7``; the first ones if there are many."""
    ends: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ends and number == ends[-1][1] + 1:
            ends[-1][1] = number
        else:
            ends.append([number, number])
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in ends[:12]]
    return ", ".join(shown) + (", ..." if len(ends) > 12 else "") if shown else "none"
