"""Vendors by name."""

import subprocess
import sys

import pytest

from positronic.errors import PositronicError
from positronic.vendors import registry


def test_an_unknown_vendor_is_answered_with_those_there_are():
    """With a guess at what was meant."""
    with pytest.raises(PositronicError, match=r"Unknown vendor 'lerobo'.*Did you mean 'lerobot'"):
        registry.backend_of("lerobo")


def test_an_unknown_backend_names_the_vendors_own():
    """lerobot has no upstream backend: it runs in this process."""
    with pytest.raises(PositronicError, match="Vendor 'lerobot' has no backend 'upstream', only native"):
        registry.backend_of("lerobot", "upstream")


def test_knowing_the_vendors_imports_none():
    """The registry itself costs no vendor's library."""
    code = "import sys, positronic.vendors.registry; print({'lerobot', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
