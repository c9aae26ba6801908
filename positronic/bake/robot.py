"""Which robot a recording is of, and whether a codec is for that robot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from positronic import keys
from positronic.codecs.codec import Codec
from positronic.embodiments.embodiment import Arm, Embodiment, differing_rows
from positronic.embodiments.published import FRANKA, RECORDED, with_joints
from positronic.errors import listing
from positronic.raw.dataset import Dataset
from positronic.raw.episode import Episode
from positronic.raw.faults import BadEpisode
from positronic.raw.kinds import JOINTS, kind_of


def recorded_embodiment(dataset: Dataset) -> Embodiment:
    """The robot of the dataset, as its first episode says.

    Older recordings say nothing, or only the names of their joints: they are taken for the robot that there was then,
    with joints of these names. Raises BadEpisode when what it says is no embodiment.
    """
    if not len(dataset):
        return FRANKA
    first = dataset[0]
    return first.embodiment or with_joints(first.joint_names)


def recorded_cameras(signals: Iterable[str]) -> list[str]:
    """Names of the cameras among these signals."""
    return sorted(name.removeprefix(keys.IMAGE_PREFIX) for name in signals if name.startswith(keys.IMAGE_PREFIX))


def with_cameras(embodiment: Embodiment, recorded: Sequence[str]) -> str:
    """What to type so that a codec takes these cameras, in recordings that do not say which robot they are of."""
    unknown = [camera for camera in recorded if camera not in embodiment.cameras]
    images = f"codec.images=[{','.join(recorded)}]"
    if not unknown:
        return images
    known = embodiment if embodiment.name != RECORDED else None
    # A role that no other camera has, and whose column is no vendor's slot: those are called left and side.
    roles = ", ".join(f"{camera}: {camera}_view" for camera in unknown)
    return f"embodiment={known.name if known else '<robot>'} 'embodiment.cameras={{{roles}}}' {images}"


def cameras_left_out(dataset: Dataset, codec: Codec) -> str | None:
    """A sentence on cameras that were recorded and that the robot does not have, as far as it is known; None without
    any. Recordings that say which robot they are of have none."""
    if not len(dataset) or says_robot(dataset):
        return None
    recorded = recorded_cameras(dataset[0].signals)
    unknown = [camera for camera in recorded if camera not in codec.embodiment.cameras]
    if not unknown or not set(codec.cameras) <= set(recorded):  # what is missing is refused with the same advice
        return None
    return (
        f"Left out: {listing(unknown)}, as embodiment={codec.embodiment.name} has the cameras "
        f"{listing(codec.embodiment.cameras)}. To take all: {with_cameras(codec.embodiment, recorded)}."
    )


def says_robot(dataset: Dataset) -> bool:
    """Whether the first episode states which robot it is of."""
    return len(dataset) > 0 and dataset[0].embodiment is not None


def require_robot(episode: Episode, codec: Codec, told: bool = True) -> None:
    """Raise BadEpisode, both sides printed, when the episode says that it is of another robot than the codec's, or
    lists joints of other names or in another order.

    ``told``: somebody said which robot the recordings are of. Otherwise the first episode did, and one that says
    nothing is of the robot that there was before recordings said it.
    """
    stated, robot = episode.embodiment, codec.embodiment
    # Which cameras there were then is not known: they are looked for by name.
    found = stated or (None if told else with_joints(episode.joint_names))
    if found is not None:
        cameras = codec.cameras if stated else []
        rows = differing_rows(robot.contract(cameras, **codec.uses), found.contract(cameras, **codec.uses))
        if rows:
            said = "; ".join(
                f"{row}: it has {theirs}, embodiment={robot.name} has {mine}" for row, mine, theirs in rows
            )
            whose = "of another robot" if stated else "of another robot, as it does not say which"
            raise BadEpisode(episode.path, f"it is {whose} ({found.name}): {said}.")
    # A codec without joints takes episodes whatever the order of theirs.
    if not robot.has_several_arms and any(kind_of(name) is JOINTS for name in codec.vector_signals):
        _require_joints(episode, robot.arms[0])


def _require_joints(episode: Episode, arm: Arm) -> None:
    names = episode.joint_names
    if names is not None and names != arm.joints:
        raise BadEpisode(
            episode.path, f"its joints are {', '.join(names)}; expected {', '.join(arm.joints)}, in this order."
        )
