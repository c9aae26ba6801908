"""π0.5's loss without the steps past an episode's end. openpi counts them, as repetitions of the last action.

The network still sees them among the noisy actions, as it sees all steps of a chunk when it predicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from positronic import keys
from positronic.training.batches import PAD_SUFFIX

PADDING = keys.LEROBOT_ACTION + PAD_SUFFIX


def masked_loss(policy: Any, batch: Mapping[str, Any]) -> Tensor:
    """A preprocessed batch -> the mean over real steps of the squared error of velocity, a scalar.

    It draws the same random numbers as the policy's own loss, and equals it where nothing is padded.
    """
    images, image_masks = policy._preprocess_images(batch)
    actions, network = policy.prepare_action(batch), policy.model
    noise = network.sample_noise(actions.shape, actions.device)
    time = network.sample_time(len(actions), actions.device)
    prompt = batch[keys.LEROBOT_TOKENS], batch[keys.LEROBOT_TOKEN_MASK]
    errors = network.forward(images, image_masks, *prompt, actions, noise, time)
    real = ~batch[PADDING]
    size = policy.config.output_features[keys.LEROBOT_ACTION].shape[0]
    return errors[real][:, :size].mean()
