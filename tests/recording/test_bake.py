"""What a script records goes on to the bake."""

import shlex

import numpy as np
import pytest
from small_robot import CAMERAS, SIZE, STEP_NS, append

import positronic
from positronic import keys

STEPS = 40


def record_franka(root):
    cameras = {"wrist": SIZE, "exterior": SIZE}
    recorder = positronic.record(root, "franka", cameras, task="Stack the cubes.", frames_held=STEPS)
    with recorder, recorder.episode() as episode:
        for step in range(STEPS):
            pose = np.array([0.3 + step / 1000, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])
            joints = np.array([0.0, 0.0, 0.0, -1.5, 0.0, 1.5, step / 100])
            frame = np.full((*SIZE, 3), step, np.uint8)
            measured = {keys.JOINT_POSITION: joints, keys.EE_POSE: pose, keys.GRIP: step / STEPS}
            commanded = {keys.COMMAND_POSE: pose, keys.TARGET_GRIP: 1.0}
            images = {keys.IMAGE_WRIST: frame, keys.IMAGE_EXTERIOR: frame}
            episode.append(measured | commanded | images, time_ns=step * STEP_NS)


def record_so101(root):
    recorder = positronic.record(root, "so101", CAMERAS, task="Stack the cubes.", frames_held=STEPS)
    with recorder, recorder.episode() as episode:
        append(episode, STEPS)


@pytest.mark.parametrize(
    ("record", "typed", "column", "values"),
    [
        (record_franka, ["codec=joints"], keys.LEROBOT_STATE, np.arange(8) * 5 / 100),
        (record_so101, [], keys.LEROBOT_ACTION, 0.4 + np.arange(8) * 5 / 50),
    ],
)
def test_the_command_that_it_prints_bakes_what_was_recorded(tmp_path, capsys, record, typed, column, values):
    """The last joint, measured or commanded, is that which was appended."""
    record(tmp_path / "raw")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  next:")]
    overrides = shlex.split(line.removeprefix("  next:"))[2:]
    small = ["fps=10", "modality.image_size=[32,32]", "num_workers=1", f"output_dir={tmp_path / 'baked'}"]
    baked = positronic.run(positronic.compose([*overrides, *typed, *small]))
    assert (baked.report.episodes, baked.report.frames) == (1, 8)
    data = positronic.open_baked(baked.path)
    assert data.vectors[column][:, -2] == pytest.approx(values, abs=1e-6)
    assert list(baked.report.tasks) == ["Stack the cubes."]
