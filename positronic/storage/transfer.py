"""Files to and from an object store, in pieces. Each piece is tried again by itself, and several are transferred at
once.

Our objects carry their sha256 as metadata, and a file that arrives is compared with it. Every piece is requested with
the etag of the listing, so that a file never mixes two versions.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from positronic.errors import PositronicError
from positronic.storage.client import CREATE, Advance, Client, RemoteFile, content_md5, each
from positronic.storage.faults import DamagedError, MissingError, PreconditionError
from positronic.storage.uri import S3Uri

FETCHED_BYTES = 1 << 20  # a piece that is fetched: small, because a frame that is needed at once waits for its pieces
PIECE_BYTES = 8 << 20  # a piece that is sent; S3 takes none below 5 MiB but the last
MAX_PIECES = 9_000  # S3 takes 10,000 parts
DOWNLOAD_ATTEMPTS = 3  # of a file whose content turns out to be wrong
SHA256 = "sha256"  # key of the object's metadata

Span = tuple[int, int]


class PartialFile:
    """A file that is being downloaded: pieces at their places in ``.<name>.part``, and a journal of those that are
    there.

    If a process is killed, a later one continues where it stopped. ``finish`` gives the file its name.
    """

    def __init__(self, target: Path, size: int) -> None:
        self.target = target
        self.size = size
        self.path = target.with_name(f".{target.name}.part")
        self._journal = target.with_name(f".{target.name}.pieces")

    def missing(self) -> Iterator[Span]:
        """Spans that are not there yet."""
        there = self._there()
        return (span for span in pieces(self.size, FETCHED_BYTES) if span[0] not in there)

    def open(self) -> BinaryIO:
        """For reading, and for pieces at their places. It stays open over ``finish``."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")

    def write(self, span: Span, data: bytes) -> None:
        """Put a piece in its place. Several threads may."""
        with self.open() as file:
            file.seek(span[0])
            file.write(data)
        if self.size > FETCHED_BYTES:
            with self._journal.open("a") as journal:
                journal.write(f"{span[0]}\n")

    def finish(self, sha256: str | None) -> None:
        """Check the file and give it its name. Raises DamagedError, after which nothing is left of it."""
        if not self.size:
            self.write((0, 0), b"")
        found = self.path.stat().st_size
        if found != self.size or (sha256 and file_sha256(self.path) != sha256):
            self.discard()
            raise DamagedError(f"{self.target} did not arrive as it was published. Try again.")
        self._journal.unlink(missing_ok=True)
        self.path.replace(self.target)

    def discard(self) -> None:
        """Leave nothing behind."""
        self.path.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)

    def _there(self) -> set[int]:
        if not (self._journal.exists() and self.path.exists()):
            return set()
        return {int(line) for line in self._journal.read_text().split("\n")[:-1]}  # the last may be cut off


def pieces(size: int, length: int) -> Iterator[Span]:
    """``size`` bytes as (start, stop), of ``length`` bytes each."""
    return ((start, min(start + length, size)) for start in range(0, size, length))


def file_sha256(path: Path) -> str:
    """Hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def download(client: Client, folder: S3Uri, file: RemoteFile, target: Path, advance: Advance) -> None:
    """One object into ``target``, which appears complete or not at all.

    Raises PreconditionError or MissingError when the object is no longer the one that was listed.
    """
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        try:
            return await _download(client, folder, file, target, advance)
        except DamagedError:
            advance(-file.size)
            if attempt == DOWNLOAD_ATTEMPTS:
                raise
    return None


async def _download(client: Client, folder: S3Uri, file: RemoteFile, target: Path, advance: Advance) -> None:
    what, part = folder / file.name, PartialFile(target, file.size)
    missing = list(part.missing())
    advance(file.size - sum(stop - start for start, stop in missing))
    known: dict[str, str] = {}

    async def fetch(span: Span) -> None:
        known.update(await client.get_span(what, file.etag, span, partial(part.write, span)))
        advance(span[1] - span[0])

    await each(missing, fetch, client.config.max_concurrency)
    if file.size and not missing:
        known.update((await client.head(what) or {}).get("Metadata") or {})
    await asyncio.to_thread(part.finish, known.get(SHA256))


async def upload(client: Client, path: Path, what: S3Uri, sha256: str, advance: Advance) -> bool:
    """A file to an object that is not there yet. Returns False if it was there with the same content, whose hash is
    given.

    Raises PreconditionError when it is there with another content.
    """
    size, metadata = path.stat().st_size, {SHA256: sha256}
    try:
        if size <= PIECE_BYTES:
            await _put(client, what, path, (0, size), "put_object", Metadata=metadata, **CREATE)
            advance(size)
        else:
            await _upload_in_parts(client, path, what, metadata, advance)
    except (PreconditionError, MissingError):  # an answer that was lost makes our own request fail when it is repeated
        there = await client.head(what)
        if there is None or (there.get("Metadata") or {}).get(SHA256) != sha256:
            raise
        return False
    return True


async def _upload_in_parts(client: Client, path: Path, what: S3Uri, metadata: dict[str, str], advance: Advance) -> None:
    if await client.head(what) is not None:  # before the bytes are sent; the last request asks again
        raise PreconditionError(f"{what} is there already.")
    size = path.stat().st_size
    length = max(PIECE_BYTES, -(-size // MAX_PIECES))
    begun = await client.request("create_multipart_upload", what, Metadata=metadata)
    upload = {"UploadId": begun["UploadId"]}
    parts: list[dict[str, Any]] = []

    async def send(span: Span) -> None:
        number = span[0] // length + 1
        sent = await _put(client, what, path, span, "upload_part", PartNumber=number, **upload)
        parts.append({"ETag": sent["ETag"], "PartNumber": number})
        advance(span[1] - span[0])

    try:
        await each(pieces(size, length), send, client.config.max_concurrency)
        parts.sort(key=lambda part: part["PartNumber"])
        await client.request("complete_multipart_upload", what, MultipartUpload={"Parts": parts}, **upload, **CREATE)
    except BaseException:
        with suppress(PositronicError):
            await client.request("abort_multipart_upload", what, **upload)
        raise


async def _put(
    client: Client, what: S3Uri, path: Path, span: Span, operation: str, **parameters: Any
) -> dict[str, Any]:
    """Send a piece of a file. It is read when there is room for the request, so that memory stays bounded."""

    async def attempt(s3: Any) -> dict[str, Any]:
        data = await asyncio.to_thread(_read, path, span)
        checked = {"Body": data, "ContentMD5": content_md5(data), **parameters}
        return await getattr(s3, operation)(Bucket=what.bucket, Key=what.key, **checked)

    return await client.retried(what, attempt)


def _read(path: Path, span: Span) -> bytes:
    with path.open("rb") as file:
        file.seek(span[0])
        return file.read(span[1] - span[0])
