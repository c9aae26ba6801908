"""stage=convert: from one command line to a dataset, or to one sentence."""

import json
import shlex
from pathlib import Path

import pytest

import positronic
from positronic.bake.manifest import read_manifest
from positronic.errors import PositronicError
from positronic.stages.convert import run

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
SMALL = ["modality.image_size=[32,32]", "num_workers=1"]


def config(tmp_path, *overrides):
    typed = {override.partition("=")[0] for override in overrides}
    defaults = ["vendor=lerobot", f"dataset.path={PUBLISHED}", f"output_dir={tmp_path / 'baked'}", *SMALL]
    kept = [each for each in defaults if each.partition("=")[0] not in typed]
    return positronic.compose(["stage=convert", *kept, *overrides])


def test_it_bakes_what_was_typed(tmp_path, capsys):
    """Codec, rate and task of the command line are in the dataset; a table is printed, a report kept."""
    run(config(tmp_path, "codec=ee_traj", "fps=5", "task=something else"))
    manifest = read_manifest(tmp_path / "baked")
    assert (manifest.load_recipe().codec.name, manifest.fps, manifest.task) == ("ee_traj", 5, "something else")
    assert (manifest.episodes, manifest.frames) == (3, 60)
    assert json.loads((tmp_path / "baked/meta/bake_report.json").read_text())["tasks"] == {"something else": 60}
    assert "60 at 5 fps" in capsys.readouterr().out


def test_an_older_codec_name_bakes_under_its_own(tmp_path):
    """``eepose_absolute`` is ``ee``, and the dataset says so."""
    run(config(tmp_path, "codec=eepose_absolute", "fps=1"))
    assert read_manifest(tmp_path / "baked").load_recipe().codec.name == "ee"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.path=nowhere"], "nowhere does not exist.*stage=collect"),
        (["video.preset=hasty"], "'libx264' refuses .*preset=hasty.*video.preset"),
    ],
)
def test_what_cannot_be_baked_is_refused_without_a_bar(tmp_path, capsys, overrides, message):
    """One sentence, and nothing at the output."""
    with pytest.raises(PositronicError, match=message):
        run(config(tmp_path, *overrides))
    assert "episodes" not in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "stage"),
    [([], "train"), (["dataset_format=v2.1"], "train"), (["vendor=openpi", "codec=ee"], "train")],
)
def test_it_ends_with_the_command_that_goes_on(tmp_path, capsys, overrides, stage):
    """Training, where such datasets are trained here; the command composes."""
    run(config(tmp_path, "fps=1", *overrides))
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:3] == ["next:", "python", "run.py"]
    following = positronic.compose(words[3:])
    assert (following.stage, following.input_path) == (stage, str(tmp_path / "baked"))
