"""A grid that is denser than the recording is refused with a rate that is not."""

import pytest

from positronic.bake.density import require_density
from positronic.errors import PositronicError


@pytest.mark.parametrize(
    ("rates", "fps", "said"),
    [
        ({"vector_hz": 15, "camera_hz": 15}, 1000, r"recorded at 15 Hz.* Type fps=15, or at most fps=60\."),
        ({"vector_hz": 1000, "camera_hz": 30}, 1000, r"fastest camera .*at 30 Hz.* Type fps=30, or at most fps=300\."),
        ({"vector_hz": 5, "camera_hz": 5}, 15, None),
        ({"vector_hz": 100, "camera_hz": 15}, 100, None),
    ],
)
def test_a_rate_far_above_what_was_recorded_is_refused(record, recipe, rates, fps, said):
    """Four times the fastest signal is dense enough; commands may be faster than cameras, up to ten times."""
    dataset = record(seconds=2.0, **rates)
    if said is None:
        require_density(dataset, recipe().codec.signals, fps)
    else:
        with pytest.raises(PositronicError, match=said):
            require_density(dataset, recipe().codec.signals, fps)
