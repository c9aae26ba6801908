"""Disks that refuse."""

import errno
import os

import pytest

from positronic.errors import PositronicError
from positronic.utils.disk import alone_in, refused_by_disk, require_writable


def test_a_folder_to_be_made_is_writable(tmp_path):
    """However deep, and nothing is made."""
    require_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_file_on_the_way_is_named(tmp_path):
    """Nothing can lie below it."""
    (tmp_path / "a").touch()
    with pytest.raises(PositronicError, match=rf"{tmp_path}/a/b cannot be a folder: {tmp_path}/a is a file"):
        require_writable(tmp_path / "a" / "b")


def test_a_folder_that_may_not_be_written_into_is_named(tmp_path, monkeypatch):
    """The one that is there; for root only a read-only disk is one."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PositronicError, match=rf"Cannot write into {tmp_path}, where {tmp_path}/a is to be"):
        require_writable(tmp_path / "a")


def test_one_process_at_a_time(tmp_path):
    """The second is refused while the first is there, and not afterwards."""
    place = tmp_path / "a" / "b"
    with alone_in(place):
        with pytest.raises(PositronicError, match=f"Another process writes into {place}"), alone_in(place):
            pass
        (place / "result").touch()
    with alone_in(place):
        assert (place / "result").exists()


def test_a_folder_that_stayed_empty_goes(tmp_path):
    """Nothing is left of a run that was refused."""
    with pytest.raises(PositronicError, match="refused"), alone_in(tmp_path / "a"):
        raise PositronicError("refused")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "x", "/data/b"), "No space left on device (/data/b). What was finished"),
        (PermissionError(errno.EACCES, "x", "/data/b"), "Permission denied (/data/b). Ask for the right"),
        (RuntimeError("A worker failed:\nOSError: [Errno 30] Read-only file system: 'c'"), "Read-only file system. "),
        (ValueError("I/O error: No space left on device (os error 28)"), "No space left on device. "),
    ],
)
def test_a_disk_that_refuses_is_a_sentence(error, says):
    """Whoever noticed it, and behind whatever was raised because of it."""
    assert str(refused_by_disk(error)).startswith(says)
    wrapped = KeyError("x")
    wrapped.__context__ = error
    assert str(refused_by_disk(wrapped)).startswith(says)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "x", "y"), ValueError("Permission denied"), OSError()]
)
def test_other_errors_are_left_alone(error):
    """A bug keeps its traceback."""
    assert refused_by_disk(error) is None
