"""What the pictures that are drawn here have in common: text in SVG, how wide it is, the dark of it, and PNG."""

from __future__ import annotations

import re
from html import escape
from unicodedata import east_asian_width

from ledger_cli.errors import MissingExtra
from ledger_cli.render.common.words import printable

FONT = "font-family='Helvetica, Arial, Liberation Sans, sans-serif'"
LETTER_PX = 7.3
"""About the width of a letter of 13 px."""
_PIXEL_RATIO = 2.0
_DARK = {
    "#ffffff": "#14171b", "#f3f4f6": "#2b3139", "#e5e7eb": "#2c3138", "#d1d5db": "#444c56",
    "#1f2937": "#e6e8eb", "#24292f": "#e6e8eb", "#374151": "#c9ced6", "#6b7280": "#9aa3af",
    "#dbeafe": "#1b3557", "#2563eb": "#6ea8fe", "#ffedd5": "#472c12", "#c2570c": "#f59e57",
    "#e8f1fb": "#1b3147", "#3b78b8": "#6aa5dd", "#e9f6ee": "#173526", "#3a8f5c": "#58b583",
    "#f4ecfa": "#352347", "#8353a8": "#b78ad8",
}  # fmt: skip
"""What a colour of these pictures is for a reader who has it dark; those of paper and text as on the page of gamma.

All others, such as the scale of gamma, mean something and stay.
"""


def written(x: float, y: float, text: str, size: float, colour: str, more: str = "") -> str:
    """Text at a place, its size in px."""
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size:g}' fill='{colour}' {more}>{escaped(text)}</text>"


def escaped(text: str) -> str:
    """Text as SVG takes it."""
    return escape(printable(text))


def cut(text: str, most: int) -> str:
    """At most so many characters, the last one dots where some are left out."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def width_of(text: str, letter: float = LETTER_PX) -> float:
    """About how wide a text is, in px."""
    return letter * sum(1.7 if east_asian_width(each) in "WF" else 1 for each in text)


def themed(svg: str) -> str:
    """The picture, dark for readers who have it dark: rules over the colours that its elements name.

    Programs that know no such rules show the light one.
    """
    here = [(name, light) for light in _DARK for name in ("fill", "stroke") if re.search(rf"{name}=['\"]{light}", svg)]
    rules = "".join(f'[{name}="{light}"]{{{name}:{_DARK[light]}}}' for name, light in here)
    style = f"<style>:root{{color-scheme:light dark}}@media (prefers-color-scheme:dark){{{rules}}}</style>"
    head = svg.index(">") + 1
    return svg[:head] + style + svg[head:]


def png(svg: str) -> bytes:
    """The picture as PNG. MissingExtra without the extra `render`."""
    try:
        import vl_convert
    except ImportError as problem:
        raise MissingExtra("render", "vl-convert") from problem
    made: bytes = vl_convert.svg_to_png(svg, scale=_PIXEL_RATIO)
    return made
