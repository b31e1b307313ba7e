"""`diff`: what two places hold of each region and entity, and where their chains part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from ledger_cli.render.common.tables import more, table
from ledger_cli.render.common.words import counted, printable, short, shown, signed, ticks

WIDE_FROM = 110
"""Columns from which both sides of all three numbers have room."""
_NAMES = {"weight": "weight", "mean": "mean", "var": "variance"}


class Differences:
    """A table of regions; on a narrow terminal the two weights, and of the rest the differences alone."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], most: int | None) -> None:
        """Rows of `services.diff.DIFF`, as ordered there."""
        self.rows = rows
        self.shown = rows if most is None else rows[:most]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= WIDE_FROM
        columns: list[str] = []
        for name, title in _NAMES.items():
            if wide or name == "weight":
                columns += [f"{title} A", f"{title} B"]
            columns.append(f"Δ {title}")
        made = table(["region", *columns], ([row["region"], *_numbers(row, wide)] for row in self.shown))
        for column in made.columns[1:]:
            column.justify = "right"
        yield made
        yield from more(len(self.rows) - len(self.shown), "regions", "--limit N shows more, --json all")


def _numbers(row: Mapping[str, Any], wide: bool) -> list[str]:
    numbers: list[str] = []
    for name in _NAMES:
        if wide or name == "weight":
            numbers += [shown(row[f"{name}_a"]), shown(row[f"{name}_b"])]
        numbers.append(signed(row[f"{name}_delta"]))
    return numbers


RegionMaps = tuple[Mapping[str, Any], Mapping[str, Any]]


def diff_views(
    a: str,
    b: str,
    rows: Sequence[Mapping[str, Any]],
    equal: int,
    most: int | None,
    differ: int | None = None,
    *,
    region_maps: RegionMaps | None = None,
) -> list[RenderableType]:
    """The whole answer of `diff`; how many regions are equal, and how many differ (None: all that are listed)."""
    differ = len(rows) if differ is None else differ
    title: list[RenderableType] = [Text(f"A = {printable(a)}, B = {printable(b)}", style="bold")]
    if region_maps is not None:
        title.append(Text(f"warning: {other_maps(region_maps)}", style="yellow"))
    if not rows:
        return [*title, f"no difference in {counted(equal, 'region')}"]
    facts = f"{counted(differ, 'region')} {'differs' if differ == 1 else 'differ'}, {shown(equal)} equal"
    return [*title, Differences(rows, most), facts]


def other_maps(region_maps: RegionMaps) -> str:
    """What to mind where the two sides have region maps of their own."""
    a, b = map(_map_text, region_maps)
    return f"A has the regions {a}, B {b}: the same id is another place in each, compare branches of one region map"


def _map_text(regions: Mapping[str, Any]) -> str:
    """A region map as it is written for `--regions`."""
    settings = [str(regions[name]) for name in ("cell", "x", "y", "size", "depth", "name") if name in regions]
    return printable(":".join([regions["kind"], ",".join(settings)]))


def world_views(rows: Sequence[Mapping[str, Any]], counts: Mapping[str, int], most: int | None) -> list[RenderableType]:
    """Changes of the world (rows of `services.world_diff.WORLD_DIFF`), where there are any."""
    if not rows:
        return []
    columns = ["entity", "change", "module", "field", "A", "B"]
    made = table(columns, ([*_named(row), row["field"], row["a"], row["b"]] for row in rows[:most]), left=columns)
    facts = ", ".join(f"{shown(number)} {change}" for change, number in counts.items() if number)
    left_out = more(len(rows) - len(rows[:most]), "fields", "--limit N shows more, --json all")
    return ["", made, *left_out, f"{'entity' if sum(counts.values()) == 1 else 'entities'} of the world: {facts}"]


def _named(row: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """The entity, what became of it, and the module; its class where that is not the usual one."""
    module, state_class = row["module"], row["state_class"]
    usual = state_class in (None, "persistent")
    same = row["change"] == "changed" and module is None
    change = f"version {row['version_a']} → {row['version_b']}" if same else row["change"]
    return row["entity_id"], change, module if usual else f"{module} ({state_class})"


def parting_views(a: str, b: str, partings: Sequence[Any]) -> list[RenderableType]:
    """The first commit of each shard on which two places part; None on a side that has no more commits."""
    title = Text(f"A = {printable(a)}, B = {printable(b)}", style="bold")
    if not partings:
        return [title, "no difference: both are the same chains"]
    rows = ((each.shard, each.height, *_side(each.a), *_side(each.b)) for each in partings)
    columns = ["shard", "height", "commit A", "ticks A", "commit B", "ticks B"]
    return [title, table(columns, rows, left=columns[2:])]


def _side(commit: Any) -> tuple[str | None, str | None]:
    if commit is None:
        return None, None
    return short(commit.commit_id), ticks(commit.epoch_start, commit.epoch_end)
