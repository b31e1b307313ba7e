"""The world events of two branches as one log: united by id, ordered by their clock readings, numbered anew.

Readings respect causes, and each entity's ascend on either side; so the union ordered by (reading, entity id, event
id) is a history that both sides could have had, and it is the same whichever side is named first. An event that
both sides have under different readings happened at the lower one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.history import QuarantineFile, WorldCheckpoint, WorldFile, WorldState
from ledger_cli.core.vector_clock import Order
from ledger_cli.core.world import WORLD, type_parts
from ledger_cli.core.world_fields import COMBINING, combined
from ledger_cli.services.merge_constraints import breaking
from ledger_cli.services.merge_decisions import Decisions, FieldConflict, decided_events
from ledger_cli.services.refusals import QUARANTINE, quarantined
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world import Reducer, vector_clock
from ledger_cli.services.world_constraints import Constraints
from ledger_cli.services.world_query import Transition
from ledger_cli.services.world_types import RESOLVED

LISTED = 1000
"""Conflicts that a plan lists."""
_EVENTS_PER_FILE = 100_000
Side = Literal["a", "b", "both", "neither"]
Row = Mapping[str, Any]

_COLUMNS = ", ".join(name for name in WORLD.names if name != "version")
_TOLD = "concat_ws(chr(0), entity_id, type, payload)"
_UNITED = f"""
    WITH every AS (
        SELECT *, row_number() OVER same AS copy, first_value({_TOLD}) OVER same AS told
        FROM (FROM files UNION ALL BY NAME FROM decided)
        WINDOW same AS (PARTITION BY event_id ORDER BY hlc, entity_id, payload, type, read_as)),
    known AS (
        SELECT every.*, coalesce(since.version, 0) AS base, coalesce(since.entity_kind,
               first_value(every.entity_kind) OVER (PARTITION BY entity_id ORDER BY hlc, event_id)) AS kind
        FROM every LEFT JOIN since USING (entity_id) WHERE copy = 1)"""
_RIGHT = f"""SELECT * FROM ({_UNITED}
    SELECT {_COLUMNS}, base + row_number() OVER (PARTITION BY entity_id ORDER BY hlc, event_id) AS version
    FROM known ANTI JOIN left_out USING (event_id) WHERE entity_kind = kind ORDER BY hlc, entity_id, event_id)"""
"""`decided`: events that are added; `left_out`: ids of those that are refused."""
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
           arg_max(event_id, hlc) AS event_id, min(entity_kind) AS entity_kind, arg_max(type, hlc) AS type,
           list(part ORDER BY hlc) FILTER (WHERE part IS NOT NULL) AS parts
    FROM (SELECT own.*, field.key AS field, field.value::VARCHAR AS value,
                 CASE WHEN field.key IN (SELECT field FROM combining) THEN value END AS part
          FROM (SELECT entity_id, entity_kind, event_id, module, state_class, hlc, type, payload FROM files
                ANTI JOIN others USING (event_id) SEMI JOIN contested USING (entity_id)) AS own,
               json_each(own.payload) AS field)
    GROUP BY ALL"""
"""What one side alone wrote last to each field of the entities that the other one changed too.

`parts`: all that it wrote, of fields whose values some type combines.
"""
_CONFLICTS = """
    SELECT entity_id, module, state_class, field, a.value AS value_a, b.value AS value_b,
           a.hlc AS hlc_a, b.hlc AS hlc_b, a.event_id AS event_a, b.event_id AS event_b,
           a.entity_kind, a.type AS type_a, b.type AS type_b, a.parts AS parts_a, b.parts AS parts_b
    FROM a JOIN b USING (entity_id, module, state_class, field)
    WHERE a.value <> b.value OR a.parts IS NOT NULL ORDER BY entity_id, module, state_class, field"""


@dataclass(frozen=True, order=True)
class RefusedEvent:
    """An event that cannot be part of the union: canonical JSON, a reason code, and what exactly is wrong."""

    text: str
    reason: str
    detail: str
    of: Side
    """Where it is from: `a`, `b`, `both`; or `neither`, where it is what a person decided."""

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"event": orjson.loads(self.text), "reason": self.reason, "detail": self.detail, "of": self.of}


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
    order: Order
    """How the worlds stood to each other: a's is before b's, after it, equal to it, or concurrent."""
    refused: tuple[RefusedEvent, ...]
    """Events that cannot be part of it, ascending."""
    fresh_refusals: bool
    """Whether some of them are in the quarantine of one of the two only, or of none."""
    conflicts: tuple[FieldConflict, ...]
    """Between events that are not refused."""
    left_out: pa.Table
    """event_id of those refused by a constraint, or for a cause that was."""
    decided: pa.Table
    """The events, rows of `WORLD`, by which a person's decisions become part of the log."""
    undecided: tuple[FieldConflict, ...]
    """Those of the conflicts that need one."""

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "onlyA": self.only_a,
            "onlyB": self.only_b,
            "both": self.both,
            "order": self.order,
            "refused": [each.to_json() for each in self.refused[:LISTED]],
            "conflicts": len(self.conflicts),
            "undecided": len(self.undecided),
            "listed": [conflict.to_json() for conflict in self.conflicts[:LISTED]],
        }

    def files(self, repository: Repository, scratch: Path) -> tuple[WorldFile, ...]:
        """The log of the union, published as far as it is new."""
        if not self.apart:
            return self.shared
        rows = _united(repository, self.apart, self.since, self.left_out, self.decided)
        made = [_published(repository, rows.slice(at, _EVENTS_PER_FILE), scratch) for at in _starts(rows)]
        return (*self.shared, *made)

    def quarantine(self, repository: Repository, source: str, scratch: Path) -> Iterator[QuarantineFile]:
        """The refused events, where there are any that are not told yet."""
        if not self.refused or not self.fresh_refusals:
            return
        texts, reasons = [each.text for each in self.refused], [each.reason for each in self.refused]
        count = len(texts)
        columns = [list(range(1, count + 1)), [None] * count, [None] * count, texts, reasons]
        path = scratch / "refused-events.parquet"
        pq.write_table(pa.table(columns, schema=QUARANTINE), path, compression="zstd")
        published = repository.store.publish(path, "quarantine/{sha256}.parquet")
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
        yield QuarantineFile(**vars(published), rows=count, source=source, source_sha256=digest)


@dataclass(frozen=True)
class Judgement:
    """What the union of two logs is judged by. `fields`: rules by type and field where they are not `lww`;
    `decisions`: what a person chose, by conflict."""

    fields: Mapping[tuple[str, str], str]
    reducers: Callable[[str], Reducer]
    constraints: Constraints | None = None
    decisions: Decisions = field(default_factory=dict)


def unite_world(repository: Repository, a: Branch, b: Branch, judgement: Judgement) -> WorldUnion:
    """The union of the logs of two branches."""
    mine, theirs = a.world_files(), b.world_files()
    count = next((n for n, (x, y) in enumerate(zip(mine, theirs, strict=False)) if x.file != y.file), None)
    count = min(len(mine), len(theirs)) if count is None else count
    apart = [file.file for file in mine[count:]], [file.file for file in theirs[count:]]
    every = tuple(dict.fromkeys((*apart[0], *apart[1])))
    shared = tuple(mine[:count])
    since = _since(repository, [file.file for file in shared], every)
    found = _compared(repository, *apart)
    decided = WORLD.empty_table()
    wrong = _wrong(repository, every, since, decided)
    left_out = _broken(repository, shared, every, since, decided, wrong, judgement)
    conflicts = tuple(_conflicts(repository, apart, judgement.fields, {*_unfit(wrong), *left_out}))
    clock = max((each.state.world.hlc for each in (a, b) if each.state.world is not None), default="")
    decided, undecided = decided_events(conflicts, judgement.decisions, clock)
    if len(decided):
        # Decisions are later than all else, so they change nothing of the above; they may be refused themselves.
        wrong = _wrong(repository, every, since, decided)
        left_out = _broken(repository, shared, every, since, decided, wrong, judgement)
    refused = _refused(repository, apart, [*wrong.values(), *left_out.values()])
    texts = {each.text for each in refused}
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
        order=vector_clock(a).compare(vector_clock(b)),
        refused=refused,
        fresh_refusals=any(untold),
        conflicts=conflicts,
        left_out=pa.table({"event_id": pa.array(sorted(left_out), pa.string())}),
        decided=decided,
        undecided=undecided,
    )


def _united(
    repository: Repository, apart: Sequence[str], since: pa.Table, left_out: pa.Table, decided: pa.Table
) -> pa.Table:
    """The rows of the union behind what is shared, in order."""
    rows = repository.engine.over(apart, _RIGHT, since=since, left_out=left_out, decided=decided)
    return rows.select(WORLD.names).cast(WORLD)


def _broken(
    repository: Repository,
    shared: Sequence[WorldFile],
    apart: Sequence[str],
    since: pa.Table,
    decided: pa.Table,
    wrong: Mapping[str, _Wrong],
    judgement: Judgement,
) -> dict[str, _Wrong]:
    """By id, the events that a constraint refuses, and those whose cause is refused."""
    if not apart or (judgement.constraints is None and not wrong):
        return {}
    none = pa.table({"event_id": pa.array([], pa.string())})
    rows = _united(repository, apart, since, none, decided).to_pylist()
    broken = {}
    if judgement.constraints is not None:
        broken = breaking(repository, shared, rows, judgement.constraints, judgement.reducers)
    found = {
        row["event_id"]: _Wrong(row, "constraint_violation", broken[row["event_id"]])
        for row in rows
        if row["event_id"] in broken
    }
    gone = {*found, *_unfit(wrong)}
    # Causes stand before their effects.
    for row in rows:
        missing = gone.intersection(row["causes"])
        if row["event_id"] not in gone and missing:
            gone.add(row["event_id"])
            found[row["event_id"]] = _Wrong(row, "causal_gap", f"its cause {min(missing)} is refused")
    return found


class _Wrong(NamedTuple):
    """An event that is refused: a row of `WORLD`, a reason code, and what is said."""

    row: Row
    reason: str
    detail: str


def _unfit(wrong: Mapping[str, _Wrong]) -> set[str]:
    """The ids whose event is refused; of another event under a known id one is kept."""
    return {name for name, each in wrong.items() if each.reason == "constraint_violation"}


_SAME = ("event_id", "hlc", "entity_id", "type", "payload")
"""What tells events apart, also those under one id."""


def _refused(
    repository: Repository, apart: tuple[Sequence[str], Sequence[str]], found: Sequence[_Wrong]
) -> tuple[RefusedEvent, ...]:
    """What is refused, with the side that it is from."""
    if not found:
        return ()
    named = pa.table({"event_id": pa.array([each.row["event_id"] for each in found], pa.string())})
    columns = ", ".join(_SAME)
    of_a, of_b = (
        {
            tuple(row.values())
            for row in repository.engine.over(
                files, f"SELECT {columns} FROM files SEMI JOIN named USING (event_id)", named=named
            ).to_pylist()
        }
        if files
        else set()
        for files in apart
    )
    sides: dict[tuple[bool, bool], Side] = {
        (True, True): "both",
        (True, False): "a",
        (False, True): "b",
        (False, False): "neither",
    }
    made = set()
    for row, reason, detail in found:
        own = tuple(row[name] for name in _SAME)
        made.add(RefusedEvent(_text_of(row), reason, detail, sides[own in of_a, own in of_b]))
    return tuple(sorted(made))


def _text_of(row: Row) -> str:
    return orjson.dumps(Transition(row).to_json(), option=orjson.OPT_SORT_KEYS).decode()


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


def _wrong(repository: Repository, apart: Sequence[str], since: pa.Table, decided: pa.Table) -> dict[str, _Wrong]:
    """By id, the events that contradict another one."""
    if not apart:
        return {}
    found = {}
    for row in repository.engine.over(apart, _WRONG, since=since, decided=decided).to_pylist():
        if row["told"] is not None:
            told = row["told"].rsplit("\0", 2)  # an id may hold a NUL
            if told[:2] == [row["entity_id"], row["type"]] and orjson.loads(told[2]) == orjson.loads(row["payload"]):
                continue  # the same event, its payload in other words
        detail = f"{row['entity_id']} is of another kind" if row["told"] is None else "its id is that of another event"
        found[row["event_id"]] = _Wrong(row, row["reason"], detail)
    return found


def _conflicts(
    repository: Repository,
    apart: tuple[Sequence[str], Sequence[str]],
    rules: Mapping[tuple[str, str], str],
    refused: Collection[str],
) -> Iterator[FieldConflict]:
    """What both sides wrote to since they parted, as far as it is not the same; refused events did not write."""
    if not apart[0] or not apart[1]:
        return
    gone = pa.table({"event_id": pa.array(sorted(refused), pa.string())})
    ids = [pa.concat_tables([_ids(repository, files).select(["event_id"]), gone]) for files in apart]
    named = [
        repository.engine.over(
            files, "SELECT DISTINCT entity_id FROM files ANTI JOIN others USING (event_id)", others=other
        )
        for files, other in zip(apart, reversed(ids), strict=True)
    ]
    contested = repository.engine.query("FROM a SEMI JOIN b USING (entity_id)", a=named[0], b=named[1])
    if not len(contested):
        return
    fields = sorted({field for (_, field), rule in rules.items() if rule in COMBINING})
    combining = pa.table({"field": pa.array(fields, pa.string())})
    written = [
        repository.engine.over(files, _WRITES, others=other, contested=contested, combining=combining)
        for files, other in zip(apart, reversed(ids), strict=True)
    ]
    for row in repository.engine.query(_CONFLICTS, a=written[0], b=written[1]).to_pylist():
        rule = _rule(rules, row)
        a, b = (_come_to(rule, row[f"value_{side}"], row[f"parts_{side}"]) for side in "ab")
        # Of what is added, equal parts make a difference too.
        if rule != "sum" and orjson.dumps(a, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
            b, option=orjson.OPT_SORT_KEYS
        ):
            continue
        yield FieldConflict(
            row["entity_id"],
            row["module"],
            row["state_class"],
            row["field"],
            rule,
            a,
            b,
            row["hlc_a"],
            row["hlc_b"],
            (row["event_a"], row["event_b"]),
            row["entity_kind"],
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
        hlc=max(each for each in (*(state.hlc for state in states), *union.decided["hlc"].to_pylist())),
        events=sum(file.events for file in files),
        entities=counted["entities"][0].as_py(),
        checkpoint=checkpoint,
        clock=vector_clock(a).merged(vector_clock(b)).moves,
    )


def _rule(rules: Mapping[tuple[str, str], str], row: Row) -> str:
    """The rule of a field; a decision has none of its own."""
    types = sorted(((row["hlc_a"], row["type_a"]), (row["hlc_b"], row["type_b"])), reverse=True)
    found = (rules.get((name, row["field"])) for _, name in types if type_parts(name)[1] != RESOLVED)
    of_module = (
        rule for (name, field), rule in rules.items() if field == row["field"] and type_parts(name)[0] == row["module"]
    )
    decided = all(type_parts(name)[1] == RESOLVED for _, name in types)
    fallback = "manual" if decided and "manual" in of_module else "lww"
    return next((rule for rule in found if rule is not None), fallback)


def _come_to(rule: str, last: str, parts: Sequence[str] | None) -> Any:
    """What one side's writes to a field come to by its rule."""
    if rule not in COMBINING or parts is None:
        return orjson.loads(last)
    state: dict[str, Any] = {}
    for part in parts:
        state = combined({"": rule}, state, {"": orjson.loads(part)})
    return state[""]


def _starts(rows: pa.Table) -> range:
    return range(0, len(rows), _EVENTS_PER_FILE)


def _published(repository: Repository, rows: pa.Table, scratch: Path) -> WorldFile:
    """A file of consecutive events."""
    path = scratch / "world.parquet"
    pq.write_table(rows.sort_by([("entity_id", "ascending"), ("version", "ascending")]), path, compression="zstd")
    published = repository.store.publish(path, "segments/world-{sha256}.parquet")
    path.unlink()  # what is published may be this very file: it must not be written to again
    return WorldFile(**vars(published), events=len(rows), first=rows["hlc"][0].as_py(), last=rows["hlc"][-1].as_py())
