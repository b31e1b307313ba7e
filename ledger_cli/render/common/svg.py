"""What the pictures that are drawn here have in common: text in SVG, how wide it is, and PNG of it."""

from __future__ import annotations

from html import escape
from unicodedata import east_asian_width

from ledger_cli.errors import MissingExtra
from ledger_cli.render.common.words import printable

FONT = "font-family='Helvetica, Arial, Liberation Sans, sans-serif'"
LETTER_PX = 7.3
"""About the width of a letter of 13 px."""
_PIXEL_RATIO = 2.0


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


def png(svg: str) -> bytes:
    """The picture as PNG. MissingExtra without the extra `render`."""
    try:
        import vl_convert
    except ImportError as problem:
        raise MissingExtra("render", "vl-convert") from problem
    made: bytes = vl_convert.svg_to_png(svg, scale=_PIXEL_RATIO)
    return made
