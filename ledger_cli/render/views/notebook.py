"""The log as a fragment of HTML for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ledger_cli.render.common.words import counted, moment, printable, short, shown, ticks

ROWS_MAX = 20
_HEADINGS = ("commit", "shard", "ticks", "regions", "events", "closed by", "made (UTC)")
_RIGHT = (1, 3, 4)


def log_html(branch: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A heading and the newest commits, on any background."""
    cut = rows[:ROWS_MAX]
    head = "".join(_cell("th", place, heading) for place, heading in enumerate(_HEADINGS))
    body = "".join(
        f"<tr>{''.join(_cell('td', place, text) for place, text in enumerate(_texts(row)))}</tr>" for row in cut
    )
    rest = len(rows) - len(cut)
    more = f"<p>… and {shown(rest)} more</p>" if rest else ""
    style = "font:inherit;border-collapse:collapse;border-spacing:0"
    return (
        '<div style="font:13px/1.5 system-ui,sans-serif">'
        f"<p><b>Log</b> · {_text(branch)} · {counted(len(rows), 'commit')}</p>"
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


def _cell(tag: str, place: int, text: str) -> str:
    side = "right" if place in _RIGHT else "left"
    return f'<{tag} style="padding:1px 12px 1px 0;text-align:{side}">{_text(text)}</{tag}>'


def _text(text: str) -> str:
    return escape(printable(text))
