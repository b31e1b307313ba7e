"""A branch's world events as one log: each has a position, counted from 1.

Events stand in the order in which they came to the branch, a parent's first, and those of one move by their clock
reading. So a cause stands before its effects, and an event of another node that comes late stands behind what came
before it, whatever its clock says: who remembers a position misses nothing. Only a reconciliation gives new positions,
to what came after its two sides had parted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.history import WorldFile
from ledger_cli.core.world import WORLD
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world import read_parquet

ANY_TYPE = "*"
POSITION = "position"
_ORDER = [("hlc", "ascending"), ("entity_id", "ascending"), ("version", "ascending")]
_TOLD = [name for name in WORLD.names if name != "event_hash"]


def log_length(branch: Branch) -> int:
    """The position of the last event, 0 without any."""
    return 0 if branch.state.world is None else branch.state.world.events


def shared_length(one: Branch, other: Branch) -> int:
    """How many events the logs of two branches begin with that are the same."""
    shared = 0
    for mine, theirs in zip(one.world_files(), other.world_files(), strict=False):
        if mine.file != theirs.file:
            break
        shared += mine.events
    return shared


def log_after(
    repository: Repository, branch: Branch, position: int, types: Sequence[str], limit: int
) -> tuple[pa.Table, int]:
    """The first `limit` events of some types behind a position: columns of `WORLD`, and `POSITION`.

    And the position up to which that is all of them.
    """
    found = _numbered(WORLD.empty_table().select(_TOLD), 0)
    for file, first, last in _files_after(branch, position):
        # Most files hold nothing for a module that listens to little: one column tells.
        if ANY_TYPE not in types and not _of_types(read_parquet(repository, file.file, ["type"]), types).num_rows:
            position = last
            continue
        table = _numbered(read_parquet(repository, file.file, _TOLD).sort_by(_ORDER), first)
        table = _of_types(table.slice(max(0, position - first)), types)
        found = pa.concat_tables([found, table])
        if found.num_rows >= limit:
            found = found.slice(0, limit)
            return found, found[POSITION][-1].as_py() if found.num_rows else position
        position = last
    return found, position


def count_after(repository: Repository, branch: Branch, position: int, types: Sequence[str], upto: int) -> int:
    """How many events of some types stand behind a position, up to another one."""
    if ANY_TYPE in types:
        return max(0, upto - position)
    counted = 0
    for file, first, last in _files_after(branch, position):
        if first >= upto:
            break
        if first < position or last > upto:
            columns = ["type", *(name for name, _ in _ORDER)]
            table = read_parquet(repository, file.file, columns).sort_by(_ORDER)
            table = table.slice(max(0, position - first), min(last, upto) - max(position, first))
        else:
            table = read_parquet(repository, file.file, ["type"])
        counted += _of_types(table, types).num_rows
    return counted


def _files_after(branch: Branch, position: int) -> Iterator[tuple[WorldFile, int, int]]:
    """The files with events behind a position, each with the events before it and up to its end."""
    first = 0
    for file in branch.world_files():
        if first + file.events > position:
            yield file, first, first + file.events
        first += file.events


def _numbered(table: pa.Table, first: int) -> pa.Table:
    return table.append_column(POSITION, pa.array(range(first + 1, first + 1 + table.num_rows), pa.int64()))


def _of_types(table: pa.Table, types: Sequence[str]) -> pa.Table:
    if ANY_TYPE in types:
        return table
    there = pc.unique(table["type"])
    wanted = [name for name in there.to_pylist() if any(fnmatchcase(name, each) for each in types)]
    return table.filter(pc.is_in(table["type"], pa.array(wanted, pa.string())))
