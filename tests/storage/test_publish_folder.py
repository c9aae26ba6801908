"""A local folder is published whole or not at all."""

import subprocess
import sys

import pytest

from positronic.errors import PositronicError
from positronic.storage import exists, local_path, partial_path, publish_folder


def test_a_folder_appears_when_it_is_whole(tmp_path):
    """Nothing is at the target while it is being filled; everything is afterwards, and no trace of the work."""
    target = tmp_path / "runs" / "one"
    with publish_folder(target) as folder:
        (folder / "a.txt").write_text("a")
        assert not target.exists()
    assert (target / "a.txt").read_text() == "a"
    assert [path.name for path in target.parent.iterdir()] == ["one"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(tmp_path, error):
    """Neither the target nor the folder that was being filled is left."""

    def work():
        with publish_folder(tmp_path / "one") as folder:
            (folder / "a.txt").write_text("a")
            raise error

    with pytest.raises(error):
        work()
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_refused_untouched(tmp_path):
    """A target with something in it stops the work before it begins."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "old.txt").write_text("old")
    with pytest.raises(PositronicError, match=r"exists already.*output_dir"), publish_folder(tmp_path / "one"):
        pytest.fail("the work began")
    assert (tmp_path / "one" / "old.txt").read_text() == "old"


def test_an_empty_target_is_taken(tmp_path):
    """A folder that somebody made beforehand is filled."""
    (tmp_path / "one").mkdir()
    with publish_folder(tmp_path / "one") as folder:
        (folder / "a.txt").write_text("a")
    assert (tmp_path / "one" / "a.txt").exists()


def test_of_two_publishers_the_later_loses(tmp_path):
    """What appeared at the target during the work stays, and the work is refused."""

    def work():
        with publish_folder(tmp_path / "one") as folder:
            (folder / "a.txt").write_text("mine")
            (tmp_path / "one").mkdir()
            (tmp_path / "one" / "b.txt").write_text("theirs")

    with pytest.raises(PositronicError, match="exists already"):
        work()
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["b.txt"]


def test_a_folder_being_filled_is_left_alone(tmp_path):
    """A second run for the same target is refused while the first is at work."""
    with publish_folder(tmp_path / "one") as folder:
        (folder / "a.txt").write_text("a")
        with pytest.raises(PositronicError, match="Another process is writing"), publish_folder(tmp_path / "one"):
            pytest.fail("the work began")
    assert (tmp_path / "one" / "a.txt").exists()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    """SIGKILL leaves the hidden folder only, and the next run begins with an empty one."""
    filling = (
        "import sys\nfrom positronic.storage import publish_folder\nwith publish_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'half.txt').write_text('half')\n    print('filled', flush=True)\n    sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", filling, tmp_path / "one"], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout.readline() == "filled\n"
        process.kill()
    assert list(tmp_path.iterdir()) == [partial_path(tmp_path / "one")]
    with publish_folder(tmp_path / "one") as folder:
        assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.fixture
def no_exchange(monkeypatch):
    """A file system that cannot swap two names in one step, as NFS."""
    monkeypatch.setattr("positronic.storage.local.RENAME_EXCHANGE", 1 << 30)


def test_a_folder_is_replaced_where_names_cannot_be_swapped_in_one_step(tmp_path, no_exchange):
    """Nothing is left of the old one."""
    (tmp_path / "one").mkdir()
    with publish_folder(tmp_path / "one", replace=True) as folder:
        (folder / "new.txt").write_text("new")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["one", "one/new.txt"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, no_exchange):
    """Here the new one is gone."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "old.txt").write_text("old")
    with pytest.raises(FileNotFoundError), publish_folder(tmp_path / "one", replace=True) as folder:
        folder.rmdir()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["one", "one/old.txt"]


def test_a_folder_that_was_removed_meanwhile_is_not_replaced(tmp_path):
    """Whoever removed it meant something by it."""
    (tmp_path / "one").mkdir()
    with (
        pytest.raises(PositronicError, match="one was removed meanwhile"),
        publish_folder(tmp_path / "one", replace=True),
    ):
        (tmp_path / "one").rmdir()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed(tmp_path):
    """What is built lies beside the folder that it leads to, and takes that one's place."""
    (tmp_path / "disk" / "one").mkdir(parents=True)
    (tmp_path / "one").symlink_to(tmp_path / "disk" / "one")
    with publish_folder(tmp_path / "one", replace=True) as folder:
        assert folder.parent == tmp_path / "disk"
        (folder / "new.txt").write_text("new")
    assert (tmp_path / "one").is_symlink()
    assert [path.name for path in (tmp_path / "disk").rglob("*")] == ["one", "new.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    """The parent of a target may be a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PositronicError, match="Cannot write into .*file"), publish_folder(tmp_path / "file" / "one"):
        pytest.fail("the work began")


def test_an_empty_folder_does_not_count_as_existing(tmp_path):
    """``exists`` asks whether something would be overwritten."""
    (tmp_path / "empty").mkdir()
    assert not exists(tmp_path / "empty")
    assert exists(tmp_path)


def test_file_uris_are_local_and_unknown_schemes_are_refused():
    """``file://`` is a path; a scheme that nobody knows is named."""
    assert str(local_path("file:///a/b")) == "/a/b"
    with pytest.raises(PositronicError, match="ftp://"):
        local_path("ftp://host/a")
