"""`reconcile`: what two histories have in common, what each adds, and what becomes of every conflict."""

from __future__ import annotations

import json
from typing import Any

from rich.console import RenderableType

from ledger_cli.render.common.conflicts import differing, outcome_words, payload_words
from ledger_cli.render.common.tables import fields, more, table
from ledger_cli.render.common.words import counted, shown


def plan_views(plan: Any, most: int | None) -> list[RenderableType]:
    """A plan: the outcome, the counts, the conflicts of ticks and those of the world."""
    views: list[RenderableType] = [fields(_pairs(plan))]
    ticks, world = plan.ticks.conflicts, plan.world.conflicts
    if ticks:
        rows = [_tick_row(conflict) for conflict in ticks[:most]]
        views += ["", table(["entity", "tick", "kept", "refused"], rows)]
        views += more(len(plan.ticks.losers) - len(rows), "conflicts", "--json lists 1 000, quarantine has all")
    if world:
        written = [(c.entity_id, f"{c.module}.{c.field}", c.rule, c.a, c.b, kept_words(plan, c)) for c in world[:most]]
        views += ["", table(["entity", "field", "rule", plan.a, plan.b, "kept"], written)]
        views += more(len(world) - len(written), "fields", "--limit N shows more, --json 1 000")
    if plan.world.refused:
        told = [refused_row(plan, each) for each in plan.world.refused[:most]]
        views += ["", table(["entity", "refused event", "type", "of", "payload", "why"], told)]
        views += more(len(plan.world.refused) - len(told), "events", "--json lists 1 000")
    return views


def kept_words(plan: Any, conflict: Any) -> str:
    """Whose value of a field stays."""
    words: dict[str, str] = {"a": plan.a, "b": plan.b, "both": "both", "neither": "to be decided"}
    return words[conflict.kept]


def refused_row(plan: Any, refused: Any) -> tuple[str, str, str, str, str, str]:
    """An event that the united world cannot have, and why."""
    event = json.loads(refused.text)
    of = {"a": plan.a, "b": plan.b, "both": "both", "neither": "a decision"}[refused.of]
    return event["entityId"], event["eventId"], event["type"], of, payload_words(event), refused.detail


def _tick_row(conflict: Any) -> tuple[str, str, str, str]:
    """The key of two events, and what each has otherwise than the other one."""
    kept, refused = json.loads(conflict.kept), json.loads(conflict.refused)
    told = f"{conflict.kept_of}: {differing(kept, refused)}", f"{conflict.refused_of}: {differing(refused, kept)}"
    return kept["entityId"], str(kept["tickId"]), *told


def _pairs(plan: Any) -> dict[str, Any]:
    split = plan.split
    kept = sum(split.keep.values())
    where = "no commit" if not kept else f"{counted(kept, 'commit')}, watermark {split.watermark}"
    return {
        "outcome": outcome_words(plan),
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
    kept = "" if made.kept is None else f"; {made.kept} keeps what {plan.a} was"
    if plan.outcome != "merge":
        return f"{made.branch} is at the head of {plan.b if plan.outcome == 'advance' else plan.a} now{kept}"
    conflicts = len(plan.ticks.losers) + len(plan.world.conflicts)
    return f"{made.branch} holds the events of {plan.a} and {plan.b} now ({counted(conflicts, 'conflict')}){kept}"


def synced_views(done: Any) -> list[RenderableType]:
    """A sync: what either ledger took in, and what became of its branch."""
    sides = (("here", done.here), (done.ledger, done.there))
    rows = [(name, made.ticks_taken_in, made.events_taken_in, reconciled_line(made)) for name, made in sides]
    return [table(["ledger", "ticks taken in", "world events taken in", "outcome"], rows)]
