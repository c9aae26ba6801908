"""What SmolVLA reads of its language model, at toy size."""

from pathlib import Path

SPECIAL = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}


def write_smolvlm(folder: Path) -> Path:
    """Config, tokenizer of a few words, and processor; no weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        SmolVLMConfig,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    words = ["<pad>", "<unk>", "<bos>", "<eos>", *SPECIAL.values(), "stack", "fold", "it"]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=SPECIAL, **named)
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
