"""Weights in one file, or in several with an index as large ones are published: all of them or none."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from positronic.errors import PositronicError
from positronic.policies.weights import load_weights, weight_files


class Tied(nn.Module):
    """A head with the embedding's weights, as language models have them, and another layer."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head, self.layer = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False), nn.Linear(2, 2)
        self.head.weight = self.embedding.weight


@pytest.fixture
def parts(tmp_path):
    """``parts({file: {name: tensor}})``: a folder with these files and their index."""

    def write(files):
        index = {name: file for file, tensors in files.items() for name in tensors}
        for file, tensors in files.items():
            save_file(tensors, tmp_path / file, {"format": "pt"})
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        return tmp_path

    return write


def halves(**more):
    """Of two names for one tensor, one."""
    layer = {"layer.weight": torch.eye(2), "layer.bias": torch.ones(2)}
    return {"a.safetensors": {"embedding.weight": torch.ones(3, 2)}, "b.safetensors": {**layer, **more}}


def test_every_part_is_taken(parts):
    module = Tied()
    load_weights(module, parts(halves()))
    assert torch.equal(module.head.weight, torch.ones(3, 2))
    assert torch.equal(module.layer.weight, torch.eye(2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"other": torch.zeros(1)}, "unknown: other"),
        ({"layer.weight": torch.zeros(3, 3)}, r"size mismatch for layer\.weight"),
    ],
)
def test_other_tensors_are_refused(parts, change, said):
    with pytest.raises(PositronicError, match=f"(?s)cannot be loaded .*{said}"):
        load_weights(Tied(), parts(halves(**change)))


def test_a_tensor_in_no_part_is_missed(parts):
    files = halves()
    del files["b.safetensors"]["layer.bias"]
    with pytest.raises(PositronicError, match=r"missing: layer\.bias"):
        load_weights(Tied(), parts(files))


def test_a_part_that_is_missing_or_an_index_that_is_cut_is_named(parts):
    folder = parts(halves())
    (folder / "b.safetensors").unlink()
    with pytest.raises(PositronicError, match=r"lists a\.safetensors, b\.safetensors, and b\.safetensors is missing"):
        weight_files(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text()[:9])
    with pytest.raises(PositronicError, match=r"index\.json cannot be read .*Fetch it again"):
        weight_files(folder)
