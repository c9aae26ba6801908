"""The tokenizer of π0.5's prompts: PaliGemma's for real weights, whole words for a toy. A checkpoint holds its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from positronic.errors import PositronicError

FOLDER = "tokenizer"  # in a checkpoint, and beside the weights of a base
PUBLISHED = "google/paligemma-3b-pt-224"
FILES = "tokenizer.json, tokenizer_config.json and special_tokens_map.json"
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
OF_EVERY_PROMPT = ("Task", "State", "Action", ":", ",", ";", ".", "-", *map(str, range(256)))
PROMPT = "Task: {task}, State: {state};\nAction: "
WORD = re.compile(r"\w+|[^\w\s]+")  # as tokenizers' Whitespace cuts


def word_tokenizer(tasks: Iterable[str]) -> Any:
    """A tokenizer whose tokens are the words of ``tasks`` and of π0.5's own text around them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    theirs = sorted({word for task in tasks for word in WORD.findall(task.replace("_", " "))})
    words = dict.fromkeys([*SPECIAL, *OF_EVERY_PROMPT, ";:", *theirs])
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pad, begin, end, unknown = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=begin, eos_token=end, unk_token=unknown
    )


def tokenizer_of(base: Path | None) -> Any:
    """The tokenizer beside the weights in ``base``, otherwise PaliGemma's from the Hugging Face hub.

    Raises PositronicError, naming the files to bring, when there is none.
    """
    from transformers import AutoTokenizer

    folder = None if base is None else base / FOLDER
    if folder is not None and folder.is_dir():
        return load_tokenizer(folder)
    try:
        return AutoTokenizer.from_pretrained(PUBLISHED)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        where = f"{folder}/" if folder else f"<folder>/{FOLDER}/, and the weights into <folder>: vendor.base=<folder>"
        raise PositronicError(
            f"π0.5 reads its prompts with the tokenizer of {PUBLISHED}, which could not be fetched from the Hugging "
            f"Face hub ({reason}). Accept its licence there and log in (hf auth login), or put {FILES} of it into "
            f"{where}."
        ) from None


def tokenizer_files(tokenizer: Any, resumed: Path | None) -> dict[str, bytes]:
    """What a checkpoint holds of ``tokenizer``, by the names of its files: if a run is resumed, what the checkpoint
    ``resumed`` holds. A tokenizer that was loaded would write its defaults beside that."""
    if resumed is not None:
        return {path.name: path.read_bytes() for path in (resumed / FOLDER).iterdir()}
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in ``folder``. Raises PositronicError for one that cannot be read."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise PositronicError(f"{folder} holds no tokenizer that can be read ({reason}). Expected {FILES}.") from None


@dataclass(frozen=True)
class PromptEnd:
    """How the tokens (3,) of a whole prompt end. LeRobot cuts off what is too long without a word, the state first."""

    tokens: Tensor

    @classmethod
    def of(cls, tokenizer: Any) -> PromptEnd:
        return cls(torch.tensor(tokenizer(PROMPT.format(task="", state=""))["input_ids"][-3:]))

    def require(self, tokens: Tensor, mask: Tensor) -> None:
        """Raise PositronicError when one of the prompts (B, L) was cut. ``mask`` (B, L): what is no padding."""
        other = (tokens[:, -len(self.tokens) :] != self.tokens.to(tokens.device)).any(dim=1)
        if bool((mask.all(dim=1) & other).any()):
            raise PositronicError(
                f"The instruction is too long: with the state it has more than the {tokens.shape[1]} tokens that this "
                "policy reads. Say it in fewer words, or train with a larger vendor.policy.tokenizer_max_length."
            )


def require_short(tokenizer: Any, tasks: Sequence[str], state_size: int, longest: int) -> None:
    """Raise PositronicError when a prompt with one of ``tasks`` and ``state_size`` numbers has more than ``longest``
    tokens: π0.5 would not read its end."""
    state = " ".join(["255"] * state_size)
    lengths = {task: len(tokenizer(PROMPT.format(task=task, state=state))["input_ids"]) for task in tasks}
    worst = max(lengths, key=lambda task: lengths[task], default=None)
    if worst is not None and lengths[worst] > longest:
        raise PositronicError(
            f"The instruction {worst!r} with a state of {state_size} numbers takes up to {lengths[worst]} tokens, and "
            f"{longest} are read. Type vendor.policy.tokenizer_max_length={lengths[worst]}, or shorten the instruction."
        )
