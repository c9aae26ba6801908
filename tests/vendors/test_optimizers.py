"""How each policy is trained unless something else is typed: what conf says is what the policy's library says."""

import math

import pytest
from omegaconf import OmegaConf

import positronic
from positronic.config import CONF
from positronic.errors import PositronicError
from positronic.policies import library
from positronic.training.config import OptimizerConfig

STEPS = positronic.compose(["stage=train"]).num_train_steps
ROWS = OmegaConf.to_container(OmegaConf.load(CONF / "vendor" / "_optimizers.yaml"))
OURS, FROM_THE_HUB = {"act"}, {"eo1"}


def composed(*typed):
    return positronic.compose(["stage=train", *typed])


@pytest.mark.parametrize("policy_type", sorted(set(ROWS) - OURS - FROM_THE_HUB))
def test_the_presets_are_lerobots_own(policy_type):
    """Optimiser, warm-up as a share of the run, and where the learning rate ends."""
    config = library.config_class(policy_type)()
    optimiser, schedule = config.get_optimizer_preset(), config.get_scheduler_preset()
    ours = OmegaConf.merge(OmegaConf.structured(OptimizerConfig), ROWS[policy_type])
    theirs = (list(optimiser.betas), optimiser.eps, optimiser.weight_decay, optimiser.grad_clip_norm)
    assert (ours.betas, ours.eps, ours.weight_decay, ours.grad_clip_norm) == theirs
    length = getattr(schedule, "num_decay_steps", STEPS)
    peak, end = getattr(schedule, "peak_lr", 1.0), getattr(schedule, "decay_lr", 0.0)
    warmup = schedule.num_warmup_steps / (config.max_steps if policy_type == "groot" else length)
    assert ours.warmup_fraction == pytest.approx(warmup, rel=2e-3)
    assert (ours.lr_schedule, ours.final_lr_fraction) == ("cosine", pytest.approx(end / peak))


def test_act_is_trained_as_ever():
    """The numbers with which the demonstration was measured."""
    config = composed("vendor=lerobot")
    values = (config.betas, config.eps, config.weight_decay, config.grad_clip_norm)
    assert values == ([0.9, 0.99], 1e-8, 1e-4, 10.0)
    assert (config.lr_schedule, config.warmup_fraction, config.final_lr_fraction) == ("cosine", 0.03, 0.0)
    assert config.learning_rate is None


@pytest.mark.parametrize(
    ("vendor", "policy_type", "but"), [("gr00t", "groot", {}), ("openpi", "pi05", {"weight_decay": 1e-10})]
)
def test_a_vendor_of_one_policy_has_its_preset(vendor, policy_type, but):
    """As LeRobot's port of it, but for what the vendor's own code does otherwise."""
    own = OmegaConf.load(CONF / "vendor" / f"{vendor}.yaml").optimizer
    assert OmegaConf.to_container(own) == ROWS[policy_type] | but


def test_what_is_typed_wins():
    """One value; the others stay the policy's own."""
    config = composed("vendor.policy.type=smolvla", "betas=[0.8,0.9]", "warmup_fraction=0.5")
    assert (config.betas, config.warmup_fraction, config.weight_decay) == ([0.8, 0.9], 0.5, 1e-10)


@pytest.mark.parametrize(
    ("typed", "said"),
    {
        "vendor.policy.type=vla_jepa": r"nothing is known of how it is trained\. Known are act, .*vendor\.optimizers",
        "vendor.optimizer.eps=1e-6": r"'vendor\.optimizer\.eps' is called 'eps' here\. Type eps=1e-6\.",
        "betas=[0.9]": r"betas=\[0\.9\]: expected two numbers from 0 on and below 1",
        "betas=[0.9,1.0]": "betas=1.0: expected two numbers from 0 on and below 1",
        "eps=0": "eps=0.0: expected a number above 0",
        "final_lr_fraction=2": "expected a number from 0 to 1",
    }.items(),
)
def test_what_cannot_be_is_refused(typed, said):
    """At composition."""
    with pytest.raises(PositronicError, match=said):
        composed(typed)


def test_a_schedule_that_does_not_fall_ends_nowhere():
    """Nothing that is typed is ignored."""
    with pytest.raises(PositronicError, match="final_lr_fraction counts only with lr_schedule=cosine"):
        composed("lr_schedule=constant", "final_lr_fraction=0.1")
    assert math.isclose(composed("lr_schedule=constant").final_lr_fraction, 0.0)
