"""The folder that recordings are imported into: what they are imported with, and which of them are there.

Beside the episodes lie ``import.json``, on which they depend, and ``import_mapping.yaml``, the same mapping as people
read it. A run with another source, robot or mapping is refused: the dataset would hold episodes of two kinds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from positronic import keys
from positronic.conventions import differences
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError
from positronic.importing.mapping import ImportMapping, write_mapping
from positronic.importing.recording import NAME
from positronic.raw.layout import STATICS_FILE, episode_paths, is_finished, remove_unfinished
from positronic.raw.statics import read_statics
from positronic.utils.files import replace_text

RECORD_FILE = "import.json"
MAPPING_FILE = "import_mapping.yaml"


class ImportFolder:
    """``root``, for one process at a time."""

    def __init__(self, root: Path, path: str, mapping: ImportMapping, embodiment: Embodiment) -> None:
        self.root = root
        self._mapping = mapping
        self._asked = {"path": path, "embodiment": embodiment.to_dict(), "mapping": asdict(mapping)}

    def begin(self) -> dict[str, int]:
        """Remove what an interrupted run left unfinished, and note what is imported. Returns name -> id of the episodes
        that are there.

        Raises PositronicError if they are of another source, robot or mapping, or were not imported.
        """
        remove_unfinished(self.root)
        there = imported(self.root)
        if there:
            self._require_same()
        replace_text(self.root / RECORD_FILE, json.dumps(self._asked, indent=1) + "\n")
        write_mapping(self.root / MAPPING_FILE, self._mapping)
        return there

    def _require_same(self) -> None:
        record = read_record(self.root)
        rows = differences(dict(_flat(record)), dict(_flat(json.loads(json.dumps(self._asked)))))
        if rows:
            lines = [f"  {name}: there {theirs}; now {ours}" for name, theirs, ours in rows]
            raise PositronicError(
                "\n".join(
                    [
                        f"{self.root} holds episodes that were imported otherwise:",
                        *lines,
                        f"Type the same again, import elsewhere (output_dir={self.root}_2), or remove the folder.",
                    ]
                )
            )


def imported(root: Path) -> dict[str, int]:
    """Name in the source -> id, of all finished episodes. Raises PositronicError for one that was not imported."""
    found = {}
    for path in episode_paths(root):
        if is_finished(path):
            said = read_statics(path / STATICS_FILE).get(keys.IMPORTED)
            if not isinstance(said, dict) or NAME not in said:
                raise PositronicError(
                    f"{root} holds episodes that stage=import did not write ({path.name}). Import elsewhere, e.g. "
                    f"output_dir={root}_2."
                )
            found[said[NAME]] = int(path.name)
    return found


def places(names: Iterable[str], there: Mapping[str, int]) -> dict[str, int]:
    """An id for each episode that is not there: its position in the source, as long as all have theirs."""
    names = list(names)
    if all(name in there and there[name] == at for at, name in enumerate(names) if name in there) and (
        set(there) <= set(names)
    ):
        return {name: at for at, name in enumerate(names) if name not in there}
    start = max(there.values()) + 1  # the source has changed since
    missing = [name for name in names if name not in there]
    return {name: start + at for at, name in enumerate(missing)}


def read_record(root: Path) -> dict[str, Any]:
    """What the episodes were imported with. Raises PositronicError when that is not known."""
    path = root / RECORD_FILE
    try:
        record = json.loads(path.read_text())
        if isinstance(record, dict):
            return record
        raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise PositronicError(
            f"{path} is missing or damaged ({error}), so it is not known how the episodes beside it were imported. "
            f"Import elsewhere, e.g. output_dir={root}_2."
        ) from None


def _flat(tree: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """``(dotted name, value)`` of every leaf."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else name)
    elif tree is not None:
        yield prefix, tree
