"""`reconcile`: what two histories have in common, what each adds, and what becomes of every conflict."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import RenderableType

from ledger_cli.render.common.tables import fields, more, table
from ledger_cli.render.common.words import counted, shown

_OUTCOMES = {
    "nothing": "{b} is part of {a}: nothing to do",
    "advance": "{a} is part of {b}: it just moves on",
    "merge": "both have something new: their events are folded anew from the split",
}


def plan_views(plan: Any, most: int | None) -> list[RenderableType]:
    """A plan: the outcome, the counts, the conflicts of ticks and those of the world."""
    views: list[RenderableType] = [fields(_pairs(plan))]
    ticks, world = plan.ticks.conflicts, plan.world.conflicts
    if ticks:
        rows = [_tick_row(conflict) for conflict in ticks[:most]]
        views += ["", table(["entity", "tick", "kept", "refused"], rows)]
        views += more(len(plan.ticks.losers) - len(rows), "conflicts", "--json lists 1 000, quarantine has all")
    if world:
        written = [(c.entity_id, f"{c.module}.{c.field}", c.rule, c.a, c.b, c.later) for c in world[:most]]
        views += ["", table(["entity", "field", "rule", plan.a, plan.b, "later"], written)]
        views += more(len(world) - len(written), "fields", "--limit N shows more, --json 1 000")
    if plan.world.refused:
        told = [(reason, text) for text, reason in plan.world.refused[:most]]
        views += ["", table(["refused", "event"], told)]
        views += more(len(plan.world.refused) - len(told), "events", "--json lists 1 000")
    return views


def _tick_row(conflict: Any) -> tuple[str, str, str, str]:
    """The key of two events, and what each has otherwise than the other one."""
    kept, refused = json.loads(conflict.kept), json.loads(conflict.refused)
    names = [name for name in {**kept, **refused} if kept.get(name) != refused.get(name)]

    def told(event: dict[str, Any], branch: str) -> str:
        return f"{branch}: " + ", ".join(f"{name} {_value(name, event.get(name))}" for name in names)

    return kept["entityId"], str(kept["tickId"]), told(kept, conflict.kept_of), told(refused, conflict.refused_of)


def _value(name: str, value: Any) -> str:
    if name != "timestamp" or value is None:
        return shown(value)
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")


def _pairs(plan: Any) -> dict[str, Any]:
    split = plan.split
    kept = sum(split.keep.values())
    where = "no commit" if not kept else f"{counted(kept, 'commit')}, watermark {split.watermark}"
    return {
        "outcome": _OUTCOMES[plan.outcome].format(a=plan.a, b=plan.b),
        "in common": where,
        "ticks": _counts(plan, plan.ticks, len(plan.ticks.losers)),
        "world events": _counts(plan, plan.world, len(plan.world.conflicts)),
    }


def _counts(plan: Any, union: Any, conflicts: int) -> str:
    in_both = f", {shown(union.both)} since then in both" if union.both else ""
    apart = f"{shown(union.only_a)} only in {plan.a}, {shown(union.only_b)} only in {plan.b}"
    return f"{apart}{in_both}; {counted(conflicts, 'conflict')}"


def reconciled_line(made: Any) -> str:
    """What became of it, in a line."""
    plan = made.plan
    if plan.outcome == "nothing" and made.branch == plan.a:
        return f"{plan.b} is part of {plan.a} already: nothing changed"
    if plan.outcome != "merge":
        return f"{made.branch} is at the head of {plan.b if plan.outcome == 'advance' else plan.a} now"
    kept = "" if made.kept is None else f"; {made.kept} keeps what {plan.a} was"
    conflicts = len(plan.ticks.losers) + len(plan.world.conflicts)
    return f"{made.branch} holds the events of {plan.a} and {plan.b} now ({counted(conflicts, 'conflict')}){kept}"
