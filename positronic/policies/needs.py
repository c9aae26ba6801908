"""Which statistics a policy normalises by. LeRobot leaves a column as it is, without a word, if they are missing."""

from __future__ import annotations

from typing import Any

from positronic.bake.reader import Stats
from positronic.errors import PositronicError, listing

# lerobot.configs.types.NormalizationMode -> what it divides by or subtracts
NEEDED = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
    "IDENTITY": (),
}


def require_stats(config: Any, stats: Stats) -> None:
    """Raise PositronicError when ``stats`` lack what the policy of lerobot's ``config`` normalises a column by."""
    for name, feature in (config.input_features | config.output_features).items():
        mode = config.normalization_mapping.get(feature.type.value)
        needed = NEEDED.get(getattr(mode, "value", mode), ())
        missing = [each for each in needed if each not in stats.get(name, {})]
        if missing:
            raise PositronicError(
                f"Column '{name}': policy '{config.type}' normalises it by {listing(needed)}, and the dataset's "
                f"statistics lack {listing(missing)}. Convert the recording with this version, or choose another way: "
                f"vendor.policy.normalization_mapping={{{feature.type.value}: IDENTITY}}."
            )
