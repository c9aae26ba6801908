"""Whether a grid is denser than what was recorded: its frames would be the same picture over and over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from positronic.errors import PositronicError
from positronic.raw.dataset import Dataset
from positronic.raw.faults import BadEpisode
from positronic.raw.video import VideoSignal

EPISODES = 3  # that are looked at
DENSER = 4.0  # times the fastest signal: recordings at 5 Hz are baked at the default of 15 Hz, 1000 Hz are a slip
REPEATS = 10.0  # of one picture: commands at 100 Hz beside a camera at 15 Hz are in use
NS = 10**9


def require_density(dataset: Dataset, signals: Sequence[str], fps: int) -> None:
    """Raise PositronicError when ``fps`` is more than ``DENSER`` times the rate of the fastest of ``signals``, or would
    store each picture more than ``REPEATS`` times. Rates are those of the first episodes that can be read."""
    rates: dict[str, float] = {}
    cameras: set[str] = set()
    for episode in islice(dataset, EPISODES):
        for name in signals:
            try:
                signal = episode[name]
                stamps = signal.times_ns
            except BadEpisode:
                continue  # it is named with the others
            if isinstance(signal, VideoSignal):
                cameras.add(name)
            if len(stamps) > 1 and stamps[-1] > stamps[0]:
                rates[name] = max(rates.get(name, 0.0), (len(stamps) - 1) * NS / float(stamps[-1] - stamps[0]))
    _require(rates, fps, DENSER, "signal")
    _require({name: rate for name, rate in rates.items() if name in cameras}, fps, REPEATS, "camera")


def _require(rates: dict[str, float], fps: int, times: float, what: str) -> None:
    if not rates:
        return
    name = max(rates, key=lambda each: rates[each])
    rate = rates[name]
    if fps > times * max(rate, 1.0):
        raise PositronicError(
            f"fps={fps}: the fastest {what} of the codec, '{name}', was recorded at {rate:.3g} Hz; each of its samples "
            f"would be stored {fps / rate:.0f} times. Type fps={max(1, round(rate))}, or at most "
            f"fps={max(1, int(times * rate))}."
        )
