"""π0.5 at a size for trying things out: the same code with networks of a few hundred thousand parameters.

LeRobot has the sizes of PaliGemma and of the action expert in its code. While a toy is built, the names by which the
module looks them up mean smaller ones. A toy's checkpoint holds its sizes, so that it loads after these have changed.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from positronic.errors import PositronicError

TOY_FILE = "toy.json"
MODULE = "lerobot.policies.pi05.modeling_pi05"
POLICY = {"image_resolution": [56, 56], "tokenizer_max_length": 96, "num_inference_steps": 2}  # unless typed
HEADS = 8  # LeRobot's attention counts on it
PALI_GEMMA = "PaliGemmaForConditionalGenerationWithPiGemma"
EXPERT = "PiGemmaForCausalLM"
EXPERT_VARIANT = "gemma_300m"

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Toy:
    """Sizes. ``vocabulary``: words of the tokenizer, and one for pictures. The names are those of Gemma and SigLIP."""

    vocabulary: int
    width: int = 64
    expert_width: int = 32
    depth: int = 2
    mlp_dim: int = 64
    head_dim: int = 16
    vision_width: int = 32
    vision_depth: int = 1
    vision_heads: int = 2
    vision_mlp_dim: int = 64

    def save(self, folder: Path) -> None:
        """Write ``toy.json`` into a checkpoint's folder."""
        (folder / TOY_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")


def toy_in(folder: Path) -> Toy | None:
    """The sizes of the toy in a checkpoint's folder; None for a policy of real size."""
    path = folder / TOY_FILE
    if not path.exists():
        return None
    try:
        return Toy(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise PositronicError(f"{path} cannot be read ({error}). Use another checkpoint.") from None


@contextmanager
def built_at(toy: Toy | None, module_name: str = MODULE) -> Iterator[None]:
    """Inside, a new policy of LeRobot's ``module_name`` has the toy's sizes; with None it has its own."""
    if toy is None:
        yield
        return
    module = importlib.import_module(module_name)
    smaller = {
        "get_gemma_config": lambda variant: _gemma(module, toy, variant),
        PALI_GEMMA: _shrunk(getattr(module, PALI_GEMMA), toy, _shrink_pali_gemma),
        EXPERT: _shrunk(getattr(module, EXPERT), toy, _shrink_expert),
    }
    with _one_at_a_time:
        own = {name: getattr(module, name) for name in smaller}
        vars(module).update(smaller)
        try:
            yield
        finally:
            vars(module).update(own)


def _gemma(module: Any, toy: Toy, variant: str) -> Any:
    width = toy.expert_width if variant == EXPERT_VARIANT else toy.width
    return module.GemmaConfig(width, toy.depth, toy.mlp_dim, num_heads=HEADS, num_kv_heads=1, head_dim=toy.head_dim)


def _shrunk(build: Callable[..., Any], toy: Toy, shrink: Callable[[Any, Toy], None]) -> Callable[..., Any]:
    def built(config: Any) -> Any:
        shrink(config, toy)
        return build(config=config)

    return built


def _shrink_pali_gemma(config: Any, toy: Toy) -> None:
    vision, text = config.vision_config, config.text_config
    vision.hidden_size, vision.num_hidden_layers = toy.vision_width, toy.vision_depth
    vision.num_attention_heads, vision.intermediate_size = toy.vision_heads, toy.vision_mlp_dim
    vision.projection_dim = config.projection_dim = text.hidden_size
    text.vocab_size = config._vocab_size = toy.vocabulary
    config.image_token_index = toy.vocabulary - 1


def _shrink_expert(config: Any, toy: Toy) -> None:
    config.vocab_size = toy.vocabulary
