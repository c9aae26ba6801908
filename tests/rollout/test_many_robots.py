"""Several robots at the same time give what one would have given, also of a policy that draws random numbers."""

from pathlib import Path

import numpy as np
import pytest
from shell import Shell, free_port

import positronic
from positronic import keys
from positronic.rollout.config import LocalPolicyConfig
from positronic.rollout.policies import LocalPolicy

SMALL = ["hardware.image_size=[32,48]"]
TINY = ["+debug=tiny", "codec=ee", "modality.image_size=[32,32]"]
RAW = Path(__file__).parents[1] / "data" / "raw_v1"


def run(stage, *typed):
    return positronic.run(positronic.compose([f"stage={stage}", *typed]))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A diffusion policy of toy size, hardly trained: what it commands follows its random numbers."""
    root = tmp_path_factory.mktemp("many")
    run("convert", *TINY, f"dataset.path={RAW}", f"output_dir={root / 'baked'}")
    short = ["vendor.policy.type=diffusion", "num_train_steps=2", "exp_name=noisy", "device=cpu"]
    run("train", *TINY, *short, f"input_path={root / 'baked'}", f"output_dir={root}")
    return root / "noisy"


def played(folder, num_robots, *policy):
    short = ["driver.num_episodes=4", "driver.simulation_time=0.8", "driver.save_videos=0", "seed=7"]
    how = [f"driver.num_robots={num_robots}", "driver.on_unsafe_chunk=clamp", f"output_dir={folder}"]
    run("infer", *SMALL, *policy, *short, *how)
    episodes = positronic.open_raw(folder)
    assert [episode.statics[keys.EVAL_SEED] for episode in episodes] == [7, 8, 9, 10]
    return episodes


def course(episode):
    """How it ended, and the files of all that was seen, commanded and scored; not how long the answers took."""
    said = {key: episode.statics.get(key) for key in (keys.EVAL_OUTCOME, keys.EVAL_DURATION, keys.EVAL_CLAMPED_STEPS)}
    return said, {path.name: path.read_bytes() for signal in episode.signals.values() for path in signal.files}


def commands(episodes):
    return {np.asarray(episode[keys.COMMAND_POSE].values).tobytes() for episode in episodes}


def test_a_policy_that_draws_random_numbers_draws_them_by_the_episode(experiment, serving, tmp_path):
    """One robot or two, behind a server that predicts for one at a time: the same recordings bit for bit, and other
    commands for each seed."""
    server = serving(LocalPolicy(LocalPolicyConfig("local", str(experiment), device="cpu")))
    alone, together = (played(tmp_path / str(n), n, f"policy.port={server.port}") for n in (1, 2))
    assert [*map(course, alone)] == [*map(course, together)]
    assert len(commands(alone)) == 4


def test_a_server_that_answers_one_at_a_time_repeats_the_episodes(experiment, tmp_path):
    """One robot or four, behind ``stage=serve server.max_batch=1``: the same recordings bit for bit."""
    port = free_port()
    where = f"server.host=127.0.0.1 server.port={port} server.device=cpu server.max_batch=1"
    with Shell(tmp_path).started(f"python run.py stage=serve checkpoints_dir={experiment} {where}"):
        policy = ["policy.host=127.0.0.1", f"policy.port={port}"]
        alone, together = (played(tmp_path / str(n), n, *policy) for n in (1, 4))
    assert [*map(course, alone)] == [*map(course, together)]
    assert len(commands(alone)) == 4
