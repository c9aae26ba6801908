"""Writing to an object store: whole or not there, and never over what somebody else wrote."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from positronic.errors import PositronicError
from positronic.storage.folder import local_input
from positronic.storage.publishing import CLAIM, Unit, clean, publish

LAST = "meta/last.json"


@pytest.fixture
def make(tmp_path):
    """A folder to publish, with the given text in its data."""

    def make(text="data", files=4, name="made"):
        root = tmp_path / name
        (root / "meta").mkdir(parents=True)
        for i in range(files):
            (root / f"data-{i}").write_text(f"{text} {i}")
        (root / LAST).write_text(json.dumps({"text": text}))
        return Unit(root, LAST)

    return make


def published(bucket, text="data", files=4):
    data = {f"set/data-{i}": f"{text} {i}".encode() for i in range(files)}
    return data | {f"set/{LAST}": json.dumps({"text": text}).encode()}


def test_what_is_published_is_there_and_nothing_else(bucket, make):
    """No claim stays behind."""
    publish(make(), bucket.uri("set"), bucket.config())
    assert bucket.objects() == published(bucket)


def test_the_manifest_is_written_last(bucket, proxy, make):
    """Whoever sees it sees everything."""
    publish(make(), bucket.uri("set"), bucket.config(proxy.url))
    assert proxy.puts()[0] == CLAIM
    assert sorted(proxy.puts()[1:-1]) == [f"data-{i}" for i in range(4)]
    assert proxy.puts()[-1] == "last.json"


def test_what_came_back_is_what_was_published(bucket, make):
    """There and back, hashes compared."""
    unit = make()
    publish(unit, bucket.uri("set"), bucket.config())
    with local_input(bucket.uri("set"), bucket.config(), needs=LAST) as path:
        assert (path / "data-3").read_bytes() == (unit.folder / "data-3").read_bytes()


def test_a_folder_without_its_manifest_is_not_published(bucket, make):
    """It is not whole."""
    with pytest.raises(PositronicError, match="has no missing.json, so it is not whole"):
        publish(Unit(make().folder, "missing.json"), bucket.uri("set"), bucket.config())


def test_what_is_there_is_not_overwritten(bucket, make):
    """Refused before a byte is sent, also when it is the same."""
    publish(make("first"), bucket.uri("set"), bucket.config())
    for text in ("first", "second"):
        with pytest.raises(PositronicError, match="set exists already"):
            publish(make(text, name=f"again {text}"), bucket.uri("set"), bucket.config())
    assert bucket.objects() == published(bucket, "first")


def test_the_very_same_may_be_allowed(bucket, make):
    """For who is not sure whether it was published already."""
    publish(make(), bucket.uri("set"), bucket.config())
    publish(make(name="same"), bucket.uri("set"), bucket.config(), exist_ok=True)
    with pytest.raises(PositronicError, match="exists already"):
        publish(make("other", name="other"), bucket.uri("set"), bucket.config(), exist_ok=True)


@pytest.mark.parametrize("moment", [CLAIM, "data-2", "last.json"])
def test_a_second_writer_is_refused_and_the_first_unharmed(bucket, proxy, make, moment):
    """Whenever it comes: as the first claims the place, in the middle, before the manifest."""
    refused = []

    def second():
        try:
            publish(make("second", files=6, name="second"), bucket.uri("set"), bucket.config())
        except PositronicError as error:
            refused.append(str(error))

    proxy.inject("call", method="PUT", path=moment, hook=second)
    if moment == CLAIM:  # the second is faster, and is the first
        with pytest.raises(PositronicError, match="another upload|exists already"):
            publish(make("first"), bucket.uri("set"), bucket.config(proxy.url))
        assert bucket.objects() == published(bucket, "second", 6)
    else:
        publish(make("first"), bucket.uri("set"), bucket.config(proxy.url))
        assert "another upload has begun" in refused[0]
        assert bucket.objects() == published(bucket, "first")


def test_two_that_write_the_very_same_both_succeed(bucket, proxy, make):
    """The same bake gives the same bytes: neither harms the other."""
    same = make(name="same")
    hook = lambda: publish(same, bucket.uri("set"), bucket.config())  # noqa: E731
    proxy.inject("call", method="PUT", path="data-2", hook=hook)
    publish(make(), bucket.uri("set"), bucket.config(proxy.url))
    assert bucket.objects() == published(bucket)


def test_files_of_somebody_else_are_never_made_part_of_it(bucket, make):
    """A folder that holds other things is refused, and stays as it is."""
    bucket.put(set__theirs=b"1")
    with pytest.raises(PositronicError, match="another upload has been here"):
        publish(make(), bucket.uri("set"), bucket.config())
    assert bucket.objects() == {"set/theirs": b"1"}


@pytest.mark.parametrize("kind", ["busy", "lost", "reset"])
def test_faults_are_tried_again(bucket, proxy, make, kind):
    """503s and broken connections, of the claim, the data and the manifest. A request that was carried out though its
    answer was lost is not taken for somebody else's."""
    for name in (CLAIM, "data-1", "last.json"):
        proxy.inject(kind, method="PUT", path=name)
    publish(make(), bucket.uri("set"), bucket.config(proxy.url))
    assert bucket.objects() == published(bucket)


@pytest.fixture
def large(tmp_path):
    """A file that is sent in parts; S3 takes none below five megabytes."""
    unit = Unit(tmp_path / "large", "last")
    unit.folder.mkdir()
    (unit.folder / "data").write_bytes(os.urandom(1 << 20) * 17)
    (unit.folder / "last").write_text("1")
    return unit


def test_a_large_file_is_sent_in_parts_and_each_is_tried_again(bucket, proxy, large):
    """One fault costs one part."""
    proxy.inject("busy", method="PUT", path="partNumber=2")
    proxy.inject("lost", method="POST", path="uploadId")  # the request that puts the parts together
    publish(large, bucket.uri("set"), bucket.config(proxy.url))
    assert bucket.objects()["set/data"] == (large.folder / "data").read_bytes()
    assert len([request for request in proxy.requests if "partNumber" in request.path]) == 3 + 1


def test_parts_are_not_left_behind(bucket, proxy, large):
    """No listing shows them, but they are paid for."""
    proxy.inject("busy", method="PUT", path="partNumber=2", times=99)
    with pytest.raises(PositronicError, match="ServiceUnavailable"):
        publish(large, bucket.uri("set"), bucket.config(proxy.url, retries=1))
    assert bucket.pending_uploads() == 0


PUBLISH = """
import sys
from pathlib import Path
from positronic.storage.config import StorageConfig
from positronic.storage.publishing import Unit, publish
config = StorageConfig(endpoint_url=sys.argv[3], max_concurrency=1)
publish(Unit(Path(sys.argv[1]), "meta/last.json"), sys.argv[2], config)
"""


@pytest.fixture
def interrupt(bucket, proxy):
    """Publishes in another process and ends it by a signal when it sends ``data-2``."""

    def interrupt(unit, number):
        reached, hold = threading.Event(), threading.Event()
        proxy.inject("call", method="PUT", path="data-2", hook=lambda: reached.set() or hold.wait(60))
        process = subprocess.Popen([sys.executable, "-c", PUBLISH, unit.folder, bucket.uri("set"), proxy.url])
        assert reached.wait(60)
        process.send_signal(number)
        process.wait()
        hold.set()
        del proxy.requests[:]

    return interrupt


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_upload_is_not_seen_and_gone_on_with(bucket, proxy, make, interrupt, number):
    """Readers look at the manifest; the same upload sends only what is missing."""
    unit = make()
    interrupt(unit, number)
    with (
        pytest.raises(PositronicError, match="upload was not finished"),
        local_input(bucket.uri("set"), bucket.config(), LAST),
    ):
        pass
    sent = {name for name in ("data-0", "data-1") if f"set/{name}" in bucket.objects()}
    assert sent
    publish(unit, bucket.uri("set"), bucket.config(proxy.url))
    assert bucket.objects() == published(bucket)


def test_what_a_process_that_died_here_left_makes_room(bucket, make, interrupt):
    """Another upload to the place removes it by itself."""
    interrupt(make("first", files=6), signal.SIGKILL)
    publish(make("second", name="second"), bucket.uri("set"), bucket.config())
    assert bucket.objects() == published(bucket, "second")


def test_a_process_number_that_was_given_again_is_not_the_dead_upload(bucket, make, interrupt):
    """As in a container that was started again: the number lives, the process that had it does not."""
    interrupt(make("first", files=6), signal.SIGKILL)
    claim = json.loads(bucket.objects()[f"set/{CLAIM}"]) | {"pid": os.getpid()}
    bucket.put_key(f"set/{CLAIM}", json.dumps(claim).encode())
    publish(make("second", name="second"), bucket.uri("set"), bucket.config())
    assert bucket.objects() == published(bucket, "second")


def test_what_died_elsewhere_is_refused_until_it_is_cleaned(bucket, make, interrupt):
    """We cannot know that it is dead. The message has the command, and that works."""
    interrupt(make("first", files=6), signal.SIGKILL)
    claim = json.loads(bucket.objects()[f"set/{CLAIM}"]) | {"host": "another-machine"}
    bucket.put_key(f"set/{CLAIM}", json.dumps(claim).encode())
    second = make("second", name="second")
    with pytest.raises(PositronicError, match="another upload has begun .process .* on another-machine") as caught:
        publish(second, bucket.uri("set"), bucket.config())
    command = str(caught.value).splitlines()[-1].split()
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
    assert bucket.objects() == {}
    publish(second, bucket.uri("set"), bucket.config())
    assert bucket.objects() == published(bucket, "second")


def test_cleaning_touches_nothing_whole(bucket, make):
    """Only claimed folders are removed, and a claim beside a manifest is all that is left over."""
    publish(make(), bucket.uri("set"), bucket.config())
    bucket.put_key(f"set/{CLAIM}", json.dumps({"content": "x", "last": LAST}).encode())
    bucket.put_key(f"torn/{CLAIM}", json.dumps({"content": "x", "last": LAST}).encode())
    bucket.put_key("torn/data", b"1")
    bucket.put_key("raw/000000000000/000000000001/.unfinished", b"unfinished")  # a recording that crashed
    clean(f"s3://{bucket.name}", bucket.config())
    assert set(bucket.objects()) == {*published(bucket), "raw/000000000000/000000000001/.unfinished"}


def test_a_living_upload_is_not_cleaned_away(bucket, proxy, make):
    """Neither by mistake."""
    problems = []

    def hook():
        try:
            clean(bucket.uri("set"), bucket.config())
        except PositronicError as error:
            problems.append(str(error))

    proxy.inject("call", method="PUT", path="data-2", hook=hook)
    publish(make(), bucket.uri("set"), bucket.config(proxy.url))
    assert f"is being uploaded by process {os.getpid()}" in problems[0]
    assert bucket.objects() == published(bucket)


def test_credentials_are_not_in_what_is_published(bucket, proxy, make):
    """Neither in claims nor in metadata."""
    proxy.inject("call", method="PUT", path="data-2", hook=lambda: seen.update(bucket.objects()))
    seen = {}
    publish(make(), bucket.uri("set"), bucket.config(proxy.url))
    text = "".join(data.decode() for data in seen.values())
    assert CLAIM in "".join(seen)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert os.environ[name] not in text
