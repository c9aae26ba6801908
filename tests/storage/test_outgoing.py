"""Folders made here and uploaded: at the end as a whole, or while they grow."""

from pathlib import Path

import pytest

from positronic.errors import PositronicError
from positronic.storage import outgoing
from positronic.storage.outgoing import Growing, Sync, local_output, synced_output
from positronic.storage.publishing import Unit

LAST = "last.json"


def units(root: Path) -> list[Unit]:
    return [Unit(path.parent, LAST) for path in sorted(root.glob(f"units/*/{LAST}"))]


def newest(names):
    last = max((name.split("/")[1] for name in names if name.endswith(f"/{LAST}")), default="")
    return [name for name in names if not name.startswith("units/") or name.startswith(f"units/{last}/")]


GROWING = Growing(units, lambda name: name.startswith("units/"), newest)


def write_unit(root: Path, number: int, text: str = "data") -> None:
    """As checkpoints are written: under another name first."""
    partial = root / "units" / f".partial-{number}"
    partial.mkdir(parents=True)
    (partial / "data").write_text(f"{text} {number}")
    (partial / LAST).write_text("{}")
    partial.rename(root / "units" / str(number))


def unit(number: int, text: str = "data") -> dict[str, bytes]:
    return {f"out/units/{number}/data": f"{text} {number}".encode(), f"out/units/{number}/{LAST}": b"{}"}


def without_start(bucket):
    return {name: data for name, data in bucket.objects().items() if not name.endswith(outgoing.STARTED_FILE)}


def outgoing_files(bucket):
    return [path for path in (bucket.cache / outgoing.OUTGOING).rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_local_path_is_given_as_it_is(tmp_path):
    """Nothing is made, moved or refused."""
    with local_output(tmp_path / "x") as path, synced_output(str(tmp_path / "y"), GROWING) as other:
        assert (path, other) == (tmp_path / "x", tmp_path / "y")
        assert not path.exists()


def test_what_was_made_is_published_and_removed_here(bucket):
    """The work folder is as good as gone when it is there."""
    with local_output(bucket.uri("out"), bucket.config(), LAST) as path:
        path.mkdir()
        (path / "data").write_text("1")
        (path / LAST).write_text("{}")
    assert bucket.objects() == {"out/data": b"1", f"out/{LAST}": b"{}"}
    assert outgoing_files(bucket) == []


def test_what_is_there_is_refused_before_the_work(bucket):
    """Not after hours."""
    bucket.put_key(f"out/{LAST}", b"{}")
    with (
        pytest.raises(PositronicError, match="out exists already"),
        local_output(bucket.uri("out"), bucket.config(), LAST),
    ):
        raise AssertionError("the work has begun")


def test_after_an_exception_nothing_is_published_and_nothing_lost(bucket):
    """What lies beside the path, half a bake, is there for the next run."""

    def fail():
        with local_output(bucket.uri("out"), bucket.config(), LAST) as path:
            (path.parent / ".out.partial").mkdir()
            (path.parent / ".out.partial" / "half").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert bucket.objects() == {}
    with local_output(bucket.uri("out"), bucket.config(), LAST) as path:
        assert (path.parent / ".out.partial" / "half").exists()
        path.mkdir()
        (path / LAST).write_text("{}")


def test_what_could_not_be_uploaded_is_kept_and_uploaded_by_the_next_run(bucket, proxy):
    """A network that fails at the end costs nothing."""
    proxy.inject("busy", method="PUT", path="out/data", times=99)
    config = bucket.config(proxy.url, retries=1)

    def make():
        with local_output(bucket.uri("out"), config, LAST) as path:
            path.mkdir()
            (path / "data").write_text("1")
            (path / LAST).write_text("{}")

    with pytest.raises(PositronicError, match="is kept in .* The same command uploads it"):
        make()
    proxy.faults.clear()
    with pytest.raises(PositronicError, match="It is uploaded now"), local_output(bucket.uri("out"), config, LAST):
        raise AssertionError("the work has begun again")
    assert bucket.objects() == {"out/data": b"1", f"out/{LAST}": b"{}"}


def test_two_processes_do_not_make_the_same_thing_here(bucket):
    """The second is refused at once."""
    with (
        synced_output(bucket.uri("out"), GROWING, bucket.config()),
        pytest.raises(PositronicError, match="Another process is writing"),
        local_output(bucket.uri("out"), bucket.config(), LAST),
    ):
        pass


def test_finished_units_are_uploaded_while_the_rest_grows(bucket, monkeypatch):
    """Another machine can use them, and a crash here costs none of them."""
    monkeypatch.setattr(outgoing, "INTERVAL_SEC", 0.01)
    with synced_output(bucket.uri("out"), GROWING, bucket.config()) as root:
        write_unit(root, 1)
        (root / "units" / ".partial-2").mkdir()
        (root / "units" / ".partial-2" / "data").write_text("half")
        (root / "metrics").write_text("1")
        while set(without_start(bucket)) != {*unit(1), "out/metrics"}:
            pass
        assert without_start(bucket) == unit(1) | {"out/metrics": b"1"}


def test_nothing_half_written_is_ever_uploaded(bucket):
    """Neither meanwhile nor at the end."""
    with synced_output(bucket.uri("out"), GROWING, bucket.config()) as root:
        write_unit(root, 1)
        (root / "units" / "2").mkdir()
        (root / "units" / "2" / "data").write_text("half")
        (root / ".hidden").write_text("1")
    assert without_start(bucket) == unit(1)
    assert outgoing_files(bucket) == []


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt])
def test_what_is_finished_is_uploaded_before_an_error_goes_on_its_way(bucket, problem):
    """Ctrl-C too, and files that have changed are uploaded as they are then."""

    def fail():
        with synced_output(bucket.uri("out"), GROWING, bucket.config()) as root:
            write_unit(root, 1)
            (root / "metrics").write_text("1 2")
            raise problem

    with pytest.raises(problem):
        fail()
    assert without_start(bucket) == unit(1) | {"out/metrics": b"1 2"}


def test_a_network_that_fails_meanwhile_does_not_stop_the_work(bucket, proxy):
    """It is tried again at the next round, and at the end."""
    place = outgoing.folder(bucket.uri("out"), bucket.config(proxy.url, retries=0))
    work = bucket.cache / "work"
    write_unit(work, 1)
    proxy.inject("busy", method="PUT", path="data")
    sync = Sync(place, work, GROWING)
    with pytest.raises(PositronicError):
        sync.upload()
    sync.upload()
    assert bucket.objects() == unit(1)


def test_what_cannot_be_uploaded_at_the_end_is_kept_and_told(bucket, proxy):
    """And the next run uploads it before it is refused."""
    config = bucket.config(proxy.url, retries=0)
    proxy.inject("busy", method="PUT", path="data", times=99)
    with (
        pytest.raises(PositronicError, match="What was not uploaded to .* is kept in"),
        synced_output(bucket.uri("out"), GROWING, config) as root,
    ):
        write_unit(root, 1)
    proxy.faults.clear()
    with (
        pytest.raises(PositronicError, match="out exists already. Say resume."),
        synced_output(bucket.uri("out"), GROWING, config, hint="Say resume."),
    ):
        raise AssertionError("the work has begun again")
    assert without_start(bucket) == unit(1)


def test_a_place_that_is_taken_is_refused_at_the_start(bucket):
    """By another run that has begun, though it has nothing to show yet."""
    other = bucket.config(cache_dir=str(bucket.cache / "another machine"))
    with (
        synced_output(bucket.uri("out"), GROWING, other),
        pytest.raises(PositronicError, match="out exists already"),
        synced_output(bucket.uri("out"), GROWING, bucket.config()),
    ):
        pass


def test_a_run_that_made_nothing_leaves_nothing(bucket):
    """A mistake in its settings does not take the place."""
    with pytest.raises(RuntimeError), synced_output(bucket.uri("out"), GROWING, bucket.config()):
        raise RuntimeError
    assert bucket.objects() == {}


def test_a_start_that_fails_leaves_its_name_free(bucket):
    """Its loose files are not uploaded: a failed login to a tracker must not cost a name."""

    def start():
        with synced_output(bucket.uri("out"), GROWING, bucket.config()) as root:
            (root / "config.json").write_text("{}")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        start()
    assert bucket.objects() == {}
    with synced_output(bucket.uri("out"), GROWING, bucket.config()) as root:
        write_unit(root, 1)
    assert without_start(bucket) == unit(1)


def test_another_machine_goes_on_with_the_newest(bucket, proxy):
    """It fetches that and the loose files, nothing older, and adds to it."""
    with synced_output(bucket.uri("out"), GROWING, bucket.config()) as root:
        for number in (1, 2):
            write_unit(root, number)
        (root / "metrics").write_text("12")
    other = bucket.config(proxy.url, cache_dir=str(bucket.cache / "another machine"))
    with synced_output(bucket.uri("out"), GROWING, other, resume=True) as root:
        there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        assert there == {"units/2/data", f"units/2/{LAST}", "metrics"}
        write_unit(root, 3)
        (root / "metrics").write_text("123")
    assert without_start(bucket) == unit(1) | unit(2) | unit(3) | {"out/metrics": b"123"}


def test_going_on_from_nothing_begins(bucket):
    """As it does with a local folder."""
    with synced_output(bucket.uri("out"), GROWING, bucket.config(), resume=True) as root:
        write_unit(root, 1)
    assert without_start(bucket) == unit(1)


def test_going_on_here_uploads_what_a_killed_run_could_not(bucket, proxy):
    """Where this machine is ahead, it stays ahead."""
    config = bucket.config(proxy.url, retries=0)
    proxy.inject("busy", method="PUT", path="units/2/data", times=99)

    def begin():
        with synced_output(bucket.uri("out"), GROWING, config) as root:
            write_unit(root, 1)
            write_unit(root, 2)

    with pytest.raises(PositronicError):
        begin()
    assert without_start(bucket).items() >= unit(1).items()
    proxy.faults.clear()
    with synced_output(bucket.uri("out"), GROWING, config, resume=True) as root:
        assert [each.folder.name for each in units(root)] == ["1", "2"]
    assert without_start(bucket) == unit(1) | unit(2)


def test_two_histories_are_not_mixed(bucket, proxy):
    """One went on elsewhere, one here without a network: the user decides."""
    config = bucket.config(proxy.url, retries=0)
    proxy.inject("busy", method="PUT", path="units/1/data", times=99)

    def begin():
        with synced_output(bucket.uri("out"), GROWING, config) as root:
            write_unit(root, 1, "here")

    with pytest.raises(PositronicError):
        begin()
    proxy.faults.clear()
    elsewhere = bucket.config(cache_dir=str(bucket.cache / "another machine"))
    with synced_output(bucket.uri("out"), GROWING, elsewhere, resume=True) as root:
        write_unit(root, 2, "there")
    with (
        pytest.raises(PositronicError, match="was continued elsewhere after units/1 was written here.*rm -r"),
        synced_output(bucket.uri("out"), GROWING, config, resume=True),
    ):
        pass
