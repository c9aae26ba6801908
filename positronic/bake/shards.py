"""A bake that is split over several processes or machines: where its shards lie, and how they are told from others.

Shard k of N has the k-th part of the episodes, in order. It is a folder ``<k>-of-<N>``, which needs no shared memory,
lock or clock between machines: only a file system that all of them see. It holds the pieces of its episodes
(``pieces``), what became of each of them (``shard_records``), size and CRC-32 of these files, and ``shard.json``, which
is written last: a shard without it is not complete, whatever else is there.

``shard.json`` says everything that the shard depends on. What only the joined dataset depends on (its format, the held
out episodes, the vendor's files) is not among it.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from positronic.bake.episode import BakedEpisode, Rejected, Source, encode_samples
from positronic.bake.file_list import FileList, changed_files, measure, read_file_list, require_sizes, write_file_list
from positronic.bake.manifest import Manifest
from positronic.bake.orientation import Movement
from positronic.bake.parallel import FrameCounter, Result
from positronic.bake.pieces import Piece, asked_of, code_digest
from positronic.bake.shard_records import RECORDS_FILE, Record, read_movements, read_records
from positronic.codecs.build import Recipe
from positronic.conventions import differences, disagreement
from positronic.errors import PositronicError, clipped
from positronic.raw.dataset import Dataset
from positronic.storage import local_path
from positronic.utils.command_line import again
from positronic.utils.files import replace_text

FORMAT = 1
SHARD_FILE = "shard.json"
NOT_OF_A_SHARD = ("shard", "join", "hydra.run.dir")  # parameters that another shard's command has otherwise
SHOWN_CHARS = 120  # of a setting
SHOWN = 12  # numbers of shards


def shards_path(output: str | Path) -> Path:
    """Where the shards of the dataset ``output`` are kept if nothing else is said: beside it."""
    path = local_path(output).resolve()
    return path.with_name(f".{path.name}.shards")


@dataclass(frozen=True)
class Stamp:
    """What a shard depends on. ``settings``: of the bake, JSON-ready. ``episodes``: how many there are in all.
    ``names``: ``Dataset.names_digest`` of all. ``files``: ``Dataset.files_digest`` of its own."""

    settings: dict[str, Any]
    episodes: int
    names: str
    files: str

    def rows(self) -> dict[str, Any]:
        """Each thing by its name, for people."""
        recording = {"episodes of the recording": self.episodes, "names and edits of the episodes": self.names}
        return recording | {"sizes and statics of the episodes": self.files} | _flat(self.settings)


@dataclass(frozen=True)
class Shard:
    """One of ``count`` shards in ``parent``. ``number``: from 1."""

    parent: Path
    number: int
    count: int

    def __str__(self) -> str:
        return f"shard {self.number} of {self.count}"

    @property
    def folder(self) -> Path:
        """Where everything of it lies."""
        return self.parent / f"{self.number}-of-{self.count}"

    @property
    def pieces(self) -> Path:
        """The folder for ``Pieces``."""
        return self.folder / "pieces"

    @property
    def records(self) -> Path:
        """The file for ``shard_records``."""
        return self.folder / RECORDS_FILE

    @property
    def is_complete(self) -> bool:
        """Whether all of its episodes are baked."""
        return (self.folder / SHARD_FILE).is_file()

    @property
    def remedy(self) -> str:
        """What to type when it cannot be used."""
        command = again(f"shard={self.number}", without=NOT_OF_A_SHARD)
        return f"To bake it again: rm -r {shlex.quote(str(self.folder))} && {command}"

    def span(self, total: int) -> range:
        """Positions of its episodes among ``total``."""
        return range((self.number - 1) * total // self.count, self.number * total // self.count)

    def stamp(self, whole: Stamp, dataset: Dataset) -> Stamp:
        """What it should depend on. ``whole``: ``stamp_of`` the bake of ``dataset``."""
        span = self.span(len(dataset))
        return replace(whole, files=dataset[span.start : span.stop].files_digest())

    def seal(self, stamp: Stamp, pieces: Path, fingerprints: Sequence[str]) -> None:
        """Record its files, those of ``pieces`` by the episodes' ``fingerprints``, and say that it is complete."""
        videos = [path for each in dict.fromkeys(fingerprints) for path in sorted((pieces / each).glob("*.mp4"))]
        files = [self.records, *videos]
        write_file_list(self.folder, measure(self.folder, [str(path.relative_to(self.folder)) for path in files]))
        content = {"format": FORMAT, "pieces": pieces.name} | asdict(stamp)
        replace_text(self.folder / SHARD_FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def require(self, stamp: Stamp) -> None:
        """Raise PositronicError unless it is complete, depends on the same, and has files of the right sizes, and
        records of the right bytes."""
        try:
            content = json.loads((self.folder / SHARD_FILE).read_text(encoding="utf-8"))
            kept = Stamp(**{name: content[name] for name in ("settings", "episodes", "names", "files")})
            if content["format"] != FORMAT or not isinstance(content["pieces"], str):
                raise ValueError(f"expected format {FORMAT}")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._damaged(f"{SHARD_FILE} cannot be read ({error!r})") from None
        rows = differences(kept.rows(), stamp.rows())
        if rows:
            shown = [(name, clipped(mine, SHOWN_CHARS), clipped(other, SHOWN_CHARS)) for name, mine, other in rows]
            heading = f"{str(self).capitalize()} in {self.folder} is of another bake:"
            raise disagreement(heading, "it", "this bake", shown, self.remedy)
        try:
            files = self._files()
            require_sizes(self.folder, files)
        except PositronicError as error:
            raise self._damaged(str(error).removesuffix(" Convert it again.")) from None
        self._require_bytes({RECORDS_FILE: files[RECORDS_FILE]})

    def require_bytes(self) -> None:
        """Read all of its files and raise PositronicError for the first that is not what was written."""
        self._require_bytes(self._files())

    def results(self, dataset: Dataset, recipe: Recipe) -> Iterator[BakedEpisode | Rejected]:
        """What a bake of its episodes with ``recipe`` gives."""
        cameras = [column.name for column in recipe.modality.image_columns]
        content = json.loads((self.folder / SHARD_FILE).read_text(encoding="utf-8"))
        pieces = self.pieces / content["pieces"]
        for position, record in zip(self.span(len(dataset)), read_records(self.records), strict=True):
            if record.reason is None:
                yield _baked(record, recipe, Piece(pieces, record.fingerprint, cameras))
            else:
                episode = dataset[position]
                yield Rejected(episode.id, record.uid, str(episode.place), record.reason)

    def _files(self) -> FileList:
        return read_file_list(self.folder)

    def _require_bytes(self, files: FileList) -> None:
        changed = changed_files(self.folder, files)
        if changed:
            raise self._damaged(f"{changed[0]} does not have the bytes that were written")

    def _damaged(self, why: str) -> PositronicError:
        return PositronicError(f"{str(self).capitalize()} in {self.folder} is damaged: {why}. {self.remedy}")


@dataclass(frozen=True)
class Shards:
    """All ``count`` shards of a bake, in ``folder``."""

    folder: Path
    count: int

    def __iter__(self) -> Iterator[Shard]:
        return (Shard(self.folder, number, self.count) for number in range(1, self.count + 1))

    def __getitem__(self, number: int) -> Shard:
        return Shard(self.folder, number, self.count)

    def missing(self) -> list[int]:
        """Numbers of those that are not complete."""
        return [shard.number for shard in self if not shard.is_complete]

    def remove(self) -> None:
        """Remove all of them; other files in the folder stay."""
        for shard in self:
            shutil.rmtree(shard.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is not empty
            self.folder.rmdir()

    def require_several(self, episodes: int) -> None:
        """Raise PositronicError when there are more shards than episodes."""
        if self.count > episodes:
            raise PositronicError(
                f"shards={self.count}: there are {episodes} episodes, and a shard has at least one. Type at most "
                f"shards={episodes}."
            )

    def require_complete(self, dataset: Dataset, planned: Manifest, robot_is_told: bool) -> None:
        """Raise PositronicError if one is missing, with the command that bakes it, or is not of this bake."""
        self.require_several(len(dataset))
        missing = self.missing()
        if missing:
            command = again(f"shard={missing[0]}", without=NOT_OF_A_SHARD)
            shown = ", ".join(map(str, missing[:SHOWN])) + (", ..." if len(missing) > SHOWN else "")
            what = f"shards {shown} are" if len(missing) > 1 else f"shard {shown} is"
            each = f", and so on for each of these {len(missing)}" if len(missing) > 1 else ""
            raise PositronicError(
                f"{self.folder}: {what} missing of {self.count}; nothing was joined. Bake it first: {command}{each}."
            )
        self.require_ours(dataset, planned, robot_is_told)

    def require_ours(self, dataset: Dataset, planned: Manifest, robot_is_told: bool) -> None:
        """Raise PositronicError if a complete one is damaged or of another bake."""
        whole = stamp_of(dataset, planned, robot_is_told)
        for shard in self:
            if shard.is_complete:
                shard.require(shard.stamp(whole, dataset))

    def movements(self) -> Iterator[dict[str, Movement]]:
        """Of every episode in order, bad ones too."""
        for shard in self:
            yield from read_movements(shard.records)

    def results(self, dataset: Dataset, recipe: Recipe, counter: FrameCounter) -> Generator[Result]:
        """What a bake of all episodes with ``recipe`` gives. Raises PositronicError for a damaged shard: its bytes are
        compared just before they are used, when they will be read anyway."""
        for shard in self:
            shard.require_bytes()
            for result in shard.results(dataset, recipe):
                yield result
                counter.add(result.length if isinstance(result, BakedEpisode) else 0)


def stamp_of(dataset: Dataset, planned: Manifest, robot_is_told: bool) -> Stamp:
    """What all shards of a bake of ``dataset`` depend on; ``files`` is each one's own."""
    names = ("task", "max_staleness_sec", "max_state_staleness_sec")
    settings = asked_of(planned) | {name: getattr(planned, name) for name in names}
    settings |= {"robot_is_told": robot_is_told, "code": code_digest()[:16]}
    as_read_back = json.loads(json.dumps(settings, default=str))
    return Stamp(as_read_back, len(dataset), dataset.names_digest(), files="")


def _baked(record: Record, recipe: Recipe, piece: Piece) -> BakedEpisode:
    encoded = encode_samples(recipe.codec, recipe.modality, record.samples)
    return BakedEpisode(
        source=Source(record.uid, record.fingerprint),
        task=record.task,
        length=record.length,
        **encoded._asdict(),
        pieces=piece.paths,
        histograms=record.histograms,
        was_there=False,
        joint_names=record.joint_names,
        notes=record.notes,
    )


def _flat(values: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{start}{name}.") if isinstance(value, Mapping) else {f"{start}{name}": value}
    return found
