"""A policy's first passes."""

import pytest
from test_two_arms import COLUMNS, PAIR
from toy_server import make_recipe
from toy_vendor import ToyModel

from positronic.codecs.build import build
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.serving.policy import ServedPolicy
from positronic.serving.warm_up import dummy_observation, warm_up


def test_batches_of_every_size_that_the_device_may_see_are_tried():
    """In powers of two, and the largest."""
    policy = ServedPolicy(make_recipe(), ToyModel(), {})
    warm_up(policy, 12)
    assert policy.model.batches == [1, 2, 4, 8, 12]


def test_memory_that_runs_out_while_warming_up_bounds_the_batches():
    """Larger ones are not tried, and robots never meet it."""

    class Small(ToyModel):
        def predict(self, observations, noise=None):
            if len(observations) > 3:
                raise MemoryError
            return super().predict(observations, noise)

    policy = ServedPolicy(make_recipe(), Small(), {})
    warm_up(policy, 16)
    assert policy.batch_limit.most == 2
    assert policy.model.batches == [1, 2, 2, 2]


def test_a_dummy_that_the_model_does_not_take_is_only_logged(caplog):
    """A real observation may go through."""

    class Choosy(ToyModel):
        def predict(self, observations, noise=None):
            raise RuntimeError("no task, no action")

    warm_up(ServedPolicy(make_recipe(), Choosy(), {}), 1)
    assert "no task, no action" in caplog.text


@pytest.mark.parametrize("rotation", ["quat_wxyz", "rot6d_rows", "rotvec"])
def test_every_recipe_takes_its_own_dummy(rotation):
    """Poses in every notation; for two arms each has its keys."""
    recipe = make_recipe(rotation=rotation)
    assert recipe.codec.encode(dummy_observation(recipe), plausible=True)
    codec = CodecConfig(name="joints_cmd", state=["joint_position", "grip"], action="joint_position")
    two_arms = build(codec, ModalityConfig([32, 32], COLUMNS), embodiment=PAIR)
    assert two_arms.codec.encode(dummy_observation(two_arms), plausible=True)
