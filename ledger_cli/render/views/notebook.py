"""The log, a status and a comparison as fragments of HTML for notebooks, on any background."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

from ledger_cli.render.common.words import counted, moment, printable, short, shown, signed, ticks
from ledger_cli.render.views.diff import RegionMaps, other_maps

ROWS_MAX = 20
_LOG = ("commit", "shard", "ticks", "regions", "events", "closed by", "made (UTC)")
_LOG_RIGHT = (1, 3, 4)
_DIFF = ("weight", "mean", "var")
_DIFF_HEADINGS = tuple(text for name in ("weight", "mean", "variance") for text in (f"{name} A", f"{name} B", "Δ"))


def log_html(branch: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A heading and the newest commits."""
    body = [_texts(row) for row in rows[:ROWS_MAX]]
    title = f"<b>Log</b> · {_text(branch)} · {counted(len(rows), 'commit')}"
    return _fragment(title, _LOG, body, _LOG_RIGHT, len(rows))


def status_html(status: Any) -> str:
    """What `ledger status` shows of a branch."""
    from ledger_cli.render.views.branches import status_pairs

    body = [(name, shown(value)) for name, value in status_pairs(status).items()]
    return _fragment(f"<b>Status</b> · {_text(status.branch)}", (), body, (), len(body))


def diff_html(
    a: str, b: str, rows: Sequence[Mapping[str, Any]], equal: int, region_maps: RegionMaps | None = None
) -> str:
    """A heading and the regions that differ most."""
    body = [(row["region"], *(text for name in _DIFF for text in _sides(row, name))) for row in rows[:ROWS_MAX]]
    title = f"<b>Diff</b> · A = {_text(a)}, B = {_text(b)} · {counted(len(rows), 'region')}, {shown(equal)} equal"
    title += "" if region_maps is None else f"<br>warning: {_text(other_maps(region_maps))}"
    headings = ("region", *_DIFF_HEADINGS)
    return _fragment(title, headings, body, range(1, len(headings)), len(rows))


def world_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """The fields of entities that differ, where there are any."""
    names = ("entity_id", "change", "module", "field", "a", "b")
    body = [tuple(shown(row[name]) for name in names) for row in rows[:ROWS_MAX]]
    headings = ("entity", *names[1:4], "A", "B")
    return _fragment("<b>World</b>", headings, body, (), len(rows)) if rows else ""


def _sides(row: Mapping[str, Any], name: str) -> tuple[str, str, str]:
    return shown(row[f"{name}_a"]), shown(row[f"{name}_b"]), signed(row[f"{name}_delta"])


def _fragment(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int], total: int
) -> str:
    """A title, which is HTML already, and a table of texts."""
    head = "".join(_cell("th", heading, place in right) for place, heading in enumerate(headings))
    body = "".join(
        f"<tr>{''.join(_cell('td', text, place in right) for place, text in enumerate(row))}</tr>" for row in rows
    )
    more = f"<p>… and {shown(total - len(rows))} more</p>" if total > len(rows) else ""
    style = "font:inherit;border-collapse:collapse;border-spacing:0"
    return (
        f'<div style="font:13px/1.5 system-ui,sans-serif"><p>{title}</p>'
        f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>'
    )


def _texts(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        short(row["commit_id"]),
        str(row["shard"]),
        ticks(row["epoch_start"], row["epoch_end"]),
        shown(row["regions"]),
        shown(row["events"]),
        row["reason"],
        moment(row["created_at"]),
    )


def _cell(tag: str, text: str, right: bool) -> str:
    side = "right" if right else "left"
    return f'<{tag} style="padding:1px 12px 1px 0;text-align:{side}">{_text(text)}</{tag}>'


def _text(text: str) -> str:
    return escape(printable(text))
