"""stage=pipeline: what is typed once becomes a command for each stage, and the commands run one after another."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import positronic
from positronic.cluster.record import FINISHED, read_job, read_sweep
from positronic.errors import PositronicError

ROOT = Path(__file__).parents[2]
RAW = ROOT / "tests" / "data" / "raw_v1"


def commands(*typed):
    config = positronic.compose(["stage=pipeline", f"dataset.path={RAW}", "paths.root=/r", *typed])
    return [list(command) for command in config.commands]


def test_each_stage_gets_the_values_that_it_reads():
    """And finds what the one before has made; a value of training is not told to the bake."""
    bake, train, infer = commands("codec=joints", "num_train_steps=7", "driver.num_episodes=3", "fps=10")
    place = "/r/baked/raw_v1/lerobot/joints/v3.0"
    assert bake == [
        *("stage=convert", f"dataset.path={RAW}", "paths.root=/r", "codec=joints", "fps=10"),
        f"output_dir={place}",
    ]
    assert train == ["stage=train", "paths.root=/r", "codec=joints", "num_train_steps=7", f"input_path={place}"]
    experiment = "policy.checkpoints_dir=/r/checkpoints/lerobot/lerobot_joints"
    assert infer == ["stage=infer", "paths.root=/r", "driver.num_episodes=3", "policy=local", experiment]


def test_a_text_arrives_as_it_was_typed():
    text = 'task=pick "it", then [stop] = 拿起'
    assert text in commands("pipeline=[convert,train]", text)[0]


def test_a_policy_that_is_typed_decides():
    infer = commands("policy=scripted")[-1]
    assert infer == ["stage=infer", "paths.root=/r", "policy=scripted"]


def test_recordings_made_first_are_those_that_are_baked():
    config = positronic.compose(["stage=pipeline", "pipeline=[collect,convert]", "paths.root=/r", "num_episodes=2"])
    collect, convert = config.commands
    assert "num_episodes=2" in collect
    assert convert[-3:-1] == ["dataset=local", "dataset.path=/r/raw/demo"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["pipeline=[train,convert]"], "follow each other as pipeline=[convert,train]"),
        (["pipeline=[convert,eat]"], "expected some of collect, import, convert, train, serve, infer"),
        (["pipeline=[train,serve]"], "serve answers the stages behind it"),
        (["learning_rate=abc"], "learning_rate=abc: expected a number"),
        (["num_train_step=3"], "Did you mean 'num_train_steps'?"),
        (["num_train_steps=3", "pipeline=[convert,infer]"], "does nothing in any of these stages"),
        (["output_dir=x"], "several of these stages have such a folder"),
        (["seed=0,1"], "stage=pipeline runs once"),
        (["commands=[]"], "it follows from pipeline="),
    ],
)
def test_what_one_stage_would_refuse_is_refused_before_any_begins(typed, said):
    with pytest.raises(PositronicError) as refused:
        commands(*typed)
    assert said in str(refused.value)


def test_stages_run_one_after_another_and_go_on(tmp_path):
    """A server answers the evaluation behind it; the same pipeline with resume=true bakes and trains nothing again."""
    typed = [f"dataset.path={RAW}", f"paths.root={tmp_path}/data", "+debug=tiny", "codec=joints"]
    first = run_pipeline(tmp_path, "pipeline=[convert,train,serve,infer]", *typed)
    assert first.returncode == 0, first.stdout + first.stderr
    sweep = read_sweep(next((tmp_path / "multirun").glob("*/*_convert_train_serve_infer")))
    assert [job.task.name for job in sweep.jobs] == ["convert", "train", "serve_infer"]
    assert [read_job(sweep.folder_of(job.task)).state for job in sweep.jobs] == [FINISHED] * 3
    (report,) = (tmp_path / "data" / "rollouts").glob("*/report.json")
    assert json.loads(report.read_text())["n"] == 1
    metrics = tmp_path / "data" / "checkpoints" / "lerobot" / "tiny" / "metrics.jsonl"
    before = metrics.read_bytes()
    again = run_pipeline(tmp_path, "pipeline=[convert,train]", *typed, "resume=true")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "The dataset is there" in again.stdout
    assert metrics.read_bytes() == before


def run_pipeline(folder, *typed):
    command = [sys.executable, str(ROOT / "run.py"), "stage=pipeline", *typed]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
