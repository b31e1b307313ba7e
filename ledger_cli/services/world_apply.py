"""`ledger world apply`: the transition protocol, batch by batch; a batch is one move of the ref.

Per event: handshake, type, version, causes, reducer, constraints. Locking is optimistic: where another writer moved
the world first, the batch is judged anew against what is there then.
"""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.history import Added, QuarantineFile, WorldFile, WorldState
from ledger_cli.core.hlc import Hlc, send
from ledger_cli.core.world import (
    WORLD,
    Entity,
    Refused,
    WorldEvent,
    check_handshake,
    hash_of,
    parse_event,
)
from ledger_cli.errors import Conflict
from ledger_cli.services.refusals import QUARANTINE
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world import Known, Reducer, World, write_checkpoint

BATCH_EVENTS = 10_000
CHECKPOINT_FILES = 64
CHECKPOINT_EVENTS = 20_000
"""A checkpoint is due after so many files, or after as many events as there are entities, but at least so many."""
_ATTEMPTS = 20
_UNVERSIONED = "transient"
"""The class whose events are checked and passed on, but never written."""


@dataclass(frozen=True)
class TypeRule:
    """What is known of a type of events. `check` raises Refused for a payload that does not fit."""

    reducer: Reducer
    check: Callable[[Any], None]


@dataclass(frozen=True)
class Rules:
    """What events are judged by. `clock` gives µs since 1970; `max_drift` is in µs; `keys` by module."""

    types: Mapping[str, TypeRule]
    keys: Mapping[str, bytes]
    node: str
    clock: Callable[[], int]
    max_drift: int


@dataclass(frozen=True)
class Refusal:
    """An event that was refused: its line, its id where it has one, a code of `core.world.REASONS`, and why."""

    line: int
    event_id: str | None
    reason: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"line": self.line, "eventId": self.event_id, "reason": self.reason, "detail": self.detail}


@dataclass
class ApplyResult:
    """What became of the events. `hlc`: the branch's clock afterwards."""

    branch: str
    read: int = 0
    applied: int = 0
    duplicates: int = 0
    transient: int = 0
    """Checked and passed on, not written."""
    refused: list[Refusal] = field(default_factory=list)
    """The first of them."""
    reasons: Counter[str] = field(default_factory=Counter)
    hlc: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "branch": self.branch,
            "read": self.read,
            "applied": self.applied,
            "duplicates": self.duplicates,
            "transient": self.transient,
            "refused": dict(sorted(self.reasons.items())),
            "refusals": [each.to_json() for each in self.refused],
            "hlc": self.hlc,
        }


REFUSALS_TOLD = 1000
"""Refusals that a result lists; all are in quarantine."""

_NEVER = Hlc(0, 0, "")
Line = tuple[int, bytes]


def apply(
    repository: Repository,
    world: World,
    branch: str,
    lines: Iterable[bytes],
    rules: Rules,
    source: str,
    atomic: bool = False,
    why: str = "",
) -> ApplyResult:
    """Apply events, one a line, to a branch. What is refused goes to quarantine and changes nothing.

    `atomic`: all of them in one move, or none where one is refused. `world`: that of the branch, brought up to date.
    """
    result = ApplyResult(branch)
    with _uncollected():
        for batch in _batches(lines, atomic):
            result.read += len(batch)
            _apply_batch(repository, world, branch, batch, rules, source, atomic, why, result)
    state = repository.branch(branch).state.world
    result.hlc = None if state is None else state.hlc
    return result


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: nothing here is cyclic, and it would walk over all entities again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _batches(lines: Iterable[bytes], atomic: bool) -> Iterator[list[Line]]:
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    if atomic:
        batch = list(numbered)
        if batch:
            yield batch
        return
    while batch := list(islice(numbered, BATCH_EVENTS)):
        yield batch


def _apply_batch(
    repository: Repository,
    world: World,
    branch: str,
    batch: Sequence[Line],
    rules: Rules,
    source: str,
    atomic: bool,
    why: str,
    result: ApplyResult,
) -> None:
    before = repository.branch(branch)
    for _ in range(_ATTEMPTS):
        world.follow(before)
        judged = _judge(world, before.state.world, batch, rules)
        if atomic and judged.refused:
            judged = judged.without_effects()
        try:
            after = _persist(repository, world, before, batch, judged, source, why)
        except Conflict:
            older, before = before, repository.branch(branch)
            if before.state.created != older.state.created:
                raise Conflict(f"branch {branch} was deleted and made again meanwhile: run the command again") from None
            continue
        if judged.rows:
            world.moved(after, judged.changed, np.array([row[-1] for row in judged.rows], dtype=np.int64))
        result.applied += len(judged.rows)
        result.duplicates += judged.duplicates
        result.transient += judged.transient
        result.reasons.update(refusal.reason for refusal in judged.refused)
        result.refused += judged.refused[: REFUSALS_TOLD - len(result.refused)]
        return
    raise Conflict(f"branch {branch} is moved by many processes at once: run the command again")


@dataclass
class _Judged:
    """What a batch comes to: rows of `WORLD`, the entities after it, and what was refused."""

    clock: Hlc | None
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    changed: dict[str, Entity] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    duplicates: int = 0
    transient: int = 0

    def without_effects(self) -> _Judged:
        """The refusals alone."""
        return _Judged(self.clock, refused=self.refused)


def _judge(world: World, state: WorldState | None, batch: Sequence[Line], rules: Rules) -> _Judged:
    """Judge a batch event by event, each against what the ones before it have made."""
    judged = _Judged(None if state is None else Hlc.parse(state.hlc))
    parsed: list[tuple[int, WorldEvent]] = []
    for line, text in batch:
        try:
            event = parse_event(text)
            check_handshake(event, rules.keys)
            parsed.append((line, event))
        except Refused as refused:
            judged.refused.append(Refusal(line, None, refused.reason, refused.detail))
    _Judge(world, rules, judged).run(parsed)
    judged.refused.sort(key=lambda refusal: refusal.line)
    return judged


class _Judge:
    """The state of judging one batch."""

    def __init__(self, world: World, rules: Rules, judged: _Judged) -> None:
        self._world = world
        self._rules = rules
        self._judged = judged
        self._now = rules.clock()
        self._fresh: dict[str, Known] = {}

    def run(self, events: Sequence[tuple[int, WorldEvent]]) -> None:
        ids = list(dict.fromkeys(name for _, event in events for name in (event.event_id, *event.causes)))
        hashes = np.array([hash_of(each) for each in ids], dtype=np.int64)
        self._stored = self._world.known(ids, hashes)
        self._hashes = dict(zip(ids, hashes.tolist(), strict=True))
        for line, event in events:
            try:
                self._one(event)
            except Refused as refused:
                self._judged.refused.append(Refusal(line, event.event_id, refused.reason, refused.detail))

    def _one(self, event: WorldEvent) -> None:
        judged, rules = self._judged, self._rules
        known = self._fresh.get(event.event_id) or self._stored.get(event.event_id)
        if known is not None:
            if (known.entity_id, known.type, known.payload) != (event.entity_id, event.type, event.payload):
                raise Refused("invalid_event", f"eventId {event.event_id} is that of another event")
            judged.duplicates += 1
            return
        rule = rules.types.get(event.type)
        if rule is None:
            raise Refused("unknown_type", f"{event.type} is not registered: `ledger schema register {event.type}`")
        entity = judged.changed.get(event.entity_id) or self._world.entities.get(event.entity_id)
        version = 0 if entity is None else entity.version
        if event.expected_version is not None and event.expected_version != version:
            raise Refused("version_conflict", f"{event.entity_id} has version {version}, not {event.expected_version}")
        if entity is not None and event.entity_kind not in (None, entity.kind):
            raise Refused("constraint_violation", f"{event.entity_id} is of kind {entity.kind}")
        reading = self._reading(event, entity)
        rule.check(event.payload)
        part = event.module, event.state_class
        before = {} if entity is None else entity.parts
        value = _reduced(rule.reducer, before.get(part), event)
        if judged.clock is None or reading > judged.clock:
            judged.clock = reading
        if event.state_class == _UNVERSIONED:
            judged.transient += 1
            return
        self._fresh[event.event_id] = Known(event.entity_id, event.type, event.payload, reading)
        kind = event.entity_kind or (entity.kind if entity is not None else "entity")
        judged.changed[event.entity_id] = Entity(kind, version + 1, reading, event.event_id, {**before, part: value})
        judged.rows.append(
            (
                event.event_id,
                event.entity_id,
                kind,
                event.type,
                event.module,
                event.state_class,
                orjson.dumps(event.payload).decode(),
                version + 1,
                event.expected_version,
                str(reading),
                event.causes,
                orjson.dumps(event.handshake).decode(),
                event.timestamp,
                self._hashes[event.event_id],
            )
        )

    def _reading(self, event: WorldEvent, entity: Entity | None) -> Hlc:
        """The event's clock reading: its own, or the branch's next; after the entity's last and all causes."""
        causes = []
        for cause in event.causes:
            known = self._fresh.get(cause) or self._stored.get(cause)
            if known is None:
                raise Refused("causal_gap", f"its cause {cause} is not known: send that first")
            causes.append(known.hlc)
        if event.hlc is None:
            wall, counter, _ = self._judged.clock or _NEVER
            return send(Hlc(wall, counter, event.node or self._rules.node), self._now, self._rules.max_drift)
        if event.hlc.wall - self._now > self._rules.max_drift:
            ahead = (event.hlc.wall - self._now) / 1e6
            raise Refused("clock_drift", f"hlc is {ahead:.1f} s ahead of this machine's clock")
        if entity is not None and event.hlc <= entity.hlc:
            raise Refused("version_conflict", f"hlc is not after {entity.hlc}, the last of {event.entity_id}")
        if any(event.hlc <= cause for cause in causes):
            raise Refused("causal_gap", "hlc is not after that of a cause")
        return event.hlc


def _reduced(reducer: Reducer, before: Any, event: WorldEvent) -> Any:
    try:
        return reducer(before, event.payload)
    except Refused:
        raise
    except Exception as error:
        raise Refused("constraint_violation", f"the reducer of {event.type} failed: {error}") from error


def _persist(
    repository: Repository,
    world: World,
    before: Branch,
    batch: Sequence[Line],
    judged: _Judged,
    source: str,
    why: str,
) -> Branch:
    """Write what was accepted and what was refused, and move the ref; nothing where there is nothing new."""
    with repository.store.scratch() as scratch:
        quarantine = _quarantined(repository, before, batch, judged.refused, source, scratch)
        if not judged.rows and not quarantine:
            return before
        files: tuple[WorldFile, ...] = ()
        state = before.state.world
        if judged.rows:
            assert judged.clock is not None
            files = (_published(repository, judged.rows, scratch),)
            state = _state_after(repository, world, state, judged, scratch)
        added = Added(world=files, quarantine=quarantine)
        after = replace(before.state, world=state)
        return repository.advance(before.name, before, "world", after, why or source, added)


def _state_after(
    repository: Repository, world: World, state: WorldState | None, judged: _Judged, scratch: Path
) -> WorldState:
    entities = len(world.entities) + sum(1 for each in judged.changed if each not in world.entities)
    checkpoint = None if state is None else state.checkpoint
    covered = 0 if checkpoint is None else checkpoint.files
    events = sum(file.events for file in world.files[covered:])
    if len(world.files) - covered >= CHECKPOINT_FILES or events >= max(CHECKPOINT_EVENTS, len(world.entities)):
        checkpoint = write_checkpoint(repository, world.entities, len(world.files), scratch)
    total = len(judged.rows) + (0 if state is None else state.events)
    return WorldState(str(judged.clock), total, entities, checkpoint)


def _published(repository: Repository, rows: Sequence[tuple[Any, ...]], scratch: Path) -> WorldFile:
    arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), WORLD, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=WORLD)
    readings = table["hlc"].to_pylist()
    path = scratch / "world.parquet"
    pq.write_table(table.sort_by([("entity_id", "ascending"), ("version", "ascending")]), path, compression="zstd")
    published = repository.store.publish(path, "segments/world-{sha256}.parquet")
    return WorldFile(**vars(published), events=len(rows), first=min(readings), last=max(readings))


def _quarantined(
    repository: Repository,
    before: Branch,
    batch: Sequence[Line],
    refused: Sequence[Refusal],
    source: str,
    scratch: Path,
) -> tuple[QuarantineFile, ...]:
    """The refused events, once: a batch that is sent again adds none."""
    if not refused:
        return ()
    digest = hashlib.sha256(b"\n".join(text for _, text in batch)).hexdigest()
    if any(file.source_sha256 == digest for file in before.quarantine()):
        return ()
    texts = dict(batch)
    rows = [
        (each.line, None, None, texts[each.line].decode(errors="replace").rstrip("\r\n"), each.reason)
        for each in refused
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), QUARANTINE, strict=True)]
    path = scratch / "refused.parquet"
    pq.write_table(pa.Table.from_arrays(arrays, schema=QUARANTINE), path, compression="zstd")
    published = repository.store.publish(path, "quarantine/{sha256}.parquet")
    return (QuarantineFile(**vars(published), rows=len(rows), source=source, source_sha256=digest),)
