"""How our pictures look."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from positronic.errors import PositronicError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOOD, BAD, INK, FAINT = "#1f9d74", "#d64550", "#22303c", "#9aa7b2"
RED, GREEN, BLUE = "#d64550", "#1f9d74", "#3b7dd8"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def png(draw: Callable[[type[Figure]], Figure]) -> bytes:
    """The figure, in our style, that ``draw`` makes of the given class, as PNG. There is no display and no global
    state."""
    return as_figure(draw)._repr_png_()


def as_figure(draw: Callable[[type[Figure]], Figure]) -> Figure:
    """The figure itself; a notebook shows it. Raises PositronicError without matplotlib."""
    try:
        import matplotlib
        from matplotlib.figure import Figure  # not pyplot
    except ModuleNotFoundError:
        raise PositronicError("Pictures need matplotlib. Type `uv pip install matplotlib`.") from None

    class Picture(Figure):
        """What pyplot did not make, a notebook shows as PNG only if it is told how."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            with matplotlib.rc_context(STYLE):
                self.savefig(buffer, format="png", dpi=150)
            return buffer.getvalue()

    with matplotlib.rc_context(STYLE):
        return draw(Picture)
