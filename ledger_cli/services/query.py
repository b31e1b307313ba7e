"""`ledger sql`: a branch as tables, read-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa

from ledger_cli.core.slices import by_condition
from ledger_cli.ports import SqlAnswer, SqlInput
from ledger_cli.services.lineage import owned_slices
from ledger_cli.services.moment import Moment
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world import ENTITIES, entity_table
from ledger_cli.services.world_query import entities_at
from ledger_cli.services.world_types import reducer_of, registered

REFS = pa.schema(
    [
        ("branch", pa.string()),
        ("seq", pa.int64()),
        ("kind", pa.string()),
        ("at", pa.string()),
        ("by", pa.string()),
        ("why", pa.string()),
        ("watermark", pa.int64()),
        ("commits", pa.int64()),
    ]
)
"""Every move of every ref, those of deleted branches and of `admin` among them."""

_COMMIT_MOVES = pa.schema(
    [
        ("shard", pa.int64()),
        ("height", pa.int64()),
        ("created_at", pa.string()),
        ("by", pa.string()),
        ("branch", pa.string()),
    ]
)

_NO_VIEWS: Mapping[str, str] = {}


def sql(repository: Repository, branch: str, statement: str, views: Mapping[str, str] = _NO_VIEWS) -> pa.Table:
    """The whole answer to one SELECT (see `sql_answer`)."""
    with sql_answer(repository, branch, statement, views=views) as answer:
        return pa.Table.from_batches(answer.batches, answer.schema)


def sql_answer(
    repository: Repository,
    branch: str,
    statement: str,
    at: Moment | None = None,
    views: Mapping[str, str] = _NO_VIEWS,
) -> AbstractContextManager[SqlAnswer]:
    """The answer to one SELECT over the views of a branch (`ports.SQL_VIEWS`), batch by batch.

    `views`: further ones by name, each a SELECT. `refs` is of the whole ledger. With `at` the branch is as it was
    then, and so is `world`.
    UsageError, in one line, for what cannot be answered or does more than read.
    """
    found = repository.branch(branch) if at is None else at.branch
    read = _with_views(statement, views)
    commits = list(by_condition(found.commit_slices()).items())
    world_events = found.world_files() if _mentions(read, "world_events") else ()
    given = SqlInput(
        ticks=[segment.file for segment in found.segments()] if _mentions(read, "ticks", "entity_state") else (),
        commits=commits if _mentions(read, "commit_entries") else (),
        contributors=_contributors(found) if _mentions(read, "commit_entries") else (),
        headers=commits if _mentions(read, "commits") else (),
        quarantine=found.quarantine() if _mentions(read, "quarantine") else (),
        world_events=[file.file for file in world_events],
        tables={
            "commit_moves": _commit_moves(repository, found, _mentions(read, "commits")),
            "refs": _refs(repository, _mentions(read, "refs")),
            "world": _world(repository, found, at) if _mentions(read, "world") else ENTITIES.empty_table(),
        },
        views=dict(views),
    )
    return repository.engine.sql(given, statement)


def _contributors(branch: Branch) -> list[tuple[str, list[str]]]:
    """The files of contributors under the conditions of their batches; few where the setting was off."""
    slices = branch.commit_slices()
    names = {each.file.file: each.file.contributors.file for each in slices if each.file.contributors is not None}
    grouped = by_condition(each for each in slices if each.file.file in names)
    return [(condition, [names[file] for file in files]) for condition, files in grouped.items()]


def _with_views(statement: str, views: Mapping[str, str]) -> str:
    """A statement with the SQL of all views that it may read, also by way of others."""
    text, left = statement, dict(views)
    while found := [name for name in left if _mentions(text, name.lower())]:
        text = "\n".join([text, *(left.pop(name) for name in found)])
    return text


def _mentions(statement: str, *views: str) -> bool:
    """Whether one of some views may be read.

    What costs a look at every move, or would be fetched from an archive, is left out where nobody asks for it.
    """
    text = statement.lower()
    return any(view in text for view in (*views, "query"))


def _commit_moves(repository: Repository, branch: Branch, wanted: bool) -> pa.Table:
    """By shard and first height, the move that each file of commits came with."""
    rows = []
    for each in owned_slices(branch) if wanted else []:
        move = repository.move(each.ref, each.part.file.arrival)
        for shard, (first, _) in each.part.file.heights.items():
            rows.append((int(shard), first, move.at, move.by, each.ref))
    return _table(rows, _COMMIT_MOVES)


def _world(repository: Repository, branch: Branch, at: Moment | None) -> pa.Table:
    """One row an entity."""
    last = None if at is None else at.last
    return entity_table(entities_at(repository, branch, reducer_of(registered(repository)), last))


def _refs(repository: Repository, wanted: bool) -> pa.Table:
    return _table(list(_moves(repository)) if wanted else [], REFS)


def _moves(repository: Repository) -> Iterator[tuple[Any, ...]]:
    for name in repository.store.branches():
        for move in repository.moves(name, 0, repository.store.latest_seq(name)):
            state = move.state
            yield name, move.seq, move.kind, move.at, move.by, move.why, state.watermark, state.commits


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
