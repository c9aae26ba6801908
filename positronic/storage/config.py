"""The storage group: where objects are, as whom they are read, and how much of them is kept on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from positronic.utils.fields import above, address, between, path, some


@dataclass
class StorageConfig:
    """How objects are reached. Keys and secrets stand in the environment or in AWS's files, never here.

    endpoint_url: address of the store; null takes AWS_ENDPOINT_URL, else Amazon's
    profile: of the AWS configuration files
    region: of the store
    anonymous: unsigned requests, for public buckets
    cache_dir: folder of copies; null takes POSITRONIC_CACHE, else ~/.cache/positronic
    cache_gb: above it, the copies that were not used for longest are removed; those in use stay
    max_concurrency: requests at a time
    retries: how often a request is tried again
    timeout_sec: a connection that is silent for so long is given up, in s
    """

    endpoint_url: str | None = address(None)
    profile: str | None = some(None, "a profile's name")
    region: str | None = some(None, "a region's name")
    anonymous: bool = False
    cache_dir: str | None = path(None)
    cache_gb: float = above(0, default=100.0)
    max_concurrency: int = between(1, default=16)
    retries: int = between(0, default=8)
    timeout_sec: float = above(0, default=30.0)


def endpoint_of(config: StorageConfig) -> str:
    """Address of the store, without its scheme; ``Amazon S3`` if no address is set."""
    named = (config.endpoint_url, os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"))
    url = next((url for url in named if url), None)
    return urlsplit(url).netloc.rpartition("@")[2] if url else "Amazon S3"
