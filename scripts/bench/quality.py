"""How near the baked frames are to what the encoders were given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contenders import letterboxed
from bench.recordings import Source

if TYPE_CHECKING:
    import numpy as np

EPISODES = 1
VIDEO_PATTERNS = ("videos/{name}/*/*.mp4", "videos/*/{name}/*.mp4")  # v3.0, v2.1


def psnr(outputs: Mapping[str, Path], source: Source) -> dict[str, float]:
    """dB over RGB of each dataset, in the first episodes."""
    import numpy as np

    from positronic.bake.sampling import episode_grid

    codec, errors = source.recipe.codec, {name: [] for name in outputs}
    for column in source.recipe.modality.image_columns:
        baked = {name: frames_in(path, column.name) for name, path in outputs.items()}
        for episode in source.dataset[:EPISODES]:
            times = episode_grid(episode, codec.signals, codec.timing.fps)
            for given in letterboxed(episode, column.sources[0], times):
                for name, frames in baked.items():
                    errors[name].append(np.mean((next(frames).astype(np.float32) - given) ** 2))
    return {name: 10 * float(np.log10(255**2 / np.mean(each))) for name, each in errors.items()}


def frames_in(dataset: Path, column: str) -> Iterator[np.ndarray]:
    """Every frame of one camera in order, uint8 (H, W, 3)."""
    import av

    from positronic.utils.colour import ToRgb

    to_rgb = ToRgb()
    paths = [path for pattern in VIDEO_PATTERNS for path in sorted(dataset.glob(pattern.format(name=column)))]
    for path in paths:
        with av.open(str(path)) as container:
            yield from (to_rgb.array(frame) for frame in container.decode(video=0))
