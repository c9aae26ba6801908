"""Stamps of other recordings: by which clock, whether they can be a signal's, and where a signal falls silent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError

Times = NDArray[np.int64]

HEADER, LOG = "header", "log"
CLOCKS = (HEADER, LOG)
NS_PER_SEC = 10**9
SAME_CLOCK_NS = NS_PER_SEC  # between measuring and recording; a larger distance is one of two clocks
SILENCE_NS = NS_PER_SEC
SILENT_PERIODS = 5  # a signal at 2 Hz is not silent after a second


def believed_clock(header: Sequence[int | None], log: Sequence[int]) -> tuple[str, str, bool]:
    """``(clock, why, whether it is sure)``: which stamps to use unless the mapping says otherwise.

    ``header``: None where a message has none. It is sure unless there are headers that seem not to be usable.
    """
    stamps = [stamp for stamp in header if stamp is not None]
    if not stamps:
        return LOG, "its messages carry no stamp", True
    if len(stamps) < len(header):
        return LOG, f"{len(header) - len(stamps)} of its {len(header)} messages carry no stamp", False
    header_ns, log_ns = np.array(stamps, np.int64), np.array(log, np.int64)
    away = int(np.median(log_ns - header_ns))
    if abs(away) > SAME_CLOCK_NS:
        return LOG, f"its headers are {away / NS_PER_SEC:.1f} s away from the recorder's clock", False
    if (np.diff(header_ns) <= 0).any() and (np.diff(log_ns) > 0).all():
        return LOG, "the stamps in its headers do not increase", False
    return HEADER, "the stamps in its headers say when it was measured", True


def without_repeats(times: Times, same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which samples to keep: all but those that repeat stamp and value of the one before. ``same``: whether a sample's
    value is that of the one before; False for the first."""
    return np.concatenate([[True], (np.diff(times) != 0) | ~same[1:]]) if len(times) else np.ones(0, bool)


def require_increasing(times: Times, where: str, clock: str, at: int = 1) -> None:
    """Raise PositronicError for the first stamp that is not after the one before. ``at``: number of the second
    message."""
    wrong = np.flatnonzero(np.diff(times) <= 0)
    if len(wrong):
        row = int(wrong[0])
        back = int(times[row] - times[row + 1])
        what = f"goes back by {back / NS_PER_SEC:.9f} s" if back else "is that of the one before, with another value"
        other = LOG if clock == HEADER else HEADER
        raise PositronicError(
            f"{where}: the {clock} stamp of message {row + at} {what} ({len(wrong)} such messages). Stamps of a signal "
            f"increase; take those of the other clock ('clock: {other}' in the mapping) or leave the topic out."
        )


def silences(times: Times, start_ns: int, end_ns: int) -> list[tuple[float, float]]:
    """``(from, to)`` in seconds after ``start_ns``, where the signal says nothing for more than a second and for more
    than five of its usual periods, before its first and after its last sample too. ``end_ns``: of the recording."""
    bounds = np.concatenate([[start_ns], times, [end_ns]])
    usual = int(np.median(np.diff(times))) if len(times) > 1 else 0
    gaps = np.flatnonzero(np.diff(bounds) > max(SILENCE_NS, SILENT_PERIODS * usual))
    return [tuple(float(bounds[at + step] - start_ns) / NS_PER_SEC for step in (0, 1)) for at in gaps]


def grid(count: int, fps: float) -> Times:
    """Stamps of recordings that have none, from 0 on, each cut to whole ns."""
    return np.array([int(index * NS_PER_SEC / fps) for index in range(count)], np.int64)
