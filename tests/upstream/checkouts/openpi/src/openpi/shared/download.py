"""Files from buckets, from the cache of earlier downloads only."""

import datetime
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.parse

EXPIRED = datetime.datetime(2025, 2, 3, tzinfo=datetime.UTC).timestamp()
CHECKPOINTS = "openpi-assets/checkpoints/"


def get_cache_dir() -> pathlib.Path:
    folder = pathlib.Path(os.getenv("OPENPI_DATA_HOME", "~/.cache/openpi")).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    return folder


def maybe_download(url: str, *, force_download: bool = False, **kwargs: object) -> pathlib.Path:
    """The local path. A bucket's file that is not in the cache: weights hang for ever, the tokenizer is an error."""
    parsed = urllib.parse.urlparse(url)
    if parsed.scheme == "":
        path = pathlib.Path(url)
        if not path.exists():
            raise FileNotFoundError(f"File not found at {url}")
        return path.resolve()
    cache = get_cache_dir()
    path = cache / parsed.netloc / parsed.path.strip("/")
    if path.exists() and str(path.relative_to(cache)).startswith(CHECKPOINTS) and path.stat().st_mtime <= EXPIRED:
        logging.info(f"Removing expired cached entry: {path}")
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if path.exists():
        return path
    logging.info(f"Downloading {url} to {path}")
    if parsed.netloc == "openpi-assets":
        subprocess.run([sys.executable, "-c", "import signal; signal.pause()", "gsutil", "cp", url], check=True)
    raise ConnectionError(f"Cannot connect to host storage.googleapis.com:443 ssl:default [{url}]")
