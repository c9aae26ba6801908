"""Optimiser, learning rate, random state, precision, threads."""

import random

import numpy as np
import pytest
import torch

from positronic.errors import PositronicError
from positronic.training.device import resolve_device, resolve_precision, to_float_image
from positronic.training.optimisation import lr_factor, make_optimiser, set_lr
from positronic.training.state import random_state, seed_everything, set_random_state
from positronic.training.trainable import ParameterGroup


def groups():
    body, head = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    return [ParameterGroup(tuple(body.parameters()), 1e-3), ParameterGroup(tuple(head.parameters()), 1e-4)]


def test_only_matrices_decay():
    """Biases and norms keep their size."""
    optimiser = make_optimiser(groups(), None, weight_decay=0.1)
    decays = {tuple(p.shape): g["weight_decay"] for g in optimiser.param_groups for p in g["params"]}
    assert decays == {(2, 3): 0.1, (2,): 0.0, (1, 2): 0.1, (1,): 0.0}


def test_no_learning_rate_takes_the_librarys():
    """Each group keeps its own; a given one replaces them all."""
    assert {g["lr"] for g in make_optimiser(groups(), None, 0.0).param_groups} == {1e-3, 1e-4}
    assert {g["lr"] for g in make_optimiser(groups(), 5e-4, 0.0).param_groups} == {5e-4}


def test_cosine_warms_up_and_ends_near_zero():
    """Linear up to the peak, then down all the way, and never 0 while there are steps to take."""
    factors = [lr_factor(step, 1000, "cosine", 0.03) for step in range(1, 1001)]
    assert factors[14] == pytest.approx(0.5)
    assert max(factors) == factors[29] == pytest.approx(1.0)
    assert factors[29:] == sorted(factors[29:], reverse=True)
    assert 0 < factors[-1] < 1e-5


def test_constant_stays_after_its_warm_up():
    """No decay."""
    assert [lr_factor(step, 10, "constant", 0.2) for step in (1, 2, 5, 10)] == [0.5, 1.0, 1.0, 1.0]


def test_a_cosine_may_end_above_zero():
    """As pi0.5's: at a tenth of the peak."""
    factors = [lr_factor(step, 1000, "cosine", 0.03, final=0.1) for step in range(1, 1001)]
    assert max(factors) == factors[29] == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.1, abs=1e-5)


def test_moments_and_eps_are_those_that_are_given():
    """In every group."""
    optimiser = make_optimiser(groups(), None, 0.1, (0.9, 0.95), 1e-6)
    assert {(group["betas"], group["eps"]) for group in optimiser.param_groups} == {((0.9, 0.95), 1e-6)}


def test_a_step_sets_every_group_from_its_own_peak():
    """Groups keep their proportion along the schedule."""
    optimiser = make_optimiser(groups(), None, 0.0)
    set_lr(optimiser, 0.5)
    set_lr(optimiser, 0.5)
    assert {g["lr"] for g in optimiser.param_groups} == {5e-4, 5e-5}


def draws():
    return random.random(), np.random.random(), torch.rand(1).item()


def test_a_random_state_put_back_draws_the_same(tmp_path):
    """Through a file as well, for all three generators."""
    seed_everything(3)
    torch.save(random_state(), tmp_path / "state")
    before = draws()
    draws()
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert draws() == before


def test_images_become_floats_laid_out_channels_last():
    """uint8 rows of pixels are not moved in memory, only seen as (B, 3, H, W)."""
    image = to_float_image(torch.full((2, 4, 5, 3), 255, dtype=torch.uint8))
    assert image.shape == (2, 3, 4, 5)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert image.unique().tolist() == [1.0]


def test_a_device_that_is_not_there_is_refused():
    """The message says what to take instead."""
    with pytest.raises(PositronicError, match="device=nonsense cannot be used here.*device=auto"):
        resolve_device("nonsense")
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("capabilities", "expected"), [({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "fp32"), ({}, "fp32")]
)
def test_auto_precision_follows_the_processor(monkeypatch, capabilities, expected):
    """bfloat16 only where it is not emulated, nor wrong for small pictures; a typed precision is taken as it is."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", "cpu", 64) == expected
    assert resolve_precision("auto", "cpu", 32) == "fp32"
    assert resolve_precision("bf16", "cpu", 16) == "bf16"
