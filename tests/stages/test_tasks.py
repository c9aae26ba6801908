"""Each of the simulator's tasks through every stage: collect, convert, train, infer, as typed but for their size."""

import pytest

import positronic
from positronic import keys
from positronic.raw.dataset import open_dataset

TASKS = {
    "sim_tray": ("placed 0/1", {"Put the cube into the tray."}),
    "sim_push": ("pushed 0/1", {"Push the puck to the target."}),
    "sim_told": (
        "stacked as told 0/1",
        {"Put the red cube on the blue cube.", "Put the blue cube on the red cube."},
    ),
}
TINY, SIZE = "+debug=tiny", "modality.image_size=[32,32]"


def run(stage, *typed):
    return positronic.run(positronic.compose([f"stage={stage}", *typed]))


@pytest.mark.parametrize("hardware", TASKS)
def test_a_task_goes_from_demonstrations_to_rollouts(hardware, tmp_path, monkeypatch, capsys):
    """Its instructions are in the demonstrations and in what is trained on; its word is in the report."""
    word, instructions = TASKS[hardware]
    monkeypatch.setenv("POSITRONIC_ROOT", str(tmp_path))
    demo, sim = f"dataset.path={tmp_path / 'demo'}", [f"hardware={hardware}", "hardware.image_size=[32,32]"]
    run("collect", TINY, *sim, f"output_dir={tmp_path / 'demo'}")
    assert {episode.statics[keys.TASK] for episode in open_dataset(tmp_path / "demo")} == instructions
    baked = run("convert", TINY, SIZE, "dataset=local", demo)
    run("train", TINY, SIZE, "dataset=local", demo)
    place = [
        f"policy.checkpoints_dir={tmp_path / 'checkpoints' / 'lerobot' / 'tiny'}",
        f"output_dir={tmp_path / 'out'}",
    ]
    run("infer", TINY, *sim, "policy=local", *place)
    assert set(positronic.open_baked(baked.path).tasks) == instructions
    assert open_dataset(tmp_path / "out")[0].statics[keys.TASK] in instructions
    assert word in capsys.readouterr().out
