"""Which episodes of a baked dataset are trained on, and which are held out to be judged by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from positronic import keys
from positronic.bake.columns import Spool
from positronic.bake.foreign import stats_of
from positronic.bake.holdout import Holdout, holdout, require_two_sides
from positronic.bake.manifest import Manifest
from positronic.bake.reader import BakedDataset, Stats
from positronic.bake.recompute import read_ledger
from positronic.conventions import require_equal
from positronic.errors import PositronicError, listing
from positronic.raw.choice import Choice, in_words, no_such

SETTLED = "val_fraction", "val_seed"


@dataclass(frozen=True)
class TrainChoice:
    """What was asked for; None asks for nothing. ``episodes``: by their numbers in the baked dataset. ``tasks``: as
    baked. ``max_episodes``: the first so many to train on; those held out stay. ``val_fraction``, ``val_seed``: of a
    dataset that holds out none by itself."""

    episodes: tuple[int, ...] | None = None
    tasks: tuple[str, ...] | None = None
    max_episodes: int | None = None
    val_fraction: float | None = None
    val_seed: int = 0

    def said(self) -> dict[str, Any]:
        """JSON-ready: what was asked for but for held-out episodes, by the parameter's name."""
        fields = {name: value for name, value in asdict(self).items() if value is not None and name not in SETTLED}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


@dataclass(frozen=True, eq=False)
class Split:
    """The two sides. ``training`` has the statistics of its own episodes. ``held_out`` is None where nothing is held
    out. ``total``: episodes of the dataset. ``said``: as of TrainChoice."""

    training: BakedDataset
    held_out: BakedDataset | None
    total: int
    said: Mapping[str, Any]
    holdout: Holdout | None

    @property
    def record(self) -> dict[str, Any] | None:
        """JSON-ready, for checkpoints; None where all episodes are trained on."""
        if not self.said and self.holdout is None:
            return None
        numbers = [] if self.held_out is None else self.held_out.numbers.tolist()
        record = {"said": dict(self.said), "episodes": self.training.numbers.tolist(), "held_out": numbers}
        return record if self.holdout is None else record | _settled(self.holdout)

    def __str__(self) -> str:
        """For people: ``10 of 12 episodes (tasks 'stack'), 2 held out``."""
        count = len(self.training.numbers)
        by = f" ({in_words(self.said)})" if self.said else ""
        held_out = f", {len(self.held_out.numbers)} held out" if self.held_out else ""
        of_all = f"{count} of {self.total}" if by or held_out else f"{count}"
        return f"{of_all} episodes{by}{held_out}"


def identity(record: Mapping[str, Any] | None) -> dict[str, str]:
    """What a resumed run must keep of its choice, as short texts."""
    if record is None:
        return {"trained episodes": "all"}
    numbers = ",".join(map(str, record["episodes"]))
    trained = f"{len(record['episodes'])}, {hashlib.sha256(numbers.encode()).hexdigest()[:8]}"
    of_holdout = {name: str(record[name]) for name in SETTLED if name in record}
    return {"trained episodes": trained} | {name: str(value) for name, value in record["said"].items()} | of_holdout


def require_same_choice(choice: Choice, manifest: Manifest, dataset: str, convert: str) -> None:
    """Raise ConventionError, both sides printed, when something is said of the recording's episodes (``dataset.*``) and
    ``dataset`` was baked of others. ``convert``: what to type to bake these."""
    said = choice.said()
    for baked in manifest.choices:
        theirs, ours = ({f"dataset.{name}": str(each.get(name)) for name in said} for each in (baked, said))
        hint = (
            f"Leave these out to train on what was baked, or bake these to another output_dir=<folder>:\n  {convert}\n"
            "To choose among the baked episodes, type episodes=, tasks= or max_episodes= without 'dataset.'."
        )
        require_equal(f"the dataset {dataset}", theirs, "this run", ours, hint)


def split(dataset: BakedDataset, choice: TrainChoice) -> Split:
    """Divide the chosen episodes of ``dataset``.

    Raises ConventionError when other episodes are to be held out than the dataset's own, and PositronicError for an
    episode or task that it has not, and when a side that was asked for would be empty.
    """
    settled = _agreed(dataset, choice)
    chosen = _chosen(dataset, choice)
    held_out = [k for k in chosen if settled is not None and settled.has(dataset.uids[k])]
    if dataset.manifest.holdout is None and settled is not None:
        require_two_sides(settled, [dataset.uids[k] for k in chosen])
    training = [k for k in chosen if k not in set(held_out)][: choice.max_episodes]
    if not training:
        raise PositronicError(
            f"All {len(chosen)} chosen episodes of {dataset.root} ({in_words(choice.said())}) are held out; none is "
            "left to train on. Choose more of them."
        )
    own = training == [k for k in range(len(dataset.uids)) if k not in set(dataset.manifest.held_out_episodes)]
    stats = dataset.stats if own else _stats_of(dataset, training)
    others = dataset.only(held_out, stats) if held_out else None
    return Split(dataset.only(training, stats), others, len(dataset.uids), choice.said(), settled)


def _settled(holdout: Holdout) -> dict[str, Any]:
    return {"val_fraction": holdout.fraction, "val_seed": holdout.seed}


def _agreed(dataset: BakedDataset, choice: TrainChoice) -> Holdout | None:
    """What the dataset holds out, else what this run does."""
    baked, asked = dataset.manifest.holdout, holdout(choice.val_fraction, choice.val_seed)
    if baked is not None and asked is not None:
        hint = (
            "Leave val_fraction and val_seed out: a policy must not be judged by episodes that it may be trained on, "
            "nor scaled by their statistics. Or bake the dataset without val_fraction."
        )
        require_equal(f"the dataset {dataset.root}", _settled(baked), "this run", _settled(asked), hint)
    return baked or asked


def _chosen(dataset: BakedDataset, choice: TrainChoice) -> list[int]:
    numbers = list(range(len(dataset.uids)))
    if choice.episodes is not None:
        missing = [number for number in choice.episodes if number not in numbers]
        if missing:
            raise PositronicError(
                f"episodes={list(choice.episodes)}: {dataset.root} has no episode {missing[0]}. It has {len(numbers)}, "
                f"numbered 0 to {len(numbers) - 1}; {keys.EPISODES_SIDECAR} says where each came from."
            )
        numbers = sorted(choice.episodes)
    if choice.tasks is not None:
        task_of = [dataset.tasks[dataset.task_of[start]] for start in dataset.starts]
        counts = {task: task_of.count(task) for task in dataset.tasks}
        missing_tasks = [task for task in choice.tasks if task not in counts]
        if missing_tasks:
            raise PositronicError(no_such("tasks", missing_tasks[0], counts, f"episode of {dataset.root}"))
        numbers = [number for number in numbers if task_of[number] in choice.tasks]
    if not numbers:
        raise PositronicError(
            f"No episode of {dataset.root} is chosen by {in_words(choice.said())} together. Its tasks: "
            f"{listing(dataset.tasks)}."
        )
    return numbers


def _stats_of(dataset: BakedDataset, episodes: Sequence[int]) -> Stats:
    """Statistics of these episodes alone, by the code and from the records that those of the dataset are made of."""
    if dataset.files is not None:
        return stats_of(dataset.only(episodes, dataset.stats))
    ledger = read_ledger(dataset.root, dataset.manifest, set(range(len(dataset.uids))).difference(episodes))
    part = dataset.only(episodes, dataset.stats)
    stats = ledger.stats(Spool(part.vectors, (part.ends - part.starts).tolist()))
    return {name: stats[name] for name in dataset.stats}
