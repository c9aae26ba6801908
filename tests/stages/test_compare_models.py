"""stage=compare models={...}: several models from one recording, on one page."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import positronic
from positronic.cluster.record import RUNNING, Attempt, JobState, Submitted, Sweep, Task
from positronic.errors import PositronicError
from positronic.stages.models import compare_models, tasks_of

ROOT = Path(__file__).parents[2]
RAW = ROOT / "tests" / "data" / "raw_v1"
PRESET = "+experiment=compare_models"


def test_models_with_the_same_dataset_share_its_bake():
    models = 'models={a: ["learning_rate=1e-4"], b: ["learning_rate=1e-3"], c: ["codec=joints"]}'
    config = positronic.compose(["stage=compare", models, f"dataset.path={RAW}", "paths.root=/r"])
    tasks = tasks_of(config.chains)
    assert [task.name for task in tasks["a"]] == ["a_convert", "a_train", "a_evaluate"]
    assert [(task.name, task.after) for task in tasks["b"]] == [
        ("b_train", ("a_convert",)),
        ("b_evaluate", ("b_train",)),
    ]
    assert tasks["c"][0].name == "c_convert"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "stage=compare needs rollouts"),
        (['models={a: ["vendor=nosuch"]}', "dataset.path=x"], "Model a: stage=convert: "),
        (["models={a/b: []}", "dataset.path=x"], "is no name"),
        ([PRESET, "dataset.path=x", "num_train_step=3"], "Did you mean 'num_train_steps'?"),
    ],
)
def test_what_a_model_cannot_be_is_refused_before_any_is_trained(typed, said):
    with pytest.raises(PositronicError) as refused:
        positronic.compose(["stage=compare", *typed])
    assert said in str(refused.value)


def test_a_comparison_is_refused_while_earlier_jobs_write_into_its_folder(tmp_path):
    """Two trainings of one model must not share a folder."""
    place, jobs = tmp_path / "place", tmp_path / "jobs"
    task = Task("a_train", ("stage=train",))
    Sweep(
        jobs, "models", "", "", str(tmp_path), {"name": "local_parallel"}, None, None, None, [Submitted(task, None)]
    ).write()
    JobState(RUNNING, [Attempt(time.time(), socket.gethostname(), os.getpid())], time.time()).write(jobs / "a_train")
    place.mkdir()
    (place / "jobs.txt").write_text(str(jobs))
    models = 'models={a: ["learning_rate=1e-4"]}'
    config = positronic.compose(["stage=compare", models, f"dataset.path={RAW}", f"output_dir={place}"])
    with pytest.raises(PositronicError, match="Jobs of an earlier command still work on"):
        compare_models(config)


def test_every_vendor_is_trained_served_and_evaluated_and_one_that_fails_says_why(tmp_path):
    """On the same seeds, on one page; the model without weights is a row of its own, and the others go on."""
    far = '["vendor=gr00t", "vendor.toy=false", "vendor.base=nobody/nothing"]'
    rows = f'act: ["vendor=lerobot"], gr00t: ["vendor=gr00t"], pi05: ["vendor=openpi"], far: {far}'
    models = f"models={{{rows}}}"
    typed = [PRESET, "+debug=tiny", models, f"dataset.path={RAW}", f"paths.root={tmp_path}/data"]
    command = [sys.executable, str(ROOT / "run.py"), "stage=compare", *typed, "driver.num_episodes=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    place = tmp_path / "data" / "comparisons" / "act_gr00t_pi05_far"
    noted = {each["name"]: each for each in json.loads((place / "models.json").read_text())}
    for name in ("act", "gr00t", "pi05"):
        assert noted[name]["missing"] is None
        assert (noted[name]["episodes"], noted[name]["steps"]) == (2, 4)
        assert noted[name]["parameters"] > 10_000
        assert noted[name]["latency_ms"]["p50"] > 0
    assert noted["far"]["missing"].startswith("far_train failed: ")
    assert noted["far"]["episodes"] is None
    page = (place / "comparison.html").read_text()
    assert "far_train failed" in page
    assert page.count("<video") >= 3
    compared = json.loads((place / "comparison.json").read_text())
    assert compared["seeds"] == [1000, 1001]
