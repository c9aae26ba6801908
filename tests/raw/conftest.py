"""The smallest recording: vectors, a gripper, and a camera whose frame i is the uniform grey ``LEVEL * i``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from positronic import keys
from positronic.raw.episode import Episode
from positronic.raw.writer import DatasetWriter

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
STEP_NS = 10_000_000
LEVEL = 3


@pytest.fixture
def published() -> Path:
    """A dataset written by the published package, 0.2.1."""
    return PUBLISHED


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Episode]:
    """Records one more episode under ``tmp_path / "raw"`` and opens it."""

    def make(samples: int = 8, frames: int = 0, statics: dict | None = None, root: Path | None = None, **signals):
        with DatasetWriter(root or tmp_path / "raw").new_episode() as writer:
            for i in range(samples):
                writer.append(keys.GRIP, i / 100, i * STEP_NS)
                writer.append(keys.JOINT_POSITION, np.arange(7) + float(i), i * STEP_NS)
                for name, value in signals.items():
                    writer.append(name, value, i * STEP_NS)
            for i in range(frames):
                writer.append(keys.IMAGE_WRIST, np.full((32, 48, 3), LEVEL * i, np.uint8), i * STEP_NS)
            for key, value in (statics or {}).items():
                writer.set_static(key, value)
        return Episode(writer.path)

    return make
