"""`ledger sql`: a branch as tables, read-only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.history import ADMIN, digest_of_move
from ledger_cli.core.slices import by_condition
from ledger_cli.errors import NotWritten, UsageError
from ledger_cli.ports import Cache, SqlAnswer, SqlInput
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


@dataclass(frozen=True)
class OwnViews:
    """Views of the user's own: SELECTs by name, which may use each other.

    The rows of those in `kept` are kept among `copies`, and made anew once the branch or what is known of types moved.
    """

    selects: Mapping[str, str] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    copies: Cache | None = None


_NONE = OwnViews()


def sql(repository: Repository, branch: str, statement: str, views: OwnViews = _NONE) -> pa.Table:
    """The whole answer to one SELECT (see `sql_answer`)."""
    with sql_answer(repository, branch, statement, views=views) as answer:
        return pa.Table.from_batches(answer.batches, answer.schema)


def sql_answer(
    repository: Repository, branch: str, statement: str, at: Moment | None = None, views: OwnViews = _NONE
) -> AbstractContextManager[SqlAnswer]:
    """The answer to one SELECT over the views of a branch (`ports.SQL_VIEWS`) and the user's own, batch by batch.

    `refs` is of the whole ledger. With `at` the branch is as it was then, and so is `world`.
    UsageError, in one line, for what cannot be answered or does more than read.
    """
    found = repository.branch(branch) if at is None else at.branch
    # The past is not asked for often enough to be kept.
    kept = keep_views(repository, found, views, statement) if at is None else {}
    return _answer(repository, found, statement, at, views, {name: path for name, (_, path) in kept.items()})


def keep_views(
    repository: Repository, branch: Branch, views: OwnViews, statement: str | None = None
) -> dict[str, tuple[str, Path]]:
    """The kept views of a branch, made where they are not fresh: by name, the key and the path of each one's copy.

    `statement`: those alone that it may read. A view that cannot be kept (its SQL is wrong, a column has no type in
    Parquet, no room) is left out: it is computed where it is asked for, and that says what is wrong.
    """
    copies = views.copies
    if copies is None or not views.kept:
        return {}
    read = None if statement is None else _with_views(statement, views.selects)
    kept = dict[str, tuple[str, Path]]()
    for name in sorted(views.kept):
        if read is not None and not _mentions(read, name.lower()):
            continue
        key = f"views/{_state_of(repository, branch, views, name)}.parquet"
        path = copies.get(key)
        if path is None:
            others = {each: at for each, (_, at) in kept.items()}
            try:
                with (
                    _answer(repository, branch, f'FROM "{name}"', None, views, others) as answer,
                    copies.draft() as draft,
                ):
                    with pq.ParquetWriter(draft, answer.schema, compression="zstd") as file:
                        for batch in answer.batches:
                            file.write_batch(batch)
                    path = copies.add(key, draft)
            except (UsageError, NotWritten, pa.ArrowException):
                continue
        kept[name] = key, path
    return kept


def _state_of(repository: Repository, branch: Branch, views: OwnViews, name: str) -> str:
    """A digest of all that the rows of a view are made of."""
    admin = repository.find(ADMIN)
    refs = repository.store.branches() if _mentions(_with_views(name, views.selects), "refs") else []
    parts = [
        [version("ledger-cli"), name, sorted(views.selects.items())],
        [branch.name, digest_of_move(branch.raw), "" if admin is None else digest_of_move(admin.raw)],
        [(ref, repository.store.latest_seq(ref)) for ref in refs],
    ]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _answer(
    repository: Repository,
    found: Branch,
    statement: str,
    at: Moment | None,
    views: OwnViews,
    kept: Mapping[str, Path],
) -> AbstractContextManager[SqlAnswer]:
    read = _with_views(statement, {name: select for name, select in views.selects.items() if name not in kept})
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
        views=dict(views.selects),
        kept=dict(kept),
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
