"""Signals to a whole process group, and full disks, for the stages with workers whose own tests do not press them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import positronic
from positronic.bake.manifest import read_manifest
from positronic.bake.shards import SHARD_FILE, Shards, shards_path
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.layout import episode_paths
from positronic.stages.convert import run as convert

ROOT = Path(__file__).resolve().parents[2]
RAW = ROOT / "tests" / "data" / "raw_v1"
RESULT = "positronic.utils.pool:WorkerPool._collect"
START = "positronic.utils.pool:_start"
SMALL = ["hardware.image_size=[32,48]"]
ROLLOUTS = ["stage=infer", "policy=scripted", *SMALL, "driver.num_episodes=4", "driver.num_robots=2"]
ROLLOUTS += ["driver.simulation_time=1", "driver.save_videos=0"]
CONVERT = ["stage=convert", "vendor=lerobot", "codec=ee", f"dataset.path={RAW}", "num_workers=2"]


def typed(folder, stage):
    return [*stage, f"output_dir={folder / 'out'}"]


@pytest.mark.parametrize("where", [START, RESULT])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_an_interrupted_convert_leaves_no_dataset_and_the_same_command_makes_it(press, tmp_path, where, number):
    """While its workers start, and while they work."""
    command = typed(tmp_path, CONVERT)
    done = press(where, 1, [number], *command)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("Interrupted: stage=convert.\n")
    assert not (tmp_path / "out").exists()
    convert(positronic.compose(command))
    assert read_manifest(tmp_path / "out").episodes == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_shard_is_not_complete_and_the_same_command_completes_it(press, tmp_path, number):
    """With what it had baked; it is the only one of the shards that has to be typed again."""
    commands = [[*typed(tmp_path, CONVERT), "shards=2", more] for more in ("shard=1", "shard=2", "join=true")]
    convert(positronic.compose(commands[0]))
    done = press(RESULT, 2, [number], *commands[1])
    assert (done.returncode in (130, -number), "Traceback" in done.stderr) == (True, False)
    assert Shards(shards_path(tmp_path / "out"), 2).missing() == [2]
    with pytest.raises(PositronicError, match="shard 2 is missing"):
        convert(positronic.compose(commands[2]))
    for command in commands[1:]:
        convert(positronic.compose(command))
    assert read_manifest(tmp_path / "out").episodes == 3


def test_an_interrupted_join_leaves_no_dataset_and_all_shards(press, tmp_path):
    """The same command joins them."""
    commands = [[*typed(tmp_path, CONVERT), "shards=2", more] for more in ("shard=1", "shard=2", "join=true")]
    for command in commands[:2]:
        convert(positronic.compose(command))
    done = press("positronic.bake.run:Run._add", 2, [signal.SIGTERM], *commands[2])
    assert (done.returncode, "Traceback" in done.stderr) == (130, False)
    assert not (tmp_path / "out").exists()
    convert(positronic.compose(commands[2]))
    assert read_manifest(tmp_path / "out").episodes == 3


def test_workers_of_a_killed_convert_end(kill, tmp_path):
    """In the middle of an episode."""
    assert kill(RESULT, 1, *typed(tmp_path, CONVERT)) >= 2


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGHUP], [signal.SIGUSR2, signal.SIGTERM]], ids=str)
def test_interrupted_rollouts_are_reported_and_none_is_half(press, tmp_path, numbers):
    """Those that were finished; the report says why there are no more. The last pair is what a job on a cluster gets:
    each signal goes to all of its processes."""
    many = [one.replace("num_episodes=4", "num_episodes=12") for one in ROLLOUTS]  # more than end before it is heard
    done = press(RESULT, 3, numbers, *typed(tmp_path, many))
    assert (done.returncode, "Traceback" in done.stderr) == (130, False)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "Interrupted" in report["stopped"]
    there = [episode.id for episode in open_dataset(tmp_path / "out")]
    assert len(there) == len(list(episode_paths(tmp_path / "out"))) < 12
    assert {episode["id"] for episode in report["episodes"]} <= set(there)


def test_workers_of_killed_rollouts_end(kill, tmp_path):
    """Not after the episodes that they play: at once."""
    assert kill(RESULT, 1, *typed(tmp_path, ROLLOUTS)) >= 2


@pytest.fixture
def on_full_disk(tmp_path):
    """``on_full_disk(kilobytes, stage)``: run.py that writes to a disk of that size, and what is on it afterwards."""
    (tmp_path / "out").mkdir()

    def run(size, stage):
        mount = f"mount -t tmpfs -o size={size}k none out"
        command = [sys.executable, ROOT / "run.py", *stage]
        shell = f'{mount} || exit 99; "$@"; code=$?; find out -mindepth 1 | grep -v pieces; exit $code'
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", shell, "sh", *map(str, command)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        if "unshare" in done.stderr or done.returncode == 99:
            pytest.skip("no disk of our own can be mounted here")
        return done.returncode, done.stderr, [line for line in done.stdout.splitlines() if line.startswith("out/")]

    return run


def test_a_full_disk_is_a_sentence_before_a_stage_begins(on_full_disk):
    """Hydra writes what was typed into the run's folder."""
    code, error, _ = on_full_disk(4, ["stage=stats", "input_path=/nowhere", "hydra.run.dir=out/run"])
    assert (code, error.startswith("No space left on device")) == (1, True), error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("stage", "kilobytes"),
    [
        (CONVERT, 60),
        ([*CONVERT, "shards=2", "shard=2"], 60),
        (["stage=collect", *SMALL, "num_episodes=4", "num_workers=2"], 150),
        (ROLLOUTS, 60),
        ([one.replace("num_robots=2", "num_robots=1") for one in ROLLOUTS], 60),
    ],
    ids=["convert", "a shard", "collect", "infer", "infer alone"],
)
def test_a_disk_that_fills_is_a_sentence(on_full_disk, tmp_path, stage, kilobytes):
    """No traceback, exit code 1, and nothing on it that looks finished and is not."""
    code, error, there = on_full_disk(kilobytes, [*stage, f"output_dir={tmp_path / 'out' / 'it'}"])
    assert (code, "Traceback" in error) == (1, False), error
    assert "No space left on device" in error
    assert not any(path.endswith((".unfinished", "positronic.json", "report.json", SHARD_FILE)) for path in there)
