"""Values that no stage can use are refused at composition, each with what to type instead."""

import pytest

import positronic
from positronic import values
from positronic.composition import compose_config
from positronic.config import CONF
from positronic.errors import PositronicError

PARTS = ("projector", "diffusion_model", "vlln")
NOTHING_TUNED = " ".join(f"vendor.policy.tune_{part}=false" for part in PARTS)
# What was typed, and how the sentence ends or what it says in the middle.
SAID = {
    "stage=train vendor=gr00t vendor.policy.num_inference_timesteps=0": "expected 1 or more. Without denoising steps",
    "stage=train vendor=gr00t vendor.base=random": "vendor.toy=true tries the same code out in seconds.",
    "stage=convert vendor=gr00t modality.action_chunk=60": "1 to 40 steps at once. Type modality.action_chunk=40",
    f"stage=train vendor=gr00t {NOTHING_TUNED}": "Nothing would be trained: one of tune_diffusion_model, tune_llm,",
    "stage=train vendor=openpi vendor.policy.num_inference_steps=0": "expected 1 or more. Without denoising steps",
    "stage=train vendor=openpi vendor.policy.max_action_dim=4": "cannot be set with vendor=openpi: the weights",
    "stage=train vendor.policy.type=vla_jepa": "nothing is known of how it is trained. Known are act, diffusion,",
    "stage=train vendor.policy.type=actt": "found 'actt'. Did you mean 'act'?",
    "stage=train vendor.policy.type=null": "found null. Type vendor.policy.type=act.",
    "stage=train vendor.policy=null": "expected its values one by one: vendor.policy.<name>=<value>.",
    "stage=train vendor.policy={}": "vendor.policy={} changes nothing: what is typed is added",
    "stage=train batch_size=99999999999999999999": "This one is larger than the numbers of a computer.",
    "stage=train exp_name=a,b": """For one run each, type -m 'exp_name=["a","b"]'.""",
    "stage=train device=gpu": "expected auto, cpu, cuda, cuda:<number>, mps or xpu. Did you mean 'cpu'?",
    "stage=train tracker=wandb tracker.project=": "tracker.project=: expected a project's name.",
    "stage=train vendor=[lerobot,gr00t]": "For one run each, type -m vendor=lerobot,gr00t.",
    "stage=train +debug=tiny +debug=overfit": "Type +debug=[tiny,overfit] for both; the later one wins.",
    "stage=train hydra.job.chdir=true": "would begin every relative folder somewhere else.",
    "stage=train hydra.run.dir=": "Type hydra.run.dir=<folder>, or leave it out.",
    "stage=convert shards=4 shard=2 join=true": "makes the dataset of all of them. Leave one out.",
    "stage=convert shards=4 shard=5": "with shards=4 they have the numbers 1 to 4.",
    "stage=convert codec=null": "codec=null: expected one of droid, ee, ",
    "stage=convert modality.image_size=128x96": "Type modality.image_size=[128,96].",
    "stage=convert modality.image_size=[1e2,1e2]": "Type modality.image_size=[100,100].",
    "stage=convert modality.image_size=null": "expected a height and a width in pixels",
    "stage=convert dataset.gripper_open=0.5": "dataset.gripper_open=0.5: expected one of 0.0, 1.0.",
    "stage=convert paths.root=null": "For a folder of this name, type paths.root=./null.",
    "stage=convert dataset.path=file://x": "after it three slashes: file:///<folder>.",
    "stage=convert output_dir=s3:///x": "expected a local path, or s3://<bucket>/<folder>.",
    "stage=convert storage.endpoint_url=localhost:9000": "localhost:9000: expected an address that begins with",
    "stage=collect +seed=5": "seed is a parameter already, and those take no plus. Type seed=5.",
    "stage=collect hardware=replay hardware.path=x": "stage=collect needs the simulator",
    "stage=collect hardware.scene.things.red.x=[0.6,0.4]": "expected a range: [low,high], low not above high.",
    "stage=infer policy=scripted policy.host=x": "It belongs to policy=remote.",
    "stage=infer policy=scripted hardware=replay hardware.path=x": "policy=scripted needs the simulator",
    "stage=infer hardware=replay hardware.path=x driver.max_jump=1": "driver.max_jump does nothing with",
    "stage=infer hardware=replay hardware.path=x driver.on_unsafe_chunk=clamp": "Leave it out.",
    "stage=infer driver.playback=real_time": "(real-time chunking). LeRobot's pi05 and SmolVLA could, but no server",
    "stage=infer policy=scripted driver.playback=ask_ahead": "policy=scripted gives one step at a time",
    "stage=infer driver.ask_ahead_steps=2": "driver.ask_ahead_steps counts only with driver.playback=ask_ahead.",
    "stage=infer driver.ensemble_decay=0.1": "counts only with driver.playback=temporal_ensemble.",
    "stage=infer driver.latency_sec=0.1": "driver.latency_sec counts only with driver.simulate_latency=true.",
    "stage=infer hardware=sim_told driver.task=x": "hardware.task='Put the {upper} cube on the {lower} cube.'",
    "stage=infer driver.on_unsafe_chunk=skip": "expected one of refuse, stop, clamp.",
    "stage=infer driver.max_speed=0": "driver.max_speed=0.0: expected a number above 0.",
}


@pytest.mark.parametrize("typed", SAID)
def test_a_value_that_cannot_be_meant_is_refused_with_what_to_type(typed):
    """Before anything runs."""
    with pytest.raises(PositronicError) as refusal:
        positronic.compose(typed.split())
    assert SAID[typed] in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_more_processes_than_cores_are_refused_when_they_are_typed(monkeypatch):
    """A preset says what is good where there are enough; the container's quota counts, jobs elsewhere do not."""
    cfg = compose_config(["stage=collect", "num_workers=2"], CONF)
    monkeypatch.setattr(values, "available_cores", lambda: 1)
    values.check_workers(cfg, {})
    with pytest.raises(PositronicError, match=r"may use 1 core, .* Type num_workers=1 or less\."):
        values.check_workers(cfg, {"num_workers": "2"})
    cfg.hydra.runtime.choices["hydra/launcher"] = "submitit_slurm"
    values.check_workers(cfg, {"num_workers": "2"})
