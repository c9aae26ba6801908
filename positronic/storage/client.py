"""Requests to an object store: one pool of connections per configuration, every request tried again with backoff.

s3fs knows credentials, profiles, endpoints and the event loop, and is used for that. What it does for whole files is
not used: it reads an object that changes meanwhile without noticing, and begins a large upload again after one fault.

Not obstore (tried at 0.12.1 against moto): small conditional writes, reads by etag and span, and pickling work, but

- ``put(mode="create")`` of 12 MiB went out as one request although ``use_multipart=True`` was given: a checkpoint above
  S3's 5 GB for one request could not be created only if absent, and one fault would begin it again;
- ``head`` does not give an object's metadata, where its sha256 and its writer stand; only ``get`` does;
- parts that a killed upload left can neither be listed nor aborted, so that ``clean`` could not remove them;
- profiles of ``~/.aws`` are not read, and a missing bucket and a missing object are one exception.

Large uploads, metadata and cleaning would need s3fs beside it: two libraries where there is one.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import logging
import os
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from positronic.errors import PositronicError
from positronic.storage.config import StorageConfig
from positronic.storage.faults import (
    MissingError,
    PreconditionError,
    backoff_sec,
    explain,
    is_transient,
    is_unreachable,
)
from positronic.storage.uri import S3Uri

T = TypeVar("T")
Advance = Callable[[int], None]
"""Called with the bytes done since the last call."""

logger = logging.getLogger(__name__)

FIRST_CONTACT_RETRIES = 2  # so that a wrong address is reported soon
CANCEL_TIMEOUT_SEC = 5.0
NONCE = "nonce"  # key of the metadata that tells whose object it is
CREATE = {"IfNoneMatch": "*"}
TALKATIVE = ("botocore", "aiobotocore", "s3fs", "fsspec", "aiohttp")


class RemoteFile(NamedTuple):
    """``name``: within the folder that was listed. ``etag``: as the store writes it, with its quotes."""

    name: str
    size: int
    etag: str


class Listing(NamedTuple):
    """What is in a folder: files (of folders below too, unless only one level was asked for) and folders' names."""

    files: list[RemoteFile]
    folders: list[str]


class Client:
    """Speaks to one object store as one user. Coroutines run in one background thread, by way of ``run``."""

    def __init__(self, config: StorageConfig) -> None:
        self.config = config
        self._filesystem = _filesystem(config)
        self._slots = asyncio.Semaphore(config.max_concurrency)
        self._connecting = asyncio.Lock()
        self._reached = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. If the wait is interrupted, also by Ctrl-C, the coroutine is cancelled first."""
        ended = threading.Event()

        async def guarded() -> T:
            try:
                return await coroutine
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(guarded(), self._filesystem.loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                ended.wait(CANCEL_TIMEOUT_SEC)
            raise

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run it in the background."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._filesystem.loop)

    async def retried(self, what: S3Uri, attempt: Callable[[Any], Awaitable[T]]) -> T:
        """Call ``attempt(s3 client)``, and again as long as its error may pass. Raises what ``explain`` makes of the
        last error."""
        for tries in itertools.count():
            try:
                async with self._slots:
                    result = await attempt(await self._connected())
            except Exception as error:
                unknown = is_unreachable(error) and not self._reached
                patience = min(self.config.retries, FIRST_CONTACT_RETRIES) if unknown else self.config.retries
                if tries >= patience or not is_transient(error):
                    raise explain(error, what, self.config) from error
                logger.info("%s: %s; trying again (%d of %d)", what, type(error).__name__, tries + 1, patience)
                await asyncio.sleep(backoff_sec(tries))
            else:
                self._reached = True
                return result
        raise AssertionError("unreachable")

    async def request(self, operation: str, what: S3Uri, **parameters: Any) -> dict[str, Any]:
        """One S3 operation on an object."""
        return await self.retried(
            what, lambda s3: getattr(s3, operation)(Bucket=what.bucket, Key=what.key, **parameters)
        )

    async def get(self, what: S3Uri) -> bytes:
        """A small object. Raises MissingError."""

        async def attempt(s3: Any) -> bytes:
            answer = await s3.get_object(Bucket=what.bucket, Key=what.key)
            async with answer["Body"] as body:
                return await body.read()

        return await self.retried(what, attempt)

    async def get_span(
        self, what: S3Uri, etag: str, span: tuple[int, int], write: Callable[[bytes], None]
    ) -> dict[str, str]:
        """Bytes ``start:stop`` of an object, handed to ``write`` in another thread. Returns the object's metadata.

        Raises MissingError, and PreconditionError when its etag is another.
        """
        start, stop = span

        async def attempt(s3: Any) -> dict[str, str]:
            wanted = {"IfMatch": etag, "Range": f"bytes={start}-{stop - 1}"}
            answer = await s3.get_object(Bucket=what.bucket, Key=what.key, **wanted)
            async with answer["Body"] as body:
                data = await body.read()
            if len(data) != stop - start:
                raise EOFError(f"expected {stop - start} bytes, found {len(data)}")
            await asyncio.to_thread(write, data)  # before another request may begin, so that memory stays bounded
            return answer.get("Metadata") or {}

        return await self.retried(what, attempt)

    async def head(self, what: S3Uri) -> dict[str, Any] | None:
        """What the store says of an object; None when there is none."""
        try:
            return await self.request("head_object", what)
        except MissingError:
            return None

    async def put(self, what: S3Uri, data: bytes, metadata: dict[str, str], **conditions: str) -> dict[str, Any]:
        """Write a small object. Raises PreconditionError when ``conditions`` (CREATE, IfMatch) do not hold."""
        digest = content_md5(data)
        return await self.request("put_object", what, Body=data, ContentMD5=digest, Metadata=metadata, **conditions)

    async def create(self, what: S3Uri, data: bytes, metadata: Mapping[str, str], etag: str | None = None) -> None:
        """Write a small object that is not there yet, or replace the one with this etag. Only one of several writers
        succeeds; the others get PreconditionError."""
        mark = {NONCE: uuid.uuid4().hex}
        condition = {"IfMatch": etag} if etag else CREATE
        try:
            await self.put(what, data, {**metadata, **mark}, **condition)
        except PreconditionError:  # or the answer to our own request was lost, and the request was sent again
            there = await self.head(what) or {}
            if (there.get("Metadata") or {}).get(NONCE) != mark[NONCE]:
                raise

    async def delete(self, what: S3Uri) -> None:
        """Remove an object. It need not exist."""
        await self.request("delete_object", what)

    async def listing(self, folder: S3Uri, nested: bool = True, limit: int | None = None) -> Listing:
        """Files under ``folder``, sorted by name; ``nested`` False lists one level. ``limit``: stop after so many.

        Raises PositronicError on a name that would lead out of the folder.
        """
        files: list[RemoteFile] = []
        folders: list[str] = []
        page: dict[str, Any] = {"NextContinuationToken": None}
        more = {} if nested else {"Delimiter": "/"}
        more |= {"MaxKeys": limit} if limit else {}
        while "NextContinuationToken" in page and not (limit and len(files) + len(folders) >= limit):
            token = page["NextContinuationToken"]
            parameters = {"Bucket": folder.bucket, "Prefix": folder.prefix, **more}
            parameters |= {"ContinuationToken": token} if token else {}
            page = await self._list_page(folder, parameters)
            files += _files(folder, page)
            folders += [prefix["Prefix"].removeprefix(folder.prefix)[:-1] for prefix in page.get("CommonPrefixes", [])]
        return Listing(files, folders)

    async def _list_page(self, folder: S3Uri, parameters: dict[str, Any]) -> dict[str, Any]:
        return await self.retried(folder, lambda s3: s3.list_objects_v2(**parameters))

    async def _connected(self) -> Any:
        async with self._connecting:  # s3fs would open one session for each of several first requests
            return await self._filesystem.set_session()


async def each[I](items: Iterable[I], work: Callable[[I], Awaitable[Any]], workers: int) -> None:
    """``work`` on every item, ``workers`` at a time. The first error ends all and is raised."""
    todo = iter(items)

    async def go_on() -> None:
        for item in todo:
            await work(item)

    tasks = [asyncio.create_task(go_on()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def connect(config: StorageConfig) -> Client:
    """The process's client for this store and user. Raises PositronicError when s3fs is missing or a value is wrong."""
    how = {name: value for name, value in asdict(config).items() if not name.startswith("cache_")}
    account = hash(tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))
    key = (os.getpid(), account, *how.values())  # connections do not survive a fork
    with _LOCK:
        if key not in _CLIENTS:
            _CLIENTS[key] = Client(config)
        return _CLIENTS[key]


def content_md5(data: bytes) -> str:
    """For the Content-MD5 header, which every store understands; newer checksums are not known to all."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


_CLIENTS: dict[tuple[Any, ...], Client] = {}
_LOCK = threading.Lock()


def _filesystem(config: StorageConfig) -> Any:
    _check_endpoint(config.endpoint_url)
    try:
        import s3fs
    except ImportError:
        raise PositronicError("s3:// needs the package s3fs. Type: uv pip install 'positronic-hydra[s3]'") from None
    _keep_quiet()
    settings = {
        "retries": {"total_max_attempts": 1},  # only Client.retried tries again
        "connect_timeout": config.timeout_sec,
        "read_timeout": config.timeout_sec,
        "max_pool_connections": config.max_concurrency,
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    filesystem = s3fs.S3FileSystem(
        anon=config.anonymous,
        endpoint_url=config.endpoint_url,
        client_kwargs={"region_name": config.region} if config.region else {},
        config_kwargs=settings,
        skip_instance_cache=True,
        use_listings_cache=False,
        **({"profile": config.profile} if config.profile else {}),
    )
    filesystem.retries = 1
    return filesystem


def _check_endpoint(url: str | None) -> None:
    parts = urlsplit(url or "https://amazonaws.com")
    if parts.username or parts.password:
        where = parts.netloc.rpartition("@")[2]
        raise PositronicError(f"endpoint_url of {where}: keys are not written into it; take storage.profile=<name>.")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise PositronicError(f"endpoint_url={url}: expected http://<host> or https://<host>.")


def _keep_quiet() -> None:
    """At level DEBUG botocore logs every header, session tokens among them: never, not even with hydra.verbose=true."""
    for name in TALKATIVE:
        library = logging.getLogger(name)
        library.setLevel(max(library.level, logging.WARNING))


def _files(folder: S3Uri, page: dict[str, Any]) -> list[RemoteFile]:
    found = []
    for item in page.get("Contents", []):
        name = item["Key"].removeprefix(folder.prefix)
        if not name or name.endswith("/"):  # consoles make these for empty folders
            continue
        if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name or "\\" in name:
            raise PositronicError(f"{folder} holds an object named {name!r}, which cannot be a file here. Rename it.")
        found.append(RemoteFile(name, item["Size"], item["ETag"]))
    return found
