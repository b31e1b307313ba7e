"""`archive` and `restore`: what went out of a ledger, and what came back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType

from ledger_cli.render.common.tables import table
from ledger_cli.render.common.words import counted, moment, shown


def archived_lines(done: Any) -> str:
    """What an archive holds, and what was finished of earlier ones."""
    lines = [
        f"finished archive {each.record.id}: {_held(each.record)} taken out of the ledger" for each in done.finished
    ]
    if done.made is None:
        return "\n".join([*lines, "nothing more to archive" if lines else "nothing to archive"])
    one = done.made.record
    if done.made.dry_run:
        return "\n".join([*lines, f"would archive {_held(one)}, {shown(one.bytes)} bytes"])
    return "\n".join([*lines, f"archive {one.id}: {_held(one)}, {shown(one.bytes)} bytes in {one.pointer}"])


def _held(one: Any) -> str:
    parts = []
    if one.commits:
        ticks = f"ticks {one.epoch_min}…{one.epoch_max}"
        entries = counted(one.entries, "entry", "entries")
        parts.append(f"{entries} of {counted(one.commits, 'commit')} ({ticks})")
    if one.segments:
        parts.append(counted(one.segments, "segment"))
    if one.world_files:
        parts.append(counted(one.world_files, "file of world events", "files of world events"))
    return ", ".join(parts)


def archive_table(found: Sequence[Any]) -> RenderableType:
    """Archives, newest first."""
    if not found:
        return "no archives yet: `ledger archive` makes one"
    rows = [
        (
            str(one.id),
            each.to_json()["state"],
            one.commits,
            "–" if one.epoch_min is None else f"{one.epoch_min}…{one.epoch_max}",
            one.segments + one.world_files,
            one.bytes,
            moment(one.at),
            one.pointer,
        )
        for each in found
        for one in (each.record,)
    ]
    titles = ["id", "state", "commits", "ticks", "files", "bytes", "made (UTC)", "pointer"]
    return table(titles, rows, left=["state", "made (UTC)", "pointer"])


def restored_lines(done: Sequence[Any]) -> str:
    """What came back."""
    lines = []
    for each in done:
        parts = [f"entries of {counted(each.commits, 'commit')}"] if each.commits or not each.files else []
        parts += [counted(each.files, "file")] if each.files else []
        lines.append(f"restored from archive {each.record.id}: {', '.join(parts)}")
    return "\n".join(lines) or "nothing to restore: what was archived of these ticks is back already"
