"""The published recording through every codec of every vendor, in both formats, held against a golden bake.

A difference means that old and new datasets do not hold the same numbers. When that is meant, record the golden bake
again:

    python tests/stages/test_convert_all.py
"""

import hashlib
import json
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.bake.columns import episode_columns
from positronic.bake.frame_source import DecodedFrames
from positronic.bake.manifest import read_manifest
from positronic.bake.reader import open_baked
from positronic.bake.sampling import episode_grid, sample_vectors
from positronic.codecs.build import build
from positronic.raw.dataset import open_dataset
from positronic.stages.convert import run

TESTS = Path(__file__).parents[1]
PUBLISHED = TESTS / "data" / "raw_v1"
GOLDEN = TESTS / "data" / "golden_bake.json"
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


def make_recording(folder):
    """The published recording, with the joints that a robot reached as those it was commanded."""
    shutil.copytree(PUBLISHED, folder)
    for measured in folder.rglob(f"{keys.JOINT_POSITION}.parquet"):
        shutil.copyfile(measured, measured.with_name(f"{keys.COMMAND_JOINTS}.parquet"))
    return folder


def bake(recording, output, vendor, codec, dataset_format):
    """Run the stage; the recipe."""
    what = [f"vendor={vendor}", f"codec={codec}", f"dataset_format={dataset_format}", f"fps={FPS}"]
    where = [f"dataset.path={recording}", f"output_dir={output}", "num_workers=1"]
    config = positronic.compose(["stage=convert", *what, *where, f"modality.image_size=[{SIDE},{SIDE}]"])
    run(config)
    return build(config.codec, config.modality).at_fps(FPS)


def digest(root, names):
    """Of the columns' names and numbers, and of what lies beside them for the vendor; videos are left out, which each
    release of an encoder writes otherwise."""
    found = hashlib.sha256()
    for columns in episode_columns(root, names):
        for name in names:
            found.update(name.encode() + np.ascontiguousarray(columns[name]).tobytes())
    features = json.loads((root / "meta/info.json").read_text())["features"]
    found.update(json.dumps({name: feature["names"] for name, feature in features.items()}).encode())
    beside = [root / "meta/stats.json", root / "meta/modality.json", *sorted(root.glob("assets/**/*.json"))]
    for path in beside:
        found.update(path.read_bytes() if path.exists() else b"")
    return found.hexdigest()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return make_recording(tmp_path_factory.mktemp("recording") / "raw")


@lru_cache
def golden():
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(("vendor", "codec"), list(pairs()))
def test_it_bakes_in_both_formats(recording, tmp_path, vendor, codec):
    """LeRobot's reader opens v3.0; both hold what the codec says of the recording, the same statistics, and what the
    golden bake holds."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    new, old = tmp_path / "v3.0", tmp_path / "v2.1"
    recipe = bake(recording, new, vendor, codec, "v3.0")
    bake(recording, old, vendor, codec, "v2.1")
    names = [column.name for column in recipe.modality.vector_columns]
    for episode, *found in zip(
        open_dataset(recording), episode_columns(new, names), episode_columns(old, names), strict=True
    ):
        times = episode_grid(episode, recipe.codec.signals, FPS)
        canonical = recipe.codec.encode_episode(sample_vectors(episode, recipe.codec.vector_signals, times))
        for column in recipe.modality.vector_columns:
            for columns in found:
                np.testing.assert_array_equal(columns[column.name], column.join(canonical), err_msg=column.name)
    for root in (new, old):
        assert digest(root, names) == golden()[f"{vendor} {codec} {root.name}"]
    assert (new / "meta/stats.json").read_bytes() == (old / "meta/stats.json").read_bytes()
    _require_equal(open_baked(new), open_baked(old))
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


def _require_equal(new, old):
    """Either trains the same policy."""
    for name, values in new.vectors.items():
        np.testing.assert_array_equal(old.vectors[name], values)
    rows = np.array([0, FRAMES - 1])
    for column in new.image_shapes:
        frames = [DecodedFrames(dataset).get(column, rows) for dataset in (new, old)]
        np.testing.assert_array_equal(*frames)


def record_golden():
    """Bake everything and write the digests down."""
    digests = {}
    with tempfile.TemporaryDirectory() as temporary:
        recording = make_recording(Path(temporary) / "raw")
        for vendor, codec in (pair.values for pair in pairs()):
            for dataset_format in (keys.FORMAT_V30, keys.FORMAT_V21):
                root = Path(temporary) / vendor / codec / dataset_format
                recipe = bake(recording, root, vendor, codec, dataset_format)
                names = [column.name for column in recipe.modality.vector_columns]
                digests[f"{vendor} {codec} {dataset_format}"] = digest(root, names)
    GOLDEN.write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    record_golden()
