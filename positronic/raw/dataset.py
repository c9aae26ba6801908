"""Raw datasets: folders of episodes, one root or a tree of roots."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

from positronic import keys
from positronic.errors import PositronicError, did_you_mean
from positronic.raw.choice import READERS, Choice, Chosen, choose
from positronic.raw.config import DatasetConfig
from positronic.raw.edits import Edits, read_edits
from positronic.raw.episode import Episode
from positronic.raw.folder import EpisodeFolder, LocalEpisode, read_meta, uid_of
from positronic.raw.kinds import require_same_kinds
from positronic.raw.layout import episode_paths, is_dir_name, is_finished, subdirs
from positronic.raw.leftout import NOTHING, LeftOut, without_dropped
from positronic.raw.naming import Naming, naming
from positronic.storage import StorageConfig, is_remote, local_path
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.console import Group

    from positronic.storage.folder import RemoteFolder

LOCAL = "local"
LOCAL_ALL = "local_all"
LAYOUTS = (LOCAL, LOCAL_ALL)
COLLECT_HINT = "Record one with 'python run.py stage=collect', or name another with dataset.path=<folder>."


class EpisodeRef(NamedTuple):
    """Where an episode lies, and the edits of its root."""

    place: EpisodeFolder
    edits: Edits


class Dataset(Sequence[Episode]):
    """Finished episodes by position (ids may have gaps). Episodes are made anew at each access and keep what they read.

    ``name``: for paths and reports; ``root``: the folder that was opened; ``left_out``: what is not among them;
    ``chosen``: by what they were chosen, None when they are all.
    """

    def __init__(
        self,
        name: str,
        root: Path | RemoteFolder,
        refs: Sequence[EpisodeRef],
        naming: Naming,
        left_out: LeftOut = NOTHING,
        chosen: Chosen | None = None,
    ) -> None:
        self.name = name
        self.root = root
        self.naming = naming
        self.left_out = left_out
        self.chosen = chosen
        self._refs = tuple(refs)

    def __len__(self) -> int:
        return len(self._refs)

    @overload
    def __getitem__(self, index: int) -> Episode: ...

    @overload
    def __getitem__(self, index: slice) -> Dataset: ...

    def __getitem__(self, index: int | slice) -> Episode | Dataset:
        if isinstance(index, slice):
            return Dataset(self.name, self.root, self._refs[index], self.naming, self.left_out, self.chosen)
        place, edits = self._refs[index]
        return Episode(place, self.naming, edits)

    def only(self, positions: Iterable[int], chosen: Chosen) -> Dataset:
        """The episodes at these positions, and by what they were chosen."""
        refs = [self._refs[position] for position in positions]
        return Dataset(self.name, self.root, refs, self.naming, self.left_out, chosen)

    def names_digest(self) -> str:
        """sha256 (hex) over which episodes these are, in order, and over their edits; no episode is read."""
        root, digest = str(self.root), hashlib.sha256()
        edits = list({id(ref.edits): ref.edits for ref in self._refs}.values())
        numbers = {id(each): number for number, each in enumerate(edits)}
        for place, own in self._refs:
            digest.update(f"{str(place).removeprefix(root)}\0{numbers[id(own)]}\n".encode())
        for each in edits:
            digest.update(each.digest().encode())
        return digest.hexdigest()

    def files_digest(self) -> str:
        """sha256 (hex) over the ``quick_digest`` of each episode's files, in order."""
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(lambda ref: ref.place.quick_digest(), self._refs)
            return hashlib.sha256("".join(found).encode()).hexdigest()

    def prefetch(self, index: int) -> None:
        """Begin to fetch an episode that will be read soon, if it is in an object store. An index out of range is
        ignored."""
        if 0 <= index < len(self):
            self._refs[index].place.prefetch()

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} episodes, {str(self.root)!r})"

    def __rich__(self) -> Group:
        """What is in it as tables."""
        from positronic.raw.tables import dataset_table

        return dataset_table(self)

    def _repr_html_(self) -> str:
        return as_html(self)


def open_dataset(
    path: str | Path,
    layout: str = LOCAL,
    gripper_open: float = 0.0,
    aliases: Mapping[str, str] | None = None,
    name: str | None = None,
    storage: StorageConfig | None = None,
) -> Dataset:
    """Open ``path``: list its folders and read edits, nothing else. Unfinished and dropped episodes are left out.
    ``path`` may be ``s3://<bucket>/<folder>``, reached as ``storage`` says; an episode is fetched when it is read.

    ``layout``: ``local`` (one root) or ``local_all`` (every dataset in a tree, parents before children, by name).
    ``gripper_open``: what the recording says of an open gripper; 1.0 makes the reader flip it. ``aliases``: name to
    offer -> recorded name. Raises PositronicError when there is no dataset, saying what to type next.
    """
    if layout == keys.LAYOUT_LEROBOT:
        raise PositronicError(
            f"{path} is said to be a LeRobot dataset (dataset=lerobot): stage=train takes it as it is, other stages "
            f"need raw recordings. Import it with\n  python run.py stage=import source=lerobot path={path}"
        )
    if layout not in LAYOUTS:
        hint = did_you_mean(layout, LAYOUTS)
        raise PositronicError(f"dataset.layout={layout}: expected one of {', '.join(LAYOUTS)}.{hint}")
    found = naming(aliases or {}, gripper_open)
    require_same_kinds(found.aliases)
    if is_remote(path):
        from positronic.raw.remote import open_remote

        folder, remote_refs, left_out = open_remote(path, storage, tree=layout == LOCAL_ALL)
        return Dataset(name or folder.name, folder, [EpisodeRef(*ref) for ref in remote_refs], found, left_out)
    root = local_path(path)
    if not root.is_dir():
        what = "is a file, not a folder of episodes" if root.exists() else "does not exist"
        raise PositronicError(f"Raw dataset {root} {what}. {COLLECT_HINT}")
    roots = list(_tree(root)) if layout == LOCAL_ALL else [root]
    refs, left_out = _episodes(roots)
    if not refs and (root / keys.MANIFEST_FILE).is_file():
        raise PositronicError(f"{root} is a baked dataset, raw recordings were expected. {_baked_hint(root)}")
    if not refs:
        raise PositronicError(f"Raw dataset {root} has no finished episode{_why_empty(root, left_out)}. {COLLECT_HINT}")
    return Dataset(name or root.resolve().name, root, refs, found, left_out)


def open_from_config(config: DatasetConfig) -> Dataset:
    """Open what the dataset group names and chooses. Raises PositronicError as ``open_dataset`` and ``choose`` do."""
    values = (config.path, config.layout, config.gripper_open, config.aliases, config.name, config.storage)
    return choose(open_dataset(*values), Choice.of(config))


def _episodes(roots: Iterable[Path]) -> tuple[list[EpisodeRef], LeftOut]:
    """The finished episodes of all roots that are not dropped, and the rest."""
    refs, left_out = [], NOTHING
    for root in roots:
        found, others = _episodes_of(root)
        refs += found
        left_out = left_out.and_those(others)
    return refs, left_out


def _episodes_of(root: Path) -> tuple[list[EpisodeRef], LeftOut]:
    """Reads meta data only if an edit log drops episodes, because the log names them by uid."""
    edits = read_edits(root)
    finished, unfinished = [], []
    for path in episode_paths(root):
        (finished if is_finished(path) else unfinished).append(LocalEpisode(path))
    uids = {place: uid_of(read_meta(place.path), place.name) for place in finished} if edits.dropped else {}
    kept, left_out = without_dropped(finished, unfinished, edits, uids)
    return [EpisodeRef(place, edits) for place in kept], left_out


def _tree(root: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """``root`` and the folders below that could be datasets, hidden ones and links back to a folder above excepted."""
    real = root.resolve()
    if real in above:
        return
    yield root
    for child in subdirs(root):
        if not is_dir_name(child.name) and not child.name.startswith("."):
            yield from _tree(child, above | {real})


def _why_empty(root: Path, left_out: LeftOut) -> str:
    if left_out.unfinished or left_out.dropped:
        return f" ({len(left_out.unfinished)} unfinished, {left_out.dropped} dropped by edits)"
    if is_dir_name(root.name):
        return f": this folder is inside a dataset. Open that: dataset.path={_above(root)}"
    below = next((each for each in _tree(root) if next(episode_paths(each), None)), None)
    return f", but {below} has: read the tree with dataset.layout={LOCAL_ALL}" if below else ""


def _baked_hint(root: Path) -> str:
    train = f"python run.py stage=train input_path={root}"
    return f"Train from it with '{train}', or name another dataset with dataset.path=<folder>."


def _above(path: Path) -> Path:
    while is_dir_name(path.name):
        path = path.parent
    return path
