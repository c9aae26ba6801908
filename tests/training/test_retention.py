"""Old checkpoints go, but never the newest, the best, or one that somebody reads."""

import subprocess
import sys

import pytest

from positronic.training.checkpoints import find_checkpoint, list_checkpoints, write_info, writing_checkpoint
from positronic.training.retention import Retention, best

LOSSES = {1: 0.9, 2: 0.5, 3: 0.7, 4: 0.5, 5: 0.8, 6: None}


@pytest.fixture
def experiment(tmp_path):
    for step, loss in LOSSES.items():
        with writing_checkpoint(tmp_path, step) as folder:
            (folder / "weights").write_text(f"{step}")
            write_info(folder, {"step": step} | ({} if loss is None else {"val_loss": loss}))
    return tmp_path


def steps(folder):
    """Of whole checkpoints; nothing else is beside them."""
    checkpoints = list_checkpoints(folder)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [one.id for one in checkpoints]
    return [one.step for one in checkpoints]


@pytest.mark.parametrize(
    ("retention", "stay"),
    [
        (Retention(), [1, 2, 3, 4, 5, 6]),
        (Retention(last=1), [2, 6]),
        (Retention(last=2), [2, 5, 6]),
        (Retention(last=1, every=3), [2, 3, 6]),
        (Retention(last=9), [1, 2, 3, 4, 5, 6]),
    ],
    ids=str,
)
def test_the_newest_the_best_and_some_between_stay(experiment, retention, stay):
    """Of two that are equally good, the first; without anything typed, all."""
    retention.prune(experiment)
    assert steps(experiment) == stay


def test_without_held_out_episodes_there_is_no_best(experiment):
    """The newest alone stay."""
    for checkpoint in list_checkpoints(experiment):
        write_info(checkpoint.path, {"step": checkpoint.step})
    assert best(list_checkpoints(experiment)) is None
    Retention(last=2).prune(experiment)
    assert steps(experiment) == [5, 6]


def test_a_checkpoint_that_is_read_stays_until_the_next_time(experiment):
    """As a server holds it while it has it in memory."""
    held = find_checkpoint(experiment, 3).hold()
    Retention(last=1).prune(experiment)
    assert steps(experiment) == [2, 3, 6]
    held.close()
    Retention(last=1).prune(experiment)
    assert steps(experiment) == [2, 6]


READER = """
import sys
from pathlib import Path
from positronic.utils.locks import hold_folder

held = hold_folder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_keeps_a_checkpoint_that_it_reads(experiment):
    """Until it ends, however it ends."""
    command = [sys.executable, "-c", READER, str(experiment / "checkpoints" / "000003")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "held\n"
        Retention(last=1).prune(experiment)
        assert steps(experiment) == [2, 3, 6]
        reader.kill()
    Retention(last=1).prune(experiment)
    assert steps(experiment) == [2, 6]


def test_a_checkpoint_that_is_gone_cannot_be_held(experiment):
    """Whoever comes too late is told by what reads it."""
    checkpoint = find_checkpoint(experiment, 1)
    Retention(last=1).prune(experiment)
    assert checkpoint.hold() is None
