"""A local folder into an object store: readers see it complete or not at all.

An upload first claims the place by creating an object (``.uploading``) that only one writer can create. Then it uploads
the data, each object only if it is absent. Then it uploads the manifest, by which readers know that the rest is there,
again only if it is absent. Last it removes the claim. What a killed upload left is continued by the same upload, or
removed by ``clean``. A claim whose process has died on this machine is taken over.

A raw episode has no manifest. Its claim is ``.unfinished``, which readers of raw datasets respect.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from positronic import keys
from positronic.errors import PositronicError
from positronic.storage.client import Advance, Client, connect, each
from positronic.storage.config import StorageConfig
from positronic.storage.faults import MissingError, PreconditionError
from positronic.storage.progress import byte_bar
from positronic.storage.transfer import SHA256, file_sha256, upload
from positronic.storage.uri import S3Uri, parse

CLAIM = ".uploading"
CLAIMS = (CLAIM, keys.UNFINISHED)
CONTENT = "content"
CLAIM_ATTEMPTS = 3
DELETIONS = 8  # at a time


class Unit(NamedTuple):
    """A folder that is published as a whole. ``last``: the file that makes it whole. ``claim``: see above."""

    folder: Path
    last: str | None = None
    claim: str = CLAIM


def publish(
    unit: Unit, uri: str | S3Uri, config: StorageConfig | None = None, show: bool = True, exist_ok: bool = False
) -> None:
    """Upload ``unit.folder`` to ``uri``. If an upload was interrupted, calling this again continues it.

    ``exist_ok``: if exactly this is already there, nothing happens. Raises PositronicError when something else is
    there, or is being uploaded; it is left untouched.
    """
    target, config = parse(uri), config or StorageConfig()
    names = sorted(str(path.relative_to(unit.folder)) for path in unit.folder.rglob("*") if path.is_file())
    if unit.last is not None and unit.last not in names:
        raise PositronicError(f"{unit.folder} has no {unit.last}, so it is not whole and is not published.")
    client = connect(config)
    total = sum((unit.folder / name).stat().st_size for name in names)
    with byte_bar(f"Publishing {target}", total, show) as advance:
        client.run(_Upload(client, unit, target, names, advance).run(exist_ok))


def unpublish(uri: S3Uri, last: str, config: StorageConfig) -> None:
    """Remove the folder at ``uri``. ``last``: the file that makes it whole; it goes first, so that nothing looks whole
    meanwhile."""
    client = connect(config)

    async def remove() -> None:
        await client.delete(uri / last)
        await _delete_all(client, uri, keep=last)

    client.run(remove())


class _Upload:
    """One upload of one unit. ``writer`` distinguishes it from every other upload, ``content`` from uploads of
    something else."""

    def __init__(self, client: Client, unit: Unit, target: S3Uri, names: Sequence[str], advance: Advance) -> None:
        self.client, self.unit, self.target, self.advance = client, unit, target, advance
        self.data = [name for name in names if name not in (unit.last, unit.claim)]
        self.claim = target / unit.claim
        self.sha256 = {name: file_sha256(unit.folder / name) for name in names if name != unit.claim}
        self.identity = {CONTENT: _content(self.sha256)}
        self.there: set[str] = set()  # when it begins, from an upload that was interrupted
        self.created: list[str] = []

    async def run(self, exist_ok: bool) -> None:
        if await self._is_there():
            if exist_ok and await self._is_same():
                return
            raise PositronicError(f"{self.target} exists already. Remove it, or write elsewhere with output_dir=...")
        await self._claim()
        try:
            self.there = await self._require_alone(set())
            await each(self.data, self._send, self.client.config.max_concurrency)
            await self._require_alone(set(self.data))
            if self.unit.last is not None:
                await self._send(self.unit.last)  # the same may be there, sent by the very same upload elsewhere
        except PreconditionError as error:
            await each(self.created, lambda name: self.client.delete(self.target / name), DELETIONS)
            await self._release()
            raise occupied(self.target, self.client.config) from error
        await self._release()

    async def _is_there(self) -> bool:
        """Whether a complete unit is there: its last file or, for units without such a file, anything that nobody
        claims."""
        if self.unit.last is not None:
            return await self.client.head(self.target / self.unit.last) is not None
        there = await self.client.listing(self.target, limit=1)
        return bool(there.files) and await self.client.head(self.claim) is None

    async def _is_same(self) -> bool:
        heads = {name: await self.client.head(self.target / name) for name in self.sha256}
        return all(_said(head, SHA256) == self.sha256[name] for name, head in heads.items())

    async def _claim(self) -> None:
        record = json.dumps(self.identity | _place() | {"last": self.unit.last}).encode()
        for _ in range(CLAIM_ATTEMPTS):
            head = await self.client.head(self.claim)
            if head is not None and await self._goes_on(await self.client.get(self.claim)):
                return
            with suppress(PreconditionError):
                await self.client.create(self.claim, record, self.identity, head and head["ETag"])
                return
        raise occupied(self.target, self.client.config)

    async def _goes_on(self, claim: bytes) -> bool:
        """Whether the claim is of exactly this upload, which may be continued. False: its process has died, so take it
        over.

        Raises PositronicError when the claim is of another upload.
        """
        theirs = _read_claim(claim)
        same = theirs.get(CONTENT) == self.identity[CONTENT]
        if _has_died(theirs):
            if not same:
                await _delete_all(self.client, self.target, keep=self.unit.claim)
            return False
        if not same:
            where = f"process {theirs.get('pid', '?')} on {theirs.get('host', '?')}"
            raise PositronicError(
                f"{self.target}: another upload has begun ({where}). Wait for it, or write elsewhere. If it was "
                f"killed, remove what it left:\n  {command('clean', self.client.config, self.target)}"
            )
        return True

    async def _send(self, name: str) -> None:
        path, what, sha256 = self.unit.folder / name, self.target / name, self.sha256[name]
        same = name in self.there and _said(await self.client.head(what), SHA256) == sha256
        if not same and await upload(self.client, path, what, sha256, self.advance):
            self.created.append(name)
        else:
            self.advance(path.stat().st_size)

    async def _require_alone(self, expected: set[str]) -> set[str]:
        """What is there. Raises PreconditionError unless all of it is ours and expected, and the claim is ours."""
        there = {file.name: file.size for file in (await self.client.listing(self.target)).files}
        others = set(there) - set(self.data) - {self.unit.claim, self.unit.last}
        sizes = {name: (self.unit.folder / name).stat().st_size for name in expected}
        if others or any(there.get(name) != size for name, size in sizes.items()):
            raise PreconditionError(f"{self.target} holds other files than those that were uploaded.")
        if not await self._is_claimed() and not await self._is_there():
            raise PreconditionError(f"{self.target} is claimed by another upload.")
        return set(there)

    async def _release(self) -> None:
        """Remove the claim if it is of this writer or of this content."""
        if await self._is_claimed():
            await self.client.delete(self.claim)

    async def _is_claimed(self) -> bool:
        return _said(await self.client.head(self.claim), CONTENT) == self.identity[CONTENT]


def clean(uri: str, config: StorageConfig | None = None) -> int:
    """Remove what interrupted uploads left under ``uri``: claimed folders, and parts that no listing shows.

    Returns how many objects and parts these were. Raises PositronicError when a process on this machine still uploads.
    """
    target, config = parse(uri), config or StorageConfig()
    client = connect(config)
    return client.run(_clean(client, target))


async def _clean(client: Client, target: S3Uri) -> int:
    removed = 0
    for file in (await client.listing(target)).files:
        folder, _, name = file.name.rpartition("/")
        if name in CLAIMS:
            removed += await _clean_claimed(client, target / folder, name)
    query = {"Bucket": target.bucket, "Prefix": target.prefix}
    page = await client.retried(target, lambda s3: s3.list_multipart_uploads(**query))
    for begun in page.get("Uploads", []):
        with suppress(MissingError):
            what = S3Uri(target.bucket, begun["Key"])
            await client.request("abort_multipart_upload", what, UploadId=begun["UploadId"])
            removed += 1
    return removed


async def _clean_claimed(client: Client, folder: S3Uri, claim: str) -> int:
    theirs = _read_claim(await client.get(folder / claim))
    if CONTENT not in theirs:  # a recording that crashed: not an upload of ours
        return 0
    if theirs.get("pid") and _is_here(theirs) and not _has_died(theirs):
        raise PositronicError(f"{folder} is being uploaded by process {theirs['pid']}. Wait for it, or end it first.")
    last = theirs.get("last")
    removed = 0
    if not last or await client.head(folder / last) is None:  # else all is there, only the claim was left
        removed = await _delete_all(client, folder, keep=claim)
    await client.delete(folder / claim)
    return removed + 1


async def _delete_all(client: Client, target: S3Uri, keep: str) -> int:
    files = [file for file in (await client.listing(target)).files if file.name != keep]
    await each(files, lambda file: client.delete(target / file.name), DELETIONS)
    return len(files)


def occupied(target: S3Uri, config: StorageConfig) -> PositronicError:
    """The error for something else that was found at the place where we write."""
    return PositronicError(
        f"{target}: another upload has been here, and is not overwritten. Write elsewhere with output_dir=..., or, if "
        f"it was killed, remove what it left:\n  {command('clean', config, target)}"
    )


def command(action: str, config: StorageConfig, *arguments: object) -> str:
    """What to type for ``python -m positronic.storage``."""
    asked = asdict(config)
    options = [f"--{name.replace('_', '-')}={asked[name]}" for name in ("endpoint_url", "profile") if asked[name]]
    return shlex.join(["python", "-m", "positronic.storage", action, *map(str, arguments), *options])


def _content(sha256: Mapping[str, str]) -> str:
    """One hash (hex) over names and contents. The same bake or checkpoint gives the same hash."""
    return hashlib.sha256("".join(f"{name}\0{sha256[name]}\n" for name in sorted(sha256)).encode()).hexdigest()


def _said(head: Mapping[str, Any] | None, key: str) -> str | None:
    return ((head or {}).get("Metadata") or {}).get(key)


def _read_claim(claim: bytes) -> dict[str, Any]:
    try:
        record = json.loads(claim)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _place() -> dict[str, Any]:
    """Which process this is, so that another one on the same machine can find out whether it lives."""
    try:
        space = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        space = ""
    return {"host": platform.node(), "pid": os.getpid(), "pid_space": space, "started": _started("self")}


def _started(pid: int | str) -> str:
    """When a process started, in ticks since the machine did: a restarted container gives the same number again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # field 22 of proc_pid_stat(5)
    except OSError:
        return ""


def _is_here(claim: Mapping[str, Any]) -> bool:
    here = _place()
    return all(claim.get(key) == here[key] for key in ("host", "pid_space"))


def _has_died(claim: Mapping[str, Any]) -> bool:
    if not _is_here(claim) or not isinstance(claim.get("pid"), int):
        return False
    try:
        os.kill(claim["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return claim.get("started", "") not in ("", _started(claim["pid"]))  # else the number is another process's now
