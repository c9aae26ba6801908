"""The loop, with the smallest policy there is."""

import io
import itertools
import json
import os
import queue
import signal
import threading

import numpy as np
import pytest
import safetensors.torch
import torch
from rich.console import Console

from positronic import keys
from positronic.errors import PositronicError
from positronic.training import batches
from positronic.training.checkpoints import find_checkpoint, list_checkpoints
from positronic.training.config import TrackerConfig
from positronic.training.experiment import Experiment, make_info, require_free
from positronic.training.loop import StoppedError, train
from positronic.training.settings import TrainSettings
from positronic.training.state import seed_everything
from positronic.training.trainable import ParameterGroup


class Linear:
    """Predicts a chunk from the state; with dropout, so that random state matters."""

    with_task = False

    def __init__(self, horizon=3, size=1, at_step=None):
        self.module = torch.nn.Sequential(torch.nn.Linear(8, 8 * horizon), torch.nn.Dropout(0.2))
        self.action_offsets = np.arange(horizon)
        self.at_step = at_step or {}  # step -> what becomes of its loss
        self.fields = {"size": size}
        self.steps = 0

    def groups(self):
        return [ParameterGroup(tuple(self.module.parameters()), 1e-2)]

    def loss(self, batch):
        self.steps += 1
        loss = (self.module(batch["observation.state"]) - batch["action"].flatten(1)).abs().mean()
        return self.at_step.get(self.steps, lambda loss: loss)(loss)

    def save(self, folder):
        safetensors.torch.save_model(self.module, str(folder / "model"))

    def load(self, folder):
        safetensors.torch.load_model(self.module, str(folder / "model"))


@pytest.fixture
def run(dataset, tmp_path):
    """``run(steps=..., ...)`` trains in ``tmp_path / name`` and returns the metrics' rows."""

    def run(steps=20, name="run", resume=False, said=None, size=1, at_step=None, **changes):
        values = {"num_train_steps": steps, "save_freq": 10, "log_freq": 1, "batch_size": 4, "weight_decay": 0.0}
        settings = TrainSettings(**values | {"learning_rate": 1e-2, "seed": 5} | changes)
        seed_everything(settings.seed)
        trainable = Linear(size=size, at_step=at_step)
        info = make_info(dataset, settings, "toy", "native", trainable.fields, dataset.recipe, {"commit": None})
        experiment = Experiment(tmp_path / name, info)
        start = experiment.continues_from() if resume else None
        experiment.prepare(start)
        console = Console(file=said or io.StringIO(), width=200)
        train(trainable, dataset, settings, experiment, start, TrackerConfig("none"), console)
        return rows(tmp_path / name)

    return run


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    return safetensors.torch.load_file(find_checkpoint(folder).pretrained_model / "model")


def losses(folder):
    return {row["step"]: row["loss"] for row in rows(folder)}


def test_it_learns(run):
    """The loss halves, every step is reported, and the learning rate ends near 0."""
    metrics = run(steps=60, learning_rate=3e-2)
    assert [row["step"] for row in metrics] == list(range(1, 61))
    assert np.mean([row["loss"] for row in metrics[-5:]]) < 0.5 * metrics[0]["loss"]
    assert metrics[-1]["lr"] < 1e-4
    assert {"grad_norm", "samples_per_sec", "data_wait"} <= metrics[0].keys()


def test_metrics_are_means_over_the_interval(run, tmp_path):
    """log_freq=5 reports the mean of what log_freq=1 reports step by step."""
    run(name="fine")
    run(name="coarse", log_freq=5)
    fine, coarse = losses(tmp_path / "fine"), losses(tmp_path / "coarse")
    assert list(coarse) == [5, 10, 15, 20]
    assert coarse[10] == pytest.approx(np.mean([fine[step] for step in range(6, 11)]))


def test_a_resumed_run_repeats_the_losses(run, tmp_path):
    """Interrupted after its checkpoint and resumed, also between two reports: bit for bit the run that was not."""
    run(name="whole", log_freq=4)

    def crash(loss):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run(name="cut", log_freq=4, at_step={15: crash})
    assert list(losses(tmp_path / "cut")) == [4, 8, 12]
    run(name="cut", log_freq=4, resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_resumed_run_has_the_same_averages(run, tmp_path):
    """Weights, averages and losses are, bit for bit, those of a run that was not cut; training is not disturbed."""
    run(name="plain", steps=30)
    run(name="whole", steps=30, ema_decay=0.9)

    def crash(loss):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run(name="cut", steps=30, ema_decay=0.9, at_step={15: crash})
    run(name="cut", steps=30, ema_decay=0.9, resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole") == losses(tmp_path / "plain")
    served = {name: weights(tmp_path / name) for name in ("plain", "whole", "cut")}
    assert all(torch.equal(served["cut"][name], served["whole"][name]) for name in served["whole"])
    assert not torch.equal(served["plain"]["0.weight"], served["whole"]["0.weight"])


def test_old_checkpoints_go(run, tmp_path):
    """As they are replaced, not at the end; a run that goes on keeps to it."""
    run(steps=40, save_freq=5, keep_last=2, keep_every=20)
    assert [c.step for c in list_checkpoints(tmp_path / "run")] == [20, 35, 40]
    run(steps=45, save_freq=5, keep_last=1, resume=True)
    assert [c.step for c in list_checkpoints(tmp_path / "run")] == [45]


def test_a_checkpoint_that_does_not_say_its_robot_is_resumed(run, tmp_path):
    """As older ones, whose contract says nothing of it either."""
    run()
    file = find_checkpoint(tmp_path / "run").path / keys.CHECKPOINT_FILE
    info = json.loads(file.read_text())
    recipe = info["recipe"]
    del recipe["embodiment"]
    recipe["contract"] = {
        row: said for row, said in recipe["contract"].items() if not row.startswith(("arm", "camera"))
    }
    file.write_text(json.dumps(info))
    run(steps=30, resume=True)
    assert find_checkpoint(tmp_path / "run").id == "000030"


def test_a_checkpoint_from_before_the_optimiser_could_be_chosen_is_resumed(run, tmp_path):
    """It was trained with what is ACT's own still; other values are refused."""
    run()
    file = find_checkpoint(tmp_path / "run").path / keys.CHECKPOINT_FILE
    info = json.loads(file.read_text())
    for name in ("betas", "eps", "final_lr_fraction"):
        del info["training"][name]
    info["training"]["policy"]["optimizer_betas"] = [0.9, 0.95]  # of the library, and never used
    file.write_text(json.dumps(info))
    with pytest.raises(PositronicError, match=r"betas: the checkpoint has \[0.9, 0.99\]; this run has \[0.9, 0.95\]"):
        run(steps=30, resume=True, betas=(0.9, 0.95))
    run(steps=30, resume=True)
    assert find_checkpoint(tmp_path / "run").id == "000030"


def test_a_checkpoint_says_what_it_is(run, tmp_path, dataset):
    """Recipe, manifest, digest, settings and provenance travel with the weights."""
    run()
    checkpoint = find_checkpoint(tmp_path / "run")
    info = checkpoint.info()
    assert (checkpoint.id, info["step"], info["vendor"]) == ("000020", 20, "toy")
    assert info["recipe"] == dataset.recipe.to_dict()
    assert info["manifest"]["digest"] == info["dataset_digest"]
    assert info["training"]["batch_size"] == 4
    assert info["training"]["policy"] == {"size": 1}
    assert "provenance" in info
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"] == info["training"]


def test_a_loss_that_is_not_a_number_stops_the_run(run, tmp_path):
    """The step is named, though it is noticed later, and the last good checkpoint stays the last."""
    with pytest.raises(PositronicError, match=r"became nan at step 13 .*Checkpoint 000010 is kept.*learning_rate"):
        run(at_step={13: lambda loss: loss * float("nan")}, log_freq=20)
    assert [c.id for c in list_checkpoints(tmp_path / "run")] == ["000010"]


def test_the_batch_of_a_bad_step_is_named(run, dataset):
    """By its episodes, as one types them in episodes=[...]."""
    rows = batches.SampleOrder(len(dataset), 1, seed=5).rows(12)
    (episode,) = dataset.episode_of[rows]
    with pytest.raises(PositronicError, match=rf"at step 13 .* Its batch is of the dataset's episodes {episode}\."):
        run(at_step={13: lambda loss: loss * float("inf")}, batch_size=1)


def test_a_gradient_that_is_not_a_number_stops_the_run_before_it_is_saved(run, tmp_path):
    """The loss of that step still is one, but no weight after it."""

    def steep(loss):
        return loss + (0 * loss).sqrt()  # 0, with a gradient of inf times 0

    with pytest.raises(PositronicError, match=r"The gradient became nan at step 20 .*Checkpoint 000010 is kept"):
        run(at_step={20: steep})
    assert [c.id for c in list_checkpoints(tmp_path / "run")] == ["000010"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_last_finished_step(run, tmp_path, number):
    """The step under way is finished and saved; resumed, the run gives the losses of one that was not stopped."""

    def stop(loss):
        os.kill(os.getpid(), number)
        return loss

    with pytest.raises(StoppedError, match="Stopped after step 7"):
        run(at_step={7: stop})
    assert [c.step for c in list_checkpoints(tmp_path / "run")] == [7]
    run(resume=True)
    run(name="whole")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_signal_while_a_batch_does_not_come_keeps_the_last_finished_step(run, tmp_path, monkeypatch):
    """Between two steps everything is whole; resumed, the run gives the losses of one that was not stopped."""
    monkeypatch.setattr(batches, "LEAVE_SEC", 0.0)
    answered, make, wait = threading.Event(), batches.BatchMaker.__getitem__, queue.Queue.get
    waits = itertools.count()

    def hang(maker, step):
        return answered.wait() if step == 7 else make(maker, step)

    def waiting(*arguments):
        if next(waits) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return wait(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(batches.BatchMaker, "__getitem__", hang)
        patched.setattr(queue.Queue, "get", waiting)
        with pytest.raises(StoppedError, match="Stopped after step 7; its checkpoint"):
            run()
    answered.set()
    assert [c.step for c in list_checkpoints(tmp_path / "run")] == [7]
    run(resume=True)
    run(name="whole")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_frames_on_demand_train_alike(run, tmp_path):
    """cache_gb=0 changes the speed and nothing else."""
    run(name="cached")
    run(name="decoded", cache_gb=0.0)
    assert losses(tmp_path / "cached") == losses(tmp_path / "decoded")


def test_lines_without_a_terminal_end_with_the_last_step(run):
    """A log file is told how long it will take, and where it ended."""
    said = io.StringIO()
    run(said=said)
    assert "20 steps, about" in said.getvalue()
    assert "step 20/20  loss" in said.getvalue()


def test_a_failed_start_does_not_block_its_name(tmp_path):
    """Without a checkpoint there is nothing to lose."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n')
    require_free(tmp_path, "python run.py resume=true")


def test_an_experiment_is_not_overwritten(run, tmp_path):
    """Where a run has been, the message is the command that continues it."""
    require_free(tmp_path / "run", "python run.py resume=true")
    run()
    with pytest.raises(PositronicError, match=r"(?s)last checkpoint is 000020.*python run.py resume=true.*exp_name="):
        require_free(tmp_path / "run", "python run.py resume=true")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 8}, "batch_size: the checkpoint has 4; this run has 8"),
        ({"seed": 6}, "seed: the checkpoint has 5; this run has 6"),
        ({"learning_rate": None}, "learning_rate: the checkpoint has 0.01; this run has None"),
        ({"betas": (0.9, 0.95)}, r"betas: the checkpoint has \[0.9, 0.99\]; this run has \[0.9, 0.95\]"),
        ({"ema_decay": 0.9}, "ema_decay: the checkpoint has None; this run has 0.9"),
        ({"eps": 1e-6}, "eps: the checkpoint has 1e-08; this run has 1e-06"),
        ({"final_lr_fraction": 0.1}, "final_lr_fraction: the checkpoint has 0.0; this run has 0.1"),
        ({"lr_schedule": "constant"}, "lr_schedule: the checkpoint has cosine; this run has constant"),
    ],
)
def test_resuming_with_other_settings_is_refused(run, change, said):
    """Both values are named."""
    run()
    with pytest.raises(PositronicError, match=said):
        run(resume=True, **change)


def test_resuming_may_train_longer_and_save_otherwise(run, tmp_path):
    """What does not change the steps that were taken may change."""
    run()
    run(steps=25, resume=True, save_freq=5, log_freq=5, cache_gb=0.0)
    assert [c.step for c in list_checkpoints(tmp_path / "run")] == [10, 20, 25]


def test_resuming_with_another_policy_is_refused(run):
    """A field of the policy library's counts as well."""
    run()
    with pytest.raises(PositronicError, match=r"vendor\.policy\.size: the checkpoint has 1; this run has 2"):
        run(resume=True, size=2)


def test_resuming_with_another_reference_rotation_is_refused(run, dataset):
    """The numbers of one rotation would change their sign in the middle of a run."""
    run()
    turned = {"robot_state.ee_pose": [-1.0, 0.0, 0.0, 0.0]}
    object.__setattr__(dataset, "recipe", dataset.recipe.with_reference_rotations(turned))
    with pytest.raises(PositronicError, match=r"reference rotation of robot_state.ee_pose: the checkpoint has"):
        run(resume=True)
