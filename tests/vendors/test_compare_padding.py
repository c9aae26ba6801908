"""The measurement behind the default of vendor.mask_padding; what it finds is not looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from positronic.bake.reader import open_baked
from positronic.serving.policy import load_policy

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import compare_padding

    return compare_padding


def test_arms_are_compared_where_both_have_a_number(script):
    row = script.compared(np.array([1.0, 2.0, np.nan, 4.0]), np.array([0.5, 1.5, 3.0, np.nan]))
    assert (row.count, row.counted, row.masked) == (2, 1.5, 1.0)
    assert (row.difference, row.low, row.high) == (-0.5, -0.5, -0.5)


def test_an_interval_is_as_wide_as_its_differences_vary(script):
    row = script.compared(np.zeros(100), np.tile([-1.0, 1.0], 50))
    assert row.difference == 0
    assert -0.3 < row.low < -0.1
    assert 0.1 < row.high < 0.3


def test_errors_are_those_of_every_place_and_the_same_again(script, openpi_experiments, openpi_path):
    model, dataset = load_policy(openpi_experiments["pi05_positronic"], device="cpu").model, open_baked(openpi_path)
    errors, again = (script.errors_of(model, dataset, seed=0) for _ in range(2))
    assert len(errors) == 2 * len(script.PLACES)
    for name, values in errors.items():
        assert values.shape == (3,)
        assert (values > 0).all()
        np.testing.assert_array_equal(values, again[name])
