"""Before a run: is there a dataset, and was it baked with what this run asks for?

Every field of codec and modality is one of three kinds, so that nothing that is typed is lost:

- what the numbers in the dataset depend on: the dataset has settled it, and another value is refused;
- how a policy is trained and played (OF_THE_RUN): the run's value takes effect, and its checkpoints say it;
- two that a dataset keeps for runs that do not mention them: the rate, which ``fps=`` settled in the bake, and
  ``switch_grip``, which is about the gripper that was recorded.

``action_chunk`` is of the first kind where statistics in the dataset were taken over it, and of the second elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from positronic.bake.manifest import Manifest, read_manifest
from positronic.codecs.build import Recipe, build
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.conventions import require_equal
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError
from positronic.storage import exists
from positronic.utils.command_line import was_typed

# In Recipe.contract: what each feature and column is.
CONTRACT = (
    "codec.state",
    "codec.images",
    "codec.rotation",
    "codec.action",
    "codec.label",
    "modality.image_size",
    "modality.columns",
    "modality.cameras",
)
OF_SOME_ROBOTS = ("modality.other_cameras", "modality.column_per_arm")  # in the contract of robots that they are about
COMPARED = ("modality.task_key",)  # beside it: a key in the vendor's own files
CHUNK = "modality.action_chunk"
RATE, SWITCH = "modality.action_fps", "codec.switch_grip"
OF_THE_RUN = (
    "codec.name",
    "codec.description",
    "codec.inference_only",
    "modality.action_horizon_sec",
    "modality.relative_actions",
    "modality.config_name",
    "modality.max_state_size",
    "modality.max_action_size",
)


def find_manifest(root: Path, convert: str) -> Manifest:
    """The manifest of the dataset at ``root``. Raises PositronicError, naming ``convert``, when there is none."""
    if not exists(root):
        raise PositronicError(f"input_path: there is no baked dataset at {root}. Make it with:\n  {convert}")
    return read_manifest(root)


def agreed_recipe(
    codec: CodecConfig,
    modality: ModalityConfig,
    manifest: Manifest,
    dataset: str,
    convert: str,
    typed: Callable[[str], bool] = was_typed,
    embodiment: Embodiment | None = None,
) -> Recipe:
    """What this run asks for, at the dataset's rate and with its reference rotations.

    ``typed``: whether a key was typed; a value that is the default as well says nothing by itself. ``embodiment``: the
    robot that was typed; None takes the dataset's. The cameras are the dataset's if the codec names none.

    Raises ConventionError, both sides printed, when codec and modality are not those that the dataset was baked with.
    """
    baked = manifest.load_recipe()
    codec = replace(codec, images=baked.codec_config.images) if codec.images is None else codec
    asked = build(codec, modality, embodiment=embodiment or baked.embodiment)
    hint = (
        f"Train with codec={baked.codec.name} and the same modality values, or bake this codec with:\n  {convert}\n"
        "(an existing dataset is not overwritten: remove it first, or choose another output_dir and input_path)."
    )
    compared = [*COMPARED, RATE] if _is_spoken(asked, RATE, typed) else COMPARED
    mine, theirs = (
        {
            **each.contract,
            **{name: _value(each, name) for name in compared},
            CHUNK: each.modality_config.chunk_of_statistics,
        }
        for each in (baked, asked)
    )
    require_equal(f"the dataset {dataset}", mine, "this run", theirs, hint)
    of_switch = asked if _is_spoken(asked, SWITCH, typed) else baked
    return build(
        replace(codec, switch_grip=_value(of_switch, SWITCH)),
        replace(modality, action_fps=_value(baked, RATE)),
        baked.reference_rotations,
        baked.embodiment,
    )


def _is_spoken(asked: Recipe, name: str, typed: Callable[[str], bool]) -> bool:
    """Whether somebody, or a preset, says this value, rather than leaving the default as it is."""
    return typed(name) or _value(asked, name) != _value_of(CodecConfig(), ModalityConfig(), name)


def _value(recipe: Recipe, name: str) -> Any:
    return _value_of(recipe.codec_config, recipe.modality_config, name)


def _value_of(codec: CodecConfig, modality: ModalityConfig, name: str) -> Any:
    group, _, field = name.partition(".")
    return getattr({"codec": codec, "modality": modality}[group], field)
