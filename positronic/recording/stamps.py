"""Whether the stamps of an episode's samples can be those of one robot's clock."""

from __future__ import annotations

from typing import Any

from positronic.errors import PositronicError
from positronic.raw.plausible import MAX_EPISODE_NS, MIN_SPACING_NS, UNIT_HINT
from positronic.raw.timeline import NS_PER_SEC
from positronic.raw.writer import whole_ns


class Stamps:
    """The last stamp of each signal, and the first of all."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self.first_ns: int | None = None
        self.last_ns: int | None = None

    def accept(self, name: str, time_ns: Any) -> int:
        """The stamp as int. Raises PositronicError when it is no whole number, is not 10 us after the signal's last
        one, or is of another clock than the first one of all."""
        stamp = whole_ns(name, time_ns)
        last = self._last.get(name)
        if last is not None and stamp - last < MIN_SPACING_NS:
            raise PositronicError(f"Signal '{name}': {_too_near(stamp, last)}")
        if self.first_ns is not None and abs(stamp - self.first_ns) > MAX_EPISODE_NS:
            days = (stamp - self.first_ns) / (24 * 3600 * NS_PER_SEC)
            raise PositronicError(
                f"Signal '{name}': {stamp} ns is {days:.3g} days away from the episode's first stamp, {self.first_ns} "
                "ns: clocks differ. Take one clock for everything, e.g. time.monotonic_ns()."
            )
        return stamp

    def note(self, name: str, time_ns: int) -> None:
        """The sample was recorded."""
        self._last[name] = time_ns
        self.first_ns = time_ns if self.first_ns is None else min(self.first_ns, time_ns)
        self.last_ns = time_ns if self.last_ns is None else max(self.last_ns, time_ns)


def _too_near(stamp: int, last: int) -> str:
    if stamp < last:
        return f"time goes back by {last - stamp} ns, from {last} to {stamp}. Samples are appended in their order."
    apart = f"{stamp - last} ns after the one before" if stamp > last else "the stamp of the one before"
    return f"{stamp} ns is {apart}; expected at least {MIN_SPACING_NS} ns between two samples ({UNIT_HINT})."
