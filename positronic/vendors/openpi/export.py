"""A checkpoint as LeRobot's own code reads it: adapters merged into the weights, all in float32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from positronic.policies.weights import load_config, load_weights, save_weights
from positronic.training.checkpoints import PRETRAINED_MODEL, read_info, trained_recipe
from positronic.vendors.openpi import toy
from positronic.vendors.openpi.configs import LORA
from positronic.vendors.openpi.lora import merge_adapters
from positronic.vendors.openpi.network import build
from positronic.vendors.openpi.processors import load_processors
from positronic.vendors.openpi.tokens import FOLDER, load_tokenizer


def export(checkpoint: Path, folder: Path) -> None:
    """Write ``checkpoint`` (``<experiment>/checkpoints/<id>``) into the new ``folder``, for ``from_pretrained`` of
    LeRobot's PI05Policy (with ``strict=False``: what it never uses is not written) or as ``vendor.base``.

    Raises PositronicError when the checkpoint is not whole, FileExistsError when there is something in ``folder``.
    """
    source, recipe = checkpoint / PRETRAINED_MODEL, trained_recipe(read_info(checkpoint))
    config, sizes = load_config(source, "cpu"), toy.toy_in(source)
    has_adapters = recipe.modality_config.config_name == LORA
    policy = build(config, sizes, has_adapters, filled=False)
    load_weights(policy, source)
    if has_adapters:
        merge_adapters(policy.model.paligemma_with_expert)
    folder.mkdir(parents=True)
    save_weights(policy.float(), folder)
    for processor in load_processors(source, "cpu"):
        processor.save_pretrained(folder)
    load_tokenizer(source / FOLDER).save_pretrained(folder / FOLDER)
    if sizes:
        sizes.save(folder)
    replace(config, dtype="float32").save_pretrained(folder)
