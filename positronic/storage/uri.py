"""Names of remote folders: ``s3://bucket/key``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from positronic.errors import PositronicError

SCHEME_SEPARATOR = "://"
LOCAL_SCHEME = "file://"
S3_SCHEME = "s3://"
# A Path makes one slash of the two; it is understood all the same.
_S3 = re.compile(r"s3:/{1,2}(?P<bucket>[^/]*)/*(?P<key>.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


class S3Uri(NamedTuple):
    """``key`` has no slash at either end; it is empty for a whole bucket."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{S3_SCHEME}{self.bucket}/{self.key}" if self.key else f"{S3_SCHEME}{self.bucket}"

    def __truediv__(self, name: str) -> S3Uri:
        return S3Uri(self.bucket, f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def prefix(self) -> str:
        """What the keys of everything inside begin with."""
        return f"{self.key}/" if self.key else ""


def is_remote(uri: str | Path | S3Uri) -> bool:
    """Whether ``uri`` names something in an object store."""
    return isinstance(uri, S3Uri) or str(uri).startswith("s3:/")


def parse(uri: str | Path | S3Uri) -> S3Uri:
    """The parts of ``s3://bucket/key``; double slashes count as one.

    Raises PositronicError for anything else. Text before an ``@`` may be a secret and is not repeated.
    """
    if isinstance(uri, S3Uri):
        return uri
    found = _S3.fullmatch(str(uri))
    if not found:
        raise PositronicError(f"Cannot open {uri}: expected {S3_SCHEME}<bucket>/<folder>.")
    bucket, key = found["bucket"], found["key"]
    if "@" in bucket:
        raise PositronicError(
            f"{S3_SCHEME}...@{bucket.rpartition('@')[2]}/{key}: neither keys nor profiles are written into a URI. "
            "Name a profile with storage.profile=<name> (of a dataset: dataset.storage.profile=<name>)."
        )
    if not _BUCKET.fullmatch(bucket):
        raise PositronicError(f"Cannot open {uri}: expected {S3_SCHEME}<bucket>/<folder>, found the bucket '{bucket}'.")
    return S3Uri(bucket, "/".join(part for part in key.split("/") if part))


def join(uri: str | Path, *names: str) -> str | Path:
    """``uri/name/...``, of a URI as of a local path."""
    if not is_remote(uri):
        return Path(uri).joinpath(*names)
    found = parse(uri)
    for name in names:
        found = found / name
    return str(found)
