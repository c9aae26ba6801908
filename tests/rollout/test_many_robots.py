"""Several robots at the same time give what one would have given, also of a policy that draws random numbers."""

from pathlib import Path

import numpy as np
import pytest

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
    return [np.asarray(episode[keys.COMMAND_POSE].values) for episode in episodes]


def test_a_policy_that_draws_random_numbers_draws_them_by_the_episode(experiment, serving, tmp_path):
    """One robot or two, behind a server that predicts for one at a time: the same commands bit for bit, and others for
    each seed."""
    server = serving(LocalPolicy(LocalPolicyConfig("local", str(experiment), device="cpu")))
    alone, together = (played(tmp_path / str(n), n, f"policy.port={server.port}") for n in (1, 2))
    assert [each.tobytes() for each in alone] == [each.tobytes() for each in together]
    assert len({each.tobytes() for each in alone}) == 4
