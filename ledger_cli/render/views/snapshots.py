"""`snapshot` and `doctor`: cuts through a world, and what was checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType

from ledger_cli.render.common.tables import fields, table
from ledger_cli.render.common.words import counted, moment, shown


def created_line(made: Any) -> str:
    """A snapshot that was made, or was there already."""
    one = made.record
    entities = counted(one.entities, "entity", "entities")
    there = "" if made.made else " is there already"
    return f"snapshot {one.id} of {one.branch}{there}: {entities} by {counted(one.events, 'event')}, at {one.hlc}"


def snapshot_table(found: Sequence[Any]) -> RenderableType:
    """Snapshots, newest first."""
    if not found:
        return "no snapshots yet: `ledger snapshot create` makes one"
    rows = [
        (str(one.id), one.events, one.entities, one.bytes, one.hlc, str(one.digest)[:12], moment(one.at))
        for one in (each.record for each in found)
    ]
    titles = ["id", "events", "entities", "bytes", "clock at the cut", "digest", "made (UTC)"]
    return table(titles, rows, left=titles[4:])


def snapshot_views(found: Any) -> list[RenderableType]:
    """A snapshot, and its files."""
    one = found.record
    pairs = {
        "snapshot": str(one.id),
        "branch": f"{one.branch}, move {one.move}",
        "events": one.events,
        "entities": one.entities,
        "clock": one.hlc,
        "digest": one.digest,
        "made": f"{moment(one.at)} UTC by {one.by}" + (f": {one.why}" if one.why else ""),
    }
    rows = [(each.file, each.module, each.rows, each.bytes, each.digest[:12]) for each in found.files]
    return [fields(pairs), "", table(["file", "module", "rows", "bytes", "digest"], rows, left=["digest"])]


def restored_line(done: Any) -> str:
    """What was brought back."""
    where = (
        f"{done.branch} begins as {done.source} was at" if done.branch != done.source else f"{done.branch} stands on"
    )
    tail = f" and the {counted(done.tail, 'event')} since" if done.tail else ""
    proof = "as a replay from nothing makes it" if done.verified else "not compared with a replay"
    entities = counted(done.entities, "entity", "entities")
    return f"{where} snapshot {done.snapshot}{tail}: {entities}, {proof}"


def proof_views(proof: Any) -> list[RenderableType]:
    """A line where all is well, else the findings."""
    if proof.ok:
        events = counted(proof.events, "event")
        return [
            f"snapshot {proof.snapshot} of {proof.branch}: all files as written; a replay of {events} gives the same",
            f"state digest {proof.digest}",
        ]
    return [table(["file", "finding"], proof.findings)]


def doctor_table(checks: Sequence[Any]) -> RenderableType:
    """What was looked at."""
    return table(["check", "well", "found"], [(each.name, shown(each.ok), each.found) for each in checks])
