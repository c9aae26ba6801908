"""stage=train bakes a dataset that is missing, if it is told of which recording."""

import signal
from pathlib import Path

import pytest

import positronic
from positronic.bake.manifest import read_manifest
from positronic.errors import PositronicError

RAW = Path(__file__).parents[1] / "data" / "raw_v1"
BAKED = "baked/raw_v1/lerobot/ee"
TAKEN = "positronic.bake.run:Run._take"


@pytest.fixture
def typed(tmp_path):
    """The command of a training, without a dataset."""
    robot = ["vendor=lerobot", "codec=ee", "modality.image_size=[32,32]", "dataset=local", f"dataset.path={RAW}"]
    return ["stage=train", "+debug=tiny", *robot, f"paths.root={tmp_path}", "device=cpu"]


def run(*overrides, **conf):
    return positronic.run(positronic.compose(list(overrides), **conf))


def test_a_missing_dataset_is_baked_once(typed, tmp_path, capsys):
    """As convert bakes it; what was typed for training alone is no matter of it."""
    assert run(*typed, "vendor.base=random").step == 4
    said = f"There is no dataset at {tmp_path}/{BAKED}/v3.0 yet: {RAW} is baked first."
    assert said in capsys.readouterr().out
    manifest = read_manifest(tmp_path / BAKED / "v3.0")
    assert (manifest.episodes, manifest.vendor) == (3, "lerobot")
    run(*typed, "exp_name=second")
    assert "is baked first" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["input_path=none"], "input_path"),  # which recording is to be baked there?
        (["preflight=true"], r"(?s)no baked dataset at .*stage=convert\", .*output_dir="),
    ],
)
def test_it_is_not_baked_where_that_was_not_asked_for(typed, tmp_path, monkeypatch, more, said):
    """The command is named instead."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PositronicError, match=said):
        run(*typed, *more)
    assert not list(tmp_path.iterdir())


def test_what_training_would_refuse_is_refused_before_hours_of_baking(typed, tmp_path):
    """An experiment of that name, or a checkout that is not there."""
    run(*typed)
    (tmp_path / "baked").rename(tmp_path / "elsewhere")
    with pytest.raises(PositronicError, match="exists already"):
        run(*typed)
    others = [each for each in typed if each not in ("vendor=lerobot", "codec=ee")]
    upstream = ["vendor=gr00t", "codec=ee_rot6d", "vendor.backend=upstream", f"vendor.repo={tmp_path / 'nowhere'}"]
    with pytest.raises(PositronicError, match="Isaac-GR00T is not at"):
        run(*others, *upstream)
    assert not (tmp_path / "baked").exists()


def test_a_preset_s_word_on_convert_counts(typed, tmp_path):
    """So that the dataset is the one that stage=convert with the same preset makes."""
    preset = tmp_path / "own" / "experiment" / "slow.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text("# @package _global_\nstages:\n  convert:\n    fps: 5\n")
    run(*typed, "+experiment=slow", "exp_name=slow", conf_dir=tmp_path / "own")
    assert read_manifest(tmp_path / BAKED / "v3.0").fps == 5


def test_what_cannot_be_baked_is_told_with_the_command_that_takes_more(typed, tmp_path):
    """A parameter of convert's cannot be typed for stage=train."""
    (tmp_path / "empty").mkdir()
    command = [each for each in typed if not each.startswith("dataset.path")]
    with pytest.raises(PositronicError, match=r"(?s)That was to make the dataset:.*\"stage=convert\", .*dataset.path"):
        run(*command, f"dataset.path={tmp_path / 'empty'}")


def test_an_interrupted_bake_leaves_nothing_and_the_same_command_goes_on(press, typed, tmp_path):
    done = press(TAKEN, 2, [signal.SIGINT], *typed)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / BAKED / "v3.0").exists()
    assert not (tmp_path / "checkpoints").exists()
    assert run(*typed).step == 4
