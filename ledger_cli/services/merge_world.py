"""The world events of two branches as one log: united by id, ordered by their clock readings, numbered anew.

Readings respect causes, and each entity's ascend on either side; so the union ordered by (reading, entity id, event
id) is a history that both sides could have had, and it is the same whichever side is named first. An event that
both sides have under different readings happened at the lower one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.history import QuarantineFile, WorldCheckpoint, WorldFile, WorldState
from ledger_cli.core.world import WORLD
from ledger_cli.services.refusals import QUARANTINE, quarantined
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world_query import Transition

LISTED = 1000
"""Conflicts that a plan lists."""
_EVENTS_PER_FILE = 100_000

_COLUMNS = ", ".join(name for name in WORLD.names if name != "version")
_TOLD = "concat_ws(chr(0), entity_id, type, payload)"
_UNITED = f"""
    WITH every AS (
        SELECT *, row_number() OVER same AS copy, first_value({_TOLD}) OVER same AS told
        FROM files WINDOW same AS (PARTITION BY event_id ORDER BY hlc, entity_id, payload, type, read_as)),
    known AS (
        SELECT every.*, coalesce(since.version, 0) AS base, coalesce(since.entity_kind,
               first_value(every.entity_kind) OVER (PARTITION BY entity_id ORDER BY hlc, event_id)) AS kind
        FROM every LEFT JOIN since USING (entity_id) WHERE copy = 1)"""
_RIGHT = f"""SELECT * FROM ({_UNITED}
    SELECT {_COLUMNS}, base + row_number() OVER (PARTITION BY entity_id ORDER BY hlc, event_id) AS version
    FROM known WHERE entity_kind = kind ORDER BY hlc, entity_id, event_id)"""
_WRONG = f"""SELECT * FROM ({_UNITED}
    SELECT *, 'invalid_event' AS reason FROM (SELECT {_COLUMNS}, version, told FROM every
        WHERE copy > 1 AND {_TOLD} <> told)
    UNION ALL SELECT {_COLUMNS}, version, NULL, 'constraint_violation' FROM known WHERE entity_kind <> kind)"""
"""Another event under a known id, and an event for an entity that began as one of another kind."""
_SINCE = """
    SELECT entity_id, max(version) AS version, min(entity_kind) AS entity_kind FROM files
    SEMI JOIN named USING (entity_id) GROUP BY entity_id"""
"""Where the entities named stand."""
_COMPARED = """
    SELECT count(*) FILTER (WHERE b.hlc IS NULL) AS only_a, count(*) FILTER (WHERE a.hlc IS NULL) AS only_b,
           count(*) FILTER (WHERE a.hlc < b.hlc) AS lower_a, count(*) FILTER (WHERE b.hlc < a.hlc) AS lower_b,
           count(*) FILTER (WHERE a.hlc IS NOT NULL AND b.hlc IS NOT NULL) AS in_both
    FROM a FULL JOIN b USING (event_id)"""
_WRITES = """
    SELECT entity_id, module, state_class, field, arg_max(value, hlc) AS value, max(hlc) AS hlc,
           arg_max(type, hlc) AS type
    FROM (SELECT own.*, field.key AS field, field.value::VARCHAR AS value
          FROM (SELECT entity_id, module, state_class, hlc, type, payload FROM files ANTI JOIN others USING (event_id)
                SEMI JOIN contested USING (entity_id)) AS own, json_each(own.payload) AS field)
    GROUP BY ALL"""
"""What one side alone wrote last to each field of the entities that the other one changed too."""
_CONFLICTS = """
    SELECT entity_id, module, state_class, field, a.value AS value_a, b.value AS value_b,
           a.hlc AS hlc_a, b.hlc AS hlc_b,
           CASE WHEN a.hlc > b.hlc THEN a.type ELSE b.type END AS type
    FROM a JOIN b USING (entity_id, module, state_class, field)
    WHERE a.value <> b.value ORDER BY entity_id, module, state_class, field"""


@dataclass(frozen=True)
class FieldConflict:
    """A field of an entity that both sides wrote to since they parted, and what becomes of it."""

    entity_id: str
    module: str
    state_class: str
    field: str
    rule: str
    a: Any
    b: Any
    """What each side wrote last, null for a field it took away."""
    hlc_a: str
    hlc_b: str
    """When: the readings of these writes."""

    @property
    def later(self) -> str:
        """The side that wrote last."""
        return "a" if self.hlc_a > self.hlc_b else "b"

    @property
    def kept(self) -> str:
        """Whose value stays: `a`, `b`, `both`, or `neither` before a person has decided."""
        if self.rule in ("sum", "union"):
            return "both"
        if self.rule == "manual":
            return "neither"
        if self.rule in ("max", "min") and self.a is not None and self.b is not None:
            return "a" if (self.a > self.b) == (self.rule == "max") else "b"
        return self.later

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "entityId": self.entity_id,
            "module": self.module,
            "stateClass": self.state_class,
            "field": self.field,
            "rule": self.rule,
            "a": self.a,
            "b": self.b,
            "hlcA": self.hlc_a,
            "hlcB": self.hlc_b,
            "kept": self.kept,
        }


@dataclass(frozen=True)
class WorldUnion:
    """The world events of two branches in one. `only_a`, `only_b`: events that only one of them has; `both`: since they
    parted, those that came to both."""

    shared: tuple[WorldFile, ...]
    """The files that both logs begin with."""
    apart: tuple[str, ...]
    """The other files of both."""
    since: pa.Table
    """Entities of `apart` as of the last shared event: entity_id, version, entity_kind."""
    only_a: int
    only_b: int
    both: int
    news_for_a: bool
    """Whether the union is another log than a's; `news_for_b` likewise."""
    news_for_b: bool
    refused: tuple[tuple[str, str], ...]
    """Events that cannot be part of it: canonical JSON and a reason code, ascending."""
    fresh_refusals: bool
    """Whether some of them are in the quarantine of one of the two only, or of none."""
    conflicts: tuple[FieldConflict, ...]

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "onlyA": self.only_a,
            "onlyB": self.only_b,
            "both": self.both,
            "refused": [{"event": orjson.loads(text), "reason": reason} for text, reason in self.refused[:LISTED]],
            "conflicts": len(self.conflicts),
            "listed": [conflict.to_json() for conflict in self.conflicts[:LISTED]],
        }

    def files(self, repository: Repository, scratch: Path) -> tuple[WorldFile, ...]:
        """The log of the union, published as far as it is new."""
        if not self.apart:
            return self.shared
        rows = repository.engine.over(self.apart, _RIGHT, since=self.since).select(WORLD.names).cast(WORLD)
        made = [_published(repository, rows.slice(at, _EVENTS_PER_FILE), scratch) for at in _starts(rows)]
        return (*self.shared, *made)

    def quarantine(self, repository: Repository, source: str, scratch: Path) -> Iterator[QuarantineFile]:
        """The refused events, where there are any that are not told yet."""
        if not self.refused or not self.fresh_refusals:
            return
        texts = [text for text, _ in self.refused]
        count = len(texts)
        columns = [list(range(1, count + 1)), [None] * count, [None] * count, texts, [r for _, r in self.refused]]
        path = scratch / "refused-events.parquet"
        pq.write_table(pa.table(columns, schema=QUARANTINE), path, compression="zstd")
        published = repository.store.publish(path, "quarantine/{sha256}.parquet")
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
        yield QuarantineFile(**vars(published), rows=count, source=source, source_sha256=digest)


def unite_world(repository: Repository, a: Branch, b: Branch, rules: Mapping[tuple[str, str], str]) -> WorldUnion:
    """The union of the logs of two branches. `rules`: by type and field, where a field's is not `lww`."""
    mine, theirs = a.world_files(), b.world_files()
    count = next((n for n, (x, y) in enumerate(zip(mine, theirs, strict=False)) if x.file != y.file), None)
    count = min(len(mine), len(theirs)) if count is None else count
    apart = [file.file for file in mine[count:]], [file.file for file in theirs[count:]]
    every = tuple(dict.fromkeys((*apart[0], *apart[1])))
    shared = tuple(mine[:count])
    since = _since(repository, [file.file for file in shared], every)
    found = _compared(repository, *apart)
    refused = _refused(repository, every, since)
    texts = {text for text, _ in refused}
    known = [texts & quarantined(repository, branch, texts) for branch in (a, b)]
    untold = [texts - each for each in known]
    return WorldUnion(
        shared=shared,
        apart=every,
        since=since,
        only_a=found["only_a"],
        only_b=found["only_b"],
        both=found["in_both"],
        news_for_a=found["only_b"] > len(known[0]) or found["lower_b"] > 0 or bool(untold[0]),
        news_for_b=found["only_a"] > len(known[1]) or found["lower_a"] > 0 or bool(untold[1]),
        refused=tuple(refused),
        fresh_refusals=any(untold),
        conflicts=tuple(_conflicts(repository, apart, rules)),
    )


def _since(repository: Repository, shared: Sequence[str], apart: Sequence[str]) -> pa.Table:
    empty = pa.schema([("entity_id", pa.string()), ("version", pa.int64()), ("entity_kind", pa.string())]).empty_table()
    if not shared or not apart:
        return empty
    named = repository.engine.over(apart, "SELECT DISTINCT entity_id FROM files")
    return repository.engine.over(shared, _SINCE, named=named)


def _ids(repository: Repository, files: Sequence[str]) -> pa.Table:
    if not files:
        return pa.table({"event_id": pa.array([], pa.string()), "hlc": pa.array([], pa.string())})
    return repository.engine.over(files, "SELECT event_id, hlc FROM files")


def _compared(repository: Repository, a: Sequence[str], b: Sequence[str]) -> dict[str, int]:
    row: dict[str, int] = repository.engine.query(_COMPARED, a=_ids(repository, a), b=_ids(repository, b)).to_pylist()[
        0
    ]
    return row


def _refused(repository: Repository, apart: Sequence[str], since: pa.Table) -> list[tuple[str, str]]:
    if not apart:
        return []
    found = []
    for row in repository.engine.over(apart, _WRONG, since=since).to_pylist():
        if row["told"] is not None:
            told = row["told"].split("\0", 2)
            if told[:2] == [row["entity_id"], row["type"]] and orjson.loads(told[2]) == orjson.loads(row["payload"]):
                continue  # the same event, its payload in other words
        text = orjson.dumps(Transition(row).to_json(), option=orjson.OPT_SORT_KEYS).decode()
        found.append((text, row["reason"]))
    return sorted(found)


def _conflicts(
    repository: Repository,
    apart: tuple[Sequence[str], Sequence[str]],
    rules: Mapping[tuple[str, str], str],
) -> Iterator[FieldConflict]:
    """What both sides wrote to since they parted, as far as it is not the same."""
    if not apart[0] or not apart[1]:
        return
    ids = [_ids(repository, files).select(["event_id"]) for files in apart]
    named = [
        repository.engine.over(
            files, "SELECT DISTINCT entity_id FROM files ANTI JOIN others USING (event_id)", others=other
        )
        for files, other in zip(apart, reversed(ids), strict=True)
    ]
    contested = repository.engine.query("FROM a SEMI JOIN b USING (entity_id)", a=named[0], b=named[1])
    if not len(contested):
        return
    written = [
        repository.engine.over(files, _WRITES, others=other, contested=contested)
        for files, other in zip(apart, reversed(ids), strict=True)
    ]
    for row in repository.engine.query(_CONFLICTS, a=written[0], b=written[1]).to_pylist():
        yield FieldConflict(
            row["entity_id"],
            row["module"],
            row["state_class"],
            row["field"],
            rules.get((row["type"], row["field"]), "lww"),
            orjson.loads(row["value_a"]),
            orjson.loads(row["value_b"]),
            row["hlc_a"],
            row["hlc_b"],
        )


def state_of(
    repository: Repository, a: Branch, b: Branch, union: WorldUnion, files: Sequence[WorldFile]
) -> WorldState | None:
    """Where the world of the union stands: the clock of both, and the checkpoint that still holds."""
    states = [each.state.world for each in (a, b) if each.state.world is not None]
    if not states or not files:
        return None
    kept = [each.checkpoint for each in states if each.checkpoint and each.checkpoint.files <= len(union.shared)]
    checkpoint: WorldCheckpoint | None = max(kept, key=lambda each: each.files, default=None)
    counted = repository.engine.over([f.file for f in files], "SELECT count(DISTINCT entity_id) AS entities FROM files")
    return WorldState(
        hlc=max(each.hlc for each in states),
        events=sum(file.events for file in files),
        entities=counted["entities"][0].as_py(),
        checkpoint=checkpoint,
    )


def _starts(rows: pa.Table) -> range:
    return range(0, len(rows), _EVENTS_PER_FILE)


def _published(repository: Repository, rows: pa.Table, scratch: Path) -> WorldFile:
    """A file of consecutive events."""
    path = scratch / "world.parquet"
    pq.write_table(rows.sort_by([("entity_id", "ascending"), ("version", "ascending")]), path, compression="zstd")
    published = repository.store.publish(path, "segments/world-{sha256}.parquet")
    path.unlink()  # what is published may be this very file: it must not be written to again
    return WorldFile(**vars(published), events=len(rows), first=rows["hlc"][0].as_py(), last=rows["hlc"][-1].as_py())
