"""Pictures of gamma: terminal, Altair chart, PNG, SVG, a page with a slider, a notebook fragment.

Same input, same output: no clock and no random name enters a picture. Charts, pictures and pages need the
extra `render`; the terminal and the notebook fragment need nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ledger_cli.core.gamma_view import GammaFrame, GammaView, WeightScale, heaviest
from ledger_cli.render.common.svg import themed
from ledger_cli.render.gamma.html import frame_html
from ledger_cli.render.gamma.page import to_html
from ledger_cli.render.gamma.spec import chart, load, picture_spec
from ledger_cli.render.gamma.terminal import TerminalGamma

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["chart", "frame_html", "svg_text", "terminal_map", "to_html", "write_html", "write_png", "write_svg"]

_GENERATED_ID = re.compile(r'(?<=id=")(gradient_|clip)[0-9]+(?=")')


def terminal_map(
    frame: GammaFrame, width: int, height: int, *, maximum: float | None = None, exponent: float = 1.0
) -> TerminalGamma:
    """A rich renderable. `maximum` is the upper end of the scale: by default the frame's own."""
    top = heaviest(frame.rows) if maximum is None else maximum
    return TerminalGamma(frame, width, height, WeightScale(top, exponent))


def write_png(
    path: str | PathLike[str],
    subject: GammaFrame | GammaView,
    *,
    pixel_ratio: float = 2.0,
    exponent: float = 1.0,
) -> None:
    """Write a picture of a frame; of a view its last frame, on the scale of all."""
    vl_convert = load("vl_convert")
    spec = picture_spec(subject, exponent)
    png = vl_convert.vegalite_to_png(spec, vl_version=_version(), scale=pixel_ratio, allowed_base_urls=[])
    Path(path).write_bytes(png)


def write_svg(path: str | PathLike[str], subject: GammaFrame | GammaView, *, exponent: float = 1.0) -> None:
    """Write the same picture as SVG, light or dark as its reader has it."""
    Path(path).write_text(themed(svg_text(subject, exponent=exponent)), encoding="utf-8", newline="\n")


def write_html(path: str | PathLike[str], view: GammaView, *, exponent: float = 1.0) -> None:
    """Write the page with the slider."""
    Path(path).write_text(to_html(view, exponent=exponent), encoding="utf-8", newline="\n")


def svg_text(subject: GammaFrame | GammaView, *, exponent: float = 1.0) -> str:
    """The picture as SVG, with ids that do not depend on what was drawn before."""
    vl_convert = load("vl_convert")
    spec = picture_spec(subject, exponent)
    svg: str = vl_convert.vegalite_to_svg(spec, vl_version=_version(), allowed_base_urls=[])
    for index, found in enumerate(list(_GENERATED_ID.finditer(svg))):
        old = found[0]
        svg = svg.replace(f'id="{old}"', f'id="g{index}"').replace(f"url(#{old})", f"url(#g{index})")
    return svg


def _version() -> str:
    """The version of Vega-Lite that the installed Altair writes."""
    schema: str = load("altair").SCHEMA_VERSION
    return ".".join(schema.removeprefix("v").split(".")[:2])
