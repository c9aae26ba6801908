"""Choosing episodes on the command line: what is typed for one stage agrees with the others, or is refused."""

import json

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.bake.holdout import Holdout
from positronic.bake.manifest import read_manifest
from positronic.errors import ConventionError, PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.stages import convert, stats, train

SMALL = ["modality.image_size=[16,16]", "num_workers=1", "fps=5"]


@pytest.fixture
def raw(tmp_path):
    """Four episodes of 6 frames: two tasks, three that succeed."""
    random = np.random.default_rng(0)
    for number in range(4):
        with DatasetWriter(tmp_path / "raw").new_episode() as episode:
            for k in range(7):
                pose = np.concatenate([random.normal(size=3), [1.0, 0.0, 0.0, 0.0]])
                values = {keys.EE_POSE: pose, keys.COMMAND_POSE: pose, keys.GRIP: k / 7, keys.TARGET_GRIP: k / 7}
                for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                    values[camera] = np.full((16, 16, 3), 20 * k, np.uint8)
                for name, value in values.items():
                    episode.append(name, value, k * 10**9 // 5)
            episode.set_static(keys.TASK, f"put cup {number % 2}, gently")
            episode.set_static(keys.EVAL_OUTCOME, "timeout" if number == 1 else "success")
    return tmp_path / "raw"


def divides(raw):
    """A val_seed that holds out one of the first three that succeeded: uids are made anew in each recording."""
    uids = [episode.uid for episode in open_dataset(raw)]
    found = (s for s in range(1000) if len(Holdout(0.5, s).among([uids[0], *uids[2:]])) == 1)
    return [f"val_seed={next(found)}", "val_fraction=0.5"]


@pytest.fixture
def bake(raw, tmp_path):
    """``bake("dataset.outcome=success", ...)`` -> the dataset's folder."""

    def bake(*typed, name="baked"):
        fixed = ["vendor=lerobot", "codec=ee", "dataset=local", f"dataset.path={raw}", *SMALL]
        convert.run(positronic.compose(["stage=convert", *fixed, f"output_dir={tmp_path / name}", *typed]))
        return tmp_path / name

    return bake


@pytest.fixture
def trained(tiny_act, tmp_path):
    """``trained(dataset, ...)`` trains for two steps and returns the checkpoint's ``positronic.json``."""

    def trained(dataset, *typed, name="run"):
        fixed = [f"input_path={dataset}", "num_train_steps=2", "save_freq=2", "modality.action_horizon_sec=0.2"]
        train.run(positronic.compose(tiny_act(name, *fixed, *typed)))
        return json.loads((tmp_path / name / "checkpoints/000002/positronic.json").read_text())

    return trained


def test_what_is_typed_is_baked_said_and_recorded(bake, capsys):
    """By number, outcome, task and count; a text may hold commas."""
    path = bake("dataset.outcome=success", 'dataset.tasks=["put cup 0, gently"]', "dataset.max_episodes=1")
    said = {"outcome": "success", "tasks": ["put cup 0, gently"], "max_episodes": 1}
    manifest = read_manifest(path)
    assert (manifest.choice["said"], manifest.episodes, manifest.choice["of"]) == (said, 1, 4)
    printed = capsys.readouterr()
    assert "1 of 4 episodes (outcome success, tasks 'put cup 0, gently', max_episodes 1)" in printed.err
    assert "1 of 4 episodes" in " ".join(printed.out.split())


def test_held_out_episodes_go_from_the_bake_to_the_checkpoint(bake, raw, trained, capsys):
    """Training leaves them out and tells their loss; the recomputed statistics leave them out too."""
    path = bake(*divides(raw))
    held_out = read_manifest(path).held_out_episodes
    assert 0 < len(held_out) < 4
    assert f"{len(held_out)} of 4, not trained on" in " ".join(capsys.readouterr().out.split())
    assert stats.run(positronic.compose(["stage=stats", f"input_path={path}"])).changed == ()
    info = trained(path)
    assert info["training"]["choice"]["held_out"] == held_out
    assert sorted([*info["training"]["choice"]["episodes"], *held_out]) == [0, 1, 2, 3]
    assert info["training"]["episodes"] == 4 - len(held_out)
    assert f"{4 - len(held_out)} of 4 episodes, {len(held_out)} held out" in capsys.readouterr().out


def test_a_choice_of_the_recording_must_be_that_of_the_bake(bake, trained):
    """Typed for training it is compared; the refusal names both, the bake, and the choice among baked episodes."""
    path = bake("dataset.outcome=success")
    trained(path, "dataset.outcome=success")
    with pytest.raises(ConventionError, match=r"dataset.outcome: .* has success; this run has timeout") as refusal:
        trained(path, "dataset.outcome=timeout", name="other")
    assert "stage=convert" in str(refusal.value)
    assert "type episodes=, tasks= or max_episodes= without 'dataset.'" in str(refusal.value)
    with pytest.raises(ConventionError, match="dataset.max_episodes: .* has None; this run has 2"):
        trained(path, "dataset.max_episodes=2", name="other")


def test_an_incremental_bake_goes_on_with_the_same_command(bake, raw):
    """With recordings added since; those that were there stay on their sides."""
    typed = [*divides(raw), "dataset.outcome=success"]
    before = read_manifest(bake(*typed)).held_out
    with DatasetWriter(raw).new_episode() as episode:
        pose = np.array([0.1, 0.2, 0.3, 1.0, 0.0, 0.0, 0.0])
        for k in range(7):
            values = {keys.EE_POSE: pose, keys.COMMAND_POSE: pose, keys.GRIP: k / 7, keys.TARGET_GRIP: k / 7}
            for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                values[camera] = np.full((16, 16, 3), 30 * k, np.uint8)
            for name, value in values.items():
                episode.append(name, value, k * 10**9 // 5)
        episode.set_static(keys.EVAL_OUTCOME, "success")
    after = read_manifest(bake(*typed, "append=true", "on_duplicate=skip"))
    assert after.episodes == 4
    assert after.held_out["uids"][: len(before["uids"])] == before["uids"]
    assert after.choices == [{"outcome": "success"}] * 2


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("stage=convert val_seed=3", "val_seed counts only with val_fraction=<value>"),
        ("stage=convert val_fraction=1.5", "val_fraction=1.5: expected a number above 0, at most 0.9"),
        ("stage=convert dataset.episodes=[]", r"dataset.episodes=\[\]: expected a list of whole numbers from 0 on"),
        ("stage=convert dataset.episodes=[1,1]", "each once"),
        ("stage=convert dataset.episodes=3", r"expected .*Type dataset.episodes=\[3\]"),
        ("stage=convert dataset.max_episodes=0", "expected a number from 1 on"),
        ("stage=convert max_episodes=3", "It belongs to stage=train"),
        ("stage=train outcome=success", "outcome"),
        ("stage=stats dataset.outcome=success", "It belongs to stage=convert"),
    ],
)
def test_what_cannot_be_honoured_is_refused(typed, said):
    """At composition."""
    with pytest.raises(PositronicError, match=said):
        positronic.compose([*typed.split(), *(["dataset.path=x"] if "convert" in typed else [])])
