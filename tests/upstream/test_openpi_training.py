"""π0.5 trained by openpi's own code, through a checkout that stands in for it, with the commands of a user."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from lerobot_writer import write_v2
from standins import Checkout, write_params

import positronic
from positronic.errors import PositronicError
from positronic.training.checkpoints import list_checkpoints, read_info
from positronic.upstream.failures import find_symptom
from positronic.upstream.progress import Reading
from positronic.vendors.openpi.launcher import LAUNCHER
from positronic.vendors.openpi.upstream import BACKEND

RAW = Path(__file__).parents[1] / "data" / "raw_v1"
ROBOT = ["vendor=openpi", "codec=ee", "modality.image_size=[32,32]"]
TYPED = ["stage=train", *ROBOT, "vendor.backend=upstream", "exp_name=it", "batch_size=4", "log_freq=1", "device=cpu"]
CONFIG = "pi05_positronic_lowmem"


def run(*typed):
    return positronic.run(positronic.compose(list(typed)))


@pytest.fixture(scope="module", autouse=True)
def cache(openpi_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENPI_DATA_HOME", str(openpi_cache))
        yield


@pytest.fixture(scope="module")
def typed(openpi_run):
    return openpi_run


@pytest.fixture(scope="module")
def trained(typed, tmp_path_factory):
    """Six steps, saved at multiples of three, then three more."""
    folder = tmp_path_factory.mktemp("upstream")
    checkout = Checkout("openpi", folder / "openpi", "openpi")
    command = typed(folder, checkout.root, "save_freq=3", "tracker=wandb", "tracker.mode=offline")
    run(*command, "num_train_steps=6")
    first = {each.id: (each.path / "positronic.json").read_bytes() for each in list_checkpoints(folder / "it")}
    run(*command, "num_train_steps=9", "resume=true")
    return folder / "it", first


def test_its_checkpoints_become_ours(trained):
    """By how many steps they took, with the commit that made them; nothing else is left."""
    folder, first = trained
    assert list(first) == ["000004", "000006"]
    checkpoints = list_checkpoints(folder)
    assert [each.step for each in checkpoints] == [4, 6, 9]
    for each in checkpoints:
        each.require_intact()
        assert first.get(each.id, b"") in (b"", (each.path / "positronic.json").read_bytes())
        counter = json.loads((each.training_state / "train_state" / "step.json").read_text())["step"]
        training = read_info(each.path)["training"]
        assert (counter, training["upstream"]["commit"][:7]) == (each.step, "15a9616")
        assert not training["policy"]["pad_before_normalizing"]
    assert not (folder / "upstream").exists()


def test_a_checkpoint_holds_our_statistics_and_what_its_weights_are_for(trained, openpi_v21):
    folder = list_checkpoints(trained[0])[-1].pretrained_model
    theirs, ours = (
        json.loads((root / "lerobot" / "norm_stats.json").read_text())["norm_stats"]
        for root in (folder / "assets", openpi_v21 / "assets" / CONFIG)
    )
    assert {name: ours[name]["q99"] for name in ours} == {name: theirs[name]["q99"] for name in ours}
    spec = json.loads((folder / "openpi.json").read_text())
    assert spec["columns"]["observation/image"] == "observation.images.side"
    assert spec["columns"]["observation/wrist_image"] == "observation.images.left"
    assert (spec["delta_mask"], spec["pad_to"], spec["mask_missing"]) == ([True] * 7 + [False], None, True)
    assert "run" not in spec


def test_the_losses_it_told_are_in_our_metrics(trained):
    """Of each step, once."""
    rows = [json.loads(line) for line in (trained[0] / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 10))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(row["grad_norm"] > 0 for row in rows)


def test_weights_and_biases_is_ours(trained):
    """openpi's own is off: it would need an account of its own, and a file of an earlier run to resume."""
    assert list((trained[0] / "wandb").glob("offline-run-*"))
    assert "--no-wandb-enabled" in (trained[0] / "upstream.log").read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["frame_cache=none"], "frame_cache=none does not reach openpi"),
        (["keep_last=2", "keep_every=3"], "keep_every=3 does not reach openpi: it saves one step after a multiple"),
        (["vendor.mask_padding=true"], "it counts steps past an episode's end"),
        (["vendor.policy.num_inference_steps=5"], "num_inference_steps=5 does not reach openpi, which takes"),
        (["vendor.policy.mask_missing_camera=1"], "expected true or false"),
        (["vendor.policy.tokenizer_max_length=0"], "expected a number of tokens"),
        (["batch_size=181"], r"has 180 frames. Type batch_size=<180 or fewer>"),
        (["val_fraction=0.4", "val_seed=2"], "trains on every episode of a dataset"),
        (["vendor.base=random"], "given weights to start from"),
        (["vendor.base=lerobot/pi05_base"], "fetches nothing from the Hugging Face hub"),
        (["vendor.base=gs://openpi-assets/checkpoints/pi0_base"], r"(?s)is not in openpi's cache.*maybe_download"),
        (["vendor.base=conf"], "expected weights in openpi's own format"),
    ],
)
def test_what_does_not_reach_it_is_refused(openpi_checkout, typed, tmp_path, monkeypatch, more, said):
    """Before it is started; nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    with pytest.raises(PositronicError, match=said):
        run(*typed(tmp_path, openpi_checkout.root, "num_train_steps=3", *more))
    assert not (tmp_path / "it" / "config.json").exists()


def test_a_dataset_in_another_format_is_refused_with_the_command_that_makes_one(openpi_checkout, typed, tmp_path):
    """openpi's lerobot would take it for missing, and ask the hub."""
    run("stage=convert", *ROBOT, "dataset=local", f"dataset.path={RAW}", f"output_dir={tmp_path / 'v3'}", "fps=2")
    with pytest.raises(PositronicError, match=r"(?s)is in v3.0\. Make another:.*vendor=openpi.*dataset_format=v2.1"):
        run(*typed(tmp_path, openpi_checkout.root, "num_train_steps=3", f"input_path={tmp_path / 'v3'}"))


def test_a_dataset_from_elsewhere_is_not_trained_on_as_it_is(openpi_checkout, tmp_path):
    """It is in format v2.1 too, but its degrees and percents are known to our mapping alone."""
    data = ["dataset=lerobot", f"dataset.path={write_v2(tmp_path / 'so100', lengths=(12, 9))}", "dataset.agree=true"]
    what = ["vendor=openpi", "vendor.backend=upstream", "codec=joints_cmd", "embodiment=so101", "device=cpu"]
    where = [f"output_dir={tmp_path}", f"vendor.repo={openpi_checkout.root}"]
    with pytest.raises(PositronicError, match=r"openpi knows nothing of a mapping.*stage=import source=lerobot"):
        run("stage=train", *what, *data, *where)


def test_a_missing_tokenizer_is_told_at_once(openpi_checkout, typed, tmp_path, monkeypatch):
    """openpi would try for half a minute to fetch it."""
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "empty"))
    with pytest.raises(PositronicError, match=r"(?s)The tokenizer of π0.5 is missing.*maybe_download"):
        run(*typed(tmp_path, openpi_checkout.root, "num_train_steps=3"))


@pytest.mark.parametrize(
    ("told", "said", "kept"),
    [
        ({"crash_at_step": 5}, r"exited unexpectedly at step 5", ["000004"]),
        ({"out_of_memory_at_step": 2}, "batch_size=<fewer>", []),
        ({"kill_in_checkpoint": 5}, r"SIGKILL", ["000004"]),
        ({"nan_at_step": 4}, "The loss is nan", ["000004"]),
        ({"disk_full_in_checkpoint": 5}, r"The disk is full.*output_dir=", ["000004"]),
        ({"missing_module": "of_another_time"}, r"vendor.python=", []),
    ],
)
def test_a_failure_is_explained_and_whole_checkpoints_stay(openpi_checkout, typed, tmp_path, told, said, kept):
    """A checkpoint that was being written is none. What openpi leaves of a failed start is in nobody's way."""
    openpi_checkout.tell(**told)
    command = typed(tmp_path, openpi_checkout.root, "save_freq=3", "num_train_steps=6")
    with pytest.raises(PositronicError, match=said):
        run(*command)
    assert [each.id for each in list_checkpoints(tmp_path / "it")] == kept
    assert not (tmp_path / "it" / "upstream").exists()
    openpi_checkout.tell(**dict.fromkeys(told))
    assert run(*command, *(["resume=true"] if kept else [])).step == 6


def test_a_batch_that_does_not_fit_on_every_gpu_is_explained():
    """JAX takes all that it sees; openpi says so when it has loaded."""
    said = ["ValueError: Batch size 5 must be divisible by the number of devices 2."]
    assert "device=cuda:0" in find_symptom(said, BACKEND.trainer.symptoms).remedy


def test_a_signal_ends_it_and_the_same_command_goes_on(openpi_checkout, typed, tmp_path, press):
    """As a cluster sends it before it takes a machine away."""
    command = typed(tmp_path, openpi_checkout.root, "save_freq=3", "num_train_steps=6")
    openpi_checkout.tell(pause_at_step=[5, tmp_path / "never"])
    done = press("positronic.training.retention:Retention.prune", 1, [signal.SIGUSR2], *command)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr
    assert "The last checkpoint is 000004. To continue, type:" in " ".join(done.stdout.split())
    openpi_checkout.tell(pause_at_step=None)
    assert run(*command, "resume=true").step == 6


def test_no_worker_outlives_us(openpi_checkout, typed, tmp_path, kill):
    """Killed in the middle of a checkpoint, with a loader's worker that hears no SIGTERM of its parent's."""
    openpi_checkout.tell(pause_at_step=[5, tmp_path / "never"])
    command = typed(tmp_path, openpi_checkout.root, "save_freq=3", "num_train_steps=6", "num_workers=1")
    assert kill("positronic.vendors.openpi.upstream:link_or_copy_tree", 1, *command) >= 3
    assert list_checkpoints(tmp_path / "it") == []


def test_the_fork_s_conventions_reach_it_and_stay_with_its_weights(openpi_checkout, typed, trained, tmp_path):
    """State and actions are padded before they are normalised: 24 of 32 numbers are -1 then, and not 0. Neither a
    resumed run nor one that starts from its weights may have another convention, or leave adapters out. All this with a
    lerobot that has its dataset elsewhere, and statistics that were baked for another config."""
    installed = openpi_checkout.root / "installed" / "lerobot"
    shutil.move(installed / "common" / "datasets", installed / "datasets")
    shutil.rmtree(installed / "common")
    write_params(tmp_path / "base" / "params")
    whole, fork = "modality.config_name=pi05_positronic", "vendor.policy.pad_before_normalizing=true"
    rest = ["lr_schedule=constant", "warmup_fraction=1", "num_train_steps=2", f"vendor.base={tmp_path / 'base'}"]
    command = typed(tmp_path, openpi_checkout.root, whole, *rest)
    run(*command, fork)
    (checkpoint,) = list_checkpoints(tmp_path / "it")
    spec = json.loads((checkpoint.pretrained_model / "openpi.json").read_text())
    assert (spec["pad_to"], spec["model"]["paligemma_variant"]) == (32, "gemma_2b")
    first, others = (
        json.loads((folder / "metrics.jsonl").read_text().splitlines()[0]) for folder in (tmp_path / "it", trained[0])
    )
    assert first["loss"] == pytest.approx(others["loss"] + 24 / 32, abs=2e-4)
    log = (tmp_path / "it" / "upstream.log").read_text().replace("'", "").replace(",", "")
    assert "lr-schedule.warmup-steps 2 --lr-schedule.decay-steps 3 --lr-schedule.decay-lr 2.5e-05" in log
    with pytest.raises(PositronicError, match=r"(?s)pad_before_normalizing: the checkpoint has True; this run has Fal"):
        run(*command, "resume=true")
    for conventions, base, said in (([], tmp_path / "it", "pad_before_normalizing"), ([whole], trained[0], whole)):
        named = said.partition("=")[0]
        with pytest.raises(PositronicError, match=rf"(?s){named}.*Type the checkpoint's values"):
            run(*typed(tmp_path, openpi_checkout.root, "exp_name=next", f"vendor.base={base}", *conventions))


SEEN = """
import json, runpy, sys
import numpy as np
launch, path = sys.argv[1:]
spec = json.loads(open(path).read())
made = runpy.run_path(launch)
numbers = {"weights": "w", "optimizer": {"b1": 0.8, "clip_gradient_norm": 2.0}, "ema_decay": 0.5}
made["register"](spec | {"run": numbers})
config = made["_config"]._CONFIGS_DICT[spec["name"]]
picture = np.full((3, 2, 2), 0.999, np.float32)
data = {name: picture for name in spec["images"].values()} | {"observation/state": np.zeros(8)}
shown = [made["Inputs"](spec["images"], spec["state"], mask, None)(data) for mask in (True, False)]
print(json.dumps({
    "masks": [[bool(each["image_mask"][place]) for place in made["_model"].IMAGE_KEYS] for each in shown],
    "pixels": [int(shown[0]["image"][place].max()) for place in made["_model"].IMAGE_KEYS],
    "shape": shown[0]["image"]["base_0_rgb"].shape,
    "frozen": len(config.freeze_filter.filters),
    "model": [config.model.model_type.value, config.model.action_horizon, config.model.max_token_len],
    "run": [config.weight_loader.params_path, config.optimizer.b1, config.optimizer.clip_gradient_norm],
    "ema": config.ema_decay,
}))
"""


def test_the_config_that_openpi_gets(trained):
    """Adapters alone are trained in the language models; a camera that is not there is black, and masked or not."""
    spec = list_checkpoints(trained[0])[-1].pretrained_model / "openpi.json"
    python = trained[0].parent / "openpi" / ".venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-P", "-c", SEEN, LAUNCHER, spec], capture_output=True, text=True, env={}, check=True
    )
    assert json.loads(done.stdout) == {
        "masks": [[True, True, False], [True, True, True]],
        "pixels": [254, 254, 0],
        "shape": [2, 2, 3],
        "frozen": 2,
        "model": ["pi05", 50, 200],
        "run": ["w", 0.8, 2.0],
        "ema": 0.5,
    }


@pytest.mark.parametrize(
    ("line", "reading"),
    {
        "\r\rStep 0: grad_norm=2.2422, loss=2.7320, param_norm=69.8344": Reading(
            1, {"grad_norm": 2.2422, "loss": 2.732, "param_norm": 69.8344}
        ),
        "Step 1200: learning_rate=2.5e-05, loss=0.0100": Reading(1201, {"lr": 2.5e-5, "loss": 0.01}),
        "10:21:33.123 [I] Progress on: 5.00it/6.00it rate:4.0s/it remaining:00:26 elapsed:03:02 postfix:-": Reading(
            5, steps_per_sec=0.25
        ),
        "Progress on: 1.20kit/30.0kit rate:2.5it/s remaining:00:26 elapsed:03:02 postfix:-": Reading(
            1200, steps_per_sec=2.5
        ),
        "Progress on: -/6.00it rate:- remaining:? elapsed:00:00 postfix:-": None,
        "Restoring checkpoint from step 5": None,
    }.items(),
)
def test_its_lines_are_read(line, reading):
    assert BACKEND.trainer.parser(30_000)(line) == reading


def test_a_newer_lerobot_is_refused(openpi_checkout, typed, tmp_path):
    """It reads another format alone."""
    (packages,) = (openpi_checkout.root / ".venv" / "lib").glob("*/site-packages")
    (packages / "lerobot-0.1.0.dist-info").rename(packages / "lerobot-0.4.2.dist-info")
    told = packages / "lerobot-0.4.2.dist-info" / "METADATA"
    told.write_text(told.read_text().replace("0.1.0", "0.4.2"))
    with pytest.raises(PositronicError, match="openpi works with v2.1"):
        run(*typed(tmp_path, openpi_checkout.root, "num_train_steps=3"))
