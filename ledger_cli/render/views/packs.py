"""`compact`: what became of the small files."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from ledger_cli.render.common.tables import table
from ledger_cli.render.common.words import counted, shown

_TITLES = ["kind", "files", "bytes", "packs", "bytes of packs"]


def compaction_views(done: Any) -> list[RenderableType]:
    """What was packed, kind by kind, and what was taken away."""
    would = "would be " if done.dry_run else ""
    titles = _TITLES[:3] if done.dry_run else _TITLES
    rows = [(each.kind, each.files, each.bytes, each.packs, each.packed_bytes)[: len(titles)] for each in done.packed]
    found: list[RenderableType] = [table(titles, rows)] if rows else []
    found.append(f"{counted(done.files, 'file')} {would}packed" if rows else "no small files to pack")
    if done.removed:
        found.append(f"{counted(done.removed, 'packed file')} {would}taken away ({shown(done.removed_bytes)} bytes)")
    if done.waiting:
        found.append(f"{counted(done.waiting, 'packed file')} still there: `ledger compact` takes them away later")
    return found
