"""Commits and refs in the tables of an SQL engine: all that such engines have in common.

Invariants: a piece of a batch is one transaction, so that a commit and its entries are there together or not at all;
the main path is plain inserts, after a look at what is there already; a move is inserted if its place is free, which
is the compare-and-set. An adapter gives sessions, which run statements, and the spelling of types.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.commit import REGION_COMMIT, CommitRow, EntryRow
from ledger_cli.core.events import ENTITY_STATE
from ledger_cli.core.slices import History
from ledger_cli.errors import Conflict, Corrupt, UsageError
from ledger_cli.ports import EVER, TickRange
from ledger_cli.stores.common.commits import CommitsBase
from ledger_cli.stores.common.moves import first_missing
from ledger_cli.stores.common.rows import (
    FLAT,
    HEADERS,
    STORED,
    apart,
    by_region,
    counts_of_summaries,
    entity_refs,
    missing,
    pieces,
    summaries,
    together,
)
from ledger_cli.stores.common.sql_schema import MIGRATIONS, Types

Result = TypeVar("Result")

_PAGE = 10_000
_ENTRIES_AT_ONCE = 250_000
_LOOKS = 3
_REFUSED = r"\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})"
_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A UUID as it is written. To make one of it takes four times as long."""
_NAME = re.compile(r"(?<!:):(\w+)")

_HEADER = """CAST(c.commit_id AS TEXT), c.digest, c.layer, c.shard, c.height, c.epoch_start, c.epoch_end,
    CAST(c.parents AS TEXT), c.policy, c.entries_digest, CAST(c.metadata AS TEXT), c.reason, c.regions,
    CASE WHEN c.archived THEN 1 ELSE 0 END"""
_HEADER_NAMES = [*HEADERS.names, "regions", "archived"]
_ENTRY = """e.region_id, e.n, CAST(e.sum_activity AS TEXT), CAST(e.sum_activity2 AS TEXT), CAST(e.sum_weight AS TEXT),
    e.weight, e.activity_mean, e.activity_var"""
_IN_REGION = f"""
    SELECT c.batch, CAST(e.commit_id AS TEXT), c.shard, c.height, e.epoch_start, e.epoch_end, {_ENTRY}
    FROM commit_entries e JOIN commits c ON c.commit_id = e.commit_id
    WHERE e.region_id = :region"""
_FROM = " AND e.epoch_end > :low"
_TO = " AND e.epoch_start < :high AND e.epoch_end < :high + (SELECT max(longest) FROM batches)"
"""A limit that excludes nothing would still be looked at for every row."""
_PARENTS = _HEADER_NAMES.index("parents")


class Session(Protocol):
    """Statements within one transaction. Values are named in SQL as `:name`."""

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """What a statement returns; nothing where it returns nothing."""
        ...

    def table(self, sql: str, schema: pa.Schema, **values: Any) -> pa.Table:
        """What a statement returns, for many rows: columns by place, of this schema."""
        ...

    def insert(self, table: str, rows: pa.Table, conflict: str = "") -> None:
        """Insert columns by name, in bulk. `conflict`: an ON CONFLICT clause."""
        ...


class SqlStore(CommitsBase):
    """See `ports.CommitStore`."""

    types: Types
    among: str
    """The condition that {column} is one of a list of texts :{name}, taken as {type}; for `str.format`."""
    version_exists: str
    """A SELECT that returns a row where there is a table schema_version."""
    time_text: str = "CAST(created_at AS TEXT)"
    """A batch's time of creation: RFC 3339 text, or µs since 1970."""

    def __init__(self) -> None:
        self._ends: dict[str, int] = {}
        """By ref, the last move that is known to have none missing before it."""
        self._known: set[str] = set()
        """Batches seen: what a history names is not removed."""

    @abstractmethod
    def _read(self, work: Callable[[Session], Result]) -> Result:
        """The result of statements that change nothing, done again where the engine was away."""

    @abstractmethod
    def _write(self, work: Callable[[Session], Result]) -> Result:
        """The result of a transaction, durable when it returns. It may be done several times."""

    def _rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._read(lambda session: session.rows(sql, **values))

    @abstractmethod
    def _name(self) -> str:
        """The store as it may be shown."""

    # -- schema -------------------------------------------------------------------------------------------

    def create(self) -> None:
        """See `ports.CommitStore`."""
        if self._read(self._version) != len(MIGRATIONS):
            self._write(self._migrate)

    def _version(self, session: Session) -> int:
        if not session.rows(self.version_exists):
            return 0
        version = int(session.rows("SELECT coalesce(max(version), 0) FROM schema_version")[0][0])
        if version > len(MIGRATIONS):
            raise UsageError(
                f"{self._name()} has tables of version {version}, this program knows {len(MIGRATIONS)}: "
                "install a newer ledger-cli"
            )
        return version

    def _migrate(self, session: Session) -> None:
        """One transaction: of those who come at once, the second finds it done."""
        if not session.rows(self.version_exists):
            session.rows("CREATE TABLE schema_version (version BIGINT PRIMARY KEY)")
        for version in range(self._version(session), len(MIGRATIONS)):
            for statement in self.types.statements(version):
                session.rows(statement)
            session.rows("INSERT INTO schema_version VALUES (:version)", version=version + 1)

    # -- refs ---------------------------------------------------------------------------------------------

    def branches(self) -> list[str]:
        """See `ports.Refs`."""
        return sorted(ref for (ref,) in self._rows("SELECT DISTINCT ref FROM moves"))

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        """See `ports.Refs`."""
        sql = "SELECT move FROM moves WHERE ref = :ref AND seq = :seq"
        found = self._rows(sql, ref=branch, seq=seq)
        return bytes(found[0][0]) if found else None

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        """See `ports.Refs`."""
        sql = "SELECT coalesce(max(seq), -1) FROM moves WHERE ref = :ref"
        return int(self._rows(sql, ref=branch)[0][0])

    def move_numbers(self, branch: str) -> list[int]:
        """See `ports.Refs`."""
        sql = "SELECT seq FROM moves WHERE ref = :ref ORDER BY seq"
        return [seq for (seq,) in self._rows(sql, ref=branch)]

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        """See `ports.Refs`."""
        attempts = 0

        def attempt(session: Session) -> None:
            nonlocal attempts
            attempts += 1
            sql = """SELECT (SELECT move FROM moves WHERE ref = :ref AND seq = :seq),
                (SELECT seq FROM moves WHERE ref = :ref AND seq = :seq - 1),
                (SELECT max(seq) FROM moves WHERE ref = :ref)"""
            there, before, last = session.rows(sql, ref=branch, seq=seq)[0]
            if there is None:
                if seq and before is None:
                    raise Conflict(f"branch {branch} has no move {seq - 1}: run the command again")
                self._refuse_holes(session, branch, seq, last)
                insert = "INSERT INTO moves (ref, seq, move) VALUES (:ref, :seq, :move) ON CONFLICT DO NOTHING"
                if session.rows(f"{insert} RETURNING seq", ref=branch, seq=seq, move=move):
                    return
                found = session.rows("SELECT move FROM moves WHERE ref = :ref AND seq = :seq", ref=branch, seq=seq)
                there = found[0][0] if found else None
            # An earlier attempt may have come through, and its acknowledgement not: then this is its move.
            if attempts == 1 or there is None or bytes(there) != move:
                raise Conflict(f"branch {branch} was moved by another process: run the command again")

        self._write(attempt)
        self._ends[branch] = seq

    def _refuse_holes(self, session: Session, branch: str, seq: int, last: int | None) -> None:
        """Corrupt where a move is missing before the last. Behind a move of its own this process counts none."""
        if (last is None or last < seq) and self._ends.get(branch) == seq - 1:
            return
        numbers = [
            number for (number,) in session.rows("SELECT seq FROM moves WHERE ref = :ref ORDER BY seq", ref=branch)
        ]
        hole = first_missing(numbers)
        if hole is not None:
            raise Corrupt(
                f"move {hole} of {branch} is missing, later ones are there: "
                f"restore the table moves of {self._name()} from a copy"
            )

    # -- writing commits ----------------------------------------------------------------------------------

    def persist_commits(self, batch: str, created_at: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`."""
        begun = False
        for piece in pieces(commits):
            self._write(partial(self._store, batch=batch, created_at=created_at, piece=piece))
            begun = True
        if not begun:
            self._write(lambda session: self._begin(session, batch, created_at, 0))

    def _begin(self, session: Session, batch: str, created_at: str, longest: int) -> None:
        sql = """INSERT INTO batches (batch, created_at, longest) VALUES (:batch, :created_at, :longest)
            ON CONFLICT (batch) DO UPDATE SET created_at = excluded.created_at, longest =
            CASE WHEN excluded.longest > batches.longest THEN excluded.longest ELSE batches.longest END"""
        session.rows(sql, batch=batch, created_at=created_at, longest=longest)

    def _store(self, session: Session, batch: str, created_at: str, piece: pa.Table) -> None:
        self._begin(session, batch, created_at, pc.max(pc.subtract(piece["epoch_end"], piece["epoch_start"])).as_py())
        sql = f"SELECT CAST(commit_id AS TEXT), batch FROM commits WHERE {self._chosen('commit_id')}"
        ids = piece["commit_id"].to_pylist()
        known = dict(session.rows(sql, ids=ids))
        places = {commit_id: place for place, commit_id in enumerate(ids) if commit_id not in known}
        fresh = piece if len(places) == len(ids) else piece.take(pa.array(places.values(), pa.int64()))
        if fresh.num_rows:
            session.insert("commits", _headers(batch, created_at, fresh))
            session.insert("commit_entries", _entries(created_at, fresh))
        elsewhere = [commit_id for commit_id, first in known.items() if first != batch]
        if elsewhere:
            repeats = pa.table({"commit_id": elsewhere, "batch": pa.repeat(batch, len(elsewhere))})
            session.insert("repeats", repeats, "ON CONFLICT DO NOTHING")

    def remove_batch(self, batch: str, before: str = EVER) -> bool:
        """See `ports.Commits`."""
        self._known.discard(batch)
        return self._write(lambda session: self._remove(session, batch, before))

    def _remove(self, session: Session, batch: str, before: str) -> bool:
        # Whoever begins it meanwhile waits for this row, and begins it anew.
        sql = f"""DELETE FROM batches WHERE batch = :batch AND created_at < CAST(:before AS {self.types.time})
            RETURNING batch"""
        if not session.rows(sql, batch=batch, before=before):
            return False
        for sql in (
            "DELETE FROM repeats WHERE batch = :batch",
            """UPDATE commits SET batch = (SELECT min(r.batch) FROM repeats r WHERE r.commit_id = commits.commit_id)
                WHERE batch = :batch AND commit_id IN (SELECT commit_id FROM repeats)""",
            "DELETE FROM commit_entries WHERE commit_id IN (SELECT commit_id FROM commits WHERE batch = :batch)",
            "DELETE FROM commits WHERE batch = :batch",
        ):
            session.rows(sql, batch=batch)
        session.rows(
            """DELETE FROM repeats WHERE EXISTS (
                SELECT 1 FROM commits c WHERE c.commit_id = repeats.commit_id AND c.batch = repeats.batch)"""
        )
        return True

    def archive_commits(self, batch: str, commit_ids: Sequence[str]) -> None:
        """See `ports.Commits`."""

        def drop(session: Session) -> None:
            chosen = self._chosen("commit_id")
            session.rows(f"UPDATE commits SET archived = true WHERE {chosen}", ids=list(commit_ids))
            session.rows(f"DELETE FROM commit_entries WHERE {chosen}", ids=list(commit_ids))

        self._write(drop)

    def restore_commits(self, batch: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`."""
        created_at = self.batches().get(batch)
        if created_at is None:
            raise missing(batch)

        def put(session: Session, piece: pa.Table) -> None:
            chosen = self._chosen("commit_id")
            sql = f"SELECT CAST(commit_id AS TEXT) FROM commits WHERE archived AND {chosen}"
            gone = [commit_id for (commit_id,) in session.rows(sql, ids=piece["commit_id"].to_pylist())]
            back = pc.and_(pc.is_in(piece["commit_id"], pa.array(gone, pa.string())), pc.is_valid(piece["entries"]))
            piece = piece.filter(back)
            if piece.num_rows:
                session.insert("commit_entries", _entries(created_at, piece))
                ids = piece["commit_id"].to_pylist()
                session.rows(f"UPDATE commits SET archived = false WHERE {chosen}", ids=ids)

        for piece in pieces(commits):
            self._write(partial(put, piece=piece))

    # -- reading commits ----------------------------------------------------------------------------------

    def batches(self) -> dict[str, str]:
        """See `ports.Commits`."""
        sql = f"SELECT batch, {self.time_text} FROM batches"
        return {batch: _rfc3339(at) for batch, at in self._rows(sql)}

    def read_commits(self, batch: str) -> Iterator[pa.Table]:
        """See `ports.Commits`."""
        if not self._rows("SELECT 1 FROM batches WHERE batch = :batch", batch=batch):
            raise missing(batch)
        columns, behind = f"{_HEADER}", "(c.shard, c.height) > (:shard, :height)"
        sql = f"""
            SELECT {columns} FROM commits c WHERE c.batch = :batch AND {behind}
            UNION ALL SELECT {columns} FROM repeats r JOIN commits c ON c.commit_id = r.commit_id
                WHERE r.batch = :batch AND {behind}
            ORDER BY shard, height LIMIT {_PAGE}"""
        place = (-1, -1)
        yield STORED.empty_table()
        while True:
            page = self._rows(sql, batch=batch, shard=place[0], height=place[1])
            for piece in _bounded(page):
                yield self._whole(batch, piece)
            if len(page) < _PAGE:
                return
            place = page[-1][3], page[-1][4]

    def _whole(self, batch: str, rows: list[tuple[Any, ...]]) -> pa.Table:
        """Rows of `STORED` of rows of `_HEADER`."""
        ids = [row[0] for row in rows]
        chosen = self._chosen("c.commit_id")
        sql = f"""SELECT CAST(e.commit_id AS TEXT), {_ENTRY} FROM commits c JOIN commit_entries e
            ON e.commit_id = c.commit_id WHERE NOT c.archived AND {chosen}"""
        for _ in range(_LOOKS):
            entries = self._read(lambda session: session.table(sql, FLAT, ids=ids))
            headers, archived = _table_of(rows)
            if entries.num_rows == sum(row[-2] for row in rows if not row[-1]):
                return together(headers, entries, archived)
            # Some were archived or restored meanwhile, or there are too few.
            again = f"SELECT {_HEADER} FROM commits c WHERE {chosen} ORDER BY c.shard, c.height"
            rows = self._rows(again, ids=ids)
        raise self._incomplete(batch)

    def read_counts(self, batch: str) -> pa.Table:
        """See `ports.Commits`."""
        of_repeats = "SELECT commit_id FROM repeats WHERE batch = :batch"
        rows = self._rows(
            f"""SELECT CAST(commit_id AS TEXT), CAST(summary AS TEXT) FROM commits
                WHERE batch = :batch OR commit_id IN ({of_repeats})""",
            batch=batch,
        )
        return counts_of_summaries([row[0] for row in rows], (row[1] for row in rows))

    def query_commit(self, history: History, commit_id: str) -> CommitRow | None:
        """See `ports.Commits`."""
        if not _is_id(commit_id):
            return None
        for _ in range(_LOOKS):
            batch, header, entries = self._read(lambda session: self._one(session, history, commit_id))
            if header is None:
                self._check(history)
                return None
            if header[-1] or len(entries) == header[-2]:
                return _row_of(header, entries)
        raise self._incomplete(batch)

    def _one(
        self, session: Session, history: History, commit_id: str
    ) -> tuple[str, tuple[Any, ...] | None, list[tuple[Any, ...]]]:
        """The first batch of a commit, its row of `_HEADER` if it is in a history, and its entries."""
        one = f"commit_id = CAST(:id AS {self.types.uuid})"
        found = session.rows(f"SELECT c.batch, {_HEADER} FROM commits c WHERE c.{one}", id=commit_id)
        if not found:
            return "", None, []
        batch, *header = found[0]
        if not history.holds(batch, header[3], header[4]):
            # Both in one statement: with its batch removed meanwhile, another one has become the first.
            others = session.rows(
                f"SELECT batch FROM repeats WHERE {one} UNION ALL SELECT batch FROM commits WHERE {one}", id=commit_id
            )
            if not any(history.holds(other, header[3], header[4]) for (other,) in others):
                return batch, None, []
        entries = session.rows(f"SELECT {_ENTRY} FROM commit_entries e WHERE e.{one}", id=commit_id)
        return batch, tuple(header), entries

    def query_commits_by_region(self, history: History, region: str, ticks: TickRange) -> pa.Table:
        """See `ports.Commits`."""
        self._check(history)
        asked, values = _IN_REGION, dict[str, Any](region=region)
        if ticks.start is not None:
            asked, values["low"] = asked + _FROM, ticks.start
        if ticks.end is not None:
            asked, values["high"] = asked + _TO, ticks.end

        def ask(session: Session) -> list[tuple[Any, ...]]:
            rows = session.rows(asked, **values)
            kept = [row for row in rows if history.holds(row[0], row[2], row[3])]
            if len(kept) == len(rows):
                return kept
            others = {row[1]: row for row in rows if not history.holds(row[0], row[2], row[3])}
            looks = (
                f"SELECT batch, CAST(commit_id AS TEXT) FROM {table} WHERE {self._chosen('commit_id')}"
                for table in ("repeats", "commits")  # in one statement, as in `_one`
            )
            for batch, commit_id in session.rows(" UNION ALL ".join(looks), ids=list(others)):
                row = others.get(commit_id)
                if row is not None and history.holds(batch, row[2], row[3]):
                    kept.append(others.pop(commit_id))
            return kept

        columns = list(zip(*self._read(ask), strict=True))[1:] or [()] * len(REGION_COMMIT)
        return by_region(pa.table([list(column) for column in columns], schema=REGION_COMMIT))

    def _check(self, history: History) -> None:
        """Corrupt where the store lacks a batch of a history."""
        unseen = [batch for batch in history.batches if batch not in self._known]
        if unseen:
            self._known.update(self.batches())
            for batch in unseen:
                if batch not in self._known:
                    raise missing(batch)

    def _incomplete(self, batch: str) -> Corrupt:
        return Corrupt(f"{self._name()} lacks entries of {batch}: restore it from a copy, then run `ledger verify`")

    # -- entities -----------------------------------------------------------------------------------------

    def upsert_entity_state(self, rows: pa.Table) -> None:
        """See `ports.Commits`."""
        latest = _latest(rows)
        for name in ("activity_history", "metadata"):
            texts = latest[name].combine_chunks()
            place = latest.schema.get_field_index(name)
            latest = latest.set_column(place, name, _for_onlookers(texts)).append_column(f"{name}_text", texts)
        names = [name for name in latest.schema.names if name != "entity_id"]
        conflict = f"""ON CONFLICT (entity_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in names)}
            WHERE excluded.last_tick >= entity_state.last_tick"""
        self._write(lambda session: session.insert("entity_state", latest, conflict))

    def entity_state(self, entities: Sequence[str] | None = None) -> pa.Table:
        """See `ports.Commits`."""
        sql = "SELECT entity_id, last_tick, activity, activity_history_text, metadata_text FROM entity_state"
        values: dict[str, Any] = {}
        if entities is not None:
            sql, values = (
                f"{sql} WHERE {self.among.format(column='entity_id', name='entities', type='TEXT')}",
                {"entities": list(entities)},
            )
        return self._read(lambda session: session.table(sql, ENTITY_STATE, **values)).sort_by("entity_id")

    def _chosen(self, column: str) -> str:
        """The condition that a commit id is one of `:ids`."""
        return self.among.format(column=column, name="ids", type=self.types.uuid)


def _headers(batch: str, created_at: str, piece: pa.Table) -> pa.Table:
    """Rows of the table commits."""
    size = piece.num_rows
    parents = pc.binary_join(piece["parents"].combine_chunks().cast(pa.list_(pa.string())), '","')
    listed = pc.binary_join_element_wise('["', parents, '"]', "")
    columns = {name: piece[name] for name in HEADERS.names}
    columns["parents"] = pc.if_else(pc.equal(parents, ""), "[]", listed)
    columns["created_at"] = pa.repeat(created_at, size)
    columns["summary"] = _for_onlookers(pa.array(summaries(piece), pa.string()))
    columns["batch"] = pa.repeat(batch, size)
    columns["regions"] = pc.fill_null(pc.list_value_length(piece["entries"]), 0).cast(pa.int64())
    columns["archived"] = pc.is_null(piece["entries"])
    return pa.table(columns)


def _entries(created_at: str, piece: pa.Table) -> pa.Table:
    """Rows of the table commit_entries of rows of `COMMIT`."""
    _, flat = apart(piece)
    parents = pc.list_parent_indices(piece["entries"].combine_chunks())
    told = entity_refs(piece)
    return pa.table(
        {
            **({} if told is None else {"entity_refs": _for_onlookers(told)}),
            "commit_id": flat["commit_id"],
            "region_id": flat["region"],
            "weight": flat["weight_value"],
            "activity_mean": flat["activity_mean"],
            "activity_var": flat["activity_var"],
            "created_at": pa.repeat(created_at, flat.num_rows),
            "n": flat["n"],
            "sum_activity": flat["activity"],
            "sum_activity2": flat["activity2"],
            "sum_weight": flat["weight"],
            "epoch_start": piece["epoch_start"].combine_chunks().take(parents),
            "epoch_end": piece["epoch_end"].combine_chunks().take(parents),
        }
    )


def _for_onlookers(texts: pa.Array) -> pa.Array:
    """JSON texts without what JSON types of engines refuse; nothing is read back from them."""
    return pc.replace_substring_regex(texts, _REFUSED, r"\\ufffd")


def _table_of(rows: Sequence[Sequence[Any]]) -> tuple[pa.Table, pa.Array]:
    """Rows of `_HEADER` as (rows of `HEADERS`, which of them are archived)."""
    columns = dict(zip(_HEADER_NAMES, zip(*rows, strict=True), strict=True))
    columns["parents"] = [_parents_of(text) for text in columns["parents"]]
    arrays = [pa.array(columns[name], HEADERS.field(name).type) for name in HEADERS.names]
    return pa.table(arrays, schema=HEADERS), pa.array(list(map(bool, columns["archived"])), pa.bool_())


def _row_of(header: Sequence[Any], entries: list[tuple[Any, ...]]) -> CommitRow:
    """The commit of a row of `_HEADER` and rows of `_ENTRY`."""
    *_, archived = header
    listed = None if archived else [EntryRow._make(each) for each in sorted(entries, key=_region)]
    parents = _parents_of(header[_PARENTS])
    return CommitRow._make((*header[:_PARENTS], parents, *header[_PARENTS + 1 : -2], listed))


def _parents_of(listed: str) -> list[str]:
    return listed[2:-2].split('","') if listed != "[]" else []


def _region(entry: tuple[Any, ...]) -> str:
    region: str = entry[0]
    return region


def _bounded(rows: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of `_HEADER` in runs that have some 250,000 entries at most, or one commit."""
    ends = np.cumsum([row[-2] for row in rows])
    first = 0
    while first < len(rows):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _ENTRIES_AT_ONCE, "right")))
        yield rows[first:last]
        first = last


def _latest(rows: pa.Table) -> pa.Table:
    """Of each entity the row with the highest tick, of equal ticks the last."""
    place = pa.array(np.arange(rows.num_rows))
    order = [(name, "ascending") for name in ("entity_id", "last_tick", "place")]
    ordered = rows.append_column("place", place).sort_by(order).select(ENTITY_STATE.names)
    ids = ordered["entity_id"].to_numpy()
    last = np.r_[ids[1:] != ids[:-1], True] if len(ids) else np.array([], bool)
    return ordered.filter(pa.array(last))


@lru_cache(maxsize=256)
def named(sql: str, form: str) -> str:
    """SQL with its `:name` in the form that another client has for them."""
    return _NAME.sub(form, sql)


def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def _rfc3339(at: str | int) -> str:
    """RFC 3339 UTC of a text that is it already, or of µs since 1970."""
    if isinstance(at, str):
        return at
    precision = "microseconds" if at % 1000 else "milliseconds"
    text = datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000)
    return text.isoformat(timespec=precision).replace("+00:00", "Z")
