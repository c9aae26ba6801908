"""Which of openpi's configs is trained, refused while the config is composed."""

import pytest

import positronic
from positronic.errors import PositronicError


def compose(*typed):
    return positronic.compose(["stage=train", "vendor=openpi", *typed])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["modality.config_name=pi05_positronic_lowmen"],
            r"expected pi05_positronic_lowmem \(LoRA\) or pi05_positronic \(all weights.*Did you mean",
        ),
        (["modality.config_name=null"], "config_name=None: expected pi05_positronic_lowmem"),
        (
            ["vendor.policy.train_expert_only=true"],
            "Type modality.config_name=pi05_positronic to train the action expert alone",
        ),
        (["vendor.toy=true"], "found vendor.base=lerobot/pi05_base. Type vendor.base=random"),
        (["vendor.policy.type=act"], "type=act: vendor=openpi trains pi05 alone.*type vendor=lerobot"),
        (["vendor.policy.chunk_size=8"], "chunk_size cannot be set with vendor=openpi: say modality.action_chunk="),
        (["vendor.policy.dtype=bfloat16"], "dtype cannot be set with vendor=openpi: say precision="),
        (["vendor.policy.use_relative_actions=false"], "openpi's actions are relative to the state"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_runs(typed, said):
    with pytest.raises(PositronicError, match=said):
        compose(*typed)


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["modality.config_name=pi05_positronic"],
        ["modality.config_name=pi05_positronic", "vendor.policy.train_expert_only=true"],
        ["vendor.policy.freeze_vision_encoder=true"],
    ],
)
def test_what_can_be_trained_composes(typed):
    assert compose(*typed).vendor.base == "lerobot/pi05_base"


def test_padding_is_a_matter_of_openpi_alone():
    with pytest.raises(PositronicError, match="vendor.mask_padding counts for vendor=openpi alone"):
        positronic.compose(["stage=train", "vendor.mask_padding=true"])


def test_another_config_of_upstream_s_can_be_baked_for():
    """Its statistics go into a folder of its name."""
    composed = positronic.compose(["stage=convert", "vendor=openpi", "modality.config_name=pi0_mine", "dataset.path=x"])
    assert composed.modality.config_name == "pi0_mine"
