"""Vendors by name."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import positronic
from positronic.codecs.build import build
from positronic.errors import PositronicError
from positronic.training.checkpoints import write_info
from positronic.vendors import registry


def test_an_unknown_vendor_is_answered_with_those_there_are():
    """With a guess at what was meant."""
    with pytest.raises(PositronicError, match=r"Unknown vendor 'lerobo'.*Did you mean 'lerobot'"):
        registry.backend_of("lerobo")


def test_an_unknown_backend_names_the_vendors_own():
    """lerobot has no upstream backend: it runs in this process."""
    with pytest.raises(PositronicError, match="Vendor 'lerobot' has no backend 'upstream', only native"):
        registry.backend_of("lerobot", "upstream")


@pytest.mark.parametrize("vendor", ["gr00t", "lerobot", "openpi"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"{")], ids=["missing", "cut"])
def test_a_checkpoint_with_a_damaged_file_is_not_loaded(vendor, damage, tmp_path):
    """Beside the weights as well: without its settings, a tokenizer reads another text."""
    file = tmp_path / "000007/pretrained_model/tokenizer/tokenizer_config.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    write_info(tmp_path / "000007", {"step": 7, "vendor": vendor})
    damage(file)
    with pytest.raises(PositronicError, match=r"tokenizer_config\.json is damaged"):
        registry.load_model(vendor, tmp_path / "000007", "cpu")


@pytest.mark.parametrize("vendor", ["gr00t", "lerobot", "openpi"])
def test_learning_by_heart_is_possible_with_every_vendor(vendor):
    """A preset says nothing to a policy that its library does not know."""
    config = positronic.compose(["stage=train", "+debug=overfit", f"vendor={vendor}"])
    recipe = build(config.codec, config.modality)
    importlib.import_module(f"positronic.vendors.{vendor}.native").check_policy(recipe, config.vendor.policy)
    assert config.vendor.policy.get("dropout") == (0.0 if vendor == "lerobot" else None)


def test_knowing_the_vendors_imports_none():
    """The registry itself costs no vendor's library."""
    code = "import sys, positronic.vendors.registry; print({'lerobot', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
