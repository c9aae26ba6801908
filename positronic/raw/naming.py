"""Which recorded signal stands behind an offered name, and which of them the reader flips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from positronic import keys
from positronic.errors import PositronicError

GRIPPER_SIGNALS = (keys.GRIP, keys.TARGET_GRIP)


@dataclass(frozen=True)
class Naming:
    """``aliases``: name to offer -> recorded name. ``inverted_gripper``: the recording says 1 when open."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    inverted_gripper: bool = False

    def offered(self, recorded: Iterable[str]) -> dict[str, str]:
        """Offered name -> recorded name, sorted. Aliases win over recorded names, and recorded names over newer
        spellings."""
        recorded = set(recorded)
        sources = self.sources(recorded)
        # An older and a newer spelling may both be there: then the published one keeps its own recording.
        offered = {current_name(name): name for name in recorded if current_name(name) not in recorded}
        offered |= {name: name for name in recorded - set(offered.values())}
        offered |= {name: sources[source] for name, source in self.aliases.items() if source in sources}
        return dict(sorted(offered.items()))

    def sources(self, recorded: Iterable[str]) -> dict[str, str]:
        """What an alias may take -> recorded name: every recorded name, and the published spelling of newer ones."""
        recorded = set(recorded)
        renamed = {current_name(name): name for name in recorded if current_name(name) not in recorded}
        return renamed | {name: name for name in recorded}

    def is_inverted(self, offered: str, recorded: str) -> bool:
        """Whether 1 - x is to be read."""
        return self.inverted_gripper and any(keys.split_arm(name)[0] in GRIPPER_SIGNALS for name in (offered, recorded))


def current_name(name: str) -> str:
    """The published name of a signal recorded or asked for under a newer one."""
    for newer, published in keys.SIGNAL_PREFIX_ALIASES.items():
        if name.startswith(newer):
            return published + name.removeprefix(newer)
    return name


def naming(aliases: Mapping[str, str], gripper_open: float) -> Naming:
    """Raises PositronicError unless ``gripper_open`` is 0 or 1."""
    if gripper_open not in (0.0, 1.0):
        raise PositronicError(
            f"dataset.gripper_open={gripper_open}: expected 0.0 (recorded 0 = open) or 1.0 (recorded 1 = open)."
        )
    return Naming(dict(aliases), gripper_open == 1.0)
