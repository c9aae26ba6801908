"""Pictures in HDF5 datasets: pixels, or a JPEG or PNG a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from positronic.importing.hdf5_file import BYTES
from positronic.importing.pictures import decode, in_rgb, is_encoded

if TYPE_CHECKING:
    import h5py

HWC, CHW = "pixels", "pixels, channels first"
CHANNELS = (1, 3)


def picture_encoding(data: h5py.Dataset) -> str | None:
    """How its samples hold a picture: pixels in one of two orders, ``jpeg`` or ``png``; None if they hold none."""
    if data.dtype == np.uint8 and data.ndim == 4:
        return HWC if data.shape[-1] in CHANNELS else CHW if data.shape[1] in CHANNELS else None
    if len(data) and ((data.ndim == 1 and data.dtype.kind in BYTES) or (data.ndim == 2 and data.dtype == np.uint8)):
        return is_encoded(as_bytes(data[0]))
    return None


def frame_of(sample: Any, encoding: str | None, channels: str, where: str) -> np.ndarray:
    """A sample as uint8 RGB (H, W, 3); ``channels``: the order of its colours."""
    if encoding not in (HWC, CHW):
        return decode(as_bytes(sample), where, channels)
    pixels = np.moveaxis(sample, 0, -1) if encoding == CHW else sample
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else in_rgb(pixels, channels)


def as_bytes(sample: Any) -> bytes:
    """A row that holds an encoded picture: bytes, or numbers from 0 to 255."""
    return sample if isinstance(sample, bytes) else np.asarray(sample).tobytes()
