"""What the stand-ins train on: a recording baked in format v2.1, and weights that are no more than files. And children
that are small scripts."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from standins import Checkout, write_modality, write_params

import positronic
from positronic.stages.convert import run as run_convert
from positronic.stages.train import run as run_train
from positronic.upstream.child import Command

RAW = Path(__file__).parents[1] / "data" / "raw_v1"


@pytest.fixture(scope="session")
def gr00t_v21(tmp_path_factory):
    """Three episodes of 60 frames, vendor=gr00t codec=ee_rot6d. Training writes its relative_stats.json beside it."""
    folder = tmp_path_factory.mktemp("gr00t") / "baked"
    where = ["dataset=local", f"dataset.path={RAW}", f"output_dir={folder}", "num_workers=1"]
    what = ["vendor=gr00t", "codec=ee_rot6d", "dataset_format=v2.1", "modality.image_size=[32,32]"]
    run_convert(positronic.compose(["stage=convert", *where, *what]))
    return folder


@pytest.fixture(scope="session")
def gr00t_toy(gr00t_v21, tmp_path_factory):
    """An experiment on this dataset: a toy, trained for a step in this process."""
    what = ["vendor=gr00t", "codec=ee_rot6d", "modality.image_size=[32,32]", "vendor.toy=true", "vendor.base=random"]
    where = [f"input_path={gr00t_v21}", f"output_dir={tmp_path_factory.mktemp('gr00t_toy')}", "exp_name=toy"]
    return run_train(positronic.compose(["stage=train", *what, *where, "num_train_steps=1", "batch_size=2"])).path


@pytest.fixture
def modality_file(tmp_path):
    """``modality_file(rep, steps)``: a modality config outside of the checkout."""

    return lambda *what: write_modality(tmp_path / "modality", *what)


@pytest.fixture(scope="session")
def gr00t_base(tmp_path_factory):
    """A folder with the files of a base of upstream's layout; its weights are three zeros."""
    folder = tmp_path_factory.mktemp("base")
    config = {"model_type": "Gr00tN1d7", "action_horizon": 40, "max_state_dim": 132, "max_action_dim": 132}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": np.zeros(3, np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def command(tmp_path):
    """``command(text, *arguments, **fields)``: one that runs a script with this text in the test's folder."""

    def make(text, *arguments, **fields):
        script = tmp_path / "child.py"
        script.write_text(text)
        return Command((sys.executable, str(script), *arguments), tmp_path, **fields)

    return make


@pytest.fixture(scope="session")
def openpi_v21(tmp_path_factory):
    """Three episodes of 60 frames, vendor=openpi codec=ee, in a folder called as openpi's config names it."""
    folder = tmp_path_factory.mktemp("openpi") / "lerobot"
    where = ["dataset=local", f"dataset.path={RAW}", f"output_dir={folder}", "num_workers=1"]
    what = ["vendor=openpi", "codec=ee", "dataset_format=v2.1", "modality.image_size=[32,32]"]
    run_convert(positronic.compose(["stage=convert", *where, *what]))
    return folder


@pytest.fixture(scope="session")
def openpi_cache(tmp_path_factory):
    """What openpi has fetched: tokenizer and weights. Counts where OPENPI_DATA_HOME says so."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "big_vision").mkdir()
    (folder / "big_vision" / "paligemma_tokenizer.model").write_bytes(b"a tokenizer")
    write_params(folder / "openpi-assets" / "checkpoints" / "pi05_base" / "params")
    return folder


@pytest.fixture(scope="session")
def openpi_run(openpi_v21):
    """``openpi_run(folder, checkout, *more)``: the command of a training; ``more`` replaces what it has."""
    what = ["vendor=openpi", "codec=ee", "modality.image_size=[32,32]", "vendor.backend=upstream", "device=cpu"]
    typed = ["stage=train", *what, "exp_name=it", "batch_size=4", "log_freq=1", f"input_path={openpi_v21}"]

    def make(folder, checkout, *more):
        where = [f"output_dir={folder}", f"vendor.repo={checkout}"]
        names = [each.partition("=")[0] for each in more]
        return [each for each in [*typed, *where] if each.partition("=")[0] not in names] + list(more)

    return make


@pytest.fixture(scope="session")
def openpi_trained(openpi_run, openpi_cache, tmp_path_factory):
    """An experiment that openpi's stand-in has trained for two steps; read it, do not write into it."""
    folder = tmp_path_factory.mktemp("openpi_trained")
    checkout = Checkout("openpi", folder / "openpi", "openpi")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENPI_DATA_HOME", str(openpi_cache))
        run_train(positronic.compose(openpi_run(folder, checkout.root, "num_train_steps=2")))
    return folder / "it"
