"""The first forward passes of a model, before anybody waits for them: they take far longer than the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.serving.failures import Failure
from positronic.serving.policy import ServedPolicy

logger = logging.getLogger(__name__)


def warm_up(policy: ServedPolicy, most: int) -> None:
    """Predict for a dummy observation, alone and in batches up to ``most`` in powers of two.

    Memory that runs out lowers the policy's batch limit. A pass that fails otherwise is left to the log: a real
    observation may go through.
    """
    begin = time.monotonic()
    encoded = policy.encode(dummy_observation(policy.recipe))
    for size in _sizes(most):
        generators = [np.random.default_rng(0) for _ in range(size)]
        failed = [each for each in policy.chunks_each([encoded] * size, generators) if isinstance(each, Failure)]
        if failed:
            logger.warning("The policy could not be warmed up with %d observations: %s", size, failed[0].reason)
        if failed or policy.batch_limit.most < size:
            return
    logger.info("The policy is warmed up (%.1f s)", time.monotonic() - begin)


def first_pass(policy: ServedPolicy) -> NDArray[np.float32] | Failure:
    """The chunk for a dummy observation, or why there is none."""
    (chunk,) = policy.chunks_each([policy.encode(dummy_observation(policy.recipe))], [np.random.default_rng(0)])
    return chunk


def dummy_observation(recipe: Recipe) -> dict[str, Any]:
    """An observation that the recipe takes, raw keys: a robot at rest, and black pictures."""
    codec = recipe.codec
    states = {feature.signal: feature.part.at_rest() for feature in codec.state}
    pictures = {image.signal: np.zeros(image.shape, np.uint8) for image in codec.images}
    return states | pictures | {keys.TASK: ""}


def _sizes(most: int) -> Iterator[int]:
    size = 1
    while size < most:
        yield size
        size *= 2
    yield most
