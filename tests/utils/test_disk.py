"""Disks that refuse."""

import errno
import os
import subprocess
import sys

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


def test_a_folder_that_was_removed_meanwhile_is_said(tmp_path):
    """Whoever looks for a file where there is a folder has made another mistake."""
    for name, removed in (("a/b/c", True), ("c", False)):
        with pytest.raises(FileNotFoundError) as caught:
            (tmp_path / name).read_text()
        said = refused_by_disk(caught.value)
        assert (said is not None) is removed
        assert not said or f"The folder of {tmp_path}/a/b/c is gone" in str(said)


def test_a_folder_that_may_not_be_written_into_is_named(tmp_path, monkeypatch):
    """The one that is there; for root only a read-only disk is one."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PositronicError, match=rf"Cannot write into {tmp_path}, where {tmp_path}/a is to be"):
        require_writable(tmp_path / "a")


def test_one_process_at_a_time(tmp_path):
    """The second is refused while the first is there, and not afterwards."""
    place = tmp_path / "a" / "b"
    with alone_in(place):
        with pytest.raises(PositronicError, match=f"Another process is writing into {place}"), alone_in(place):
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
        (PermissionError(errno.EACCES, "x", "/data/b"), "Permission denied (/data/b). Get the permission"),
        (RuntimeError("A worker failed:\nOSError: [Errno 30] Read-only file system: 'c'"), "Read-only file system. "),
        (ValueError("I/O error: No space left on device (os error 28)"), "No space left on device. "),
        (OSError("1000000 requested and 131072 written"), "No space left on device. "),
        (
            OSError(errno.EFBIG, "x", "/data/b"),
            "File too large (/data/b). What was finished before is kept. `ulimit -f`",
        ),
    ],
)
def test_a_disk_that_refuses_is_a_sentence(error, says):
    """Whoever noticed it, and behind whatever was raised because of it."""
    assert str(refused_by_disk(error)).startswith(says)
    wrapped = KeyError("x")
    wrapped.__context__ = error
    assert str(refused_by_disk(wrapped)).startswith(says)


@pytest.fixture
def little_space(tmp_path):
    """``little_space(code)``: what a script prints whose working folder is a disk of 256 KB with 100 KB of it free."""
    fill = "set -e; mount -t tmpfs -o size=256k none disk; cd disk; head -c 150000 /dev/zero > fill"
    (tmp_path / "disk").mkdir()

    def run(code):
        (tmp_path / "script.py").write_text(code)
        command = ["unshare", "-rm", "sh", "-c", f"{fill}; {sys.executable} ../script.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        if "unshare" in done.stderr or "mount" in done.stderr:
            pytest.skip("no disk of our own can be mounted here")
        return done.stdout + done.stderr

    return run


REPLACED = """
from pathlib import Path
from positronic.utils.files import replace_text
replace_text(Path("report.json"), "first")
try:
    replace_text(Path("report.json"), "x" * 300_000)
except OSError as error:
    print(error.strerror, sorted(path.name for path in Path().iterdir()), Path("report.json").read_text())
"""

WRITERS = """
import numpy, pyarrow, pyarrow.parquet, safetensors.torch, torch
from pathlib import Path
from positronic.training.state import save_state
from positronic.utils.disk import refused_by_disk

large = torch.zeros(500_000)
optimiser = torch.optim.AdamW([torch.nn.Parameter(large)])
optimiser.param_groups[0]["large"] = large
table = pyarrow.table({"a": numpy.random.default_rng(0).random(500_000)})
for write in (
    lambda: save_state(Path(), optimiser, {}),
    lambda: safetensors.torch.save_file({"a": large}, "x"),
    lambda: numpy.save("x", large.numpy()),
    lambda: pyarrow.parquet.write_table(table, "x"),
    lambda: Path("x").write_text("x" * 500_000),
):
    try:
        write()
        print("no error")
    except Exception as error:
        print(str(refused_by_disk(error))[:23])
    Path("x").unlink(missing_ok=True)
"""


def test_a_small_file_that_finds_no_room_leaves_the_one_before(little_space):
    """And nothing beside it."""
    assert little_space(REPLACED) == "No space left on device ['fill', 'report.json'] first\n"


def test_whoever_writes_says_that_the_disk_is_full(little_space):
    """Torch, safetensors, numpy, Arrow and Python each say it otherwise, on a disk that is really full."""
    assert little_space(WRITERS) == "No space left on device\n" * 5


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "x", "y"), ValueError("Permission denied"), OSError()]
)
def test_other_errors_are_left_alone(error):
    """A bug keeps its traceback."""
    assert refused_by_disk(error) is None
