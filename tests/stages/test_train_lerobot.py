"""stage=train dataset=lerobot: a LeRobot dataset is trained on as it is, and its checkpoint is one like any other."""

import json

import numpy as np
import pytest
from lerobot_writer import frame, rows, write_v2

import positronic
from positronic import keys
from positronic.errors import PositronicError
from positronic.importing.mapping import read_mapping
from positronic.stages.convert import run as run_convert
from positronic.stages.foreign import MAPPING_FILE
from positronic.stages.import_ import run as run_import
from positronic.stages.infer import run as run_infer


@pytest.fixture
def so100(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_v2(tmp_path / "so100", lengths=(12, 9))


def typed(root, *more):
    robot = ["embodiment=so101", "codec=joints_cmd", "modality.image_size=[32,32]", "device=cpu"]
    return ["stage=train", "dataset=lerobot", f"dataset.path={root}", "+debug=tiny", *robot, *more]


def trained(root, *more):
    return positronic.run(positronic.compose(typed(root, *more)))


def test_the_policy_speaks_rad_and_0_to_1_to_the_robot(so100):
    """The dataset's degrees and percents are no concern of whoever runs its checkpoint."""
    policy = positronic.load_policy(trained(so100, "dataset.agree=true").path)
    seen = {"robot_state.q": np.deg2rad(rows(12)[3, :5]), keys.GRIP: 0.3}
    chunk = policy.infer(seen | {"image.wrist": frame(1), "image.front": frame(2), keys.TASK: "Fold."})
    assert len(chunk) == 6  # 0.53 s at the dataset's own 10 Hz
    for step in chunk:
        assert np.abs(step.arms[""].command.positions).max() < np.pi
        assert 0 <= step.arms[""].target_grip <= 1


def test_a_robot_plays_what_was_trained_without_raw_recordings(so100, tmp_path):
    """Here the robot is a recording of the same dataset, imported for that."""
    path = trained(so100, "dataset.agree=true").path
    raw = [f"path={so100}", f"output_dir={tmp_path / 'raw'}", "agree=true", "embodiment=so101", "num_workers=1"]
    run_import(positronic.compose(["stage=import", "source=lerobot", *raw]))
    robot = ["hardware=replay", f"hardware.path={tmp_path / 'raw'}", "driver.num_episodes=1"]
    policy = ["policy=local", f"policy.checkpoints_dir={path}", f"output_dir={tmp_path / 'rollouts'}"]
    result = run_infer(positronic.compose(["stage=infer", *robot, *policy]))
    assert len(positronic.open_raw(result.path)) == 1


def test_nothing_is_trained_until_somebody_agrees(so100, tmp_path):
    with pytest.raises(PositronicError, match="Nothing is trained until .* so100_mapping.yaml") as refused:
        trained(so100)
    assert "dataset.mapping=so100_mapping.yaml" in str(refused.value)
    assert "type dataset.agree=true" in str(refused.value)
    assert read_mapping(tmp_path / "so100_mapping.yaml").undecided
    assert not (tmp_path / "data").exists()


def test_the_mapping_is_kept_and_taken_again(so100):
    first = trained(so100, "dataset.agree=true")
    kept = read_mapping(so100.parent / first.path / MAPPING_FILE)
    assert kept.signals["robot_state.q"].unit == "degrees"
    again = trained(so100, "resume=true", "num_train_steps=6")
    assert again.step == 6
    info = json.loads((so100.parent / again.path / "checkpoints" / "000006" / keys.CHECKPOINT_FILE).read_text())
    assert info["manifest"]["reader"]["mapping"]["signals"]["grip"]["open"] == 100
    assert info["training"]["input_path"] == str(so100)


def test_held_out_episodes_tell_a_validation_loss(so100):
    assert trained(so100, "dataset.agree=true", "val_fraction=0.5").metrics["val_loss"] > 0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["modality.action_fps=15"], "modality.action_fps=15, and .*info.json says fps 10"),
        (
            ["dataset.episodes=[0]"],
            "chooses raw recordings. Of a LeRobot dataset choose with episodes=",
        ),
        (["input_path=elsewhere"], "input_path"),
        (["codec.images=[wrist,top]"], "top"),
        (["dataset.mapping=none.yaml"], "dataset.mapping=none.yaml: there is no such file"),
    ],
)
def test_what_does_not_fit_is_one_sentence(so100, more, says):
    with pytest.raises(PositronicError, match=says):
        trained(so100, "dataset.agree=true", *more)


def test_other_stages_say_how_to_import_it(so100):
    config = positronic.compose(["stage=convert", "dataset=lerobot", f"dataset.path={so100}", "codec=joints_cmd"])
    with pytest.raises(PositronicError, match=f"stage=import source=lerobot path={so100}"):
        run_convert(config)


def test_a_mapping_counts_only_for_a_lerobot_dataset():
    with pytest.raises(PositronicError, match="dataset.mapping counts only with dataset.layout=lerobot"):
        positronic.compose(["stage=train", "dataset=local", "dataset.path=x", "dataset.mapping=x.yaml"])
