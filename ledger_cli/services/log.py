"""`ledger log` and `ledger show`: the commits of a branch, newest first.

Newest means the highest end of an epoch; of a shard's commits on one epoch the last made comes first. Only as
many files are read as the answer needs, those that reach highest first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ledger_cli.core.contributors import COLUMN, CONTRIBUTORS
from ledger_cli.core.moments import Ints
from ledger_cli.core.policy import shard_of
from ledger_cli.errors import UsageError
from ledger_cli.services.commits import EVENTS, REGIONS, policies_of, read_commits
from ledger_cli.services.lineage import OwnedSlice, holding, made_at, owned_slices
from ledger_cli.services.lookup import Place, commit_of
from ledger_cli.services.repository import Branch, Repository

HEADER = (
    "commit_id",
    "digest",
    "layer",
    "shard",
    "height",
    "epoch_start",
    "epoch_end",
    "parents",
    "policy",
    "metadata",
    "reason",
)
_SUMMARY = (REGIONS, EVENTS)
_ORDER = [
    ("epoch_end", "descending"),
    ("shard", "ascending"),
    ("height", "descending"),
]
_MADE = pa.schema([("created_at", pa.string()), ("by", pa.string()), ("branch", pa.string())])
_FIRST_FILES = 4
_SHOWN = 5
"""Commits in the text of a page."""


@dataclass(frozen=True)
class LogPage:
    """Commits, newest first. Columns of `table`: `HEADER`, `regions` and `events` (how many of each),
    `created_at`, `by` and `branch` (of the move that added the commit), and `entries` where asked for.
    """

    branch: str
    table: pa.Table

    def to_json(self) -> list[dict[str, Any]]:
        """A list of commits as printed with `--json`."""
        return [commit_json(row) for row in self.table.to_pylist()]

    def __repr__(self) -> str:
        lines = [f"LogPage of {self.branch}: {self.table.num_rows:,} commits, newest first"]
        for row in self.table.slice(0, _SHOWN).to_pylist():
            place = f"shard {row['shard']}, ticks {row['epoch_start']}…{row['epoch_end']}"
            lines.append(f"  {row['commit_id']}  {place}, {row['regions']:,} regions, {row['events']:,} events")
        return "\n".join(lines if self.table.num_rows <= _SHOWN else [*lines, "  …"])


@dataclass(frozen=True)
class CommitView:
    """One commit with its entries: a row of `LogPage.table`, and the policy that it was made under."""

    branch: str
    table: pa.Table
    policy: dict[str, Any] | None
    entity_refs: Mapping[str, Sequence[str]] | None = None
    """By region, the entities that gave it most weight, the first the most; None: the setting `entity_refs` was 0."""

    @cached_property
    def header(self) -> dict[str, Any]:
        """The row without its entries."""
        row: dict[str, Any] = self.table.drop_columns(["entries"]).to_pylist()[0]
        return row

    @property
    def entries(self) -> pa.Table:
        """One row a region, as in `core.commit.ENTRY`, and `entity_refs` where they are known."""
        entries = pa.Table.from_struct_array(self.table["entries"].combine_chunks().flatten())
        if self.entity_refs is None:
            return entries
        listed = [list(self.entity_refs.get(region, ())) for region in entries["region"].to_pylist()]
        return entries.append_column(COLUMN, pa.array(listed, CONTRIBUTORS.field(COLUMN).type))

    def to_json(self) -> dict[str, Any]:
        """The commit as printed with `--json`."""
        shown = commit_json({**self.table.to_pylist()[0], "entries": self.entries.to_pylist()})
        return shown if self.policy is None else {**shown, "policySettings": self.policy}


def commit_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a commit in the shape `commit.entries`, with what is known beside it."""
    shown: dict[str, Any] = {
        "commitId": row["commit_id"],
        "layer": row["layer"],
        "shard": row["shard"],
        "epochStart": row["epoch_start"],
        "epochEnd": row["epoch_end"],
        "parents": row["parents"],
        "policy": row["policy"],
        "digest": row["digest"],
        "metadata": json.loads(row["metadata"]),
    }
    if "entries" in row:
        shown["entries"] = [entry_json(entry) for entry in row["entries"]]
    beside = {"height": "height", "reason": "reason", "regions": "regions", "events": "events"}
    beside |= {"created_at": "createdAt", "by": "by", "branch": "branch"}
    return shown | {shown_as: row[name] for name, shown_as in beside.items() if name in row}


def entry_json(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of a commit as printed with `--json`: floats, and the exact integers as decimal strings.

    `entityRefs` where they are known.
    """
    return {
        "region": entry["region"],
        "weight": entry["weight_value"],
        "activity_mean": entry["activity_mean"],
        "activity_var": entry["activity_var"],
        "count": entry["n"],
        "exact": {
            "n": str(entry["n"]),
            "activity": entry["activity"],
            "activity2": entry["activity2"],
            "weight": entry["weight"],
        },
        **({"entityRefs": entry[COLUMN]} if COLUMN in entry else {}),
    }


def log(
    repository: Repository,
    branch: str,
    region: str | None = None,
    since: int | None = None,
    until: int | None = None,
    limit: int | None = None,
    *,
    entries: bool = False,
) -> LogPage:
    """The commits of a branch, newest first.

    `region`: those with an entry of it. `since`, `until`: those whose epoch meets the ticks [since, until).
    `limit`: at most so many. UsageError where it is negative.
    """
    if limit is not None and limit < 0:
        raise UsageError(f"--limit must be 0 or more, not {limit}")
    found = repository.branch(branch)
    parts = _reaching(found, region, since, until)
    columns, condition = _columns(entries), _condition(found, region, since, until)
    tables = [read_commits(repository, found, columns, "false", [])]
    rows = 0
    for chosen, floor in _batches(parts, limit):
        tables.append(read_commits(repository, found, columns, condition, [each.part for each in chosen]))
        rows += tables[-1].num_rows
        if limit is not None and rows >= limit and _settled(tables, limit, floor):
            break
    table = pa.concat_tables(tables).sort_by(_ORDER)
    page = table if limit is None else table.slice(0, min(limit, table.num_rows))
    return LogPage(branch, _with_moves(repository, parts, page))


def show(repository: Repository, place: Place) -> CommitView:
    """A commit with its entries; of a branch the newest. NotFound where there is none."""
    commit = commit_of(repository, place)
    branch = repository.branch(place.branch)
    shard = str(commit.shard)
    holds = holding(branch, shard, commit.height)
    where = f"digest = '{commit.digest}'"
    found = read_commits(repository, branch, _columns(True), where, [each.part for each in holds])
    table = _with_moves(repository, holds, found.slice(0, 1))
    made = made_at(repository, branch, shard, commit.height)
    policy = policies_of(made).get(table["policy"][0].as_py())
    refs = _entity_refs(repository, holds, table["commit_id"][0].as_py())
    return CommitView(place.branch, table, None if policy is None else policy.to_json(), refs)


def _entity_refs(repository: Repository, holds: Sequence[OwnedSlice], commit_id: str) -> dict[str, list[str]] | None:
    files = [each.part.file for each in holds if each.part.file.contributors is not None]
    if not files:
        return None
    from ledger_cli.services.contributors import of_commit

    return of_commit(repository, files, commit_id)


def _reaching(branch: Branch, region: str | None, since: int | None, until: int | None) -> list[OwnedSlice]:
    """The files that may hold such commits, those that reach highest first."""
    shard = _shard_of(branch, region)
    chosen = [
        each
        for each in owned_slices(branch)
        if (since is None or each.part.file.epoch_max > since)
        and (until is None or each.part.file.epoch_min < until)
        and (shard is None or str(shard) in each.part.file.heights)
    ]
    return sorted(chosen, key=lambda each: -each.part.file.epoch_max)


def _batches(parts: Sequence[OwnedSlice], limit: int | None) -> Iterator[tuple[Sequence[OwnedSlice], int | None]]:
    """The files in ever larger batches, each with the highest end of an epoch in those that are left."""
    at, size = 0, len(parts) if limit is None else _FIRST_FILES
    while at < len(parts):
        after = at + size
        yield parts[at:after], parts[after].part.file.epoch_max if after < len(parts) else None
        at, size = after, size * 4


def _settled(tables: Sequence[pa.Table], limit: int, floor: int | None) -> bool:
    """Whether no file that is left can hold one of the first `limit` commits."""
    if floor is None or not limit:
        return True
    ends = np.sort(np.concatenate([table["epoch_end"].to_numpy() for table in tables]))
    return bool(ends[-limit] > floor)


def _shard_of(branch: Branch, region: str | None) -> int | None:
    policy = branch.policy
    return None if region is None or policy is None else shard_of(region, policy.shards)


def _condition(branch: Branch, region: str | None, since: int | None, until: int | None) -> str:
    parts = []
    if since is not None:
        parts.append(f"epoch_end > {since}")
    if until is not None:
        parts.append(f"epoch_start < {until}")
    if region is not None:
        named = region.replace("'", "''")
        parts.append(f"list_contains(list_transform(entries, lambda e: e.region), '{named}')")
        parts.append(f"shard = {_shard_of(branch, region) or 0}")
    return " AND ".join(parts)


def _columns(entries: bool) -> list[str]:
    return [*HEADER, *_SUMMARY, *(["entries"] if entries else [])]


def _with_moves(repository: Repository, parts: Sequence[OwnedSlice], table: pa.Table) -> pa.Table:
    """The commits with time, author and branch of the move that added each."""
    files = _file_of_row(parts, table)
    made = {}
    for place in np.unique(files).tolist():
        each = parts[place]
        move = repository.move(each.ref, each.part.file.arrival)
        made[place] = (move.at, move.by, each.ref)
    for column, field in enumerate(_MADE):
        values = [made[place][column] for place in files.tolist()]
        table = table.append_column(field, pa.array(values, pa.string()))
    return table


def _file_of_row(parts: Sequence[OwnedSlice], table: pa.Table) -> Ints:
    """The index of the file that each commit is in, by the heights that the files hold of each shard."""
    shards, heights = table["shard"].to_numpy(), table["height"].to_numpy()
    files = np.zeros(len(shards), dtype=np.int64)
    for shard in np.unique(shards).tolist():
        held = [
            (part.file.heights[str(shard)][0], place)
            for place, part in enumerate(each.part for each in parts)
            if str(shard) in part.file.heights
        ]
        first, place = np.array(sorted(held), dtype=np.int64).T
        mine = shards == shard
        files[mine] = place[np.searchsorted(first, heights[mine], side="right") - 1]
    return files
