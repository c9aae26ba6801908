"""How much is kept on this machine, and what is removed first."""

import os
import resource
import shutil
import subprocess
import sys

import pytest

from positronic.errors import PositronicError
from positronic.storage import entries
from positronic.storage.folder import folder


@pytest.fixture
def tiny(bucket, monkeypatch):
    """A cache for 3 objects of 100 bytes; ``tiny(name)`` holds the folder ``name`` in it."""
    monkeypatch.setattr(entries, "_counted", {})
    for name in ("a", "b", "c", "d"):
        bucket.put_key(f"{name}/file", name.encode() * 100)
    clock = iter(range(1, 99))

    def hold(name):
        held = folder(bucket.uri(name), bucket.config(cache_gb=350e-9)).hold()
        record = held.path.parents[2] / entries.RECORD
        moment = next(clock)
        os.utime(record, (moment, moment))
        return held

    return hold


def kept(bucket):
    return {path.parent.name for path in bucket.cache.rglob("file")}


def test_above_the_cap_what_was_not_used_for_longest_goes(bucket, tiny):
    """Used again counts as used."""
    for name in ("a", "b", "c", "a", "d"):
        tiny(name).close()
    assert kept(bucket) == {"a", "c", "d"}


def test_what_is_in_use_stays(bucket, tiny):
    """However old it is, and even when that means to keep more than the cap."""
    in_use = [tiny(name) for name in ("a", "b", "c", "d")]
    assert kept(bucket) == {"a", "b", "c", "d"}
    for held in in_use:
        held.close()


HOLD = """
import sys
from positronic.storage.config import StorageConfig
from positronic.storage.folder import folder
held = folder(sys.argv[1], StorageConfig(endpoint_url=sys.argv[2], cache_dir=sys.argv[3])).hold()
print("held", flush=True)
sys.stdin.read()
"""


def test_what_another_process_uses_stays(bucket, tiny):
    """Locks are seen by everybody, and go with their process."""
    command = [sys.executable, "-c", HOLD, bucket.uri("a"), bucket.url, str(bucket.cache)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        for name in ("a", "b", "c", "d"):
            tiny(name).close()
        assert kept(bucket) == {"a", "c", "d"}
        other.stdin.close()
    for name in ("b", "c", "d"):
        tiny(name).close()
    assert kept(bucket) == {"b", "c", "d"}


def test_a_copy_is_in_use_until_nothing_refers_to_it(bucket, tiny):
    """Who forgets to close it does not fill the disk."""
    held = tiny("a")
    del held
    for name in ("b", "c", "d"):
        tiny(name).close()
    assert kept(bucket) == {"b", "c", "d"}


def test_what_was_removed_by_hand_is_fetched_again(bucket, tiny):
    """A cache may be tidied up."""
    held = tiny("a")
    held.close()
    (held.path / "file").unlink()
    assert (tiny("a").path / "file").read_bytes() == b"a" * 100


FETCH = """
import sys
from positronic.errors import PositronicError
from positronic.storage.config import StorageConfig
from positronic.storage.folder import fetch
try:
    fetch(sys.argv[1], StorageConfig(endpoint_url=sys.argv[2], cache_dir=sys.argv[3]))
except PositronicError as error:
    sys.exit(f"refused: {error}")
"""


def test_a_disk_that_fills_up_is_told_and_left_as_it_was(bucket):
    """By a real limit of the system: what had come is removed, for a full disk stops others too."""
    bucket.put_key("set/large", bytes(300_000))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    command = [sys.executable, "-c", FETCH, bucket.uri("set"), bucket.url, str(bucket.cache)]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 1
    assert "refused: The disk of" in done.stderr
    assert "storage.cache_dir=<folder>" in done.stderr
    assert not [path for path in bucket.cache.rglob("*") if path.is_file() and path.stat().st_size]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_what_cannot_fit_is_refused_before_it_is_fetched(bucket, proxy, small_disk):
    """Not after an hour."""
    bucket.put_key("set/large", bytes(2_000_000))
    with pytest.raises(PositronicError, match=r"is full: 0.002 GB must be fetched, 0.00\d* GB are free"):
        folder(bucket.uri("set"), bucket.config(proxy.url, cache_dir=str(small_disk))).hold()
    assert proxy.gets() == []


def test_a_small_disk_is_made_room_on(bucket, small_disk):
    """What is not in use goes, below the cap too."""
    for name in ("a", "b"):
        bucket.put_key(f"{name}/large", bytes(600_000))
        folder(bucket.uri(name), bucket.config(cache_dir=str(small_disk))).hold().close()
    assert [path.parent.name for path in small_disk.rglob("large")] == ["b"]


def test_a_disk_that_others_fill_meanwhile_is_told(bucket, proxy, small_disk):
    """And what had come is removed."""
    bucket.put(set__a=bytes(200_000), set__b=bytes(200_000))
    filler = small_disk / "filler"
    proxy.inject("call", path="set/b", hook=lambda: filler.write_bytes(bytes(shutil.disk_usage(small_disk).free)))
    config = bucket.config(proxy.url, cache_dir=str(small_disk), max_concurrency=1)
    with pytest.raises(PositronicError, match="is full"):
        folder(bucket.uri("set"), config).hold()
    filler.unlink()
    assert not [path for path in small_disk.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(list(folder(bucket.uri("set"), config).hold().path.iterdir())) == 2
