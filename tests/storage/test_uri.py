"""Names of places: local paths and URIs."""

from pathlib import Path

import pytest

from positronic.errors import PositronicError
from positronic.storage import is_remote, join, local_path
from positronic.storage.uri import S3Uri, parse


@pytest.mark.parametrize(
    ("uri", "bucket", "key"),
    [
        ("s3://bucket/a/b", "bucket", "a/b"),
        ("s3://bucket/a/b/", "bucket", "a/b"),
        ("s3://bucket//a//b", "bucket", "a/b"),
        ("s3://bucket", "bucket", ""),
        (Path("s3://bucket/a"), "bucket", "a"),
    ],
)
def test_a_uri_is_a_bucket_and_a_key(uri, bucket, key):
    """Slashes too many do not matter, and one that a Path has swallowed does not either."""
    assert is_remote(uri)
    assert parse(uri) == S3Uri(bucket, key)


@pytest.mark.parametrize("uri", ["s3://", "s3://x", "s3://b u/c", "s3://-bucket/c"])
def test_what_is_no_bucket_is_refused(uri):
    """With what was expected."""
    with pytest.raises(PositronicError, match="expected s3://<bucket>/<folder>"):
        parse(uri)


def test_a_secret_in_a_uri_is_refused_and_not_repeated():
    """It would be in every log and manifest."""
    with pytest.raises(PositronicError, match="neither keys nor profiles") as caught:
        parse("s3://AKID:secret@bucket/a")
    assert "secret" not in str(caught.value)
    assert "AKID" not in str(caught.value)


def test_a_secret_in_an_endpoint_is_refused_and_not_repeated():
    """For the same reason."""
    from positronic.storage.client import connect
    from positronic.storage.config import StorageConfig

    with pytest.raises(PositronicError, match="endpoint_url of store.lab: keys are not written into it") as caught:
        connect(StorageConfig(endpoint_url="https://user:secret@store.lab"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["gs://bucket/a", "s3://bucket/a", Path("s3://bucket/a")])
def test_what_needs_a_local_folder_refuses_a_uri(uri):
    """Never a folder named ``s3:`` here."""
    with pytest.raises(PositronicError, match="expected a local path"):
        local_path(uri)


def test_names_are_joined_alike():
    """To a URI as to a path."""
    assert join("s3://bucket/a/", "b", "c") == "s3://bucket/a/b/c"
    assert join("/tmp/a", "b") == Path("/tmp/a/b")
