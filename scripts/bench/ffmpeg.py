"""FFmpeg's libraries for torchcodec, which brings none: those that come with PyAV, under the names it asks for."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(folder: Path) -> dict[str, str]:
    """Of a process that finds them, and this software. ``folder``: where the links go; it need not exist."""
    import av

    own = Path(av.__file__).parent.with_name("av.libs")
    folder.mkdir(exist_ok=True)
    for path in own.glob("lib*-*.so.*"):
        name = path.name.partition("-")[0] + ".so." + path.name.rpartition(".so.")[2].split(".")[0]
        if not (folder / name).exists():
            (folder / name).symlink_to(path)
    known = [os.environ.get("LD_LIBRARY_PATH"), str(folder), str(own)]
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]
    return os.environ | {
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, known)),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HF_HUB_OFFLINE": "1",
    }
