"""`gamma` as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from ledger_cli.render.common.tables import more, table
from ledger_cli.render.common.words import counted, printable, short, shown

WIDE_FROM = 110


class GammaTable:
    """Regions, the heaviest first; the pooled statistics where there is room for them."""

    def __init__(self, rows: Sequence[Any], most: int | None) -> None:
        """Rows as `core.gamma_view.GammaRow`, ordered."""
        self.rows = rows
        self.shown = rows if most is None else rows[:most]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= WIDE_FROM
        pooled = ["pooled mean", "pooled variance"] if wide else []
        columns = ["region", "weight", "mean", "variance", *pooled, "events", "commits", "last commit"]
        rows = (
            (
                row.region,
                row.weight,
                "decoupled" if row.decoupled else row.activity_mean,
                row.activity_var,
                *((row.pooled_mean, row.pooled_var) if wide else ()),
                row.count,
                row.commits,
                short(row.last_commit),
            )
            for row in self.shown
        )
        made = table(columns, rows, left=["region", "last commit"])
        for column in made.columns[1:-1]:
            column.justify = "right"
        yield made
        yield from more(len(self.rows) - len(self.shown), "regions", "--top N shows more, --json all")


def gamma_views(frame: Any, rows: Sequence[Any], most: int | None) -> list[RenderableType]:
    """Heading and table."""
    facts = [frame.title, frame.heading, counted(len(frame.rows), "region"), f"weight {shown(frame.total)}"]
    heading = Text(printable(" · ".join(facts)), style="bold")
    return [heading, GammaTable(rows, most)] if rows else [heading]
