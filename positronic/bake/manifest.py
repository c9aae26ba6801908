"""The manifest of a baked dataset, and the sidecar that says where each episode came from.

Nothing in either depends on time, machine or path: the same input bakes to the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from positronic import keys
from positronic.bake.file_list import read_file_list, recorded
from positronic.bake.holdout import Holdout, holdout
from positronic.bake.reading import AGAIN
from positronic.codecs.build import Recipe
from positronic.embodiments.published import with_joints
from positronic.errors import PositronicError
from positronic.raw.layout import episode_paths
from positronic.storage import local_path, partial_path

FORMAT = 1
ONLY_IF_SAID = ("choice", "held_out")
BAKE_HINT = "Bake one with `python run.py stage=convert dataset.path=<raw dataset> vendor=... codec=...`."


@dataclass(frozen=True)
class Manifest:
    """What a baked dataset says about itself.

    ``recipe``: ``Recipe.to_dict()``. ``reader``: what was mended while reading. ``appended``: for each later append,
    how many episodes it added, and the values of those fields that may differ; the other fields are of the first bake.
    ``file_list``: whether ``meta/positronic_files.txt`` records every file (older bakes did not write it).
    ``joint_names``: in order, if the codec has joints and the recordings note them. ``digest``: sha256 over the source
    episodes in order, so that equal digests mean equal data under equal recipes. ``choice``: which episodes of the
    recording were asked for, as ``raw.choice.Chosen`` says; None: all. ``held_out``: which are not to be trained on, as
    ``Holdout`` says; None: none. These two are only in the file when they say something.
    """

    recipe: dict[str, Any]
    fps: int
    dataset_format: str
    vendor: str
    episodes: int
    frames: int
    digest: str
    signals: list[str]
    reader: dict[str, Any]
    task: str | None
    max_staleness_sec: float | None
    video: dict[str, Any]
    provenance: dict[str, Any]
    max_state_staleness_sec: float | None = None
    appended: list[dict[str, Any]] = field(default_factory=list)
    file_list: bool = False
    joint_names: list[str] | None = None
    choice: dict[str, Any] | None = None
    held_out: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        fields = {"format": FORMAT} | asdict(self)
        return {name: value for name, value in fields.items() if name not in ONLY_IF_SAID or value is not None}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Manifest:
        """The inverse of ``to_dict``."""
        return cls(**{name: value for name, value in fields.items() if name != "format"})

    def load_recipe(self) -> Recipe:
        """The codec and modality that the data was baked with."""
        return Recipe.from_dict(self.recipe, with_joints(self.joint_names) if self.joint_names else None)

    @property
    def holdout(self) -> Holdout | None:
        """Which episodes are not to be trained on."""
        said = self.held_out
        return said and holdout(said["val_fraction"], said["val_seed"])

    @property
    def held_out_episodes(self) -> list[int]:
        """Indices of these, in order."""
        return [] if self.held_out is None else list(self.held_out["episodes"])

    @property
    def choices(self) -> list[dict[str, Any]]:
        """Which episodes each bake into this dataset asked for, by the parameters' names; empty for all."""
        bakes = [self.choice, *(each.get("choice") for each in self.appended)]
        return [{} if each is None else each["said"] for each in bakes]


def episodes_digest(rows: Iterable[tuple[str, str, int]]) -> str:
    """sha256 (hex) over (uid, fingerprint, length) of each episode in order."""
    digest = hashlib.sha256()
    for uid, fingerprint, length in rows:
        digest.update(f"{uid}\0{fingerprint}\0{length}\n".encode())
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it into a dataset's folder."""
    (folder / keys.MANIFEST_FILE).write_bytes(manifest_bytes(manifest))


def manifest_bytes(manifest: Manifest) -> bytes:
    """The file's content."""
    return (json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False) + "\n").encode()


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of the baked dataset at ``path``.

    Raises PositronicError, saying what to type, if there is no dataset, if it is not ours or of a newer version, or if
    the file is not what was written.
    """
    folder = local_path(path)
    file = folder / keys.MANIFEST_FILE
    try:
        content = file.read_bytes()
        fields = json.loads(content)
    except (FileNotFoundError, NotADirectoryError):
        raise PositronicError(_why_none(folder)) from None
    except ValueError as error:
        raise PositronicError(f"{file} is not JSON ({error}). Remove the dataset and bake it again.") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        found = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        raise PositronicError(f"{file}: expected manifest format {FORMAT}, found {found!r}. Update Positronic.")
    if (folder / keys.FILE_LIST).is_file() and read_file_list(folder).get(keys.MANIFEST_FILE) != recorded(content):
        raise PositronicError(
            f"{file} does not fit the list in {folder / keys.FILE_LIST}: one of them is damaged, or another dataset's. "
            f"{AGAIN}"
        )
    unknown = [name for name in fields if name not in (*Manifest.__dataclass_fields__, "format")]
    if unknown:
        raise PositronicError(f"{file} was written by a newer version: it has '{unknown[0]}'. Update Positronic.")
    try:
        return Manifest.from_dict(fields)
    except TypeError as error:
        raise PositronicError(f"{file} is damaged ({error}). Remove the dataset and bake it again.") from None


def _why_none(folder: Path) -> str:
    if (folder / keys.INFO_FILE).exists():
        return (
            f"{folder} is a LeRobot dataset without {keys.MANIFEST_FILE}: it was not baked by Positronic, and does not "
            f"say what its numbers mean. {BAKE_HINT}"
        )
    if not folder.exists():
        unfinished = " An unfinished bake lies beside it; run it again." if partial_path(folder).exists() else ""
        return f"There is no baked dataset at {folder}.{unfinished} {BAKE_HINT}"
    if folder.is_dir() and next(episode_paths(folder), None):
        return f"{folder} is a raw dataset, a baked one was expected. {BAKE_HINT.replace('<raw dataset>', str(folder))}"
    return f"{folder} is not a baked dataset: it has no {keys.MANIFEST_FILE}. {BAKE_HINT}"
