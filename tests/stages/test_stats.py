"""stage=stats: what a dataset says of its numbers is mended, or reported."""

import json
import shutil
from pathlib import Path

import pytest

import positronic
from positronic import keys
from positronic.errors import PositronicError
from positronic.stages import convert
from positronic.stages.stats import run

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
STATS = "meta/stats.json"
NORM_STATS = "assets/pi05_positronic_lowmem/lerobot/norm_stats.json"
MODALITY = "meta/modality.json"
OWN_FILES = {
    ("lerobot", "v3.0"): [STATS],
    ("lerobot", "v2.1"): [STATS],
    ("gr00t", "v3.0"): [STATS],
    ("gr00t", "v2.1"): [STATS, MODALITY],
    ("openpi", "v3.0"): [STATS, NORM_STATS],
    ("openpi", "v2.1"): [STATS, NORM_STATS],
}


def bake(folder, vendor, dataset_format):
    overrides = [f"vendor={vendor}", f"dataset_format={dataset_format}", "modality.image_size=[32,32]", "fps=5"]
    paths = [f"dataset.path={PUBLISHED}", f"output_dir={folder}", "num_workers=1"]
    convert.run(positronic.compose(["stage=convert", *overrides, *paths]))
    return folder


@pytest.fixture(scope="module", params=OWN_FILES, ids="-".join)
def kind(request):
    """A vendor and a format."""
    return request.param


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, kind):
    """A dataset as convert leaves it; not to be changed."""
    return bake(tmp_path_factory.mktemp("baked") / "fresh", *kind)


@pytest.fixture
def folder(fresh, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(fresh, tmp_path / "cups"))


@pytest.fixture
def plain(tmp_path):
    """Of vendor lerobot, in v3.0."""
    return bake(tmp_path / "cups", "lerobot", "v3.0")


def stats(folder, *overrides):
    return run(positronic.compose(["stage=stats", f"input_path={folder}", *overrides]))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def said(capsys):
    """What was printed of the files; the line that says what to type next comes last."""
    *lines, last = capsys.readouterr().out.splitlines()
    assert last.startswith("  next:    python run.py stage=")
    return lines


def test_of_a_fresh_dataset_every_file_is_unchanged(folder, fresh, kind, capsys):
    """The vendor's own too; not a byte is written."""
    stats(folder)
    assert said(capsys) == [f"{folder / name}: unchanged" for name in OWN_FILES[kind]]
    assert contents(folder) == contents(fresh)


def test_a_path_is_shown_as_it_is(plain, tmp_path, capsys):
    """Brackets are no markup."""
    place = plain.rename(tmp_path / "cups [b]")
    capsys.readouterr()
    run(positronic.compose(["stage=stats", f"input_path={place}"]))
    assert said(capsys) == [f"{place / STATS}: unchanged"]


def test_what_was_damaged_or_lost_is_mended(folder, fresh, kind, capsys):
    """To the bytes that the bake wrote; the next time nothing has to be done."""
    for name in OWN_FILES[kind]:
        (folder / name).write_text("{")
    (folder / STATS).unlink()
    stats(folder)
    first = said(capsys)
    assert first[0] == f"{folder / STATS}: was missing, written"
    assert first[1:] == [f"{folder / name}: was different, written anew" for name in OWN_FILES[kind][1:]]
    assert contents(folder) == contents(fresh)
    stats(folder)
    assert all(line.endswith(": unchanged") for line in said(capsys))


def test_a_report_changes_nothing_and_puts_its_picture_beside(folder, fresh, kind, capsys):
    """Wherever statistics are damaged: it looks at the numbers themselves."""
    (folder / STATS).write_text("{")
    before = contents(folder)
    stats(folder, "report=true")
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir() if path != folder] == ["cups_stats.png"]
    text = capsys.readouterr().out
    assert f"{kind[0]}," in text
    assert "3 episodes, 60 frames at 5 fps" in text
    assert "ee_pose.x" in text


def test_the_picture_goes_where_it_is_typed(plain, tmp_path):
    """Its folder is made."""
    stats(plain, "report=true", f"picture={tmp_path}/pictures/cups.png")
    assert (tmp_path / "pictures" / "cups.png").read_bytes().startswith(b"\x89PNG")


def test_the_default_is_the_dataset_that_convert_writes(plain, tmp_path, capsys):
    """Found by the same choices."""
    shutil.copytree(plain, tmp_path / "baked/raw_v1/lerobot/ee/v3.0")
    capsys.readouterr()
    run(positronic.compose(["stage=stats", f"dataset.path={PUBLISHED}", f"paths.root={tmp_path}"]))
    assert said(capsys)[-1].endswith("/raw_v1/lerobot/ee/v3.0/meta/stats.json: unchanged")


def test_no_dataset_is_answered_with_how_to_make_one(tmp_path):
    """As everywhere."""
    for how in ([], ["report=true"]):
        with pytest.raises(PositronicError, match=r"no baked dataset at .*nowhere\. Bake one with"):
            stats(tmp_path / "nowhere", *how)


def test_a_dataset_in_a_bucket_is_not_changed():
    """Before anything is fetched."""
    with pytest.raises(PositronicError, match="s3://lab/cups is in a bucket, .*report=true"):
        stats("s3://lab/cups")


def test_openpi_s_statistics_need_what_its_config_needs(plain):
    """A manifest without it is refused, and nothing is written."""
    manifest = json.loads((plain / keys.MANIFEST_FILE).read_text())
    (plain / keys.FILE_LIST).unlink()  # as in a dataset of an older version, whose manifest may be edited unnoticed
    (plain / keys.MANIFEST_FILE).write_text(json.dumps(manifest | {"vendor": "openpi", "file_list": False}))
    (plain / STATS).unlink()
    with pytest.raises(PositronicError, match=r"expected modality.config_name and modality.action_chunk"):
        stats(plain)
    assert not (plain / STATS).exists()


def test_the_result_says_what_was_done(plain):
    """Which files were written; with a report every dimension, where the picture is, and the table in a notebook."""
    assert stats(plain).changed == ()
    (plain / STATS).write_text("{}")
    assert stats(plain).changed == (STATS,)
    result = stats(plain, "report=true")
    assert (result.path, result.changed) == (str(plain), ())
    assert result.picture.read_bytes().startswith(b"\x89PNG")
    assert {dimension.column for dimension in result.inspection.dimensions} >= {"action", "observation.state"}
    assert "observation.state" in result._repr_html_()
