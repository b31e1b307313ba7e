"""`replay` and `verify`: what was checked, and what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType

from ledger_cli.render.common.tables import fields, more, table
from ledger_cli.render.common.words import counted, shown, ticks

_INTEGERS = ("n", "activity", "activity2", "weight")


def replay_views(report: Any, most: int | None) -> list[RenderableType]:
    """What a verification by replay found; the first difference region by region."""
    done = f"{counted(report.commits, 'commit')} of {counted(report.runs, 'run')}"
    left_out = f" ({counted(report.skipped, 'run')} left out)" if report.skipped else ""
    if report.difference is None:
        return [f"{report.branch}: {done} recomputed{left_out}, all equal", f"branch digest {report.digest}"]
    return [f"{report.branch}: {done} compared{left_out} before a difference", *_difference(report.difference, most)]


def _difference(found: Any, most: int | None) -> Iterator[RenderableType]:
    yield found.message
    if found.stored is not None or found.recomputed is not None:
        yield ""
        yield fields({"stored": _commit(found.stored), "recomputed": _commit(found.recomputed)})
    if found.header:
        yield ""
        rows = [(name, *map(_plain, pair)) for name, pair in found.header.items()]
        yield table(["header", "stored", "recomputed"], rows)
    if found.regions:
        yield ""
        changed = [row for region in found.regions for row in _changed(region)]
        cut = changed if most is None else changed[:most]
        made = table(["region", "exact sum", "stored", "recomputed"], cut)
        for column in made.columns[2:]:
            column.justify = "right"
        yield made
        yield from more(len(changed) - len(cut), "sums that differ", "--json shows all")


def _changed(region: Any) -> Iterator[tuple[str, str, str | None, str | None]]:
    stored: Mapping[str, str] = region.stored or {}
    recomputed: Mapping[str, str] = region.recomputed or {}
    for name in _INTEGERS:
        if stored.get(name) != recomputed.get(name):
            yield region.region, name, stored.get(name), recomputed.get(name)


def _commit(commit: Any) -> str | None:
    if commit is None:
        return None
    where = ticks(commit.epoch_start, commit.epoch_end)
    return f"{commit.commit_id} (shard {commit.shard}, commit {commit.height}, ticks {where})"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


def integrity_views(report: Any) -> list[RenderableType]:
    """What was read, and a line for each finding."""
    read = (
        f"{counted(report.refs, 'ref')}, {counted(report.moves, 'move')}, {counted(report.files, 'file')} "
        f"({shown(report.bytes)} bytes) and {counted(report.commits, 'commit')} read"
    )
    if not report.findings:
        return [f"{read}: all as written"]
    rows = ((each.file, each.what, each.next_step) for each in report.findings)
    return [table(["file", "finding", "next step"], rows), f"{read}; {counted(len(report.findings), 'finding')}"]
