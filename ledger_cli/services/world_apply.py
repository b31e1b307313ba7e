"""`ledger world apply`: the transition protocol, batch by batch; a batch is one move of the ref.

Per event: handshake, type, version, causes, reducer, constraints. Locking is optimistic: where another writer moved
the world first, the batch is judged anew against what is there then.
"""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.history import Added, QuarantineFile, WorldFile, WorldState
from ledger_cli.core.hlc import LAST_WALL, WALL_LENGTH, Hlc, send
from ledger_cli.core.vector_clock import VectorClock, writer_name
from ledger_cli.core.world import (
    WORLD,
    Entity,
    Refused,
    WorldEvent,
    hashes_of,
    with_part,
)
from ledger_cli.core.world_batch import read_events
from ledger_cli.errors import Conflict
from ledger_cli.services.prepared import Locks, Part, locks_of
from ledger_cli.services.refusals import QUARANTINE
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world import Known, Reducer, World, vector_clock, write_checkpoint
from ledger_cli.services.world_constraints import BatchConstraints, Constraints, Step
from ledger_cli.services.world_reader import EventReader, Events
from ledger_cli.services.world_waiting import Waiting, read_waiting, write_waiting

BATCH_EVENTS = 10_000
CHECKPOINT_FILES = 64
CHECKPOINT_EVENTS = 20_000
"""A checkpoint is due after so many files, or after twice as many events as entities, but at least so many."""
_ATTEMPTS = 20
_ALIKE = ["entity_kind", "type", "module", "state_class"]
"""Columns with few values: others are larger, and take longer to write, as dictionaries."""
_UNVERSIONED = "transient"
"""The class whose events are checked and passed on, but never written."""


@dataclass(frozen=True)
class TypeRule:
    """What is known of a type of events. `check` raises Refused for a payload that does not fit."""

    reducer: Reducer
    check: Callable[[Any], None]
    read_as: str | None = None
    """The newer version that `reducer` reads payloads as."""
    state_class: str | None = None
    """The only class that its events have."""


@dataclass(frozen=True)
class Rules:
    """What events are judged by. `clock` gives µs since 1970; `max_drift` is in µs; `keys` by module."""

    types: Mapping[str, TypeRule]
    keys: Mapping[str, bytes]
    node: str
    clock: Callable[[], int]
    max_drift: int
    constraints: Constraints | None = None
    """None: no type has any."""
    causal_wait: int = 0
    """µs that an event waits for a cause that is not known, before it is refused."""
    guardian: Callable[[list[dict[str, Any]]], str | None] = lambda _: None
    """Told of the events that are refused for their causes; gives what went wrong in that."""


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
    clock: VectorClock = VectorClock()  # noqa: RUF009 - it never changes
    """The branch's vector clock afterwards."""
    waiting: int = 0
    """Events that wait for their causes afterwards, older ones too."""
    unheard: list[str] = field(default_factory=list)
    """Why the guardian could not be told."""

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "branch": self.branch,
            "read": self.read,
            "applied": self.applied,
            "duplicates": self.duplicates,
            "transient": self.transient,
            "waiting": self.waiting,
            "refused": dict(sorted(self.reasons.items())),
            "refusals": [each.to_json() for each in self.refused],
            "hlc": self.hlc,
            "clock": str(self.clock),
        }


def both(one: ApplyResult, other: ApplyResult) -> ApplyResult:
    """What became of the events of two batches; the clocks are those of the second one."""
    return ApplyResult(
        other.branch,
        one.read + other.read,
        one.applied + other.applied,
        one.duplicates + other.duplicates,
        one.transient + other.transient,
        sorted([*one.refused, *other.refused], key=lambda refusal: refusal.line)[:REFUSALS_TOLD],
        one.reasons + other.reasons,
        other.hlc,
        other.clock,
        other.waiting,
        one.unheard + other.unheard,
    )


REFUSALS_TOLD = 1000
"""Refusals that a result lists; all are in quarantine."""

_made = tuple.__new__
_NEVER = Hlc(0, 0, "")
_NOTHING = Entity("", 0, "", "", {})
"""What is before the first event of an entity."""
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
    part: Part | None = None,
) -> ApplyResult:
    """Apply events, one a line, to a branch. What is refused goes to quarantine and changes nothing.

    An event whose cause is not known waits for it, and is judged again with every batch until then. `atomic`: all of
    them in one move, or none where one is refused or would have to wait. `world`: that of the branch, brought up to
    date. Without any line, what waits is judged. `part`: what they are, atomic, in a transaction.
    """
    result = ApplyResult(branch)
    # A batch is read while the one before is judged and written.
    with _uncollected(), EventReader(rules.keys) as reader, ThreadPoolExecutor(1, "ledger-world") as writer:
        before: Future[None] | None = None
        for batch in _batches(lines, atomic):
            reading = reader.read([text for _, text in batch])
            work = partial(
                _apply_batch, repository, world, branch, batch, reading, rules, source, atomic, why, result, part
            )
            written = writer.submit(_after, before, work)
            del batch, reading, work
            if before is not None:
                before.result()
            before = written
        if before is None:
            _apply_batch(repository, world, branch, [], reader.read([]), rules, source, atomic, why, result, part)
        else:
            before.result()
    after = repository.branch(branch)
    result.hlc = None if after.state.world is None else after.state.world.hlc
    result.clock = vector_clock(after)
    result.waiting = 0 if after.state.waiting is None else after.state.waiting.events
    return result


def _after(before: Future[None] | None, work: Callable[[], None]) -> None:
    """Do some work, unless what came before it failed."""
    if before is not None:
        before.result()
    work()


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
    """Lines by their number, blank ones left out."""
    rest = iter(lines)
    number = 1
    while taken := list(islice(rest, None if atomic else BATCH_EVENTS)):
        batch = [(line, text) for line, text in enumerate(taken, number) if text and not text.isspace()]
        if batch:
            yield batch
        number += len(taken)


def _apply_batch(
    repository: Repository,
    world: World,
    branch: str,
    batch: Sequence[Line],
    reading: Future[Events],
    rules: Rules,
    source: str,
    atomic: bool,
    why: str,
    result: ApplyResult,
    part: Part | None,
) -> None:
    events = reading.result()
    result.read += len(batch)
    before = repository.branch(branch)
    for _ in range(_ATTEMPTS):
        world.follow(before)
        locks = locks_of(repository, before, None if part is None else part.transaction)
        waiting = {} if atomic else read_waiting(repository, before.state)
        judged = _judge(world, before.state.world, batch, events, rules, waiting, locks)
        if atomic:
            judged = judged.all_or_nothing(promised=part is not None and part.kind == "prepare")
        try:
            after = _persist(repository, world, before, batch, judged, source, why, waiting, rules.node, part)
        except Conflict:
            older, before = before, repository.branch(branch)
            if before.state.created != older.state.created:
                raise Conflict(f"branch {branch} was deleted and made again meanwhile: run the command again") from None
            continue
        if judged.applied:
            hashes = [rows["event_hash"].to_numpy() for rows in judged.rows]
            world.moved(after, judged.changed, np.concatenate(hashes))
        result.applied += judged.applied
        result.duplicates += judged.duplicates
        result.transient += judged.transient
        result.reasons.update(refusal.reason for refusal in judged.refused)
        result.refused += judged.refused[: REFUSALS_TOLD - len(result.refused)]
        unheard = rules.guardian([each.to_json() for each in judged.refused if each.reason == "causal_gap"])
        result.unheard += [] if unheard is None else [unheard]
        return
    raise Conflict(f"branch {branch} is moved by many processes at once: run the command again")


@dataclass
class _Judged:
    """What a batch comes to: rows of `WORLD`, the entities after it, and what was refused."""

    clock: str | None
    rows: list[pa.RecordBatch] = field(default_factory=list)
    changed: dict[str, Entity] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    duplicates: int = 0
    transient: int = 0
    gaps: list[tuple[int, WorldEvent, Refused]] = field(default_factory=list)
    """Events whose cause is not known, by their lines."""
    waiting: Waiting = field(default_factory=dict)
    """What waits afterwards."""
    texts: dict[int, bytes] = field(default_factory=dict)
    """Of refused events that have waited, by their lines, which are below 0."""

    @property
    def applied(self) -> int:
        """How many events are to be stored."""
        return sum(each.num_rows for each in self.rows)

    def all_or_nothing(self, promised: bool) -> _Judged:
        """The same where nothing was refused and nothing has to wait, else, or `promised`, the refusals alone."""
        told = [Refusal(line, event.event_id, gap.reason, gap.detail) for line, event, gap in self.gaps]
        refused = sorted([*self.refused, *told], key=lambda refusal: refusal.line)
        return _Judged(self.clock, refused=refused) if refused or promised else self


def _judge(
    world: World,
    state: WorldState | None,
    batch: Sequence[Line],
    events: Sequence[WorldEvent | Refused],
    rules: Rules,
    waiting: Waiting,
    locks: Locks | None,
) -> _Judged:
    """Judge a batch event by event, each against what the ones before it have made; then again what waits."""
    judge = _Judge(world, rules, _Judged(None if state is None else state.hlc), locks)
    for first in range(0, len(batch), BATCH_EVENTS):
        numbered = zip(batch[first : first + BATCH_EVENTS], events[first:], strict=False)
        both = [(line, event) for (line, _), event in numbered]
        portion = [(line, event) for line, event in both if not isinstance(event, Refused)]
        for line, event in both if len(portion) < len(both) else ():
            if isinstance(event, Refused):
                judge.judged.refused.append(Refusal(line, None, event.reason, event.detail))
        judge = _judged_on(judge, portion, rules, world)
    older = _older(judge.judged, waiting, rules)
    while older or judge.judged.gaps:
        again = [*older, *((line, event) for line, event, _ in judge.judged.gaps)]
        older, judge.judged.gaps = [], []
        known = judge.known
        judge = _judged_on(judge, again, rules, world)
        if judge.known == known:
            break
    _settle(judge.judged, batch, waiting, rules)
    judge.judged.refused.sort(key=lambda refusal: refusal.line)
    return judge.judged


def _judged_on(judge: _Judge, events: Sequence[tuple[int, WorldEvent]], rules: Rules, world: World) -> _Judge:
    if rules.constraints is not None:
        return _constrained(judge, events, rules.constraints.over(world.entities))
    judge.run(events)
    return judge


def _older(judged: _Judged, waiting: Waiting, rules: Rules) -> list[tuple[int, WorldEvent]]:
    """What has been waiting, numbered from −1 downwards."""
    judged.texts = {-number: text for number, text in enumerate(waiting, 1)}
    events = []
    for line, event in zip(judged.texts, read_events(list(waiting), rules.keys), strict=True):
        if isinstance(event, Refused):
            judged.refused.append(Refusal(line, None, event.reason, event.detail))
        else:
            events.append((line, event))
    return events


def _settle(judged: _Judged, batch: Sequence[Line], waiting: Waiting, rules: Rules) -> None:
    """Whether what lacks a cause goes on waiting, or has waited too long."""
    texts = {**dict(batch), **judged.texts} if judged.gaps else {}
    now = rules.clock()
    for line, event, gap in judged.gaps:
        since = waiting.get(texts[line], now)
        if now - since >= rules.causal_wait:
            judged.refused.append(Refusal(line, event.event_id, gap.reason, gap.detail))
        else:
            judged.waiting[texts[line].strip()] = since


_PORTION_MIN = 16


def _constrained(judge: _Judge, events: Sequence[tuple[int, WorldEvent]], constraints: BatchConstraints) -> _Judge:
    """Judge events as if one by one: a refused one has not come. They are asked about in portions, large ones first."""
    size = BATCH_EVENTS
    while events:
        portion = events[:size]
        trial = judge.fork()
        trial.run(portion)
        found = constraints.broken(judge.judged.changed, trial.steps, _apart(portion))
        broken = {each.line: each.detail for each in found}
        if not broken:
            judge, events, size = trial, events[size:], min(2 * size, BATCH_EVENTS)
            continue
        judge, size = judge.fork(), max(_PORTION_MIN, len(portion) // 2)
        if None in broken:
            size = len(portion) // 2
            continue
        if len(broken) == 1:
            # All before it stands.
            place = [line in broken for line, _ in portion].index(True)
            judge.run(portion[:place])
            events = events[place:]
        for line, event in events:
            if line in broken:
                judge.refuse((line, event), Refused("constraint_violation", broken[line]))
        events = [each for each in events if each[0] not in broken]
    return judge


def _apart(events: Sequence[tuple[int, WorldEvent]]) -> bool:
    """Whether what becomes of one event cannot depend on those of other entities: by a cause, or an id twice."""
    return not any(event.causes for _, event in events) and len({event.event_id for _, event in events}) == len(events)


class _Accepted(NamedTuple):
    """An event that was accepted. `version`: its entity's after it; `hlc`: its reading."""

    event: WorldEvent
    kind: str
    version: int
    hlc: str
    read_as: str | None


def _rows(accepted: Sequence[_Accepted]) -> pa.RecordBatch:
    """As rows of `WORLD`."""
    events, kinds, versions, readings, read_as = zip(*accepted, strict=True)
    sent = dict(zip(WorldEvent._fields, zip(*events, strict=True), strict=True))
    made = {
        "entity_kind": kinds,
        "payload": sent["payload_text"],
        "version": versions,
        "hlc": readings,
        "handshake": sent["handshake_text"],
        "read_as": read_as,
    }
    arrays = [pa.array(made.get(each.name, sent.get(each.name)), each.type) for each in WORLD]
    return pa.RecordBatch.from_arrays(arrays, schema=WORLD)


class _Gap(Refused):
    """A cause is not known yet."""


def waits_for_canonical(_: Any) -> None:
    """What a type is checked by where another ledger decides about it: its events come in from there."""
    raise _Gap("causal_gap", "the canonical ledger has not decided about it yet")


class _Judge:
    """The state of judging one batch."""

    def __init__(self, world: World, rules: Rules, judged: _Judged, locks: Locks | None) -> None:
        self._world = world
        self._rules = rules
        self._locks = locks
        self.judged = judged
        self.steps: list[Step] = []
        """What each event did; kept only where there are constraints."""
        self._now = rules.clock()
        self._latest = str(Hlc(min(self._now + rules.max_drift, LAST_WALL), 0, ""))[:WALL_LENGTH] + "~"
        """After all readings of the last wall clock that one may have."""
        self._stored: Mapping[str, Known] = {}
        self._fresh: dict[str, _Accepted] = {}

    def fork(self) -> _Judge:
        """The same, to go on with alone; without the steps so far."""
        other = copy(self)
        other.steps = []
        other._fresh = dict(self._fresh)
        judged = self.judged
        other.judged = replace(
            judged,
            rows=list(judged.rows),
            refused=list(judged.refused),
            changed=dict(judged.changed),
            gaps=list(judged.gaps),
        )
        return other

    @property
    def known(self) -> int:
        """Events that this batch has made known."""
        return len(self._fresh)

    def refuse(self, event: tuple[int, WorldEvent], refused: Refused) -> None:
        """Leave an event out."""
        self.judged.refused.append(Refusal(event[0], event[1].event_id, refused.reason, refused.detail))

    def run(self, events: Sequence[tuple[int, WorldEvent]]) -> None:
        """Judge some events, with their lines."""
        causes = {cause for _, event in events for cause in event.causes}
        hashes = np.array([event.event_hash for _, event in events], np.int64)
        self._stored = self._world.known(np.concatenate([hashes, hashes_of(causes)]))
        before = len(self._fresh)
        one = self._one
        for line, event in events:
            try:
                one(line, event)
            except _Gap as gap:
                self.judged.gaps.append((line, event, gap))
            except Refused as refused:
                self.refuse((line, event), refused)
        if len(self._fresh) > before:
            self.judged.rows.append(_rows(list(islice(self._fresh.values(), before, None))))

    def _one(self, line: int, event: WorldEvent) -> None:
        # This is done for every event: one function, and tuples made without the detour of their class.
        judged, rules, fresh = self.judged, self._rules, self._fresh
        event_id, entity_id, kind, type_, module, state_class, payload, expected, reading, node, causes, *_ = event
        if event_id in fresh or event_id in self._stored:
            self._again(event)
            return
        held = None if self._locks is None else self._locks.held(entity_id, event_id)
        if held is not None:
            # What waits already goes on waiting.
            raise (_Gap if line < 0 else Refused)("version_conflict", held)
        rule = rules.types.get(type_)
        if rule is None:
            raise Refused("unknown_type", f"{type_} is not registered: `ledger schema register {type_}`")
        if rule.state_class is not None and rule.state_class != state_class:
            raise Refused("invalid_event", f"stateClass of {type_} must be {rule.state_class}")
        entity = judged.changed.get(entity_id) or self._world.entities.get(entity_id)
        own_kind, version, last, _, parts = entity or _NOTHING
        if expected is not None and expected != version:
            raise Refused("version_conflict", f"{entity_id} has version {version}, not {expected}")
        if kind != own_kind and kind and own_kind:
            raise Refused("constraint_violation", f"{entity_id} is of kind {own_kind}")
        after = max(map(self._reading_of, causes)) if causes else ""
        if reading is None:
            reading = self._next(node)
        elif reading > self._latest:
            ahead = (Hlc.parse(reading).wall - self._now) / 1e6
            raise Refused("clock_drift", f"hlc is {ahead:.1f} s ahead of this machine's clock")
        elif reading <= last:
            raise Refused("version_conflict", f"hlc is not after {last}, the last of {entity_id}")
        elif reading <= after:
            raise Refused("causal_gap", "hlc is not after that of a cause")
        rule.check(payload)
        part = module, state_class
        try:
            value = rule.reducer(parts.get(part), payload)
        except Refused:
            raise
        except Exception as error:
            raise Refused("constraint_violation", f"the reducer of {type_} failed: {error}") from error
        if judged.clock is None or reading > judged.clock:
            judged.clock = reading
        kind = own_kind or kind or "entity"
        version += 1
        changed = {**parts, part: value} if value is not None else with_part(parts, part, None)
        then = _made(Entity, (kind, version, reading, event_id, changed))
        written = state_class != _UNVERSIONED
        if rules.constraints is not None:
            self.steps.append(Step(line, rule.read_as or type_, state_class, entity_id, entity, then, written))
        if written:
            fresh[event_id] = _made(_Accepted, (event, kind, version, reading, rule.read_as))
            judged.changed[entity_id] = then
        else:
            judged.transient += 1

    def _again(self, event: WorldEvent) -> None:
        """An event whose id is known: the same once more, or another one."""
        fresh = self._fresh.get(event.event_id)
        known = self._stored[event.event_id] if fresh is None else fresh.event
        payload = orjson.loads(known.payload) if isinstance(known, Known) else known.payload
        if (known.entity_id, known.type, payload) != (event.entity_id, event.type, event.payload):
            raise Refused("invalid_event", f"eventId {event.event_id} is that of another event")
        self.judged.duplicates += 1

    def _reading_of(self, cause: str) -> str:
        known = self._fresh.get(cause) or self._stored.get(cause)
        if known is None:
            raise _Gap("causal_gap", f"its cause {cause} is not known: send that first")
        return known.hlc

    def _next(self, node: str | None) -> str:
        """The reading of an event that brought none."""
        clock = self.judged.clock
        wall, counter, _ = _NEVER if clock is None else Hlc.parse(clock)
        return str(send(Hlc(wall, counter, node or self._rules.node), self._now, self._rules.max_drift))


def _persist(
    repository: Repository,
    world: World,
    before: Branch,
    batch: Sequence[Line],
    judged: _Judged,
    source: str,
    why: str,
    waiting: Waiting,
    node: str,
    part: Part | None,
) -> Branch:
    """Write what was accepted, refused or waits, and move the ref; nothing where there is nothing new."""
    with repository.store.scratch() as scratch:
        quarantine = _quarantined(repository, before, batch, judged, source, scratch)
        settle = None if part is None or judged.refused else part.settle
        settled = settle is not None and settle(before.state) != before.state
        if not judged.applied and not quarantine and judged.waiting == waiting and not settled:
            return before
        files: tuple[WorldFile, ...] = ()
        state = before.state.world
        if judged.applied:
            files = (_published(repository, judged.rows, scratch),)
            writer = writer_name(node, repository.identity, before.name)
            clock = vector_clock(before).ticked(writer, before.seq + 1)
            state = replace(_state_after(repository, world, state, judged, scratch), clock=clock.moves)
        added = Added(world=files, quarantine=quarantine)
        kept = before.state.waiting
        if judged.waiting != waiting:
            kept = write_waiting(repository, judged.waiting, scratch)
        after = replace(before.state, world=state, waiting=kept)
        after = after if settle is None else settle(after)
        kind = "world" if part is None or judged.refused else part.kind
        return repository.advance(before.name, before, kind, after, why or source, added)


def _state_after(
    repository: Repository, world: World, state: WorldState | None, judged: _Judged, scratch: Path
) -> WorldState:
    entities = len(world.entities) + len(judged.changed) - sum(map(world.entities.__contains__, judged.changed))
    checkpoint = None if state is None else state.checkpoint
    covered = 0 if checkpoint is None else checkpoint.files
    events = sum(file.events for file in world.files[covered:])
    if len(world.files) - covered >= CHECKPOINT_FILES or events >= max(CHECKPOINT_EVENTS, 2 * len(world.entities)):
        checkpoint = write_checkpoint(repository, world.entities, len(world.files), scratch)
    total = judged.applied + (0 if state is None else state.events)
    return WorldState(str(judged.clock), total, entities, checkpoint)


def _published(repository: Repository, rows: Sequence[pa.RecordBatch], scratch: Path) -> WorldFile:
    path = scratch / "world.parquet"
    table = pa.Table.from_batches(rows).combine_chunks()
    bounds = pc.min_max(table["hlc"]).as_py()
    # Stable: the events of an entity stand in the order of their versions already.
    ordered = table.take(pc.sort_indices(table["entity_id"]))
    pq.write_table(ordered, path, compression="zstd", use_dictionary=_ALIKE)
    published = repository.store.publish(path, "segments/world-{sha256}.parquet")
    return WorldFile(**vars(published), events=len(table), first=bounds["min"], last=bounds["max"])


def _quarantined(
    repository: Repository,
    before: Branch,
    batch: Sequence[Line],
    judged: _Judged,
    source: str,
    scratch: Path,
) -> tuple[QuarantineFile, ...]:
    """The refused events, once: a batch that is sent again adds none."""
    refused = judged.refused
    if not refused:
        return ()
    texts = {**dict(batch), **judged.texts}
    late = sorted(texts[each.line] for each in refused if each.line < 0)
    digest = hashlib.sha256(b"\n".join([*(text for _, text in batch), *late])).hexdigest()
    if any(file.source_sha256 == digest for file in before.quarantine()):
        return ()
    rows = [
        (each.line, None, None, texts[each.line].decode(errors="replace").rstrip("\r\n"), each.reason)
        for each in refused
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), QUARANTINE, strict=True)]
    path = scratch / "refused.parquet"
    pq.write_table(pa.Table.from_arrays(arrays, schema=QUARANTINE), path, compression="zstd")
    published = repository.store.publish(path, "quarantine/{sha256}.parquet")
    return (QuarantineFile(**vars(published), rows=len(rows), source=source, source_sha256=digest),)
