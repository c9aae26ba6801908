"""From config to a Recipe: the frozen pair of codec and modality that travels with every artefact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from positronic import conventions, keys
from positronic.codecs.codec import Codec, Timing
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.codecs.features import References, action_feature, image_feature, state_feature
from positronic.codecs.modality import Modality, build_modality
from positronic.codecs.parts import ARMS, GRIPPER, MEASURED, PARTS, Part
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.embodiments.published import FRANKA
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.geometry import ROTATION_DIMS
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.table import Table

LABELS = ("commanded", "measured")


@dataclass(frozen=True)
class Recipe:
    """A codec as a vendor uses it. ``codec_config`` and ``modality_config`` are what it was built from.

    ``reference_rotations``: by raw signal, found in a bake; none in a recipe that was not baked with yet. They are not
    part of the contract: a run that asks for a codec takes those of the dataset or checkpoint.
    """

    codec: Codec
    modality: Modality
    codec_config: CodecConfig
    modality_config: ModalityConfig
    reference_rotations: References = field(default_factory=dict)

    def __repr__(self) -> str:
        columns = ", ".join(column.name for column in self.modality.columns)
        return f"Recipe({self.codec!r}, columns {columns})"

    def __rich__(self) -> Table:
        """The contract: each column with its signals, shapes and conventions."""
        from positronic.codecs.table import contract_table

        return contract_table(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    @property
    def embodiment(self) -> Embodiment:
        return self.codec.embodiment

    @property
    def contract(self) -> dict[str, str]:
        """What two recipes must agree on: the robot, each canonical feature with its convention, each column with its
        sources."""
        features = {
            name: f"{feature.dtype}{list(feature.shape)} {feature.convention}"
            for name, feature in self.codec.features.items()
        }
        columns = {f"column {c.name}": " + ".join(source.name for source in c.sources) for c in self.modality.columns}
        return self.codec.robot | features | columns

    def require_same(self, other: Recipe, mine: str, theirs: str, hint: str) -> None:
        """Raise ConventionError, both sides printed, when features, conventions or columns differ."""
        conventions.require_equal(mine, self.contract, theirs, other.contract, hint)

    def at_fps(self, fps: int) -> Recipe:
        """The same recipe at another rate, Hz."""
        modality = replace(self.modality_config, action_fps=fps)
        return build(self.codec_config, modality, self.reference_rotations, self.embodiment)

    def with_reference_rotations(self, references: References) -> Recipe:
        """The same recipe with these reference rotations instead of its own."""
        return build(self.codec_config, self.modality_config, references, self.embodiment)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` gives an equal recipe. ``contract`` is included for people to read."""
        codec, modality = asdict(self.codec_config), asdict(self.modality_config)
        robot = self.embodiment.to_dict()
        fields = {"embodiment": robot, "codec": codec, "modality": modality, "contract": self.contract}
        references = {name: list(values) for name, values in self.reference_rotations.items()}
        return fields | ({"reference_rotations": references} if references else {})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], unstated: Embodiment | None = None) -> Recipe:
        """The inverse of ``to_dict``. ``unstated``: the robot of a recipe that does not say its own, as older ones.

        Raises PositronicError for a recipe that this version does not know, or cannot build.
        """
        references = fields.get("reference_rotations", {})  # older versions had none
        codec = _config(CodecConfig, "codec", fields.get("codec"))
        modality = _config(ModalityConfig, "modality", fields.get("modality"))
        robot = fields.get("embodiment")
        try:
            stated = Embodiment.from_dict(robot) if robot else _published(codec, unstated or FRANKA)
            return build(codec, modality, references, stated)
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise PositronicError(f"The recipe is damaged: nothing can be built of it ({error}).") from error


def build(
    codec_config: CodecConfig,
    modality_config: ModalityConfig,
    references: References | None = None,
    embodiment: Embodiment | None = None,
) -> Recipe:
    """Resolve the two configs for a robot, by default the one of recordings that do not say which they are of.

    Raises PositronicError for an unknown part, rotation, action, label, camera or column source, for a quantity that
    the robot does not have, and for more cameras or numbers than the vendor takes.
    """
    references = {name: tuple(values) for name, values in (references or {}).items()}
    robot = embodiment if embodiment is not None else _published(codec_config)
    cameras = list(robot.cameras) if codec_config.images is None else list(codec_config.images)
    codec_config = replace(codec_config, images=cameras)
    codec = build_codec(codec_config, modality_config, references, robot)
    modality = build_modality(codec, modality_config)
    return Recipe(codec, modality, codec_config, modality_config, references)


def build_codec(
    config: CodecConfig, modality: ModalityConfig, references: References, embodiment: Embodiment | None = None
) -> Codec:
    """The codec of ``build``, at the modality's image size, rate and horizon."""
    robot = embodiment if embodiment is not None else _published(config)
    _one_of("rotation", config.rotation, ROTATION_DIMS)
    _one_of("action", config.action, ARMS)
    _one_of("label", config.label, LABELS)
    for part in config.state:
        _one_of("state", part, MEASURED)
    cameras = list(robot.cameras) if config.images is None else config.images
    for camera in cameras:
        _require_camera(robot, camera)
    height, width = modality.image_size
    state = _parts(config, robot, config.state)
    action = _parts(config, robot, (config.action, GRIPPER))
    return Codec(
        name=config.name,
        embodiment=robot,
        state=tuple(state_feature(part, references) for part in state),
        images=tuple(image_feature(camera, height, width) for camera in cameras),
        action=tuple(action_feature(part, config.label, references) for part in action),
        timing=Timing(modality.action_fps, modality.action_horizon_sec),
        switch_grip=config.switch_grip,
        inference_only=config.inference_only,
    )


def _parts(config: CodecConfig, embodiment: Embodiment, names: Sequence[str]) -> list[Part]:
    """These quantities of each arm, arm after arm. A gripper is left out where there is none."""
    wanted = [(arm, PARTS[name]) for arm in embodiment.arms for name in names]
    for arm, kind in wanted:
        if not kind.is_of(arm) and not kind.is_gripper:
            raise _no_poses(config, embodiment, arm)
    return [kind.of(arm, config.rotation) for arm, kind in wanted if kind.is_of(arm)]


def _no_poses(config: CodecConfig, embodiment: Embodiment, arm: Arm) -> PositronicError:
    return PositronicError(
        f"codec={config.name} needs poses of the end effector, and embodiment={embodiment.name} says that its "
        f"recordings hold none ({arm.said}: ee_frame is null). Type codec=joints_cmd or codec=joints_traj; or, if poses"
        f" were recorded, embodiment.arms.{arm.name or keys.ONLY_ARM}.ee_frame=<frame>."
    )


def _require_camera(embodiment: Embodiment, camera: str) -> None:
    if camera not in embodiment.cameras:
        hint = did_you_mean(camera, embodiment.cameras)
        raise PositronicError(
            f"codec.images: embodiment={embodiment.name} has no camera '{camera}', only {listing(embodiment.cameras)}."
            f"{hint} If the robot has one, say in which role: embodiment={embodiment.name} "
            f"'embodiment.cameras={{{camera}: exterior_2}}'."
        )


def _published(codec: CodecConfig, robot: Embodiment = FRANKA) -> Embodiment:
    """The robot there was before there were others, with cameras of any name."""
    others = {camera: camera for camera in codec.images or [] if camera not in robot.cameras}
    return replace(robot, cameras={**robot.cameras, **others})


def _config[C: (CodecConfig, ModalityConfig)](kind: type[C], name: str, fields: Any) -> C:
    """What was written of a config, perhaps by another version. Fields that it did not write have their defaults."""
    if not isinstance(fields, Mapping):
        raise PositronicError(f"The recipe is damaged: '{name}' is {fields!r}, an object was expected.")
    unknown = [key for key in fields if key not in kind.__dataclass_fields__]
    if unknown:
        raise PositronicError(
            f"The recipe was written by a newer version: this one does not know {name}.{unknown[0]}. Update Positronic."
        )
    return kind(**fields)


def _one_of(field: str, value: str, options: Mapping[str, Any] | tuple[str, ...]) -> None:
    if value not in options:
        hint = did_you_mean(value, options)
        raise PositronicError(f"codec.{field}: expected one of {listing(options)}, found '{value}'.{hint}")
