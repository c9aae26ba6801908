"""stage=stats report=true on a dataset in a bucket."""

from pathlib import Path

import pytest

import positronic
from positronic.errors import PositronicError
from positronic.stages import convert, stats

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"


@pytest.fixture
def uploaded(shared_bucket, tmp_path):
    """A baked dataset in the bucket, without its videos."""
    folder, overrides = tmp_path / "baked", ["modality.image_size=[32,32]", "fps=5", "num_workers=1"]
    convert.run(positronic.compose(["stage=convert", f"dataset.path={PUBLISHED}", f"output_dir={folder}", *overrides]))
    for video in folder.glob("videos/**/*.mp4"):
        video.unlink()
    shared_bucket.put_folder(folder, "inspected/cups")
    return shared_bucket.uri("inspected/cups")


def config(bucket, place, *overrides):
    where = [f"storage.endpoint_url={bucket.url}", f"storage.cache_dir={bucket.cache}"]
    return positronic.compose(["stage=stats", f"input_path={place}", "report=true", *where, *overrides])


def test_its_numbers_are_read_its_videos_are_not(shared_bucket, uploaded, tmp_path, capsys):
    """The picture goes to a local file, when one is typed."""
    stats.run(config(shared_bucket, uploaded, f"picture={tmp_path / 'cups.png'}"))
    assert "3 episodes, 60 frames at 5 fps" in capsys.readouterr().out
    assert (tmp_path / "cups.png").read_bytes().startswith(b"\x89PNG")
    stats.run(config(shared_bucket, uploaded))
    assert "type picture=<file>.png" in capsys.readouterr().out


def test_what_is_not_there_is_said(shared_bucket):
    """Before anything is fetched."""
    with pytest.raises(PositronicError, match="There is nothing at s3://"):
        stats.run(config(shared_bucket, shared_bucket.uri("inspected/nothing")))
