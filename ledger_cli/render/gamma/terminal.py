"""Gamma in a terminal: a heat map of the cells, or bars where regions have no geometry.

With colours a character carries two square pixels (upper half block); without, two characters make one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from ledger_cli.core.gamma_view import GammaFrame, GammaRow, WeightScale, by_weight, extent
from ledger_cli.render.common.words import counted, printable, shown
from ledger_cli.render.gamma.raster import Raster, rasterise
from ledger_cli.render.gamma.style import BAR, DECOUPLED, NO_REGIONS, number, ramp

SHADES = "░▒▓█"
SHADES_ASCII = ".+*#"
EIGHTHS = " ▏▎▍▌▋▊▉"
MAP_LINES_MIN = 3
NAME_WIDTH_MAX = 24
HOTTEST_MAX = 8


@dataclass(frozen=True, slots=True)
class TerminalGamma:
    """A rich renderable of at most `width` x `height` characters (a few lines are always needed)."""

    frame: GammaFrame
    width: int
    height: int
    scale: WeightScale

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        pen = Pen(
            coloured=not console.no_color and console.color_system in ("truecolor", "256"),
            ascii_only=options.ascii_only,
            scale=self.scale,
        )
        width = max(min(self.width, options.max_width), 16)
        for line in _lines(self.frame, width, self.height, pen):
            line.no_wrap = True
            line.overflow = "ellipsis"
            line.truncate(width, overflow="ellipsis")
            yield line


@dataclass(frozen=True, slots=True)
class Pen:
    """How a weight is drawn on the present terminal."""

    coloured: bool
    ascii_only: bool
    scale: WeightScale

    def colour(self, weight: float) -> str:
        """Grey where there is no weight, otherwise the place on the ramp."""
        return ramp(self.scale.position(weight)) if weight > 0 else DECOUPLED

    def shade(self, weight: float | None) -> str:
        """Blank where there is no region, a dot where it has no weight, else denser with weight."""
        if weight is None:
            return " "
        if not weight > 0:
            return "-" if self.ascii_only else "·"
        shades = SHADES_ASCII if self.ascii_only else SHADES
        return shades[min(int(self.scale.position(weight) * len(shades)), len(shades) - 1)]

    def plain(self, text: str) -> str:
        """The text in the characters that the terminal has."""
        if not self.ascii_only:
            return text
        return text.replace("…", "~").replace("·", "-").replace("–", "-").encode("ascii", "replace").decode()

    def note(self, text: str) -> Text:
        """A line of explanation, less prominent than the data."""
        return Text().append(self.plain(text), "dim" if self.coloured else "")


def _lines(frame: GammaFrame, width: int, height: int, pen: Pen) -> Iterable[Text]:
    heading = _heading(frame, width)
    height -= len(heading) - 1
    yield from (Text(pen.plain(line), style="bold" if pen.coloured else "") for line in heading)
    if not frame.rows:
        yield pen.note(NO_REGIONS)
    elif frame.placed():
        yield from _map_lines(frame, width, height - 1, pen)
    else:
        yield from _bar_lines(by_weight(frame.rows), width, height - 1, pen)


def _heading(frame: GammaFrame, width: int) -> list[str]:
    """What is drawn, in a line, or in two where that is too long."""
    facts = [frame.title, frame.heading, counted(len(frame.rows), "region"), f"total weight {number(frame.total)}"]
    line = printable(" · ".join(facts))
    return [line] if cell_len(line) <= width else [printable(facts[0]), printable(" · ".join(facts[1:]))]


def _map_lines(frame: GammaFrame, width: int, height: int, pen: Pen) -> list[Text]:
    rows = frame.placed()
    area = extent(rows)
    assert area is not None
    footer = [*_legend(rows, width, pen), *_hottest(rows, width, pen), *_off_map(frame, pen)]
    y_low, y_high = number(area[1]), number(area[3])
    gutter = max(len(y_low), len(y_high))
    lines_max = max(height - len(footer) - 3, MAP_LINES_MIN)
    columns = max(width - gutter - 1, 4)
    size = (columns, lines_max * 2) if pen.coloured else (columns // 2, lines_max)
    raster = rasterise(rows, area, *size)
    body = _half_blocks(raster, pen) if pen.coloured else _shaded(raster, pen)
    labels = [y_high, *[""] * (len(body) - 2), y_low] if len(body) > 1 else [y_high]
    drawn = [
        pen.note(f"{label:>{gutter}}{_bar(pen)}").append_text(line) for label, line in zip(labels, body, strict=True)
    ]
    return [*drawn, *_x_axis(area[0], area[2], gutter, body[0].cell_len, pen), *_scaled(raster, pen), *footer]


def _bar(pen: Pen) -> str:
    return "|" if pen.ascii_only else "│"


def _x_axis(low: float, high: float, gutter: int, columns: int, pen: Pen) -> list[Text]:
    rule = ("+" if pen.ascii_only else "└") + ("-" if pen.ascii_only else "─") * columns
    left, right = number(low), number(high)
    room = max(columns - len(left) - len(right), 2)
    return [pen.note(" " * gutter + rule), pen.note(" " * (gutter + 1) + left + " " * room + right)]


def _half_blocks(raster: Raster, pen: Pen) -> list[Text]:
    lines = []
    for top in range(0, raster.height, 2):
        pairs = ((raster.at(column, top), raster.at(column, top + 1)) for column in range(raster.width))
        line = Text()
        for (char, style), run in groupby(_half_block(*pair, pen) for pair in pairs):
            line.append(char * sum(1 for _ in run), style)
        lines.append(line)
    return lines


def _half_block(upper: float | None, lower: float | None, pen: Pen) -> tuple[str, Style]:
    if upper is None and lower is None:
        return " ", Style()
    if upper is None:
        return "▄", Style(color=pen.colour(lower or 0.0))
    if lower is None:
        return "▀", Style(color=pen.colour(upper))
    return "▀", Style(color=pen.colour(upper), bgcolor=pen.colour(lower))


def _shaded(raster: Raster, pen: Pen) -> list[Text]:
    return [
        Text("".join(pen.shade(raster.at(column, row)) * 2 for column in range(raster.width)))
        for row in range(raster.height)
    ]


def _scaled(raster: Raster, pen: Pen) -> list[Text]:
    if raster.cells_per_pixel == 1:
        return []
    side = raster.cells_per_pixel
    pixel = "half a character" if pen.coloured else "two characters"
    return [pen.note(f"{pixel} = the highest weight of {side} x {side} cells")]


def _legend(rows: tuple[GammaRow, ...], width: int, pen: Pen) -> list[Text]:
    line = pen.note("weight 0 ").append_text(_ramp_bar(pen)).append_text(pen.note(f" {number(pen.scale.maximum)}"))
    if pen.scale.exponent != 1:
        line.append_text(pen.note(f" (to the power of {number(pen.scale.exponent)})"))
    lowest, highest = min(row.weight for row in rows), max(row.weight for row in rows)
    line.append_text(pen.note(f" · min {number(lowest)} · max {number(highest)}"))
    none = _weightless(rows, pen)
    if line.cell_len + none.cell_len + 3 > width:
        return [line, none] if none else [line]
    return [line.append_text(pen.note(" · ")).append_text(none)] if none else [line]


def _ramp_bar(pen: Pen) -> Text:
    if not pen.coloured:
        return Text("".join(shade * 2 for shade in (SHADES_ASCII if pen.ascii_only else SHADES)))
    return Text().join(Text("█", Style(color=ramp(step / 15))) for step in range(16))


def _weightless(rows: tuple[GammaRow, ...], pen: Pen) -> Text:
    weightless = [row for row in rows if not row.weight > 0]
    if not weightless:
        return Text()
    word = "decoupled" if all(row.decoupled for row in weightless) else "no weight"
    sample = Text("█", Style(color=DECOUPLED)) if pen.coloured else Text(pen.shade(0.0))
    return Text().append_text(sample).append_text(pen.note(f" {word}: {shown(len(weightless))}"))


def _hottest(rows: tuple[GammaRow, ...], width: int, pen: Pen) -> list[Text]:
    line = pen.note("hottest ")
    weighty = [row for row in by_weight(rows)[:HOTTEST_MAX] if row.weight > 0]
    for index, row in enumerate(weighty):
        entry = pen.note(" · " if index else "")
        entry.append(pen.plain(printable(row.region)), "bold" if pen.coloured else "")
        entry.append(f" {number(row.weight)}")
        if index and line.cell_len + entry.cell_len > width:
            break
        line.append_text(entry)
    return [line] if weighty else []


def _off_map(frame: GammaFrame, pen: Pen) -> list[Text]:
    rows = frame.off_map()
    if not rows:
        return []
    names = ", ".join(f"{printable(row.region)} {number(row.weight)}" for row in rows[:3])
    more = f" and {shown(len(rows) - 3)} more" if len(rows) > 3 else ""
    return [pen.note(f"not on the map: {names}{more}")]


def _bar_lines(rows: tuple[GammaRow, ...], width: int, height: int, pen: Pen) -> list[Text]:
    shown = rows if len(rows) <= height else rows[: max(height - 1, 1)]
    names = [pen.plain(printable(row.region)) for row in shown]
    values = [number(row.weight) for row in shown]
    name_width = min(max(cell_len(name) for name in names), NAME_WIDTH_MAX, width // 3)
    room = max(width - name_width - max(len(value) for value in values) - 2, 1)
    lines = []
    for row, name, value in zip(shown, names, values, strict=True):
        line = Text(_fitted(name, name_width, pen) + " ")
        line.append_text(_one_bar(row, room, pen)).append(f" {value}")
        lines.append(line)
    rest = rows[len(shown) :]
    if rest:
        weight = number(sum(row.weight for row in rest))
        lines.append(pen.note(f"… and {len(rest):,} more, together {weight}"))
    return lines


def _fitted(name: str, width: int, pen: Pen) -> str:
    if cell_len(name) <= width:
        return set_cell_size(name, width)
    return set_cell_size(name, width - 1) + pen.plain("…")


def _one_bar(row: GammaRow, room: int, pen: Pen) -> Text:
    style = Style(color=BAR if row.weight > 0 else DECOUPLED) if pen.coloured else Style()
    if not row.weight > 0:
        return Text(pen.shade(0.0), style=style)
    eighths = max(round(WeightScale(pen.scale.maximum).position(row.weight) * room * 8), 1)
    if pen.ascii_only:
        return Text("#" * max(eighths // 8, 1), style=style)
    return Text("█" * (eighths // 8) + EIGHTHS[eighths % 8].strip(), style=style)
