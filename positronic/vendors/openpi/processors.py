"""What π0.5 does before and after its network, in the order of openpi's transforms.

    labels relative to the state -> quantiles to -1..1 -> state into the prompt -> tokens -> network
    network -> -1..1 to quantiles -> relative to the state no more

The steps are LeRobot's, so that it can read them from a checkpoint. Its own function for them fetches the tokenizer by
name, and its reader does not tie the last step to the first, which remembers the state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from positronic.codecs.build import Recipe
from positronic.policies import library
from positronic.vendors.openpi.norm_stats import delta_mask
from positronic.vendors.openpi.tokens import FOLDER, load_tokenizer

ABSOLUTE = "(absolute)"  # ends the name of a number that is not relative; LeRobot looks for it in the names
TOKENIZER_STEP = "tokenizer_processor"


def action_names(recipe: Recipe) -> list[str]:
    """The numbers of an action, by names that say which are not relative to the state."""
    names = [name for feature in recipe.codec.action for name in feature.part.element_names]
    relative = delta_mask(recipe)
    return [name if relative[k] else f"{name} {ABSOLUTE}" for k, name in enumerate(names)]


def make_processors(config: Any, stats: dict[str, Any], tokenizer: Any) -> tuple[Any, Any]:
    """New pre- and post-processor, normalising by ``stats`` (column -> q01, q99, ...; labels are relative)."""
    library.config_class(config.type)
    from lerobot.policies.pi05.processor_pi05 import Pi05PrepareStateTokenizerProcessorStep
    from lerobot.processor import (
        AbsoluteActionsProcessorStep,
        RelativeActionsProcessorStep,
        TokenizerProcessorStep,
        make_default_policy_processor_steps,
        make_policy_processor_pipelines,
    )

    usual = make_default_policy_processor_steps(config, stats)
    relative = RelativeActionsProcessorStep(
        enabled=config.use_relative_actions,
        exclude_joints=config.relative_exclude_joints,
        action_names=config.action_feature_names,
    )
    prompt = Pi05PrepareStateTokenizerProcessorStep(max_state_dim=config.max_state_dim)
    tokens = TokenizerProcessorStep(
        tokenizer=tokenizer, max_length=config.tokenizer_max_length, padding_side="right", padding="max_length"
    )
    absolute = AbsoluteActionsProcessorStep(enabled=config.use_relative_actions, relative_step=relative)
    before = [
        usual.rename_observations,
        usual.add_batch_dim,
        relative,
        usual.normalize,
        prompt,
        tokens,
        usual.to_device,
    ]
    return make_policy_processor_pipelines(input_steps=before, output_steps=[usual.unnormalize, absolute, usual.to_cpu])


def load_processors(folder: Path, device: str) -> tuple[Any, Any]:
    """The pre- and post-processor in a checkpoint's ``folder``, tied to each other. The tokenizer lies beside them."""
    library.enter_policies()
    import lerobot.policies.pi05.processor_pi05  # noqa: F401 registers its step

    tokenizer = load_tokenizer(folder / FOLDER)
    before, after = library.load_processors(folder, device, {TOKENIZER_STEP: {"tokenizer": tokenizer}})
    remembers = next(step for step in before.steps if hasattr(step, "get_cached_state"))
    for step in after.steps:
        if hasattr(step, "relative_step"):
            step.relative_step = remembers
    return before, after
