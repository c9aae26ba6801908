"""Adapters: what they change, and what they leave."""

import pytest
import torch
from torch import nn

from positronic.vendors.openpi.lora import Adapted

HEADS, RANK = 2, 3


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(8, 6)


def random_adapter(linear, heads=1):
    adapted = Adapted(linear, RANK, heads)
    nn.init.normal_(adapted.lora_b)
    return adapted


def test_an_adapter_that_learned_nothing_changes_nothing(linear):
    x = torch.randn(4, 5, 8)
    assert torch.equal(Adapted(linear, RANK)(x), linear(x))


def test_the_weight_keeps_its_name_and_type(linear):
    """A reader who knows nothing of adapters finds it, and adapters of a weight in bfloat16 are float32."""
    tensors = Adapted(linear.to(torch.bfloat16), RANK, HEADS).state_dict()
    kinds = {name: tensor.dtype for name, tensor in tensors.items()}
    half, single = torch.bfloat16, torch.float32
    assert kinds == {"weight": half, "bias": half, "lora_a": single, "lora_b": single}
    assert tensors["weight"] is not None


def test_each_head_has_its_own_adapter(linear):
    """The numbers of one head do not depend on the adapter of another."""
    adapted, x = random_adapter(linear, HEADS), torch.randn(4, 8)
    before = adapted(x)
    with torch.no_grad():
        adapted.lora_a[:RANK] = 0  # of the first head
    changed = (adapted(x) != before).any(dim=0)
    assert changed.tolist() == [True] * 3 + [False] * 3


@pytest.mark.parametrize("heads", [1, HEADS])
def test_merged_computes_the_same(linear, heads):
    adapted, x = random_adapter(linear, heads), torch.randn(4, 5, 8)
    torch.testing.assert_close(nn.functional.linear(x, adapted.merged(), adapted.bias), adapted(x))


def test_a_weight_in_bfloat16_is_merged_in_float32(linear):
    """Rounded to bfloat16 a small adapter would be lost."""
    adapted = random_adapter(linear.to(torch.bfloat16))
    with torch.no_grad():
        adapted.lora_b *= 1e-4
    merged = adapted.merged()
    assert merged.dtype == torch.float32
    assert not torch.equal(merged, adapted.weight.float())
