"""GR00T trained by Isaac-GR00T's own code, through a checkout that stands in for it, with the commands of a user."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from standins import Checkout

import positronic
from positronic.bake.manifest import read_manifest
from positronic.errors import PositronicError
from positronic.training.checkpoints import list_checkpoints, read_info
from positronic.upstream.failures import find_symptom
from positronic.vendors import registry
from positronic.vendors.gr00t.upstream import BACKEND

RAW = Path(__file__).parents[1] / "data" / "raw_v1"
ROBOT = ["vendor=gr00t", "codec=ee_rot6d", "modality.image_size=[32,32]"]
TYPED = ["stage=train", *ROBOT, "vendor.backend=upstream", "exp_name=it", "batch_size=4"]


def run(*typed):
    return positronic.run(positronic.compose(list(typed)))


def without(command, name):
    return [each for each in command if not each.startswith(name)]


@pytest.fixture(scope="module")
def typed(gr00t_v21, gr00t_toy):
    """``typed(folder, checkout)``: the command of a training into ``folder``."""

    def make(folder, checkout):
        return [
            *TYPED,
            f"input_path={gr00t_v21}",
            f"output_dir={folder}",
            f"vendor.base={gr00t_toy}",
            f"vendor.repo={checkout}",
        ]

    return make


@pytest.fixture(scope="module")
def trained(typed, tmp_path_factory):
    """Six steps with a checkpoint every third, then three more."""
    folder = tmp_path_factory.mktemp("upstream")
    checkout = Checkout("isaac_gr00t", folder / "Isaac-GR00T", "main")
    command = [*typed(folder, checkout.root), "save_freq=3"]
    run(*command, "num_train_steps=6")
    first = {each.id: (each.path / "positronic.json").read_bytes() for each in list_checkpoints(folder / "it")}
    run(*command, "num_train_steps=9", "resume=true")
    return folder / "it", first


def test_its_checkpoints_become_ours(trained):
    """With the commit that made them; none of them is written again by what follows, and nothing else is left."""
    folder, first = trained
    assert list(first) == ["000003", "000006"]
    checkpoints = list_checkpoints(folder)
    assert [each.step for each in checkpoints] == [3, 6, 9]
    for each in checkpoints:
        each.require_intact()
        training = read_info(each.path)["training"]
        assert (training["backend"], training["upstream"]["commit"][:7]) == ("upstream", "626af89")
    now = {each.id: (each.path / "positronic.json").read_bytes() for each in checkpoints}
    assert {name: now[name] for name in first} == first
    assert not (folder / "upstream").exists()


def test_the_losses_it_told_are_in_our_metrics(trained):
    """Of the step that it had reached."""
    rows = [json.loads(line) for line in (trained[0] / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [6, 9]
    assert rows[1]["loss"] < rows[0]["loss"]
    assert all(row["lr"] >= 0 for row in rows)


def test_a_checkpoint_is_served_in_this_process(trained, gr00t_toy):
    """The stand-in changes no weight: actions are those of the base."""
    rng = np.random.default_rng(0)
    vectors = {"ee_pose": 9, "grip": 1}
    seen = {name: rng.uniform(0, 1, size).astype(np.float32) for name, size in vectors.items()}
    seen |= {name: rng.integers(0, 255, (32, 32, 3), np.uint8) for name in ("exterior_image_1", "wrist_image")}
    seen |= {"annotation.language.language_instruction": "Pick up the cube."}
    models = [
        registry.load_model("gr00t", list_checkpoints(folder)[-1].path, "cpu", backend)
        for folder, backend in ((trained[0], "upstream"), (gr00t_toy, "native"))
    ]
    noise = [rng.standard_normal(models[0].noise_shape).astype(np.float32)]
    ours, theirs = (model.predict([seen], noise)[0] for model in models)
    np.testing.assert_allclose(ours, theirs, atol=1e-2)  # columns that do not move have a floor in ours alone


def test_a_used_folder_is_refused_without_resume(trained, typed):
    """Isaac-GR00T itself would go on there."""
    folder = trained[0].parent
    with pytest.raises(PositronicError, match=r"(?s)exists already.*resume=true"):
        run(*typed(folder, folder / "Isaac-GR00T"), "num_train_steps=12")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["seed=1"], r"seed=1 does not reach Isaac-GR00T: it always begins with seed 42\. Leave it out"),
        (["seed=0"], "seed=0 does not reach"),
        (["ema_decay=0.9"], "ema_decay=0.9 does not reach"),
        (["log_freq=5"], "log_freq=5 does not reach"),
        (["val_fraction=0.4", "val_seed=2"], "trains on every episode of a dataset"),
        (["episodes=[0]"], "trains on every episode of a dataset"),
        (["vendor.policy.tune_vlln=false"], "vendor.policy.tune_vlln=False does not reach Isaac-GR00T"),
        (["vendor.base=random", "vendor.toy=true"], "vendor.toy=true is for vendor.backend=native"),
        (["preflight=true"], "trains in its own"),
    ],
)
def test_what_does_not_reach_it_is_refused(gr00t_checkout, typed, tmp_path, more, said):
    """Before it is started; the name stays free."""
    others = [each for each in typed(tmp_path, gr00t_checkout.root) if not more[0].startswith(each.split("=")[0] + "=")]
    with pytest.raises(PositronicError, match=said):
        run(*others, "num_train_steps=3", *more)
    assert list_checkpoints(tmp_path / "it") == []


@pytest.mark.parametrize(
    ("told", "said", "kept"),
    [
        ({"crash_at_step": 5}, r"exited unexpectedly at step 5", ["000003"]),
        ({"out_of_memory_at_step": 2}, "batch_size=<fewer>", []),
        ({"kill_in_checkpoint": 6}, r"-9|SIGKILL|killed", ["000003"]),
        ({"nan_at_step": 4}, "The loss is nan", ["000003"]),
        ({"gated": True}, "(?i)licence", []),
        ({"disk_full_in_checkpoint": 6}, r"The disk is full.*output_dir=", ["000003"]),
        ({"missing_module": "of_another_time"}, r"vendor.python=", []),
    ],
)
def test_a_failure_is_explained_and_whole_checkpoints_stay(gr00t_checkout, typed, tmp_path, told, said, kept):
    """A checkpoint that was being written is none; with resume=true the run goes on from the last one."""
    gr00t_checkout.tell(**told)
    command = [*typed(tmp_path, gr00t_checkout.root), "save_freq=3", "num_train_steps=6"]
    with pytest.raises(PositronicError, match=said):
        run(*command)
    assert [each.id for each in list_checkpoints(tmp_path / "it")] == kept
    gr00t_checkout.tell(**dict.fromkeys(told))
    assert run(*command, "resume=true").step == 6


def test_the_format_follows_the_backend():
    """Of what is converted, looked at and trained on."""
    for stage, key in (("convert", "output_dir"), ("stats", "input_path"), ("train", "input_path")):
        dataset = ["dataset=local", "dataset.path=x"]
        config = positronic.compose([f"stage={stage}", "vendor=gr00t", "vendor.backend=upstream", *dataset])
        assert getattr(config, key).endswith("/v2.1")


def test_episodes_that_are_shorter_than_a_chunk_are_refused_before_anything_is_loaded(gr00t_checkout, typed, tmp_path):
    """Isaac-GR00T would find no sample, after minutes."""
    where = ["dataset=local", f"dataset.path={RAW}", f"output_dir={tmp_path / 'short'}"]
    run("stage=convert", *ROBOT, *where, "dataset_format=v2.1", "fps=3", "num_workers=1")
    with pytest.raises(PositronicError, match="longest episode has 12 frames, .* whole chunks of 16 steps"):
        run(*without(typed(tmp_path, gr00t_checkout.root), "input_path"), f"input_path={tmp_path / 'short'}")


def test_a_gpu_that_is_too_old_is_explained():
    """What transformers says in its first seconds."""
    said = ["ValueError: --tf32 requires Ampere or a newer GPU arch, cuda>=11 and torch>=1.7"]
    assert "Ampere generation or later" in find_symptom(said, BACKEND.trainer.symptoms).remedy


def test_what_another_run_left_in_the_dataset_is_not_taken(gr00t_checkout, gr00t_v21, typed, tmp_path):
    """Isaac-GR00T would never compute such statistics again, and these are of one step. The dataset is only read."""
    dataset = Path(shutil.copytree(gr00t_v21, tmp_path / "dataset"))
    stale = {"ee_pose": {name: [[0.0] * 9] for name in ("min", "max", "mean", "std", "q01", "q99")}}
    (dataset / "meta" / "relative_stats.json").write_text(json.dumps(stale))
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    (dataset / "meta").chmod(0o555)
    command = without(typed(tmp_path, gr00t_checkout.root), "input_path")
    run(*command, f"input_path={dataset}", "modality.relative_actions=true", "num_train_steps=1")
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before
    statistics = json.loads((list_checkpoints(tmp_path / "it")[-1].pretrained_model / "statistics.json").read_text())
    assert np.shape(statistics["new_embodiment"]["relative_action"]["ee_pose"]["q01"]) == (16, 9)


def test_a_missing_checkout_is_told_with_the_command_that_makes_it(typed, tmp_path):
    """Nothing is written."""
    with pytest.raises(PositronicError, match=r"(?s)Isaac-GR00T.*git clone"):
        run(*typed(tmp_path, tmp_path / "nowhere"), "num_train_steps=3")


def test_a_dataset_that_is_missing_is_baked_in_the_format_that_it_reads(gr00t_checkout, typed, tmp_path, capsys):
    """From the recording that was typed, with the values of this run."""
    command = without(typed(tmp_path, gr00t_checkout.root), "input_path")
    recorded = ["dataset=local", f"dataset.path={RAW}", f"paths.root={tmp_path}", "num_train_steps=1"]
    assert run(*command, *recorded).step == 1
    assert f"{RAW} is baked first." in capsys.readouterr().out
    manifest = read_manifest(tmp_path / "baked" / "raw_v1" / "gr00t" / "ee_rot6d" / "v2.1")
    assert (manifest.dataset_format, manifest.load_recipe().modality_config.image_size) == ("v2.1", [32, 32])
