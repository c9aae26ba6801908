"""Which robot a recording is of, and whether a codec is for that robot."""

from __future__ import annotations

from positronic.codecs.codec import Codec
from positronic.embodiments.embodiment import Arm, Embodiment, differing_rows
from positronic.embodiments.published import FRANKA, with_joints
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


def require_robot(episode: Episode, codec: Codec) -> None:
    """Raise BadEpisode, both sides printed, when the episode says that it is of another robot than the codec's, or
    lists joints of other names or in another order."""
    stated, robot = episode.embodiment, codec.embodiment
    if stated is not None:
        rows = differing_rows(codec.robot, stated.contract(codec.cameras, **codec.uses))
        if rows:
            found = "; ".join(
                f"{row}: it has {theirs}, embodiment={robot.name} has {mine}" for row, mine, theirs in rows
            )
            raise BadEpisode(episode.path, f"it is of another robot ({stated.name}): {found}.")
    # A codec without joints takes episodes whatever the order of theirs.
    if stated is None and any(kind_of(name) is JOINTS for name in codec.vector_signals):
        _require_joints(episode, robot.arms[0])


def _require_joints(episode: Episode, arm: Arm) -> None:
    names = episode.joint_names
    if names is not None and names != arm.joints:
        raise BadEpisode(
            episode.path, f"its joints are {', '.join(names)}; expected {', '.join(arm.joints)}, in this order."
        )
