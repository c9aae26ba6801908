"""vendor.policy against lerobot's own config class."""

import pytest

from positronic.errors import PositronicError
from positronic.policies.config import described
from positronic.vendors.lerobot.native import config_of


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("dim_modle", 32, r"dim_modle: ACTConfig has no such field\. Did you mean 'dim_model'\?"),
        ("dim_model", "wide", "vendor.policy.dim_model: expected int, found 'wide'"),
        ("dim_model", None, "vendor.policy.dim_model: expected int, found null"),
        ("use_vae", 3, "vendor.policy.use_vae: expected bool, found 3"),
        ("n_action_steps", 50, "ACTConfig refuses these values: .*chunk size is the upper bound"),
        ("vision_backbone", "vgg", "ACTConfig refuses these values: .*ResNet"),
        ("type", "actt", r"expected one of act, .*found 'actt'\. Did you mean 'act'\?"),
        ("type", None, "vendor.policy.type: expected one of act, .*found null"),
        ("device", "cuda", r"vendor\.policy\.device cannot be set: say device="),
        ("optimizer_weight_decay", 0.1, "say weight_decay="),
        ("optimizer_betas", [0.9, 0.95], "say betas="),
        ("scheduler_decay_lr", 1e-6, "say final_lr_fraction="),
        ("input_features", {}, "the codec and modality say what a policy sees"),
    ],
)
def test_a_wrong_field_is_refused_by_name(recipe, tiny_act, field, value, said):
    """Unknown, of the wrong type, refused by the class itself, or said elsewhere: one sentence each."""
    with pytest.raises(PositronicError, match=said):
        config_of(recipe, tiny_act | {field: value}, "cpu")


def test_features_come_from_the_recipe(recipe, tiny_act):
    """Columns keep their names and order; images are channels first for lerobot."""
    config = config_of(recipe, tiny_act, "cpu")
    shapes = {name: feature.shape for name, feature in config.input_features.items()}
    assert shapes == {
        "observation.state": (8,),
        "observation.images.left": (3, 32, 32),
        "observation.images.side": (3, 32, 32),
    }
    assert {name: feature.shape for name, feature in config.output_features.items()} == {"action": (8,)}


def test_what_is_described_is_complete_and_plain(recipe, tiny_act):
    """Defaults of the library are written down too, for a run must not change with them."""
    fields = described(config_of(recipe, tiny_act, "cpu"))
    assert (fields["type"], fields["dim_model"], fields["kl_weight"]) == ("act", 32, 10.0)
    assert "device" not in fields
