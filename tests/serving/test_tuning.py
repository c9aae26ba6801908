"""What the server's config says of the forward pass."""

import pytest
from toy_server import make_recipe
from toy_vendor import ToyModel

from positronic.errors import PositronicError
from positronic.serving.config import ServerConfig
from positronic.serving.policy import ServedPolicy
from positronic.serving.tuning import tune


class Tuned(ToyModel):
    """Remembers what it was told, and fails once it is compiled if ``compiles`` is false."""

    def __init__(self, compiles=True):
        super().__init__()
        self.compiles, self.told = compiles, []

    def compute_in(self, precision):
        self.told.append(precision)

    def compile(self):
        self.told.append("compiled")

    def predict(self, observations, noise=None):
        if "compiled" in self.told and not self.compiles:
            raise RuntimeError("no C++ compiler was found")
        return super().predict(observations, noise)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, []),
        ({"precision": "bf16"}, ["bf16"]),
        ({"precision": "bf16", "compile": True}, ["bf16", "compiled"]),
    ],
)
def test_the_model_is_told_what_was_typed(config, told):
    """And nothing else."""
    policy = ServedPolicy(make_recipe(), Tuned(), {})
    tune(policy, ServerConfig(**config))
    assert policy.model.told == told


@pytest.mark.parametrize("config", [{"precision": "bf16"}, {"compile": True}])
def test_a_model_elsewhere_is_refused_instead_of_being_left_as_it_is(config):
    """Nothing that is typed is ignored."""
    with pytest.raises(PositronicError, match=r"server\.(precision=bf16|compile=true) is for policies"):
        tune(ServedPolicy(make_recipe(), ToyModel(), {}), ServerConfig(**config))


def test_a_policy_that_cannot_be_compiled_is_refused_with_the_reason():
    """While it is loaded, before a robot asks."""
    policy = ServedPolicy(make_recipe(), Tuned(compiles=False), {})
    with pytest.raises(PositronicError, match="cannot compile this policy here: RuntimeError: no C\\+\\+ compiler"):
        tune(policy, ServerConfig(compile=True))
