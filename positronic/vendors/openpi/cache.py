"""What openpi keeps of buckets on this machine, and where weights of its own format are."""

from __future__ import annotations

import os
from pathlib import Path

from positronic.errors import PositronicError, listing

BUCKET = "gs://"
CACHE = "OPENPI_DATA_HOME"  # the variable that says where it is
CHECKOUT = "../openpi"  # where openpi is looked for
TOKENIZER = "gs://big_vision/paligemma_tokenizer.model"
PARAMS, WRITTEN = "params", "_METADATA"  # a folder of weights, and a file that orbax puts into each
ASSETS = "assets"  # beside it: statistics, by robot
FETCH = 'from openpi.shared.download import maybe_download; maybe_download("{uri}", gs={{"token": "anon"}})'


def cached(uri: str) -> Path:
    """Where openpi looks for ``gs://<bucket>/<path>`` before it fetches it."""
    home = Path(os.environ.get(CACHE) or "~/.cache/openpi").expanduser().absolute()
    return home / uri.removeprefix(BUCKET).strip("/")


def require_cached(uri: str, what: str, python: str) -> Path:
    """As ``cached``. Raises PositronicError for what is not there: openpi would try to fetch it, without a network for
    many minutes. ``python``: openpi's interpreter, for the command that fetches it."""
    path = cached(uri)
    if path.exists():
        return path
    raise PositronicError(
        f"{what}: {uri} is not in openpi's cache at {path}. Fetch it there where there is a network (the folder is "
        f"chosen by OPENPI_DATA_HOME):\n  {python} -c '{FETCH.format(uri=uri)}'"
    )


def params_in(folder: Path, what: str) -> Path:
    """The weights in ``folder``, openpi's checkpoint or its ``params``. Raises PositronicError if there are none."""
    for path in (folder / PARAMS, folder):
        if (path / WRITTEN).is_file():
            return path
    found = listing(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no folder"
    raise PositronicError(
        f"{what}: expected weights in openpi's own format, {PARAMS}/{WRITTEN}, found: {found}. Type "
        "vendor.base=<folder of a checkpoint of openpi's> or a gs:// address; weights of LeRobot's format are for "
        "vendor.backend=native."
    )
