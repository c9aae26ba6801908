"""An object store on the loopback with a folder in it, for benchmarks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.contenders import CannotRunError

NAME = "bench"
ACCOUNT = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
# Ends with this process: its standard input is at its end then.
SERVER = """
import os, sys, threading
from moto.server import main
threading.Thread(target=lambda: sys.stdin.read() or os._exit(0), daemon=True).start()
main(["-H", "127.0.0.1", "-p", "0"])
"""


class Bucket(NamedTuple):
    """Where a folder is."""

    uri: str
    endpoint: str


@contextmanager
def bucket_with(folder: Path) -> Iterator[Bucket]:
    """A store that holds ``folder``; processes that are started inside have its account. Raises CannotRunError."""
    try:
        import boto3
        import moto  # noqa: F401
    except ImportError as error:
        raise CannotRunError(f"No bucket here: {error}.") from None
    os.environ |= ACCOUNT
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            line = next((line for line in server.stderr if "Running on" in line), "")
            threading.Thread(target=server.stderr.read, daemon=True).start()  # the pipe must not fill
            endpoint = re.search(r"http://[\d.:]+", line)[0]
            store = boto3.client("s3", endpoint_url=endpoint)
            store.create_bucket(Bucket=NAME)
            for path in folder.rglob("*"):
                if path.is_file():
                    store.upload_file(str(path), NAME, f"set/{path.relative_to(folder)}")
            yield Bucket(f"s3://{NAME}/set", endpoint)
        finally:
            server.kill()
