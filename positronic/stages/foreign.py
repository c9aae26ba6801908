"""stage=train of a LeRobot dataset as it is: a mapping that somebody agrees to declares what its columns are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from positronic import keys
from positronic.errors import PositronicError

if TYPE_CHECKING:
    from rich.console import Console

    from positronic.bake.foreign import Opened
    from positronic.codecs.build import Recipe
    from positronic.embodiments.embodiment import Embodiment
    from positronic.importing.agreement import Asked
    from positronic.importing.lerobot import LerobotSource
    from positronic.importing.recording import Plan
    from positronic.stages.train import Train

MAPPING_FILE = "dataset_mapping.yaml"  # in the experiment's folder
RATE = "modality.action_fps"
NOT_THESE = ("episodes", "outcome", "tasks", "max_episodes")


@dataclass(frozen=True)
class Declared:
    """A dataset with its mapping, and the recipe that it is trained with."""

    source: LerobotSource
    plan: Plan
    recipe: Recipe

    def open(self, vendor: str, console: Console) -> Opened:
        """Read its rows; what looks wrong with them is shown."""
        from positronic.bake.foreign import open_foreign
        from positronic.importing.progress import counting

        with counting(console, len(self.source.episodes())) as advance:
            opened = open_foreign(self.source, self.plan, self.recipe, vendor, advance)
        for line in opened.findings:
            console.print(f"Look at it: {line}", highlight=False, markup=False, soft_wrap=True)
        return opened

    @property
    def texts(self) -> dict[str, str]:
        """What the experiment keeps of it: the mapping."""
        from positronic.importing.mapping import to_yaml

        return {MAPPING_FILE: to_yaml(self.plan.mapping)}


def is_foreign(config: Train) -> bool:
    """Whether the run is of a dataset that was not baked."""
    return config.dataset.layout == keys.LAYOUT_LEROBOT


@contextmanager
def declared(config: Train, place: str, console: Console) -> Iterator[Declared]:
    """The dataset that ``config`` names, its mapping shown and agreed to. ``place``: of the experiment.

    Raises PositronicError when nobody has agreed, when the mapping cannot be used, and for a codec that needs more than
    it has.
    """
    from positronic.bake.foreign import require_signals
    from positronic.embodiments.embodiment import typed_embodiment
    from positronic.importing.agreement import agreed_mapping, known_robot
    from positronic.importing.check import require_sound
    from positronic.importing.lerobot import LerobotSource
    from positronic.importing.recording import Plan
    from positronic.storage.folder import local_input

    _require_no_raw_choice(config)
    with local_input(config.dataset.path, config.storage, keys.INFO_FILE) as root:
        source = LerobotSource(root)
        robot = known_robot(typed_embodiment(config.embodiment), source)
        if not source.episodes():
            raise PositronicError(f"dataset.path={config.dataset.path}: it holds no episode.")
        mapping, where = agreed_mapping(_asked(config, place, len(source.episodes())), source, robot, console)
        require_sound(mapping, source.fields(), robot, where)
        plan = Plan(mapping, robot, source.fields())
        recipe = _recipe(config, source, plan, robot)
        require_signals(recipe, plan)
        yield Declared(source, plan, recipe)


def _asked(config: Train, place: str, count: int) -> Asked:
    from positronic.importing.agreement import Asked
    from positronic.storage.folder import folder

    dataset, saved = config.dataset, folder(place, config.storage).read_bytes(MAPPING_FILE)
    return Asked(
        source=keys.LAYOUT_LEROBOT,
        mapping=dataset.mapping,
        saved=None if saved is None else (f"{place}/{MAPPING_FILE}", saved),
        agree=dataset.agree,
        draft=f"{dataset.name}_mapping",
        question=f"Train on {count} {'episode' if count == 1 else 'episodes'} of {dataset.path}?",
        done="trained",
        mapping_key="dataset.mapping",
        agree_key="dataset.agree",
    )


def _recipe(config: Train, source: LerobotSource, plan: Plan, robot: Embodiment) -> Recipe:
    """Of the codec at the dataset's own rate, with the cameras that are mapped unless some are named."""
    from positronic.codecs.build import build
    from positronic.utils.command_line import was_typed

    fps, typed = source.info.fps, config.modality.action_fps
    if fps != int(fps):
        raise PositronicError(f"{source.info.path}: {fps:g} frames a second; a policy is trained at a whole number.")
    if was_typed(RATE) and typed != fps:
        raise PositronicError(
            f"{RATE}={typed}, and {source.info.path} says fps {fps:g}: rows are trained on as they are. Leave {RATE} "
            "out; to train at another rate, import the dataset (stage=import) and convert it with fps=."
        )
    mapped = [camera for camera in robot.cameras if keys.IMAGE_PREFIX + camera in plan.mapping.signals]
    codec = config.codec if config.codec.images is not None else replace(config.codec, images=mapped)
    return build(codec, replace(config.modality, action_fps=int(fps)), embodiment=robot)


def _require_no_raw_choice(config: Train) -> None:
    said = [name for name in NOT_THESE if getattr(config.dataset, name) is not None]
    if said:
        own = "episodes=, tasks= or max_episodes="
        raise PositronicError(f"dataset.{said[0]} chooses raw recordings. Of a LeRobot dataset choose with {own}.")
