"""Where π0.5's weights come from, and that nothing is taken for them that is something else."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from positronic.errors import PositronicError
from positronic.vendors.openpi.lora import Adapted
from positronic.vendors.openpi.weights import EMBEDDING, TIED, UNUSED, load_base, require_base


class Small(nn.Module):
    """Tensors under two of π0.5's names, the second with or without an adapter."""

    def __init__(self, adapted=False):
        super().__init__()
        self.weights = nn.ParameterDict({"embedding": nn.Parameter(torch.zeros(3, 2))})
        linear = nn.Linear(2, 2, bias=False)
        self.layer = Adapted(linear, rank=1) if adapted else linear

    def state_dict(self):
        layer = {f"model.layer.{name}": tensor for name, tensor in self.layer.state_dict().items()}
        return {EMBEDDING: self.weights["embedding"].data} | layer


@pytest.fixture
def base(tmp_path):
    """``base({name: tensor}, config)``: a folder with these."""

    def make(tensors, config=None):
        save_file(tensors, tmp_path / "model.safetensors")
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return make


def tensors(**more):
    return {EMBEDDING: torch.ones(3, 2), "model.layer.weight": torch.eye(2)} | more


def test_weights_are_taken(base):
    policy = Small()
    load_base(policy, base(tensors(), {"type": "pi05"}))
    assert torch.equal(policy.weights["embedding"], torch.ones(3, 2))
    assert torch.equal(policy.layer.weight, torch.eye(2))


def test_weights_in_several_files_are_taken(tmp_path):
    """As large ones are published: all that the index lists, and nothing without one of them."""
    policy, index = Small(), {}
    for name, tensor in tensors().items():
        file = index[name] = f"model-{len(index) + 1}-of-2.safetensors"
        save_file({name: tensor}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    load_base(policy, tmp_path)
    assert torch.equal(policy.weights["embedding"], torch.ones(3, 2))
    assert torch.equal(policy.layer.weight, torch.eye(2))
    (tmp_path / file).unlink()
    with pytest.raises(PositronicError, match=f"{file} is missing. Fetch it again"):
        load_base(Small(), tmp_path)


def test_names_without_lerobot_s_prefix_are_known(base):
    """As files have them that were made of openpi's own."""
    policy = Small()
    load_base(policy, base({name.removeprefix("model."): tensor for name, tensor in tensors().items()}))
    assert torch.equal(policy.layer.weight, torch.eye(2))


def test_the_embedding_may_be_there_as_the_head_that_is_tied_to_it(base):
    """Of two names for one tensor a file holds either; heads are no weights of the policy."""
    policy, found = Small(), tensors()
    found[TIED] = found.pop(EMBEDDING)
    load_base(policy, base(found | {UNUSED[1]: torch.zeros(5)}))
    assert torch.equal(policy.weights["embedding"], torch.ones(3, 2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.other": torch.zeros(1)}, "unknown: model.other. "),
        ({"model.layer.weight": None}, "missing: model.layer.weight. "),
        ({"model.layer.weight": torch.zeros(3, 3)}, r"'model.layer.weight' is \(3, 3\), and this policy's is \(2, 2\)"),
    ],
)
def test_other_weights_are_refused(base, change, said):
    """One too many, one too few, another shape."""
    found = {name: tensor for name, tensor in (tensors() | change).items() if tensor is not None}
    with pytest.raises(PositronicError, match=rf"vendor.base=.*{said}"):
        load_base(Small(), base(found))


@pytest.mark.parametrize("look", [require_base, lambda folder: load_base(Small(), folder)], ids=["before", "after"])
def test_a_file_that_is_missing_or_cut_is_refused(base, look):
    """Before a network of billions is built; nothing is trained from random weights instead."""
    folder = base(tensors())
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(PositronicError, match=r"vendor.base: .*model.safetensors cannot be read .*Fetch it again"):
        look(folder)
    path.unlink()
    with pytest.raises(PositronicError, match=r"vendor.base=.*: there is no model.safetensors"):
        look(folder)


def test_another_policy_is_refused(base):
    """By its config, or by its weights."""
    with pytest.raises(PositronicError, match="holds a policy of type act, and vendor=openpi trains pi05"):
        require_base(base(tensors(), {"type": "act"}))
    with pytest.raises(PositronicError, match=f"missing: {EMBEDDING}; unknown: model.head. "):
        require_base(base({"model.head": torch.zeros(1)}, {"model_type": "another"}))


def test_new_adapters_stay_as_they_begin(base):
    policy = Small(adapted=True)
    begun = policy.layer.lora_a.clone()
    load_base(policy, base(tensors()))
    assert torch.equal(policy.layer.lora_a, begun)
    assert torch.equal(policy.layer.weight, torch.eye(2))


def test_adapters_of_a_base_go_on_or_are_merged(base):
    """Into adapters, or into the weights of a policy that has none."""
    trained = Small(adapted=True)
    nn.init.normal_(trained.layer.lora_b)
    folder = base({name: tensor.detach().clone() for name, tensor in trained.state_dict().items()})
    goes_on, whole = Small(adapted=True), Small()
    load_base(goes_on, folder)
    load_base(whole, folder)
    assert torch.equal(goes_on.layer.lora_a, trained.layer.lora_a)
    torch.testing.assert_close(whole.layer.weight, trained.layer.merged())
