"""Signals reach a whole process group, decoders too; a training run loses nothing to them."""

import json
import re
import resource
import signal

import pytest
import safetensors.torch
import torch

import positronic
from positronic.errors import PositronicError
from positronic.stages.train import run
from positronic.training.checkpoints import find_checkpoint, list_checkpoints
from positronic.training.loop import Learner

STEPS, SAVE_FREQ = 12, 5
STEP = "positronic.training.loop:Learner.step"
SAVE = "positronic.training.loop:Learner.save_state"
HANDSHAKE = "multiprocessing.connection:answer_challenge"  # once for each array that comes from another process
START = "torch.utils.data:DataLoader.__iter__"


@pytest.fixture
def overrides(tiny_act):
    """``overrides("name", ...)``: what one types to train with two processes that decode."""
    fixed = [f"num_train_steps={STEPS}", f"save_freq={SAVE_FREQ}", "cache_gb=0", "frame_cache=none", "num_workers=2"]
    return lambda name, *more: tiny_act(name, *fixed, *more)


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"], row["lr"], row["grad_norm"]) for row in rows]


def weights(folder):
    return safetensors.torch.load_file(find_checkpoint(folder).pretrained_model / "model.safetensors")


def steps(folder):
    """Of whole checkpoints; nothing else is beside them."""
    checkpoints = list_checkpoints(folder)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [one.id for one in checkpoints]
    return [one.step for one in checkpoints]


def require_interrupted(done):
    """Exit code 130, no traceback, and what to type."""
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.endswith("Interrupted: stage=train.\n")
    assert "To continue, type:\n  python run.py stage=train" in done.stdout
    assert "resume=true" in done.stdout


@pytest.mark.usefixtures("one_thread")
def test_a_signal_saves_the_step_and_the_run_goes_on_bit_for_bit(press, overrides, tmp_path):
    """Ctrl-C; and SLURM's warning to all processes of a job, which the one above passes on, as its end does later. The
    step under way is finished and saved; losses and weights are those of a run that nobody stopped."""
    run(positronic.compose(overrides("whole", "cache_gb=1")))
    for name, numbers in (("pressed", [signal.SIGINT]), ("job", [signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM])):
        done = press(STEP, 7, numbers, *overrides(name))
        require_interrupted(done)
        assert "Stopped after step 7; its checkpoint is in" in done.stdout
        assert steps(tmp_path / name) == [5, 7]
        run(positronic.compose(overrides(name, "resume=true", "cache_gb=1")))
        assert losses(tmp_path / name) == losses(tmp_path / "whole")
        cut, whole = weights(tmp_path / name), weights(tmp_path / "whole")
        assert all(torch.equal(cut[key], whole[key]) for key in whole)


def test_sigterm_during_a_save_lets_it_end(press, overrides, tmp_path):
    """As a scheduler sends it to all: the checkpoint is whole, and the run stops with a step that is saved."""
    done = press(SAVE, 1, [signal.SIGTERM], *overrides("run"))
    require_interrupted(done)
    assert steps(tmp_path / "run") == [5]


def test_a_closed_terminal_saves_the_step(press, overrides, tmp_path):
    """Kernel and shell each send SIGHUP: the second one does not count as impatience."""
    done = press(STEP, 3, [signal.SIGHUP, signal.SIGHUP], *overrides("run"))
    require_interrupted(done)
    assert steps(tmp_path / "run") == [3]


def test_a_second_ctrl_c_during_a_save_leaves_the_checkpoint_before(press, overrides, tmp_path):
    """At once: the half of a checkpoint goes, the message says which one is the last."""
    done = press(SAVE, 2, [signal.SIGTERM, signal.SIGINT], *overrides("run"))
    require_interrupted(done)
    assert "Stopped at once. The last checkpoint is 000005." in done.stdout
    assert steps(tmp_path / "run") == [5]


def test_ctrl_c_while_the_decoders_start_is_not_lost(press, overrides, tmp_path):
    """Nobody waits for the first batch, and no decoder dies of the signal."""
    done = press(START, 1, [signal.SIGINT], *overrides("run"))
    require_interrupted(done)
    assert re.search(r"Stopped (before the first step; there is no checkpoint yet|after step 1)", done.stdout)


def test_ctrl_c_while_a_decoder_hands_over_a_batch_saves_the_last_step(press, overrides, tmp_path):
    """In the middle of the sixth batch, of which at most four can be ahead; no decoder reports that it was left."""
    done = press(HANDSHAKE, 5 * 5 + 3, [signal.SIGINT], *overrides("run"))
    require_interrupted(done)
    assert steps(tmp_path / "run") == [max(step for step, *_ in losses(tmp_path / "run"))]


@pytest.fixture
def full_disk():
    """``full_disk()``: no file may grow beyond 4,000 bytes, until ``full_disk(False)`` or the end of the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(full=True):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000 if full else soft, hard))

    yield limit
    limit(False)


@pytest.mark.usefixtures("one_thread")
def test_a_disk_that_fills_during_a_save_leaves_the_checkpoint_before(full_disk, overrides, tmp_path, monkeypatch):
    """One sentence, the half of a checkpoint goes, and with room again the run goes on as if nothing had been."""
    saving = Learner.save_state

    def save_state(learner, folder):
        if list_checkpoints(tmp_path / "cut"):
            full_disk()
        saving(learner, folder)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "save_state", save_state)
        said = (
            r"(?s)^File too large.*\nTraining into .*cut stopped\. The last checkpoint is 000005\. To continue, type:\n"
        )
        with pytest.raises(PositronicError, match=said):
            run(positronic.compose(overrides("cut", "cache_gb=1")))
    assert steps(tmp_path / "cut") == [5]
    full_disk(False)
    run(positronic.compose(overrides("cut", "cache_gb=1", "resume=true")))
    run(positronic.compose(overrides("whole", "cache_gb=1")))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_decoders_end_with_a_run_that_is_killed(kill, overrides):
    """The fork server and its two decoders, which nobody could tell."""
    assert kill(STEP, 2, *overrides("run")) >= 3
