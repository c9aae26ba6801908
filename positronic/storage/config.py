"""The storage group: where objects are, as whom they are read, and how much of them is kept on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from positronic.utils.fields import above, between


@dataclass
class StorageConfig:
    """``endpoint_url``: null takes ``AWS_ENDPOINT_URL``, else Amazon's. ``profile``: of the AWS configuration files;
    keys and secrets stand there or in the environment, never here. ``anonymous``: unsigned, for public buckets.

    ``cache_dir``: null takes ``POSITRONIC_CACHE``, else ``~/.cache/positronic``. ``cache_gb``: above it, what was not
    used for longest is removed; what is in use stays. ``max_concurrency``: requests at a time. ``retries``: how often a
    request is tried again. ``timeout_sec``: a connection silent for so long is given up.
    """

    endpoint_url: str | None = None
    profile: str | None = None
    region: str | None = None
    anonymous: bool = False
    cache_dir: str | None = None
    cache_gb: float = above(0, default=100.0)
    max_concurrency: int = between(1, default=16)
    retries: int = between(0, default=8)
    timeout_sec: float = above(0, default=30.0)


def endpoint_of(config: StorageConfig) -> str:
    """Address of the store, without its scheme; ``Amazon S3`` when nobody says otherwise."""
    named = (config.endpoint_url, os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"))
    url = next((url for url in named if url), None)
    return urlsplit(url).netloc.rpartition("@")[2] if url else "Amazon S3"
