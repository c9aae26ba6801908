"""Writing MJCF: one helper, so that a model reads as a list of parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np


def add(parent: Element, tag: str, **attributes: Any) -> Element:
    """Append ``<tag ...>``. Numbers, and rows of them, are written with 15 digits; ``class_`` stands for ``class``."""
    return SubElement(parent, tag, {key.rstrip("_"): _text(value) for key, value in attributes.items()})


def rgba(rgb: Iterable[float]) -> list[float]:
    """An opaque colour, from RGB 0..1."""
    return [*rgb, 1.0]


def camera_axes(pos: Iterable[float], look_at: Iterable[float], up: Iterable[float]) -> np.ndarray:
    """MJCF ``xyaxes`` (6,) of a camera at ``pos`` that looks at ``look_at``, with ``up`` upwards in the picture."""
    forward = np.subtract(list(look_at), list(pos))
    right = np.cross(forward, list(up))
    upward = np.cross(right, forward)
    return np.concatenate([right / np.linalg.norm(right), upward / np.linalg.norm(upward)])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return " ".join(f"{number:.15g}" for number in np.atleast_1d(value))
