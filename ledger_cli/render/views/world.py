"""`world` and `schema`: what became of events, and entities as they stand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType

from ledger_cli.render.common.tables import fields, more, table


def apply_table(result: Any) -> RenderableType:
    """What became of the events."""
    rows: list[tuple[str, Any]] = [
        ("read", result.read),
        ("applied", result.applied),
        ("duplicates", result.duplicates),
    ]
    if result.transient:
        rows.append(("transient", result.transient))
    rows += [(f"refused: {reason}", count) for reason, count in sorted(result.reasons.items())]
    return table(["events", "number"], rows, left=["events"])


def refusal_table(refusals: Sequence[Any], most: int | None) -> RenderableType:
    """Why events were refused."""
    from rich.console import Group

    shown = refusals[:most]
    rows = [(each.line, each.event_id, each.reason, each.detail) for each in shown]
    made = table(["line", "event", "reason", "why"], rows, left=["event", "reason", "why"])
    return Group(made, *more(len(refusals) - len(shown), "refusals", "--json lists them"))


def entity_view(found: Any) -> list[RenderableType]:
    """An entity, with its state as indented JSON."""
    raw = found.to_json()
    pairs = {"entity": raw["entityId"], "kind": raw["entityKind"], "version": raw["version"], "since": raw["hlc"]}
    return [fields(pairs), "", json.dumps(raw["state"], indent=2, ensure_ascii=False)]


def history_table(events: Sequence[Any]) -> RenderableType:
    """The events of an entity, oldest first."""
    rows = []
    for each in events:
        raw = each.to_json()
        payload = json.dumps(raw["payload"], ensure_ascii=False)
        rows.append((raw["version"], raw["hlc"], raw["type"], raw["eventId"], payload))
    titles = ["version", "hlc", "type", "event", "payload"]
    return table(titles, rows, left=titles[1:])


def found_json(table: Any) -> list[dict[str, Any]]:
    """Rows of the view `world` as JSON, their state as an object."""
    names = ("entityId", "entityKind", "version", "hlc", "eventId", "state")
    rows = (dict(zip(names, row.values(), strict=True)) for row in table.to_pylist())
    return [{**row, "state": json.loads(row["state"])} for row in rows]


def type_table(types: Sequence[Any]) -> RenderableType:
    """The types of events that are known."""
    rows = [(each.name, each.reducer, "any object" if each.schema is None else "JSON Schema") for each in types]
    return table(["type", "reducer", "payload"], rows, left=["type", "reducer", "payload"])
