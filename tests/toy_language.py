"""What policies read of their language models, and these policies, at toy size."""

from contextlib import nullcontext
from pathlib import Path

from positronic.vendors.openpi.toy import Toy, built_at

CHUNK = 8
PI0_TOKENIZER = "google/paligemma-3b-pt-224"  # a folder of this name is read instead of the hub

SPECIAL = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}


def word_tokenizer(special, **more):
    """A tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<bos>", "<eos>", *special, "stack", "fold", "it"]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named, **more)


def write_smolvlm(folder: Path) -> Path:
    """Config, tokenizer of a few words, and processor; no weights."""
    from transformers import SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

    fast = word_tokenizer(SPECIAL.values(), extra_special_tokens=SPECIAL)
    fast.chat_template = "{{ messages }}"
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    SmolVLMConfig(
        image_token_id=fast.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        scale_factor=2,
        vision_config=vision | {"image_size": 64, "patch_size": 16},
        text_config=text
        | {"model_type": "llama", "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512, "pad_token_id": 0},
    ).save_pretrained(folder)
    SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(),
        tokenizer=fast,
        video_processor=SmolVLMVideoProcessor(),
        chat_template="{{ messages }}",
    ).save_pretrained(folder)
    return folder


def write_clip(folder: Path, side: int) -> Path:
    """Tokenizer, config and random weights, for images of ``side`` x ``side``."""
    from transformers import CLIPConfig, CLIPModel

    word_tokenizer(()).save_pretrained(folder)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": 16, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config=small | {"image_size": side, "patch_size": 8})
    CLIPModel(config).save_pretrained(folder)
    return folder


def multi_task_dit(folder: Path, side: int) -> dict:
    """``vendor.policy`` of a small one that reads ``folder / "clip"``."""
    clip = str(write_clip(folder / "clip", side))
    sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "timestep_embed_dim": 32, "dropout": 0.0}
    steps = {"horizon": CHUNK, "n_action_steps": CHUNK, "num_train_timesteps": 20, "num_inference_steps": 2}
    fixed = {"type": "multi_task_dit", "n_obs_steps": 1, "do_mask_loss_for_padding": True, "image_crop_shape": None}
    return fixed | sizes | steps | {"text_encoder_name": clip, "vision_encoder_name": clip}


def xvla(folder: Path, side: int) -> dict:
    """``vendor.policy`` of a small one that reads the tokenizer in ``folder / "bart"``."""
    word_tokenizer(()).save_pretrained(folder / "bart")
    vision = {"embed_dim": [16, 16, 32, 32], "num_heads": [1, 1, 2, 2], "num_groups": [1, 1, 2, 2]}
    text = {"model_type": "bart", "d_model": 32, "vocab_size": 64, "max_position_embeddings": 64}
    text |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    text |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    florence = {"vision_config": vision | {"depths": [1, 1, 1, 1], "projection_dim": 32}, "text_config": text}
    sizes = {"hidden_size": 32, "depth": 1, "num_heads": 2, "num_domains": 2, "len_soft_prompts": 4, "max_len_seq": 128}
    steps = {"chunk_size": CHUNK, "n_action_steps": CHUNK, "num_denoising_steps": 2, "action_mode": "auto"}
    named = {"tokenizer_name": str(folder / "bart"), "tokenizer_max_length": 24}
    return {"type": "xvla", "florence_config": florence, "resize_imgs_with_padding": [64, 64]} | sizes | steps | named


def pi0(folder: Path, side: int) -> dict:
    """``vendor.policy`` of one that reads the tokenizer in ``folder / PI0_TOKENIZER``, if one works in ``folder``."""
    word_tokenizer(()).save_pretrained(folder / PI0_TOKENIZER)
    steps = {"chunk_size": CHUNK, "n_action_steps": CHUNK, "num_inference_steps": 2}
    return {"type": "pi0", "image_resolution": [56, 56], "tokenizer_max_length": 24} | steps


def small(policy: dict):
    """Inside, π0, whose sizes cannot be typed, is built as a toy."""
    if policy.get("type") != "pi0":
        return nullcontext()
    return built_at(Toy(vocabulary=64), "lerobot.policies.pi0.modeling_pi0")


OTHERS = {made.__name__: made for made in (multi_task_dit, xvla, pi0)}
