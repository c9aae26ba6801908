"""Tables of the terminal as HTML, for notebooks. The text is escaped, and takes the page's own colours."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 110  # characters
PAGE = (
    "<pre style=\"font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace;line-height:1.25;overflow-x:auto;"
    'background:none;color:inherit;border:none">{code}</pre>'
)


def as_html(renderable: RenderableType, width: int = WIDTH) -> str:
    """What rich prints of ``renderable`` within ``width`` characters, as HTML that needs nothing from elsewhere."""
    from rich.console import Console

    console = Console(record=True, width=width, file=io.StringIO(), force_jupyter=False)
    console.print(renderable, highlight=False)
    return console.export_html(inline_styles=True, code_format=PAGE)
