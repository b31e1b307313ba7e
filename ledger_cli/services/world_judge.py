"""Judging world events: each by the rules of its type, against what the ones before it have made of the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np
import orjson
import pyarrow as pa

from ledger_cli.core.history import WorldState
from ledger_cli.core.hlc import LAST_WALL, WALL_LENGTH, Hlc, send
from ledger_cli.core.world import WORLD, Entity, Refused, WorldEvent, hashes_of, id_in, with_part
from ledger_cli.core.world_batch import ROWS_PER_PIECE, Events, read_events
from ledger_cli.services.prepared import Locks
from ledger_cli.services.world import Known, Reducer, World
from ledger_cli.services.world_constraints import BatchConstraints, Constraints, Step
from ledger_cli.services.world_waiting import Waiting

_UNVERSIONED = "transient"
"""The class whose events are checked and passed on, but never written."""
_made = tuple.__new__
_NEVER = Hlc(0, 0, "")
_NOTHING = Entity("", 0, "", "", {})
"""What is before the first event of an entity."""


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
    broadcast: Callable[[pa.Table], str | None] = lambda _: None
    """Told of the transient events that were accepted, rows of `WORLD`; gives what went wrong in that."""


@dataclass(frozen=True)
class Refusal:
    """An event that was refused: its line, its id where it has one, a code of `core.world.REASONS`, and why.

    What had waited for its causes has a line below 0, of no source: none is told of it.
    """

    line: int
    event_id: str | None
    reason: str
    detail: str

    @property
    def number(self) -> int | None:
        """The number of its line in the source; None where it had waited."""
        return self.line if self.line > 0 else None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"line": self.number, "eventId": self.event_id, "reason": self.reason, "detail": self.detail}


@dataclass
class Batch:
    """Events of an input, read. An event's place here is that of its text, its line and its row.

    `lines`: their numbers; those of what has waited go from −1 downwards, and come after `sent` others.
    """

    lines: Sequence[int]
    texts: Sequence[bytes]
    events: Events
    sent: int

    def and_older(self, waiting: Waiting, keys: Mapping[str, bytes]) -> Batch:
        """The same and what has been waiting."""
        if not waiting:
            return self
        older = read_events(list(waiting), keys)
        events = Events([*self.events.found, *older.found], pa.concat_tables([self.events.rows, older.rows]))
        lines = [*self.lines, *range(-1, -len(waiting) - 1, -1)]
        return Batch(lines, [*self.texts, *waiting], events, self.sent)


Placed = tuple[int, WorldEvent]
"""An event, and its place in its batch."""


@dataclass
class Judged:
    """What a batch comes to: rows of `WORLD`, the entities after it, and what was refused."""

    clock: str | None
    rows: list[pa.Table] = field(default_factory=list)
    changed: dict[str, Entity] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    duplicates: int = 0
    passed: list[_Accepted] = field(default_factory=list)
    """Transient events: accepted, but not to be stored. Their version is the one that their entity keeps."""
    gaps: list[tuple[int, WorldEvent, Refused]] = field(default_factory=list)
    """Events whose cause is not known, by their places."""
    waiting: Waiting = field(default_factory=dict)
    """What waits afterwards."""

    @property
    def applied(self) -> int:
        """How many events are to be stored."""
        return sum(each.num_rows for each in self.rows)


def judge(
    world: World, state: WorldState | None, batch: Batch, rules: Rules, waiting: Waiting, locks: Locks | None
) -> Judged:
    """Judge a batch event by event, each against what the ones before it have made; then again what waits.

    `batch`: with what waits, as of `and_older`. `state`: of the branch that `world` is of.
    """
    found = batch.events.found
    judging = _Judge(world, rules, batch, Judged(None if state is None else state.hlc), locks)
    for first in range(0, batch.sent, ROWS_PER_PIECE):
        judging = judging.on(_placed(judging, range(first, min(first + ROWS_PER_PIECE, batch.sent))))
    older = _placed(judging, range(batch.sent, len(found)))
    while older or judging.judged.gaps:
        again = [*older, *((place, event) for place, event, _ in judging.judged.gaps)]
        older, judging.judged.gaps = [], []
        known = judging.known
        judging = judging.on(again)
        if judging.known == known:
            break
    judged = judging.judged
    _settle(judged, batch, waiting, rules)
    judged.refused.sort(key=lambda refusal: refusal.line)
    return judged


def _placed(judging: _Judge, places: range) -> list[Placed]:
    """The events at some places; what is none is refused."""
    found = judging.batch.events.found[places.start : places.stop]
    if Refused not in set(map(type, found)):
        return list(zip(places, cast(list[WorldEvent], found), strict=True))
    for place, event in zip(places, found, strict=True):
        if isinstance(event, Refused):
            judging.refuse(place, None, event)
    return [(place, event) for place, event in zip(places, found, strict=True) if not isinstance(event, Refused)]


def _settle(judged: Judged, batch: Batch, waiting: Waiting, rules: Rules) -> None:
    """Whether what lacks a cause goes on waiting, or has waited too long."""
    now = rules.clock()
    for place, event, gap in judged.gaps:
        text = batch.texts[place].strip()
        since = waiting.get(text, now)
        if now - since >= rules.causal_wait:
            judged.refused.append(Refusal(batch.lines[place], event.event_id, gap.reason, gap.detail))
        else:
            judged.waiting[text] = since


def all_or_nothing(judged: Judged, batch: Batch, promised: bool) -> Judged:
    """The same where nothing was refused and nothing has to wait, else, or `promised`, the refusals alone."""
    told = [Refusal(batch.lines[place], event.event_id, gap.reason, gap.detail) for place, event, gap in judged.gaps]
    refused = sorted([*judged.refused, *told], key=lambda refusal: refusal.line)
    return Judged(judged.clock, refused=refused) if refused or promised else judged


_PORTION_MIN = 16


def _apart(events: Sequence[Placed]) -> bool:
    """Whether what becomes of one event cannot depend on those of other entities: by a cause, or an id twice."""
    return not any(event.causes for _, event in events) and len({event.event_id for _, event in events}) == len(events)


class _Accepted(NamedTuple):
    """An event that was accepted. `version`: its entity's after it; `hlc`: its reading."""

    event: WorldEvent
    place: int
    kind: str
    version: int
    hlc: str
    read_as: str | None


def _rows(accepted: Sequence[_Accepted], sent: pa.Table) -> pa.Table:
    """As rows of `WORLD`. `sent`: those of their batch."""
    _, places, kinds, versions, readings, read_as = zip(*accepted, strict=True)
    made = {"entity_kind": kinds, "version": versions, "hlc": readings, "read_as": read_as}
    taken = sent.take(pa.array(places))
    arrays = [pa.array(made[each.name], each.type) if each.name in made else taken[each.name] for each in WORLD]
    return pa.Table.from_arrays(arrays, schema=WORLD)


def passed_rows(judged: Judged, batch: Batch) -> pa.Table:
    """The transient events that were accepted of a batch, as rows of `WORLD`. There must be some."""
    return _rows(judged.passed, batch.events.rows)


class _Gap(Refused):
    """A cause is not known yet."""


def waits_for_canonical(_: Any) -> None:
    """What a type is checked by where another ledger decides about it: its events come in from there."""
    raise _Gap("causal_gap", "the canonical ledger has not decided about it yet")


class _Judge:
    """The state of judging one batch."""

    def __init__(self, world: World, rules: Rules, batch: Batch, judged: Judged, locks: Locks | None) -> None:
        self.batch = batch
        self._world = world
        self._rules = rules
        self._locks = locks
        self.judged = judged
        self._steps: list[Step] = []
        """What each event did; kept only where there are constraints."""
        self._now = rules.clock()
        self._latest = str(Hlc(min(self._now + rules.max_drift, LAST_WALL), 0, ""))[:WALL_LENGTH] + "~"
        """After all readings of the last wall clock that one may have."""
        self._hashes = batch.events.rows["event_hash"].to_numpy()
        self._stored: Mapping[str, Known] = {}
        self._fresh: dict[str, _Accepted] = {}

    def _fork(self) -> _Judge:
        """The same, to go on with alone; without the steps so far."""
        other = copy(self)
        other._steps = []
        other._fresh = dict(self._fresh)
        judged = self.judged
        other.judged = replace(
            judged,
            rows=list(judged.rows),
            refused=list(judged.refused),
            changed=dict(judged.changed),
            passed=list(judged.passed),
            gaps=list(judged.gaps),
        )
        return other

    @property
    def known(self) -> int:
        """Events that this batch has made known."""
        return len(self._fresh)

    def refuse(self, place: int, event: WorldEvent | None, why: Refused) -> None:
        """Leave out what stands at a place."""
        event_id = id_in(self.batch.texts[place]) if event is None else event.event_id
        self.judged.refused.append(Refusal(self.batch.lines[place], event_id, why.reason, why.detail))

    def on(self, events: Sequence[Placed]) -> _Judge:
        """Go on with some events; where to go on from afterwards."""
        if self._rules.constraints is not None:
            return self._constrained(events, self._rules.constraints.over(self._world.entities))
        self._run(events)
        return self

    def _constrained(self, events: Sequence[Placed], constraints: BatchConstraints) -> _Judge:
        """Judge as if one by one: a refused event has not come. They are asked about in portions, large ones first."""
        judging, size = self, ROWS_PER_PIECE
        while events:
            portion = events[:size]
            trial = judging._fork()
            trial._run(portion)
            found = constraints.broken(judging.judged.changed, trial._steps, _apart(portion))
            broken = {each.place: each.detail for each in found}
            if not broken:
                judging, events, size = trial, events[size:], min(2 * size, ROWS_PER_PIECE)
                continue
            judging, size = judging._fork(), max(_PORTION_MIN, len(portion) // 2)
            if None in broken:
                size = len(portion) // 2
                continue
            if len(broken) == 1:
                # All before it stands.
                before = [place in broken for place, _ in portion].index(True)
                judging._run(portion[:before])
                events = events[before:]
            for place, event in events:
                if place in broken:
                    judging.refuse(place, event, Refused("constraint_violation", broken[place]))
            events = [each for each in events if each[0] not in broken]
        return judging

    def _run(self, events: Sequence[Placed]) -> None:
        causes = {cause for _, event in events if event.causes for cause in event.causes}
        places = np.array([place for place, _ in events], np.int64)
        self._stored = self._world.known(np.concatenate([self._hashes[places], hashes_of(causes)]))
        before = len(self._fresh)
        one = self._one
        for place, event in events:
            try:
                one(place, event)
            except _Gap as gap:
                self.judged.gaps.append((place, event, gap))
            except Refused as refused:
                self.refuse(place, event, refused)
        if len(self._fresh) > before:
            accepted = list(islice(self._fresh.values(), before, None))
            self.judged.rows.append(_rows(accepted, self.batch.events.rows))

    def _one(self, place: int, event: WorldEvent) -> None:
        # This is done for every event: one function, and tuples made without the detour of their class.
        judged, rules, fresh = self.judged, self._rules, self._fresh
        event_id, entity_id, kind, type_, module, state_class, payload, expected, reading, node, causes = event
        if event_id in fresh or event_id in self._stored:
            self._again(event)
            return
        held = None if self._locks is None else self._locks.held(entity_id, event_id)
        if held is not None:
            # What waits already goes on waiting.
            raise (_Gap if place >= self.batch.sent else Refused)("version_conflict", held)
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
            self._steps.append(Step(place, rule.read_as or type_, state_class, entity_id, entity, then, written))
        if written:
            fresh[event_id] = _made(_Accepted, (event, place, kind, version, reading, rule.read_as))
            judged.changed[entity_id] = then
        else:
            judged.passed.append(_made(_Accepted, (event, place, kind, version - 1, reading, rule.read_as)))

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
