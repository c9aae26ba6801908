"""Reading from an object store: what arrives, how often it is asked for, and what faults do to it."""

import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest

from positronic.errors import PositronicError
from positronic.storage import transfer
from positronic.storage.config import StorageConfig
from positronic.storage.folder import RemoteFolder, fetch, folder, local_input
from positronic.storage.uri import parse


def contents(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def small_pieces(monkeypatch):
    """A file of a few bytes comes in several pieces."""
    monkeypatch.setattr(transfer, "FETCHED_BYTES", 10)


def test_a_folder_arrives_as_it_is(bucket):
    """Files in folders, empty ones, names with spaces and umlauts."""
    files = {"a": b"1", "sub/b c.bin": b"22", "sub/deep/ü": b"", "z+%20": b"4"}
    for name, data in files.items():
        bucket.put_key(f"set/{name}", data)
    assert contents(fetch(bucket.uri("set"), bucket.config())) == files


def test_folders_with_a_common_beginning_are_kept_apart(bucket):
    """``set`` is not ``set2``."""
    bucket.put(set__a=b"1", set2__b=b"2")
    assert contents(fetch(bucket.uri("set"), bucket.config())) == {"a": b"1"}


def test_a_local_path_is_given_as_it_is(tmp_path):
    """Nothing is copied, and nothing is asked of anybody."""
    assert fetch(tmp_path) == tmp_path


def test_only_what_is_selected_is_fetched(bucket, proxy):
    """The rest is listed, not read."""
    bucket.put(set__a=b"1", set__b=b"2")
    path = fetch(bucket.uri("set"), bucket.config(proxy.url), select=lambda name: name == "b")
    assert contents(path) == {"b": b"2"}
    assert proxy.gets() == ["b"]


def test_what_was_fetched_is_not_fetched_again(bucket, proxy):
    """The second time there is one request: the listing."""
    bucket.put(set__a=b"1", set__b=b"2")
    first = fetch(bucket.uri("set"), bucket.config(proxy.url))
    del proxy.requests[:]
    assert fetch(bucket.uri("set"), bucket.config(proxy.url)) == first
    assert len(proxy.requests) == 1


def test_a_changed_folder_is_another_version_and_only_the_change_is_fetched(bucket, proxy):
    """Who reads the old version keeps it. A change of the same size counts, as etags are compared."""
    bucket.put(set__a=b"1", set__b=b"2")
    old = fetch(bucket.uri("set"), bucket.config(proxy.url))
    bucket.put(set__b=b"3", set__c=b"4")
    del proxy.requests[:]
    new = fetch(bucket.uri("set"), bucket.config(proxy.url))
    assert contents(new) == {"a": b"1", "b": b"3", "c": b"4"}
    assert contents(old) == {"a": b"1", "b": b"2"}
    assert sorted(proxy.gets()) == ["b", "c"]


def test_a_large_file_comes_in_pieces(bucket, proxy, small_pieces):
    """Each piece is a request of its own, and together they are the file."""
    bucket.put(set__a=bytes(range(95)))
    assert contents(fetch(bucket.uri("set"), bucket.config(proxy.url))) == {"a": bytes(range(95))}
    assert len(proxy.gets()) == 10


@pytest.mark.parametrize("kind", ["busy", "reset", "lost"])
def test_a_fault_costs_only_the_request_that_it_hit(bucket, proxy, small_pieces, kind):
    """503s, connections that break in the middle of an object, answers that never come: asked again, piece by piece."""
    bucket.put(set__a=bytes(range(95)))
    proxy.inject(kind, path="set/a", times=3)
    proxy.inject("busy", path="list-type", times=1)
    assert contents(fetch(bucket.uri("set"), bucket.config(proxy.url))) == {"a": bytes(range(95))}
    assert len(proxy.gets()) == 10 + 3


def test_a_connection_that_stalls_is_given_up(bucket, proxy):
    """After ``timeout_sec`` without a byte the object is asked for again."""
    bucket.put(set__a=b"0123456789")
    proxy.inject("stall", path="set/a")
    assert contents(fetch(bucket.uri("set"), bucket.config(proxy.url, timeout_sec=0.5))) == {"a": b"0123456789"}


def test_faults_that_do_not_end_are_told(bucket, proxy):
    """After ``retries`` the message names the object and the store."""
    bucket.put(set__a=b"1")
    proxy.inject("busy", path="set/a", times=99)
    with pytest.raises(PositronicError, match=r"set/a at 127\.0\.0\.1:\d+: ServiceUnavailable"):
        fetch(bucket.uri("set"), bucket.config(proxy.url, retries=2))
    assert len(proxy.gets()) == 3


def test_content_that_was_damaged_on_its_way_is_fetched_again(bucket, proxy):
    """What we publish carries its hash, and what arrives is held against it."""
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    bucket.s3.put_object(Bucket=bucket.name, Key="set/a", Body=b"test", Metadata={"sha256": digest})
    proxy.inject("garbled", path="set/a")
    assert contents(fetch(bucket.uri("set"), bucket.config(proxy.url))) == {"a": b"test"}


def test_content_that_stays_damaged_is_refused(bucket):
    """It is never given to anybody."""
    bucket.s3.put_object(Bucket=bucket.name, Key="set/a", Body=b"test", Metadata={"sha256": "0" * 64})
    with pytest.raises(PositronicError, match="did not arrive as it was published"):
        fetch(bucket.uri("set"), bucket.config())


def test_a_file_is_never_put_together_from_two_versions(bucket, proxy, small_pieces):
    """An object that is replaced while its pieces are fetched is fetched anew, all of it."""
    bucket.put(set__a=b"a" * 95)
    proxy.inject("call", path="set/a", hook=lambda: bucket.put(set__a=b"b" * 95))
    assert contents(fetch(bucket.uri("set"), bucket.config(proxy.url, max_concurrency=1))) == {"a": b"b" * 95}


def test_what_was_listed_and_has_changed_is_refused(bucket):
    """Who holds a listing gets what it says, or an error."""
    bucket.put(set__a=b"1")
    place = folder(bucket.uri("set"), bucket.config())
    files = place.listing().files
    bucket.put(set__a=b"2")
    with pytest.raises(PositronicError, match="has changed since it was listed"):
        place.hold_listed(files)


KILLED = """
import sys
from positronic.storage import transfer
from positronic.storage.config import StorageConfig
from positronic.storage.folder import fetch
transfer.FETCHED_BYTES = 10
fetch(sys.argv[1], StorageConfig(endpoint_url=sys.argv[2], cache_dir=sys.argv[3], max_concurrency=1))
"""


def test_a_killed_fetch_is_gone_on_with(bucket, proxy, small_pieces):
    """The next process asks only for the pieces that are not there yet."""
    bucket.put(set__a=bytes(range(95)))
    reached, hold = threading.Event(), threading.Event()
    proxy.inject("call", path="set/a", skip=9, hook=lambda: reached.set() or hold.wait(60))
    command = [sys.executable, "-c", KILLED, bucket.uri("set"), proxy.url, str(bucket.cache)]
    process = subprocess.Popen(command)
    assert reached.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hold.set()
    del proxy.requests[:]
    assert contents(fetch(bucket.uri("set"), bucket.config(proxy.url))) == {"a": bytes(range(95))}
    assert len(proxy.gets()) == 1


def test_several_that_want_the_same_fetch_it_once(bucket, proxy):
    """The others wait, and share what came."""
    bucket.put(set__a=b"1", set__b=b"2")
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: fetch(bucket.uri("set"), bucket.config(proxy.url)), range(4)))
    assert len(paths) == 1
    assert sorted(proxy.gets()) == ["a", "b"]


def test_nothing_there_is_said_with_the_nearest_name(bucket):
    """A typo in a URI is answered."""
    bucket.put(datasets__phail__a=b"1")
    with pytest.raises(PositronicError, match="nothing at s3://.*/datasets/phial. Did you mean 'phail'?"):
        fetch(bucket.uri("datasets/phial"), bucket.config())


def test_a_folder_without_its_manifest_is_not_whole(bucket):
    """An upload that was interrupted is not read; the hint says what to type."""
    bucket.put(set__data=b"1")
    with (
        pytest.raises(PositronicError, match="has no meta/x.json: .* upload was not finished. Make it."),
        local_input(bucket.uri("set"), bucket.config(), needs="meta/x.json", hint="Make it."),
    ):
        pass


def test_a_name_that_leads_out_of_the_folder_is_refused(bucket):
    """A bucket is somebody else's: its keys must not choose where files are written."""
    bucket.put_key("set/../../evil", b"1")
    with pytest.raises(PositronicError, match="cannot be a file here"):
        fetch(bucket.uri("set"), bucket.config())


def test_a_missing_bucket_is_named(bucket):
    """With where it was looked for."""
    with pytest.raises(PositronicError, match=r"no bucket 'no-such-bucket' at 127\.0\.0\.1:\d+"):
        fetch("s3://no-such-bucket/x", bucket.config())


def test_an_address_where_nobody_answers_is_told_soon(bucket):
    """A wrong endpoint is not tried eight times."""
    with pytest.raises(PositronicError, match="no connection to 127.0.0.1:9. Check storage.endpoint_url"):
        fetch(bucket.uri("set"), StorageConfig(endpoint_url="http://127.0.0.1:9", cache_dir=str(bucket.cache)))


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, "ExpiredToken", "access denied by .*ExpiredToken"),
        (301, "PermanentRedirect", "another region .*storage.region=<region>"),
        (501, "NotImplemented", "does not know conditional writes"),
    ],
)
def test_what_a_store_answers_is_said_with_what_to_do(bucket, proxy, status, code, words):
    """Nothing of this passes by itself, so it is not tried again."""
    bucket.put(set__a=b"1")
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    proxy.inject("answer", path="set/a", times=9, status=status, body=body)
    with pytest.raises(PositronicError, match=words):
        fetch(bucket.uri("set"), bucket.config(proxy.url))
    assert len(proxy.gets()) <= 2  # botocore itself looks for the region once


def test_a_cache_that_cannot_be_written_is_told(bucket, tmp_path):
    """With how to take another."""
    (tmp_path / "file").write_text("not a folder")
    bucket.put(set__a=b"1")
    with pytest.raises(PositronicError, match="cannot be made .*storage.cache_dir=<folder>"):
        fetch(bucket.uri("set"), bucket.config(cache_dir=str(tmp_path / "file" / "cache")))


def test_missing_credentials_are_told(bucket, monkeypatch):
    """With the three ways to mend it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(
        PositronicError, match=r"no credentials .* AWS_ACCESS_KEY_ID .* storage.profile=.* storage.anonymous"
    ):
        fetch(bucket.uri("set"), bucket.config(retries=1))


def test_a_profile_that_is_not_there_is_told(bucket):
    """By its name."""
    with pytest.raises(PositronicError, match="storage.profile=nobody: there is no such profile"):
        fetch(bucket.uri("set"), bucket.config(profile="nobody"))


def test_a_profile_is_read_from_the_aws_files(bucket, proxy, monkeypatch, tmp_path):
    """Its key signs the requests."""
    (tmp_path / "keys").write_text("[lab]\naws_access_key_id = AKIDOFTHELAB\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    bucket.put(set__a=b"1")
    fetch(bucket.uri("set"), bucket.config(proxy.url, profile="lab"))
    assert all("AKIDOFTHELAB" in request.headers["Authorization"] for request in proxy.requests)


def test_anonymous_requests_are_not_signed(bucket, proxy):
    """Even when there are credentials: a public store must not see them."""
    bucket.put_key("set/a", b"1", acl="public-read")
    assert contents(fetch(bucket.uri("set"), bucket.config(proxy.url, anonymous=True))) == {"a": b"1"}
    assert not any("Authorization" in r.headers or "X-Amz-Security-Token" in r.headers for r in proxy.requests)


def test_the_endpoint_may_come_from_the_environment(bucket, monkeypatch):
    """AWS_ENDPOINT_URL, as other tools read it."""
    bucket.put(set__a=b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.url)
    assert contents(fetch(bucket.uri("set"), StorageConfig(retries=1))) == {"a": b"1"}


def test_credentials_are_written_nowhere(bucket, proxy, caplog):
    """Not into the log, at its most talkative and with faults, and not into the cache."""
    caplog.set_level(logging.DEBUG)
    bucket.put(set__a=b"1")
    proxy.inject("busy", path="set/a")
    fetch(bucket.uri("set"), bucket.config(proxy.url))
    written = caplog.text + "".join(p.read_text() for p in bucket.cache.rglob("*") if p.is_file())
    written += repr(asdict(bucket.config()))
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_SESSION_TOKEN"], "Signature="):
        assert secret not in written


def test_without_s3fs_the_message_says_how_to_get_it(bucket):
    """The core is installed without it."""
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from positronic.storage.folder import fetch\n"
        "try:\n    fetch('s3://bucket/x')\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "PositronicError" in said
    assert "uv pip install 'positronic-hydra[s3]'" in said


def test_a_remote_folder_is_only_a_name_until_it_is_asked():
    """Making one needs neither network nor s3fs."""
    assert str(RemoteFolder(parse("s3://bucket/a")) / "b") == "s3://bucket/a/b"
