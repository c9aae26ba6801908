"""A GR00T of a few hundred thousand random weights and a tokenizer of the dataset's own words: the same code, in
seconds, without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from positronic.vendors.gr00t.network import BACKBONE, CONFIG_FILE
from positronic.vendors.gr00t.sidecars import PROCESSOR_FILE

SIDE = 64  # px of a picture: 4 tokens
WIDTH = 64  # of the backbone
PICTURES = {"image_target_size": [SIDE, SIDE], "image_crop_size": [58, 58]}
PATCH = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
VISION = {
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
}
SPECIAL = {"turn_start_token": "<|im_start|>", "turn_end_token": "<|im_end|>", **VISION}
PICTURE = VISION["vision_bos_token"] + VISION["image_token"] + VISION["vision_eos_token"]
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + PICTURE + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>"
    "{% endfor %}"
)
SIZES: dict[str, Any] = {
    "model_type": "Gr00tN1d7",
    "model_name": BACKBONE,
    "backbone_model_type": "qwen",
    "backbone_embedding_dim": WIDTH,
    "select_layer": 2,
    "hidden_size": 32,
    "input_embedding_dim": 32,
    "num_inference_timesteps": 2,
    "diffusion_model_cfg": {
        "positional_embeddings": None,
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "norm_type": "ada_norm",
        "dropout": 0.2,
        "final_dropout": True,
        "output_dim": 32,
        "interleave_self_attention": True,
    },
    "vl_self_attention_cfg": {
        "positional_embeddings": None,
        "num_layers": 1,
        "num_attention_heads": 4,
        "attention_head_dim": 16,
        "dropout": 0.2,
        "final_dropout": True,
    },
}


def write_toy(folder: Path, tasks: Sequence[str]) -> None:
    """What a base's folder holds beside its weights, into the existing ``folder``. ``tasks``: whose words it knows."""
    (folder / CONFIG_FILE).write_text(json.dumps(SIZES))
    (folder / PROCESSOR_FILE).write_text(json.dumps({"processor_kwargs": PICTURES}))
    _write_backbone(folder / BACKBONE, tasks)


def _write_backbone(folder: Path, tasks: Sequence[str]) -> None:
    from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLVideoProcessor

    tokenizer = _tokenizer(tasks)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessor(**PATCH, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    Qwen3VLVideoProcessor(**PATCH).save_pretrained(folder)
    number = tokenizer.convert_tokens_to_ids
    Qwen3VLConfig(
        image_token_id=number(VISION["image_token"]),
        video_token_id=number(VISION["video_token"]),
        vision_start_token_id=number(VISION["vision_bos_token"]),
        vision_end_token_id=number(VISION["vision_eos_token"]),
        tie_word_embeddings=True,
        text_config=_language(len(tokenizer)),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": WIDTH,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "patch_size": PATCH["patch_size"],
            "spatial_merge_size": PATCH["merge_size"],
            "temporal_patch_size": PATCH["temporal_patch_size"],
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0],
        },
    ).save_pretrained(folder)


def _language(words: int) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": words,
        "max_position_embeddings": 2048,
        "rope_theta": 10000,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"},
        "tie_word_embeddings": True,
    }


def _tokenizer(tasks: Sequence[str]) -> Any:
    """A number for each word, as GR00T sees texts: in lower case, without punctuation."""
    from lerobot.policies.groot.utils import prepare_n1_7_language_batch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    texts = prepare_n1_7_language_batch(["", *tasks], len(tasks) + 1, formalize_language=True)
    words = ["<pad>", "<unk>", *SPECIAL.values(), "user", *sorted({word for text in texts for word in text.split()})]
    words = list(dict.fromkeys(words))
    numbers = {word: number for number, word in enumerate(words)}
    model = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=SPECIAL,
    )
    tokenizer.chat_template = CHAT
    return tokenizer
