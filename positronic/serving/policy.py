"""A policy as it is served: raw observations in, action steps out. The checkpoint says which codec."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from positronic import conventions, keys
from positronic.codecs.build import Recipe, build
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.commands import ActionStep
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError
from positronic.serving.failures import Failure, attempt
from positronic.serving.meta import session_meta
from positronic.serving.offer import find_offered
from positronic.training.checkpoints import Checkpoint, trained_recipe
from positronic.utils.locks import Held
from positronic.vendors import registry
from positronic.vendors.model import ChunkModel

if TYPE_CHECKING:
    from positronic.storage.place import Place

LoadModel = Callable[[str, Path, str, str], ChunkModel]
"""vendor, checkpoint folder, device, backend -> model"""

Noise = Sequence[NDArray[np.float32]] | None
"""What each observation's chunk starts from, of the model's ``noise_shape``; None where it starts from none."""

MAX_SEEDS = 4
MAX_TASK_CHARS = 4096  # a tokenizer takes time by the length, and everybody waits for it


@dataclass
class BatchLimit:
    """How many observations one forward pass can take, as far as is known: fewer once memory has run out."""

    most: int = sys.maxsize


@dataclass(frozen=True)
class ServedPolicy:
    """A recipe and a model. Holds no state between observations: many robots share it, in any order. ``held``: keeps
    the checkpoint's files while this is in memory."""

    recipe: Recipe
    model: ChunkModel
    meta: Mapping[str, Any]
    held: Held | None = None
    batch_limit: BatchLimit = field(default_factory=BatchLimit)

    def infer(self, observations: Sequence[Mapping[str, Any]]) -> list[list[ActionStep]]:
        """A chunk for each observation (raw keys; arrays, numbers or lists), from one forward pass.

        Raises PositronicError at the first observation that lacks a key or holds a wrong shape, dtype or value.
        """
        encoded = [self.encode(observation) for observation in observations]
        own = [noise_generator(observation) for observation in observations]
        chunks = self._chunks(encoded, self._noise([each or np.random.default_rng() for each in own]))
        return [self.recipe.codec.decode(chunk) for chunk in chunks]

    def chunks_each(
        self, encoded: Sequence[dict[str, Any]], generators: Sequence[np.random.Generator]
    ) -> list[NDArray[np.float32] | Failure]:
        """The model's chunk, (H, A), for each observation that ``encode`` made. If the model fails for one, only that
        one has none.

        ``generators``: one for each observation, of the random numbers that its chunk starts from. So a robot's chunk
        depends neither on the others in its batch nor on its place there.
        """
        return self._forward(encoded, self._noise(generators))

    def encode(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """One raw observation to the model's columns and the task.

        Raises PositronicError, naming the key, if one is missing or holds an impossible value.
        """
        if not isinstance(observation, Mapping):
            raise PositronicError(f"Expected an observation as a map, found {type(observation).__name__}.")
        task = require_task(keys.TASK, observation.get(keys.TASK, ""))
        named = _text_keys(observation)
        return self.recipe.modality.observation(self.recipe.codec.encode(named, plausible=True), task)

    def _noise(self, generators: Sequence[np.random.Generator]) -> Noise:
        shape = self.model.noise_shape
        return None if shape is None else [each.standard_normal(shape, np.float32) for each in generators]

    def _forward(self, encoded: Sequence[dict[str, Any]], noise: Noise) -> list[NDArray[np.float32] | Failure]:
        """A chunk or a failure for each observation.

        A batch that fails is tried again in halves, so that no robot suffers from another's observation: one bad
        observation of 16 costs nine forward passes. A batch that is too large for the memory becomes small in this way.
        """
        if not encoded:
            return []
        alone = len(encoded) == 1
        chunks = attempt(partial(self._chunks, noise=noise), encoded, log=alone)
        if not isinstance(chunks, Failure):
            return chunks
        if alone:
            return [chunks]
        half = len(encoded) // 2
        if chunks.out_of_memory:  # it would run out again
            self.batch_limit.most = min(self.batch_limit.most, half)
        first, second = (None, None) if noise is None else (noise[:half], noise[half:])
        return self._forward(encoded[:half], first) + self._forward(encoded[half:], second)

    def _chunks(self, encoded: Sequence[dict[str, Any]], noise: Noise) -> list[NDArray[np.float32]]:
        chunks = self.model.predict(encoded, noise)
        count = len(chunks) if isinstance(chunks, Sized) else f"no list of chunks ({type(chunks).__name__})"
        if count != len(encoded):
            raise PositronicError(f"The model: expected {len(encoded)} chunks of actions, found {count}.")
        return list(chunks)


@dataclass(frozen=True)
class Typed:
    """What somebody typed about the policy; None where the checkpoint decides. The two must agree."""

    vendor: str | None = None
    codec: CodecConfig | None = None
    modality: ModalityConfig | None = None
    embodiment: Embodiment | None = None

    def check(self, checkpoint: Checkpoint, vendor: str, recipe: Recipe) -> None:
        """Raise ConventionError, both sides printed, if the checkpoint's vendor or codec is another one.

        Codecs agree if the conventions of their features do. Their columns are compared too if the vendor was typed.
        """
        mine, theirs = {}, {}
        if self.vendor is not None:
            mine, theirs = {"vendor": self.vendor}, {"vendor": vendor}
        if self.embodiment is not None:
            robot = recipe.codec
            mine |= self.embodiment.contract(robot.cameras, **robot.uses)
            theirs |= robot.robot
        if self.codec is not None and self.modality is not None:
            mine |= self._said_by(_like(recipe, self.codec, self.modality))
            theirs |= self._said_by(recipe)
        name = f"codec={self.codec.name}" if self.codec else "the command line"
        whose = f"checkpoint {checkpoint.id} (vendor {vendor}, codec {recipe.codec.name})"
        hint = "Leave vendor= and codec= out: the checkpoint says what it was trained with."
        conventions.require_equal(name, mine, whose, theirs, hint)

    def _said_by(self, recipe: Recipe) -> dict[str, str]:
        if self.vendor is not None:
            return recipe.contract
        return {name: str(convention) for name, convention in recipe.codec.conventions.items()}


def _like(recipe: Recipe, codec: CodecConfig, modality: ModalityConfig) -> Recipe:
    """What was typed, for the robot and with the cameras of ``recipe`` where nothing else was said."""
    images = recipe.codec_config.images if codec.images is None else codec.images
    return build(replace(codec, images=images), modality, embodiment=recipe.embodiment)


def require_task(key: str, task: Any) -> str:
    """The instruction, unchanged. Raises PositronicError for what is no text, or too long a one."""
    if not isinstance(task, str):
        raise PositronicError(f"Observation '{key}': expected text, found {type(task).__name__}.")
    if len(task) > MAX_TASK_CHARS:
        found = f"found {len(task)} characters"
        raise PositronicError(f"Observation '{key}': expected at most {MAX_TASK_CHARS} characters, {found}.")
    return task


def noise_generator(observation: Mapping[str, Any]) -> np.random.Generator | None:
    """Of the random numbers that the chunk for this observation starts from, if the observation says their seed. Then
    the chunk depends on the observation alone.

    Raises PositronicError when the seed is no whole number, 0 or more, or a few of them.
    """
    seed = observation.get(keys.NOISE_SEED)
    if seed is None:
        return None
    numbers = seed if isinstance(seed, list) else [seed]
    if not 0 < len(numbers) <= MAX_SEEDS or not all(type(each) is int and each >= 0 for each in numbers):
        raise PositronicError(
            f"Observation '{keys.NOISE_SEED}': expected a whole number, 0 or more, or up to {MAX_SEEDS} of them in a "
            f"list; found {str(seed)[:100]}."
        )
    return np.random.default_rng(numbers)


def load_policy(
    checkpoints_dir: str | Path | Place,
    checkpoint_id: str | None = None,
    device: str = "auto",
    *,
    typed: Typed | None = None,
    load: LoadModel | None = None,
) -> ServedPolicy:
    """The policy of a checkpoint (None: the latest) of the experiment in ``checkpoints_dir``, or of one of the
    experiments there, on a torch device.

    ``load``: what builds the model, by default the vendors' registry. Raises PositronicError when there is no such
    checkpoint or it is damaged, ConventionError when it disagrees with what was typed.
    """
    checkpoint = find_offered(checkpoints_dir, checkpoint_id)
    held = checkpoint.hold()
    recipe, vendor, backend = read_checkpoint(checkpoint, typed)
    checkpoint.require_intact(with_state=False)
    model = (load or registry.load_intact)(vendor, checkpoint.path, device, backend)
    return ServedPolicy(recipe, model, session_meta(recipe, checkpoint, vendor), held)


def read_checkpoint(checkpoint: Checkpoint, typed: Typed | None = None) -> tuple[Recipe, str, str]:
    """The recipe, vendor and backend that a checkpoint was trained with.

    Raises PositronicError when it does not say them, ConventionError when it disagrees with what was typed.
    """
    info, path = checkpoint.info(), f"{checkpoint.place}/{keys.CHECKPOINT_FILE}"
    try:
        recipe, vendor = trained_recipe(info), str(info["vendor"])
        backend = str(info["training"]["backend"])
    except (AttributeError, KeyError, TypeError) as error:
        raise PositronicError(f"{path} is damaged: no {error} where expected. Use another checkpoint.") from None
    except PositronicError as error:  # damaged, or of a newer version
        raise PositronicError(f"{path}: {error}") from None
    (typed or Typed()).check(checkpoint, vendor, recipe)
    return recipe, vendor, backend


def _text_keys(observation: Mapping[Any, Any]) -> Mapping[str, Any]:
    """The observation without keys that are no text. One from the wire has none, and copying it would decode it all."""
    if all(isinstance(key, str) for key in observation):
        return observation
    return {key: value for key, value in observation.items() if isinstance(key, str)}
