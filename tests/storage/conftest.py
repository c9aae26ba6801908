"""A real S3 endpoint on the loopback, and a proxy before it that injects faults."""

import http.client
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from positronic.storage.config import StorageConfig

ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "AKIDTESTTESTTEST", "s3cr3t-s3cr3t-s3cr3t", "t0ken-t0ken-t0ken"


# Ends with the tests, also when they are killed: its standard input is at its end then.
SERVER = """
import os, sys, threading
from moto.server import main
threading.Thread(target=lambda: sys.stdin.read() or os._exit(0), daemon=True).start()
main(["-H", "127.0.0.1", "-p", "0"])
"""


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """An S3 server in its own process."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", SERVER], text=True, **pipes)
    try:
        line = next(line for line in process.stderr if "Running on" in line)
        threading.Thread(
            target=process.stderr.read, daemon=True
        ).start()  # it logs every request; the pipe must not fill
        yield re.search(r"http://[\d.:]+", line)[0]
    finally:
        process.kill()
        process.wait()


def set_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("POSITRONIC_CACHE", str(folder / "cache"))


@pytest.fixture(autouse=True)
def own_account(monkeypatch, tmp_path):
    """Nobody's own keys, profiles or cache."""
    set_account(monkeypatch, tmp_path)


@dataclass
class Bucket:
    """A bucket of its own for a test, seen by another S3 library than the one under test."""

    name: str
    url: str
    cache: Path

    s3: Any

    def config(self, url: str | None = None, **values) -> StorageConfig:
        """How to reach it, straight or by way of ``url``."""
        values = {"retries": 4, "timeout_sec": 5.0, "cache_dir": str(self.cache)} | values
        return StorageConfig(endpoint_url=url or self.url, **values)

    def uri(self, folder: str) -> str:
        return f"s3://{self.name}/{folder}"

    def put(self, **objects: bytes) -> None:
        """Objects by key; ``__`` stands for a slash."""
        for key, data in objects.items():
            self.put_key(key.replace("__", "/"), data)

    def put_key(self, key: str, data: bytes, acl: str = "private") -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=data, ACL=acl)

    def put_folder(self, folder: Path, prefix: str, acl: str = "private") -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put_key(f"{prefix}/{path.relative_to(folder)}", path.read_bytes(), acl)

    def objects(self) -> dict[str, bytes]:
        """Everything in it, but for what goes while this looks: an upload removes its claim at the end."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        found = {}
        for name in [item["Key"] for page in pages for item in page.get("Contents", [])]:
            with suppress(self.s3.exceptions.NoSuchKey):
                found[name] = self.s3.get_object(Bucket=self.name, Key=name)["Body"].read()
        return found

    def pending_uploads(self) -> int:
        return len(self.s3.list_multipart_uploads(Bucket=self.name).get("Uploads", []))


@pytest.fixture(scope="session")
def other_library(server_url) -> Any:
    settings = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0})
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    return boto3.client("s3", endpoint_url=server_url, region_name="us-east-1", config=settings, **keys)


@pytest.fixture(scope="session")
def make_bucket(server_url, other_library) -> Callable[[Path], Bucket]:
    def make(cache: Path) -> Bucket:
        made = Bucket(f"test-{uuid.uuid4().hex[:12]}", server_url, cache, other_library)
        made.s3.create_bucket(Bucket=made.name)
        return made

    return make


@pytest.fixture
def bucket(make_bucket, tmp_path) -> Bucket:
    return make_bucket(tmp_path / "cache")


@pytest.fixture(scope="module")
def shared_bucket(make_bucket, tmp_path_factory) -> Iterator[Bucket]:
    """One for all tests of a module, which add to it."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_account(monkeypatch, folder)
        yield make_bucket(folder / "cache")


@dataclass
class Fault:
    """What happens to the next ``times`` requests of ``method`` whose path contains ``path``.

    ``busy``: 503. ``answer``: ``status`` and ``body``. ``reset``: the connection breaks in the middle of the answer's
    body. ``stall``: it stops there. ``lost``: the store does as told, the answer is lost. ``garbled``: a byte of the
    body is another. ``call``: before the request reaches the store, ``hook`` is called. It begins after ``skip``
    requests that it would fit.
    """

    kind: str
    method: str = "GET"
    path: str = ""
    times: int = 1
    skip: int = 0
    hook: Callable[[], None] | None = None
    status: int = 503
    body: bytes = b"<Error><Code>ServiceUnavailable</Code></Error>"


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def name(self) -> str:
        return self.path.partition("?")[0].rpartition("/")[2]


@dataclass
class Proxy:
    """Stands before the store. ``requests``: what has arrived."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def inject(self, kind: str, **values) -> None:
        self.faults.append(Fault(kind, **values))

    def gets(self) -> list[str]:
        """Names of the objects that were read, listings left out."""
        return [r.name for r in self.requests if r.method == "GET" and "list-type" not in r.path]

    def puts(self) -> list[str]:
        return [r.name for r in self.requests if r.method == "PUT"]

    def take(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and method == fault.method and fault.path in path:
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


@pytest.fixture
def proxy(running_proxy) -> Proxy:
    """A store that is without faults until some are injected."""
    del running_proxy.faults[:], running_proxy.requests[:]
    return running_proxy


@pytest.fixture(scope="session")
def running_proxy(server_url) -> Iterator[Proxy]:
    host = server_url.removeprefix("http://")
    known = Proxy("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known.requests.append(Request(self.command, self.path, dict(self.headers)))
            fault = known.take(self.command, self.path)
            kind = fault.kind if fault else ""
            if kind == "call":
                fault.hook()
            if kind in ("busy", "answer"):
                return self._answer(fault.status, {}, fault.body, "")
            store = http.client.HTTPConnection(host)
            store.request(self.command, self.path, body, dict(self.headers))
            answer = store.getresponse()
            data = answer.read()
            store.close()
            return self._answer(answer.status, dict(answer.getheaders()), data, kind)

        def _answer(self, status, headers, data, kind):
            if kind == "lost":
                self.close_connection = True
                return
            headers = {k.title(): v for k, v in headers.items() if k.lower() not in ("connection", "transfer-encoding")}
            headers.setdefault("Content-Length", str(len(data)))
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if kind == "garbled":
                data = bytes([data[0] ^ 1]) + data[1:]
            whole = kind not in ("reset", "stall")
            self.wfile.write(data if whole else data[: len(data) // 2])
            self.wfile.flush()
            if kind == "stall":
                self.connection.recv(1)  # until the other side has enough of it
            self.close_connection = self.close_connection or not whole

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815

        def log_message(self, *unused):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield known
    server.shutdown()
    server.server_close()
    thread.join()
