"""Tokenizer and picture processors of GR00T's backbone: files that travel with every checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from positronic.errors import PositronicError, listing
from positronic.vendors.gr00t.network import BACKBONE, COSMOS

PATCH_SIZES = {
    "patch_size": "patch_size",
    "merge_size": "spatial_merge_size",
    "temporal_patch_size": "temporal_patch_size",
}
WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf")
PICTURES_FILE = "preprocessor_config.json"
AGAIN = f"Fetch them again: hf download {COSMOS} --exclude '*.safetensors' --local-dir {BACKBONE}."
NOTHING_SAID = [{"role": "user", "content": [{"type": "text", "text": ""}]}]


def copy_backbone(base: Path, config: Mapping[str, Any], folder: Path) -> None:
    """Write them into ``folder/backbone``: those beside the weights in ``base``, or else from the hub.

    Raises PositronicError, naming what to bring, when they are in neither place.
    """
    there, to = base / BACKBONE, folder / BACKBONE
    if there.is_dir():
        shutil.copytree(there, to, ignore=shutil.ignore_patterns(".*", *(f"*{end}" for end in WEIGHTS_SUFFIXES)))
    else:
        _fetch(config["model_name"], base, to)


def _fetch(name: str, base: Path, to: Path) -> None:
    from lerobot.policies.groot.processor_groot import _build_n1_7_processor
    from transformers import AutoConfig

    try:
        processor = _build_n1_7_processor(name)
        AutoConfig.from_pretrained(name).save_pretrained(to)
    except (OSError, ValueError) as error:
        raise PositronicError(
            f"vendor.base={base}: GR00T reads texts and pictures with the tokenizer and the processors of {name}, "
            f"which could not be fetched from the Hugging Face hub ({str(error).strip().partition(chr(10))[0]}). Fetch "
            f"them where there is a network and its licence is agreed to (hf download {name} --exclude '*.safetensors' "
            f"--local-dir {BACKBONE}), and bring that folder: {base / BACKBONE}."
        ) from None
    for part in (processor.tokenizer, processor.image_processor, processor.video_processor):
        part.save_pretrained(to)


def processors(config: Any, folder: Path) -> tuple[Any, Any]:
    """lerobot's pre- and post-processor by the files in ``folder``, which is not needed any more after this.

    Raises PositronicError when the tokenizer cannot be read.
    """
    from lerobot.policies.groot.processor_groot import make_groot_pre_post_processors

    before, after = make_groot_pre_post_processors(config)
    encode = _encode_step(before)
    encode.model_name = str(folder / BACKBONE)
    try:
        if not encode.proc.chat_template:  # it is read at the first use
            raise ValueError("there is no chat template")
        encode.proc.apply_chat_template(NOTHING_SAID, tokenize=False)
    except Exception as error:  # what transformers raises depends on what is wrong with which of its files
        raise PositronicError(
            f"{folder / BACKBONE}: tokenizer and processors of GR00T's backbone cannot be read ({error}). {AGAIN}"
        ) from None
    return before, after


def require_patches(before: Any, vision: Any, folder: Path) -> None:
    """Raise PositronicError when the preprocessor cuts pictures into other patches than ``vision``, the config of the
    backbone's eyes, says: transformers has defaults for what its file in ``folder`` lacks."""
    cuts = _encode_step(before).proc.image_processor
    found = {name: getattr(cuts, name) for name in PATCH_SIZES}
    expected = {name: getattr(vision, of_vision) for name, of_vision in PATCH_SIZES.items()}
    if found != expected:
        raise PositronicError(
            f"{folder / BACKBONE / PICTURES_FILE}: expected {_values(expected)}, as the backbone reads pictures; found "
            f"{_values(found)}, which are defaults if the file says nothing. {AGAIN}"
        )


def _encode_step(before: Any) -> Any:
    return next(step for step in before.steps if hasattr(step, "model_name"))


def _values(sizes: Mapping[str, int]) -> str:
    return listing(f"{name}={size}" for name, size in sizes.items())
