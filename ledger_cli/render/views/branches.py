"""`status`, `branch`, `tag` and `fork`: where the lines of history stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from ledger_cli.render.common.tables import fields, table
from ledger_cli.render.common.words import counted, moment, short, shown, ticks
from ledger_cli.render.views.history import policy_text


def status_pairs(status: Any) -> dict[str, Any]:
    """A branch as it stands, by name."""
    parent = f" (a fork of {status.parent})" if status.parent else ""
    waiting = f"{shown(status.rows_open)} at or above the watermark, {shown(status.rows_late)} late"
    return {
        "branch": f"{status.branch}{parent}",
        "rows": f"{shown(status.rows)} in {counted(status.segments, 'segment')}",
        "highest tick": _tick(status.highest_tick),
        "watermark": _tick(status.watermark, "not set"),
        "rows waiting": waiting,
        "quarantined": status.quarantined,
        "commits": status.commits,
        "last run": _last_run(status.last_run),
        "policy": None if status.policy is None else policy_text(status.policy),
        "policy digest": status.policy_digest,
        "branch digest": status.digest,
        "moves": status.moves,
        "world": None if status.world is None else _world(status.world),
        **{f"transaction {name}": f"{each.stage}, with {each.ledger}" for name, each in status.transactions.items()},
        **({} if status.world is None else {"vector clock": _vector(status.world.clock)}),
        **({"waiting for a cause": counted(status.waiting, "event")} if status.waiting else {}),
        **({} if status.world is None else {"state": _classes(status.world_classes)}),
        **{f"module {each.subscription.module}": _module(each) for each in status.health.modules},
        **{f"clock of {each.node}": _clock(each) for each in status.health.nodes},
        **({"archived": _archived(status.archives)} if status.archives else {}),
        "forks": ", ".join(status.forks) or None,
        "tags": ", ".join(sorted(status.tags)) or None,
    }


def _archived(archives: Any) -> str:
    records = [each.record for each in archives]
    commits = counted(sum(each.commits for each in records), "commit")
    files = sum(each.segments + each.world_files for each in records)
    unfinished = sum(not each.freed for each in records)
    told = f"entries of {commits}" + (f", {counted(files, 'file')} of events" if files else "")
    left = f" · {unfinished} UNFINISHED, run `ledger archive` again" if unfinished else ""
    return f"{told} in {counted(len(records), 'archive')} (of the whole ledger){left}"


def _world(world: Any) -> str:
    entities, events = counted(world.entities, "entity", "entities"), counted(world.events, "event")
    return f"{entities} by {events}, clock {world.hlc}"


def _module(found: Any) -> str:
    one = found.subscription
    behind = f"{counted(one.lag, 'event')} behind" if one.lag else "up to date"
    return f"{behind}, listens to {', '.join(one.types)}" + ("" if found.ok else " · TOO FAR BEHIND")


def _clock(found: Any) -> str:
    way = "ahead" if found.skew > 0 else "behind"
    return f"{abs(found.skew):.1f} s {way}, last at {found.hlc}" + ("" if found.ok else " · TOO FAR OFF")


def _classes(classes: Any) -> str:
    """The classes of state in which there is any."""
    lines = [
        f"{name}: {counted(each.entities, 'entity', 'entities')}, {counted(each.parts, 'part')}, "
        f"{counted(each.bytes, 'byte')}"
        for name, each in classes.items()
        if each.parts or name == "persistent"
    ]
    return "; ".join(lines)


def _vector(clock: Mapping[str, int]) -> str:
    return ", ".join(f"{name}:{move}" for name, move in sorted(clock.items()))


def status_views(status: Any) -> list[RenderableType]:
    """A branch as it stands, and the chain of each shard."""
    chains = (
        (int(shard), each.commits, None if each.head is None else each.head[:12], _tick(each.start))
        for shard, each in sorted(status.shards.items(), key=lambda item: int(item[0]))
    )
    made = table(["shard", "commits", "head digest", "open since tick"], chains, left=["head digest"])
    made.columns[-1].justify = "right"
    views: list[RenderableType] = [fields(status_pairs(status))]
    return [*views, "", made] if status.shards else views


def _tick(tick: int | None, missing: str | None = None) -> str | None:
    return missing if tick is None else str(tick)


def _last_run(run: Any) -> str | None:
    if run is None:
        return None
    final = ", final" if run.final else ""
    why = f": {run.why}" if run.why else ""
    return f"{run.kind} made {counted(run.commits, 'commit')}{final}, {moment(run.at)} UTC by {run.by}{why}"


def branch_table(branches: Sequence[Any]) -> RenderableType:
    """All branches."""
    columns = ["branch", "parent", "commits", "rows", "watermark", "digest", "made (UTC)"]
    rows = (
        (
            each.name,
            each.parent,
            each.commits,
            each.rows,
            _tick(each.watermark),
            each.digest[:12],
            moment(each.created_at),
        )
        for each in branches
    )
    made = table(columns, rows)
    made.columns[columns.index("watermark")].justify = "right"
    return made


def tag_table(tags: Sequence[Any]) -> RenderableType:
    """All tags; a commit that no branch holds any more is shown by its digest."""
    if not tags:
        return "no tags yet: `ledger tag NAME [COMMIT]` makes one"
    rows = []
    for each in tags:
        commit = each.commit
        where = None if commit is None else ticks(commit.epoch_start, commit.epoch_end)
        named = f"{each.digest[:12]} (on no branch)" if commit is None else short(commit.commit_id)
        rows.append((each.name, named, each.branch, None if commit is None else commit.shard, where))
    return table(["tag", "commit", "branch", "shard", "ticks"], rows)
