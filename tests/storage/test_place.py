"""Local and remote folders answer the same questions alike."""

import pytest

from positronic.storage.folder import folder

FILES = {"000010/model": b"1", "000010/info": b"2", "deep/er/info": b"3", "info": b"4"}


@pytest.fixture(params=["local", "remote"])
def place(request, tmp_path):
    """The same files here and in a bucket."""
    for name, content in FILES.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    if request.param == "local":
        return folder(tmp_path / "set")
    bucket = request.getfixturevalue("bucket")
    bucket.put_folder(tmp_path / "set", "set")
    return folder(bucket.uri("set"), bucket.config())


def test_a_folder_is_asked_the_same_wherever_it_lies(place):
    """What is in it, what is below, what a file says; and its files can be had."""
    assert sorted(place.entries()) == ["000010", "deep", "info"]
    assert place.folders_with("info") == ["000010"]
    assert ((place / "000010").read_bytes("model"), place.read_bytes("nothing")) == (b"1", None)
    assert ((place / "000010").name, (place / "000010").parent.name) == ("000010", "set")
    assert ((place / "deep").fetch() / "er" / "info").read_bytes() == b"3"


def test_a_folder_that_is_not_there_holds_nothing(place):
    """No file and no folder, and no error before its files are asked for."""
    assert ((place / "absent").folders_with("info"), (place / "absent").read_bytes("info")) == ([], None)
