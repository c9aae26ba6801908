"""What a server leaves to the robot: the tree ``local_stack`` in its meta.

Its leaves are named parts. Those that we do change no number: how a chunk is played, how large pictures may be, what is
written down. Servers in the field may leave more to the robot, up to the whole codec. A part that this client would
have to leave out is refused by name, because the robot would move wrongly without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from positronic import keys
from positronic.errors import PositronicError, clipped, listing

RATE, HORIZON, VALUES = "action_timestamp", "action_horizon", "metadata"
SAID = frozenset({keys.STACK_SCHEDULE, keys.STACK_IMAGE_SIZE, RATE, HORIZON, VALUES})
# Pictures may be sent as JPEG, or whole; the robot's own driver stops at a fault; the last one is for training.
OPTIONAL = frozenset({"encode_images", "stop_on_fault", "binarize_grip_training"})
MAX_PARTS = 1000


@dataclass(frozen=True)
class Playback:
    """How a chunk whose steps carry no times is played. ``fps`` and ``horizon_sec``: None where nothing says them."""

    fps: float | None = None
    horizon_sec: float | None = None

    def timed(self, steps: Sequence[Any], server: str) -> list[Any]:
        """The steps, each with its time; those at or beyond the horizon are left out. Steps with times stay as they
        are.

        Raises PositronicError for several steps without times if no rate is known: they would be played all at once.
        """
        if len(steps) < 2 or not all(isinstance(step, Mapping) and keys.TIMESTAMP not in step for step in steps):
            return list(steps)
        if self.fps is None:
            raise PositronicError(
                f"{server} sent {len(steps)} steps without '{keys.TIMESTAMP}', and its meta has no "
                f"'{keys.META_ACTION_FPS}': when to play them is not known. Let the server say its rate."
            )
        timed = [{**step, keys.TIMESTAMP: number / self.fps} for number, step in enumerate(steps)]
        return [step for step in timed if self.horizon_sec is None or step[keys.TIMESTAMP] < self.horizon_sec]


def understood(meta: Mapping[str, Any], server: str) -> dict[str, Any]:
    """A server's meta, and what its stack says: the rate, the horizon, the pictures' size, values to write down.

    Raises PositronicError if the stack holds a part that this client does not do.
    """
    parts = list(_leaves(meta.get(keys.META_LOCAL_STACK), server))
    strange = {name for name, _ in parts} - SAID - OPTIONAL
    if strange:
        raise PositronicError(
            f"{server} leaves to the robot what this client does not do ('{keys.META_LOCAL_STACK}'): "
            f"{listing(strange)}. Without it the robot would move wrongly. Use the client that belongs to this server, "
            "or serve the checkpoint with `python run.py stage=serve`."
        )
    beside, schedule = {}, {}
    for name, args in parts:
        if name == VALUES and isinstance(args.get(keys.STACK_VALUES), Mapping):
            beside |= args[keys.STACK_VALUES]
        if name == keys.STACK_IMAGE_SIZE and {keys.STACK_WIDTH, keys.STACK_HEIGHT} <= args.keys():
            beside[keys.META_IMAGE_SIZES] = [args[keys.STACK_WIDTH], args[keys.STACK_HEIGHT]]
        if name in (keys.STACK_SCHEDULE, RATE) and args.get(keys.STACK_FPS) is not None:
            schedule[keys.META_ACTION_FPS] = args[keys.STACK_FPS]
        if name in (keys.STACK_SCHEDULE, HORIZON) and args.get(keys.STACK_HORIZON_SEC) is not None:
            schedule[keys.META_ACTION_HORIZON_SEC] = args[keys.STACK_HORIZON_SEC]
    return {**beside, **meta, **schedule}


def playback(meta: Mapping[str, Any], server: str) -> Playback:
    """What an ``understood`` meta says. Raises PositronicError for a rate or a horizon that is none."""
    return Playback(*(_positive(meta, key, server) for key in (keys.META_ACTION_FPS, keys.META_ACTION_HORIZON_SEC)))


def _leaves(tree: Any, server: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The name and the arguments of every part. A meta without a stack has none."""
    waiting = [] if tree is None else [tree]
    for _ in range(MAX_PARTS):
        if not waiting:
            return
        node = waiting.pop(0)
        fields = node if isinstance(node, Mapping) else {}
        inner = fields.get(keys.STACK_SEQUENCE, fields.get(keys.STACK_PARALLEL))
        name, args = fields.get(keys.STACK_NAME), fields.get(keys.STACK_ARGS, {})
        if isinstance(inner, list):
            waiting = inner + waiting
        elif isinstance(name, str) and isinstance(args, Mapping):
            yield name, args
        else:
            raise PositronicError(
                f"{server}: '{keys.META_LOCAL_STACK}' is a tree of named parts, found {clipped(repr(node), 80)} in it."
            )
    raise PositronicError(f"{server}: '{keys.META_LOCAL_STACK}' has more than {MAX_PARTS} parts.")


def _positive(meta: Mapping[str, Any], key: str, server: str) -> float | None:
    value = meta.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise PositronicError(f"{server}: '{key}' in its meta: expected a positive number, found {value!r}.")
    return float(value)
