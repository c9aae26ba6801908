"""openpi's own statistics beside a dataset's, through a checkout that stands in for it."""

import shutil
import tempfile

import pytest

import positronic
from positronic.errors import PositronicError
from positronic.vendors.openpi import comparison
from positronic.vendors.openpi.comparison import Comparison, Difference

TYPED = ["stage=stats", "vendor=openpi", "vendor.backend=upstream"]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A cache with the tokenizer, and where temporary folders are made."""
    (tmp_path / "cache" / "big_vision").mkdir(parents=True)
    (tmp_path / "cache" / "big_vision" / "paligemma_tokenizer.model").write_bytes(b"a tokenizer")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))


@pytest.fixture
def stats(openpi_checkout, openpi_v21):
    """``stats(*more)``: the comparison of the dataset."""

    def run(*more, dataset=openpi_v21):
        typed = [*TYPED, f"vendor.repo={openpi_checkout.root}", f"input_path={dataset}", *more]
        return positronic.run(positronic.compose(typed)).comparison

    return run


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_its_last_partial_batch_had_is_missing_in_its_numbers(stats, openpi_v21, tmp_path, capsys):
    """The dataset stays as it is, and nothing else is left."""
    before = contents(openpi_v21)
    found = stats()
    assert (found.frames, found.batch, found.dropped) == (180, 32, 20)
    assert [each.part for each in found.differences] == ["state"] * 8 + ["actions"] * 8
    assert 0.01 < max(each.share for each in found.differences) < 0.2
    told = " ".join(capsys.readouterr().out.split())
    assert "ee_pose.x" in told
    assert "it left out the last 20 of 180 frames, which ours cover. Numbers differ because of that." in told
    assert "Nothing was written into the dataset" in told
    assert contents(openpi_v21) == before
    assert not list((tmp_path / "scratch").iterdir())


def test_of_whole_batches_its_numbers_are_ours(stats, monkeypatch):
    """But for the bins of its histograms."""
    monkeypatch.setattr(comparison, "BATCH", 30)
    found = stats()
    assert found.dropped == 0
    assert max(each.share for each in found.differences) < 2e-3
    assert not any("left out" in line for line in found.lines())


def test_a_failure_is_explained_and_its_log_stays(stats, openpi_checkout, tmp_path):
    openpi_checkout.tell(missing_module="lerobot_of_another_time")
    with pytest.raises(PositronicError, match=r"(?s)Computing statistics with openpi ended .*vendor.python=") as failed:
        stats()
    (folder,) = (tmp_path / "scratch").iterdir()
    assert [path.name for path in folder.iterdir()] == ["upstream.log"]
    assert str(folder / "upstream.log") in str(failed.value)


def test_a_missing_tokenizer_is_told_at_once(stats, tmp_path):
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(PositronicError, match=r"(?s)The tokenizer of π0.5 is missing.*maybe_download"):
        stats()


def test_only_what_was_baked_for_it_is_compared(stats, gr00t_v21):
    with pytest.raises(PositronicError, match=r"(?s)was baked for gr00t in format v2.1; openpi's own.*stage=convert"):
        stats(dataset=gr00t_v21)
    typed = ["stage=stats", "vendor=gr00t", "vendor.backend=upstream", f"input_path={gr00t_v21}"]
    with pytest.raises(PositronicError, match="gr00t's own code has no statistics to compare with"):
        positronic.run(positronic.compose(typed))


@pytest.mark.parametrize(
    ("theirs", "share"), [((0.0, 1.0, -2.0, 2.5), 0.125), ((0.0, 1.0, -2.0, 2.0), 0.0)], ids=["other", "same"]
)
def test_a_difference_is_told_as_a_share_of_the_span(theirs, share):
    assert Difference("state", "x", (0.0, 1.0, -2.0, 2.0), theirs).share == pytest.approx(share, rel=1e-6)


def test_a_dimension_that_does_not_move_differs_by_what_a_policy_would_see():
    """Histograms are a little wider than what is in them, which is no difference to talk about."""
    constant = (1.0, 0.0, 1.0, 1.0)
    assert Difference("state", "x", constant, (1.0, 0.0, 1.0 - 1e-10, 1.0 + 1e-10)).share < 1e-3
    assert Difference("state", "x", constant, (1.0, 0.0, 1.0, 1.5)).share > 1e5


def test_held_out_episodes_are_a_reason_too():
    """openpi's script knows of none."""
    told = Comparison("here", "openpi", (Difference("state", "x", (0.0,) * 4, (0.0,) * 4),), 64, 32, 2).lines()
    assert "the 2 that are held out" in told[1]
