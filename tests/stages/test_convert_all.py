"""The published recording through every codec of every vendor, in both formats."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import positronic
from positronic.bake.columns import episode_columns
from positronic.bake.manifest import read_manifest
from positronic.bake.sampling import episode_grid, sample_vectors
from positronic.codecs.build import build
from positronic.raw.dataset import open_dataset
from positronic.stages.convert import run

TESTS = Path(__file__).parents[1]
PUBLISHED = TESTS / "data" / "raw_v1"
CONF = TESTS.parent / "conf"
FPS, SIDE = 2, 32
FRAMES = 3 * 8  # three episodes of 4 s


def pairs():
    """Every vendor and codec that can be trained: those with a modality, but for the ones that only infer.

    Older names of a codec are left out, too: they store the new one (``test_convert``).
    """
    for folder in sorted((CONF / "modality").iterdir()):
        for path in sorted(folder.glob("[!_]*.yaml")):
            if path.stem not in ("from_checkpoint", "droid", "eepose_absolute", "joints_absolute"):
                yield pytest.param(folder.name, path.stem, id=f"{folder.name}-{path.stem}")


@lru_cache
def recording():
    return open_dataset(PUBLISHED)


@pytest.fixture
def convert(tmp_path):
    """``convert(vendor, codec, format)`` runs the stage and returns the folder and the recipe."""

    def go(vendor, codec, dataset_format):
        output = tmp_path / f"{vendor}-{codec}-{dataset_format}"
        what = [f"vendor={vendor}", f"codec={codec}", f"dataset_format={dataset_format}", f"fps={FPS}"]
        where = [f"dataset.path={PUBLISHED}", f"output_dir={output}", "num_workers=1"]
        config = positronic.compose(["stage=convert", *what, *where, f"modality.image_size=[{SIDE},{SIDE}]"])
        run(config)
        return output, build(config.codec, config.modality).at_fps(FPS)

    return go


@pytest.mark.parametrize(("vendor", "codec"), list(pairs()))
def test_it_bakes_in_both_formats(convert, vendor, codec):
    """LeRobot's reader opens v3.0; both hold what the codec says of the recording, and the same statistics."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    new, recipe = convert(vendor, codec, "v3.0")
    old, _ = convert(vendor, codec, "v2.1")
    names = [column.name for column in recipe.modality.vector_columns]
    for episode, *found in zip(recording(), episode_columns(new, names), episode_columns(old, names), strict=True):
        times = episode_grid(episode, recipe.codec.signals, FPS)
        canonical = recipe.codec.encode_episode(sample_vectors(episode, recipe.codec.vector_signals, times))
        for column in recipe.modality.vector_columns:
            for columns in found:
                np.testing.assert_array_equal(columns[column.name], column.join(canonical), err_msg=column.name)
    assert (new / "meta/stats.json").read_bytes() == (old / "meta/stats.json").read_bytes()
    loaded = LeRobotDataset("local/baked", root=new, video_backend="pyav")
    assert (len(loaded), loaded.fps) == (FRAMES, FPS)
    item = loaded[FRAMES - 1]
    for column in recipe.modality.columns:
        expected = (3, SIDE, SIDE) if column.is_image else (column.shape if column.shape != (1,) else ())
        assert item[column.name].shape in (expected, column.shape), column.name
    for folder, dataset_format in ((new, "v3.0"), (old, "v2.1")):
        manifest = read_manifest(folder)
        assert (manifest.dataset_format, manifest.vendor, manifest.frames) == (dataset_format, vendor, FRAMES)
        assert json.loads((folder / "meta/info.json").read_text())["codebase_version"] == dataset_format
        assert sum(len(columns["action"]) for columns in episode_columns(folder, ["action"])) == FRAMES
