"""preflight=true: what a step takes is measured, told, and nothing is left."""

import numpy as np
import pytest
import torch

import positronic
from positronic.errors import PositronicError
from positronic.stages.train import run
from positronic.training import memory
from positronic.training.preflight import measure
from positronic.training.settings import TrainSettings
from positronic.training.trainable import ParameterGroup


class Linear:
    """The smallest policy there is: 200 weights and as many that are not trained."""

    with_task = False

    def __init__(self):
        self.fields = {"type": "toy", "gradient_checkpointing": False}
        self.module = torch.nn.Linear(8, 24)
        self.frozen = self.module.register_parameter("frozen", torch.nn.Parameter(torch.ones(200), requires_grad=False))
        self.action_offsets = np.arange(3)

    def groups(self):
        return [ParameterGroup((self.module.weight, self.module.bias), 1e-2)]

    def loss(self, batch):
        return (self.module(batch["observation.state"]) - batch["action"].flatten(1)).square().mean()


def settings(**changes):
    return TrainSettings(100, 50, 10, **{"batch_size": 4} | changes)


def test_every_part_of_a_step_is_measured(dataset):
    """In bytes that can be counted: float32 weights, gradients of those that are trained, AdamW's two moments."""
    found = measure(Linear(), dataset, settings(ema_decay=0.9))
    assert (found.parameters, found.trained) == (416, 216)
    parts = found.parts
    assert (parts["weights"], parts["gradients"], parts["averages"]) == (416 * 4, 216 * 4, 216 * 4)
    assert 2 * 216 * 4 <= parts["optimiser"] <= 2 * 216 * 4 + 64  # and the steps' numbers
    assert parts["activations"] >= 4 * (8 + 24) * 4  # of four samples: what went in, and the difference
    assert (found.measured_at, found.fits > 1000, found.advice()) == (4, True, [])
    assert found.step_sec > 0
    assert found.frames == dataset.decoded_bytes


def test_it_is_told_and_nothing_is_written(tiny_act, tmp_path, capsys):
    """A table, and what to type to train; the name is not taken."""
    found = run(positronic.compose(tiny_act("run", "preflight=true", "num_train_steps=10"))).preflight
    printed = capsys.readouterr().out
    for text in (
        f"{found.trained / 1e6:.2f} M of them are trained",
        "activations",
        "largest batch_size",
        f"{found.fits}",
        "the run",
    ):
        assert text in printed
    assert "Nothing was trained or written." in printed
    assert "preflight=false" in printed
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_measured_at_what_does(dataset, monkeypatch):
    """With what to turn down; the batch that was asked for is never tried."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 200_000)
    found = measure(Linear(), dataset, settings(batch_size=100_000, ema_decay=0.9))
    assert 1 <= found.measured_at < 1000
    assert found.fits == pytest.approx(found.measured_at, abs=2)
    said = " ".join(found.advice())
    assert f"batch_size=100000 does not fit: type batch_size={found.fits}." in said
    for what in ("precision=bf16", "vendor.policy.gradient_checkpointing=true", "ema_decay=null"):
        assert what in said


def test_a_policy_of_which_no_sample_fits_is_refused(dataset, monkeypatch):
    """With what its weights alone need."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 100)
    with pytest.raises(PositronicError, match=r"take 0.00\d+ MB on cpu, and .* are there: not even batch_size=1 fits"):
        measure(Linear(), dataset, settings())
