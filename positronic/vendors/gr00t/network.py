"""GR00T N1.7's network by the config in a folder: built without weights, saved and loaded under upstream's own names.

lerobot's ``from_pretrained`` fetches the base's weights even for a checkpoint that brings its own, and fills what a
file lacks with random numbers. Here a network is built from its config alone, and loading is strict.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save_file
from torch import Tensor, nn

from positronic.errors import PositronicError, listing
from positronic.policies import library
from positronic.policies.weights import CONFIG_FILE, WEIGHTS_FILE, Unfilled, weight_files

BACKBONE = "backbone"  # the folder beside the weights with tokenizer, processor and, if it is no Cosmos, config
COSMOS = "nvidia/Cosmos-Reason2-2B"  # whose config lerobot has built in
HEAD = "backbone.model.lm_head.weight"
LAYER = re.compile(r"^backbone\..*language_model\.layers\.(\d+)\.")
SHOWN = 3  # names of tensors in a message
PUBLISHED, SIZE = "nvidia/GR00T-N1.7-3B", "3 billion"


def read_config(folder: Path) -> dict[str, Any]:
    """GR00T's own config in ``folder``, with lerobot's defaults for what it does not say.

    Raises PositronicError when the folder holds no GR00T N1.7.
    """
    library.enter_policies()
    from lerobot.policies.groot.configuration_groot import is_raw_groot_n1_7_checkpoint
    from lerobot.policies.groot.groot_n1_7 import GR00T_N1_7_DEFAULTS

    path = folder / CONFIG_FILE
    if not is_raw_groot_n1_7_checkpoint(folder):
        raise PositronicError(
            f"vendor.base={folder}: expected the folder of a GR00T N1.7, as upstream or Positronic wrote it; found "
            f"{'another ' if path.exists() else 'no '}{CONFIG_FILE}. Type vendor.base={PUBLISHED}, or the folder "
            "where that was fetched to."
        )
    return GR00T_N1_7_DEFAULTS | json.loads(path.read_text())


def build(config: Mapping[str, Any], folder: Path, filled: bool = True) -> nn.Module:
    """The network that ``config`` describes, in fp32. ``folder``: of its backbone's config. ``filled``: with random
    weights, otherwise with whatever is in memory, for weights that are loaded next."""
    from lerobot.policies.groot.groot_n1_7 import GR00TN17, GR00TN17Config

    described = GR00TN17Config(**config)
    logger, is_known = logging.getLogger(GR00TN17.__module__), described.model_name == COSMOS
    if not is_known:
        _require_backbone(folder / BACKBONE)
        described.model_name = str(folder / BACKBONE)
    level = logger.level
    try:
        logger.setLevel(level if is_known else logging.ERROR)  # it would warn that it does not know this folder
        with nullcontext() if filled else Unfilled():
            network = GR00TN17(described, load_backbone_weights=False).float()
    finally:
        logger.setLevel(level)
    # It has the embedding's weights, and computes logits of every token that nobody reads.
    network.backbone.model.lm_head = nn.Identity()
    return network


def vision_of(network: nn.Module) -> Any:
    """The config of the backbone's part that sees pictures."""
    return network.backbone.model.config.vision_config


def _require_backbone(folder: Path) -> None:
    """Raise PositronicError when the backbone's config in ``folder``, which says its sizes, cannot be read."""
    from transformers import AutoConfig

    path = folder / CONFIG_FILE
    try:
        AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0] if path.exists() else "there is no such file"
        raise PositronicError(
            f"{path} cannot be read ({reason}). Expected the config of GR00T's backbone: fetch the folder {BACKBONE} "
            "of these weights again."
        ) from None


def save(policy: Any, folder: Path) -> None:
    """All tensors into the existing ``folder``, under upstream's names."""
    tensors = {name: tensor.contiguous() for name, tensor in policy._groot_model.state_dict().items()}
    save_file(tensors, str(folder / WEIGHTS_FILE), metadata={"format": "pt"})


def load(policy: Any, folder: Path) -> None:
    """Take every tensor from ``folder``. Raises PositronicError for a damaged file, and for other tensors."""
    network = policy._groot_model
    wanted, found = network.state_dict(), set()
    try:
        for name, tensor in _tensors(folder):
            if _is_left_out(name, network.config.select_layer):
                continue
            if name not in wanted or wanted[name].shape != tensor.shape:
                raise _another(folder, name, wanted.get(name), tensor)
            wanted[name].copy_(tensor)
            found.add(name)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise PositronicError(f"The weights in {folder} cannot be loaded ({error}). Fetch them again.") from None
    missing = sorted(set(wanted) - found)
    if missing:
        raise PositronicError(
            f"The weights in {folder} lack {len(missing)} of {len(wanted)} tensors ({listing(missing, SHOWN)}). They "
            "are not whole, or of another network than its config.json says. Fetch them again."
        )


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for path in weight_files(folder):
        with safetensors.safe_open(str(path), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  it is no dict
                yield name, file.get_tensor(name)


def _is_left_out(name: str, layers: int) -> bool:
    """The backbone's head, and its layers above those that GR00T reads, if somebody saved them."""
    layer = LAYER.match(name)
    return name == HEAD or (layer is not None and int(layer[1]) >= layers)


def _another(folder: Path, name: str, wanted: Tensor | None, found: Tensor) -> PositronicError:
    expected = "no such tensor" if wanted is None else f"{tuple(wanted.shape)}"
    return PositronicError(
        f"The weights in {folder} are of another network than its {CONFIG_FILE} says: '{name}': expected {expected}, "
        f"found {tuple(found.shape)}. Fetch them again."
    )


def policy_around(config: Any, network: nn.Module) -> Any:
    """lerobot's policy with this network: its loss, and its inputs out of a batch."""
    from lerobot.policies.groot.modeling_groot import GrootPolicy

    class Policy(GrootPolicy):
        def _create_groot_model(self) -> nn.Module:
            return network

    return Policy(config)


def noise_shape(policy: Any) -> tuple[int, int]:
    """Of what a chunk starts from: all steps and numbers that the network predicts, used or not."""
    config = policy._groot_model.config
    return config.action_horizon, config.max_action_dim


def act(policy: Any, inputs: dict[str, Tensor], noise: Tensor) -> Tensor:
    """Chunks (B, H, A) of the network's full size, normalised, from ``noise`` of that shape.

    GR00T draws its noise itself. Its door for real-time chunking takes the end of the chunk before as a start; opened
    for the whole chunk, it takes any.
    """
    steps = noise.shape[1]
    options = {"action_horizon": steps, "rtc_overlap_steps": steps, "rtc_frozen_steps": 0, "rtc_ramp_rate": 1e9}
    return policy._groot_model.get_action(inputs | {"action": noise}, options)["action_pred"]
