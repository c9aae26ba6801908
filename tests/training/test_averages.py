"""The moving average of the weights: what it is, and that a run with it resumes exactly."""

import pytest
import torch

from positronic.training.averages import Averages


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def test_the_average_follows_the_weights(layer):
    """By the decay, and faster in the first steps; inside, the policy has it, outside its own weights."""
    averages = Averages(list(layer.parameters()), 0.9)
    begun = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1.0
    averages.update(step=1)
    with averages.in_place():
        torch.testing.assert_close(layer.weight.detach(), begun + (1 - 2 / 11))
    torch.testing.assert_close(layer.weight.detach(), begun + 1)
    averages.update(step=1000)
    with averages.in_place():
        torch.testing.assert_close(layer.weight.detach(), begun + 1 - 0.9 * 2 / 11)


def test_what_is_not_trained_has_no_average(layer):
    """It would take memory for nothing."""
    layer.bias.requires_grad_(False)
    assert Averages(list(layer.parameters()), 0.9).nbytes == layer.weight.nbytes


def test_an_error_inside_gives_the_weights_back(layer):
    """A disk that fills while the averages are written, for one."""
    averages, before = Averages(list(layer.parameters()), 0.9), layer.weight.detach().clone()
    with pytest.raises(OSError, match="full"), averages.in_place():
        raise OSError("full")
    assert torch.equal(layer.weight, before)


def test_weights_in_bfloat16_have_an_average_of_their_own_precision(layer, tmp_path):
    """Steps that are too small for bfloat16 add up, also across a file."""
    layer.to(torch.bfloat16)
    averages = Averages(list(layer.parameters()), 0.999)
    with torch.no_grad():
        layer.weight += 1.0
    for _ in range(3):
        averages.update(step=10**6)
    averages.save(tmp_path)
    other = Averages(list(layer.parameters()), 0.999)
    other.load(tmp_path)
    assert other._averages[0].dtype == torch.float32
    assert torch.equal(other._averages[0], averages._averages[0])
    assert layer.weight.dtype == torch.bfloat16
