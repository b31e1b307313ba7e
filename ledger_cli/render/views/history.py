"""`log` and `show`: commits as a table, as lanes, and one with its entries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from ledger_cli.render.common.tables import fields, more, table
from ledger_cli.render.common.words import counted, moment, printable, short, ticks

_ASCII = str.maketrans(
    {"●": "*", "│": "|", "├": "|", "─": "-", "┼": "+", "┴": "'", "╯": "'", "┬": ".", "╮": ".", "…": "~"}
)
_LANE_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "red")
_ENTITIES = 8
"""More of one region are cut off in a table."""


def log_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Rows of `LogPage.table`."""
    if not rows:
        return "no commits here"
    sharded = any(row["shard"] for row in rows)
    columns = ["commit", *(["shard"] if sharded else []), "ticks", "regions", "events", "closed by", "made (UTC)"]
    return table(
        columns,
        (
            (
                short(row["commit_id"]),
                *([row["shard"]] if sharded else []),
                ticks(row["epoch_start"], row["epoch_end"]),
                row["regions"],
                row["events"],
                row["reason"],
                moment(row["created_at"]),
            )
            for row in rows
        ),
        left=["ticks", "closed by", "made (UTC)"],
    )


def planned_table(rows: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """What a commit would make (`CommitResult.planned`), named as in the log; nothing where there is nothing."""
    sharded = any(row["shard"] for row in rows)
    columns = [*(["shard"] if sharded else []), "ticks", "regions", "events", "weight", "closed by"]
    listed = [
        (
            *([row["shard"]] if sharded else []),
            ticks(row["epoch_start"], row["epoch_end"]),
            row["regions"],
            row["events"],
            row["weight"],
            row["reason"],
        )
        for row in rows
    ]
    return [table(columns, listed, left=["ticks", "closed by"])] if listed else []


def label_text(labels: Sequence[str]) -> Text:
    """Names of branches and tags, as git shows them."""
    if not labels:
        return Text()
    return Text(f"({', '.join(printable(label) for label in labels)})", style="bold yellow")


class Graph:
    """The lines of `log --graph`: lanes as a drawing, then the commit."""

    def __init__(self, lines: Sequence[Any]) -> None:
        """Lines as `services.graph` gives them: column, lanes, joins, opens, ends, labels, commit."""
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        several = any(line.commit["shard"] for line in self.lines)
        for text in self._texts(several):
            if options.ascii_only:
                text.plain = text.plain.translate(_ASCII)
            text.no_wrap, text.overflow = True, "ellipsis"
            yield text

    def _texts(self, several: bool) -> Iterator[Text]:
        if not self.lines:
            yield Text("no commits here")
        width = max((lane for line in self.lines for lane in (*line.lanes, *line.opens)), default=0) + 1
        for line in self.lines:
            if line.joins:
                yield _connected(line, line.joins, "╯")
            yield _drawn(line, width).append_text(_described(line, several))
            if line.opens:
                yield _connected(line, line.opens, "╮")


def _drawn(line: Any, width: int) -> Text:
    text = Text()
    for lane in range(width):
        mark = "●" if lane == line.column else "│" if lane in line.lanes and lane not in line.joins else " "
        text.append(f"{mark} ", _LANE_COLOURS[lane % len(_LANE_COLOURS)])
    return text


def _connected(line: Any, others: Sequence[int], corner: str) -> Text:
    """The line above a commit in which other lanes end, or the one below it where they begin."""
    last = max(others)
    text = Text()
    for lane in range(max((*line.lanes, last)) + 1):
        inside = line.column < lane < last
        if lane == line.column:
            mark = "├─"
        elif lane in others:
            mark = f"{corner} " if lane == last else "┴─" if corner == "╯" else "┬─"
        elif lane in line.lanes and lane not in line.joins:
            mark = "┼─" if inside else "│ "
        else:
            mark = "──" if inside else "  "
        text.append(mark, _LANE_COLOURS[lane % len(_LANE_COLOURS)])
    return text


def _described(line: Any, several: bool) -> Text:
    row = line.commit
    text = Text(short(row["commit_id"]))
    if line.labels:
        text.append(" ").append_text(label_text(line.labels))
    shard = f"shard {row['shard']}, " if several else ""
    text.append(f" {shard}ticks {ticks(row['epoch_start'], row['epoch_end'])}, ")
    text.append(f"{counted(row['regions'], 'region')}, {counted(row['events'], 'event')}, {row['reason']}")
    return text


def commit_fields(header: Mapping[str, Any], policy: Mapping[str, Any] | None) -> RenderableType:
    """What a commit says of itself."""
    shown: dict[str, Any] = {
        "commit": header["commit_id"],
        "digest": header["digest"],
        "parents": "\n".join(header["parents"]) or None,
        "layer": header["layer"],
        "shard": f"{header['shard']}, commit {header['height']} of its chain",
        "ticks": f"{ticks(header['epoch_start'], header['epoch_end'])}, closed by {header['reason']}",
        "regions": header["regions"],
        "events": header["events"],
        "policy": header["policy"] if policy is None else f"{header['policy'][:12]}: {policy_text(policy)}",
        **({} if header["metadata"] == "{}" else {"metadata": header["metadata"]}),
        "made": f"{header['created_at']} by {header['by']} on {header['branch']}",
    }
    return fields(shown)


def policy_text(policy: Mapping[str, Any]) -> str:
    """A policy in a line, named as the options that set it."""
    parts = [
        *(_setting(name, policy[name]) for name in ("strategy", "regions", "weight") if name in policy),
        f"base-weight {policy['baseWeight']}",
        f"shards {policy['shards']}",
        f"lateness {policy['lateness']}",
    ]
    return "; ".join(parts)


def _setting(name: str, setting: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{_option(key)} {value}" for key, value in setting.items() if key != "kind")
    return f"{name} {setting['kind']}{f' ({rest})' if rest else ''}"


def _option(key: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"-{letter[0].lower()}", key)


def heaviest_first(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Entries of a commit in the order in which they are shown."""
    return sorted(rows, key=lambda row: (-row["weight_value"], row["region"]))


def _some(entities: Sequence[str]) -> str:
    """The first of them, as many as can be read in a line."""
    return ", ".join([*entities[:_ENTITIES], *(["…"] if len(entities) > _ENTITIES else [])])


def entries_table(rows: Iterable[Mapping[str, Any]], most: int | None) -> list[RenderableType]:
    """The entries of a commit, the heaviest first."""
    listed = heaviest_first(rows)
    cut = listed if most is None else listed[:most]
    names = {"weight_value": "weight", "activity_mean": "activity mean", "activity_var": "variance", "n": "events"}
    shown = [[row["region"], *(row[name] for name in names)] for row in cut]
    titles = ["region", *names.values()]
    if any("entity_refs" in row for row in cut):
        shown = [[*cells, _some(row["entity_refs"])] for cells, row in zip(shown, cut, strict=True)]
        titles.append("entities")
    made = table(titles, shown, left=["region", "entities"])
    return [made, *more(len(listed) - len(cut), "regions", "--limit N shows more, --json all")]
