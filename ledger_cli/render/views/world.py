"""`world` and `schema`: what became of events, and entities as they stand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from ledger_cli.render.common.tables import fields, more, table
from ledger_cli.render.common.trees import as_tree
from ledger_cli.render.common.words import counted, printable


def apply_table(result: Any) -> RenderableType:
    """What became of the events."""
    rows: list[tuple[str, Any]] = [
        ("read", result.read),
        ("applied", result.applied),
        ("duplicates", result.duplicates),
    ]
    if result.transient:
        rows.append(("transient", result.transient))
    if result.waiting:
        rows.append(("waiting for a cause", result.waiting))
    rows += [(f"refused: {reason}", count) for reason, count in sorted(result.reasons.items())]
    return table(["events", "number"], rows, left=["events"])


def together_views(found: Any, most: int | None) -> list[RenderableType]:
    """What became of the events of two ledgers."""
    here, there = found.here, found.there
    rows: list[tuple[str, Any, Any]] = [
        (name, getattr(here, name), getattr(there, name)) for name in ("read", "applied", "duplicates")
    ]
    reasons = sorted({*here.reasons, *there.reasons})
    rows += [(f"refused: {reason}", here.reasons[reason], there.reasons[reason]) for reason in reasons]
    views: list[RenderableType] = [table(["events", "here", "there"], rows, left=["events"])]
    views += [refusal_table(side.refused, most) for side in (here, there) if side.refused]
    return views


def ended_table(ended: Sequence[Any]) -> RenderableType:
    """What became of transactions that were under way."""
    if not ended:
        return "no transaction is under way"
    rows = [(each.transaction, each.ledger, each.outcome) for each in ended]
    return table(["transaction", "with", "outcome"], rows, left=["transaction", "with", "outcome"])


def refusal_table(refusals: Sequence[Any], most: int | None) -> RenderableType:
    """Why events were refused."""
    from rich.console import Group

    shown = refusals[:most]
    rows = [(each.number, each.event_id, each.reason, each.detail) for each in shown]
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


def graph_views(graph: Any, most: int | None) -> list[RenderableType]:
    """A graph (`services.world_graph.WorldGraph`) as a tree, each relation once."""
    from rich.tree import Tree

    kinds = {each.entity_id: each.kind or "no entity" for each in graph.entities}
    tree = as_tree(graph)
    trees = {root: Tree(Text(printable(f"{root} ({kinds[root]})"))) for root in tree.roots}
    places, told = list(trees.items()), 0
    for name, place in places:
        # First those to what stands elsewhere in the tree, since they have nothing below them.
        lines = [(each, each.target, False) for each in tree.other if each.source == name]
        lines += [(each, end, True) for each, end in tree.below[name]]
        for each, end, leads_on in lines if most is None else lines[: most - told]:
            arrow = "→" if each.source == name else "←"
            elsewhere = "" if leads_on else ", also elsewhere here"
            below = place.add(Text(printable(f"{arrow} {end} ({kinds[end]}{elsewhere}): {each.label}")))
            told += 1
            if leads_on:
                places.append((end, below))
    return [*trees.values(), *more(len(graph.relations) - told, "relations", "--json lists them")]


def subscription_line(one: Any) -> str:
    """Where a module stands."""
    behind = f"{counted(one.lag, 'event')} to come" if one.lag else "up to date"
    return f"{one.module} listens to {', '.join(one.types)} on {one.branch} from event {one.cursor + 1} on: {behind}"


def subscription_table(found: Sequence[Any]) -> RenderableType:
    """The modules that listen to a branch."""
    if not found:
        return "no module listens yet: `ledger world subscribe MODULE` lets one"
    rows = [(each.module, ", ".join(each.types), each.cursor, each.lag) for each in found]
    return table(["module", "types", "cursor", "lag"], rows)


def delivered_lines(events: Sequence[Any]) -> list[str]:
    """Events, a line of JSON each."""
    return [json.dumps(each.to_json(), ensure_ascii=False) for each in events]


def type_table(types: Sequence[Any]) -> RenderableType:
    """The types of events that are known."""
    if not types:
        return "no types are registered yet: `ledger schema register MODULE.NAME.v1` does it"
    rows = [
        (
            each.name,
            each.reducer,
            "any object" if each.schema is None else "JSON Schema",
            ", ".join(f"{name}={rule}" for name, rule in each.fields.items()) or None,
            "; ".join(each.constraints) or None,
            each.until,
        )
        for each in types
    ]
    titles = ["type", "reducer", "payload", "fields", "constraints", "until"]
    # Without the columns in which nothing stands.
    shown = [place for place in range(len(titles)) if place < 3 or any(row[place] for row in rows)]
    named = [titles[place] for place in shown]
    return table(named, ([row[place] for place in shown] for row in rows), left=named)


def break_table(check: Any) -> RenderableType:
    """What a schema would break of another."""
    if check.compatible:
        return f"breaks nothing of {check.name}"
    rows = [(each.path, each.rule, each.detail) for each in check.breaks]
    return table(["payload", "rule", "what breaks"], rows, left=["payload", "rule", "what breaks"])
