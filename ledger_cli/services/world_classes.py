"""State classes: what of the state outlives what.

`persistent` survives everything. `session` ends by an event of the log (`ledger world session end`), so that every
fold agrees. `cache` is in no checkpoint but a file of its own, which can be dropped: it is folded again from the events
and comes back equal. `transient` is judged and passed on, never written.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ledger_cli.core.history import WorldCheckpoint
from ledger_cli.core.jcs import digest_of
from ledger_cli.core.world import CLASSES, PROTOCOL, Entity, signature
from ledger_cli.errors import Conflict, LedgerError, NotFound
from ledger_cli.services.repository import ATTEMPTS, Repository, overtaken
from ledger_cli.services.world import World
from ledger_cli.services.world_apply import ApplyRequest, apply
from ledger_cli.services.world_judge import Rules
from ledger_cli.services.world_types import SESSION_ENDED

SESSION = "session"


@dataclass(frozen=True)
class SessionEnd:
    """What `ledger world session end` ended: parts of so many entities. `hlc`: the branch's clock afterwards."""

    branch: str
    entities: int
    parts: int
    hlc: str | None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**vars(self)}


@dataclass(frozen=True)
class CacheDrop:
    """What `ledger world cache drop` dropped: the parts of so many entities, in a file of so many bytes."""

    branch: str
    entities: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**vars(self)}


@dataclass(frozen=True)
class ClassSize:
    """How much state of a class there is. `bytes`: of its JSON."""

    entities: int = 0
    parts: int = 0
    bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**vars(self)}


def end_session(
    repository: Repository,
    world: World,
    branch: str,
    rules: Rules,
    module: str | None = None,
    entity_id: str | None = None,
    why: str = "",
) -> SessionEnd:
    """End the session state of a module (None: of each) in an entity (None: in all), by one event each.

    NotFound where the entity is none. Killed in between, or done twice at once, each part is ended once.
    """
    if entity_id is not None and entity_id not in world.entities:
        raise NotFound(f"branch {branch} has no entity {entity_id!r}: `ledger world find` lists what there is")
    chosen = world.entities if entity_id is None else {entity_id: world.entities[entity_id]}
    parts = [
        (name, owner, entity.event_id)
        for name, entity in chosen.items()
        for owner, state_class in entity.parts
        if state_class == SESSION and module in (None, owner)
    ]
    lines = (_ending(*part, rules.keys) for part in parts)
    result = apply(repository, world, ApplyRequest(branch, lines, "session end", why=why), rules)
    for refusal in result.refused:
        raise LedgerError(f"the session of an entity could not be ended: {refusal.detail}; run the command again")
    return SessionEnd(branch, len({name for name, _, _ in parts}), len(parts), result.hlc)


def _ending(entity_id: str, module: str, last: str, keys: Mapping[str, bytes]) -> bytes:
    """The event that ends a part; the same whoever makes it, as long as nothing else has happened to the entity."""
    kind = f"{module}.{SESSION_ENDED}.v1"
    raw: dict[str, Any] = {"entityId": entity_id, "type": kind, "stateClass": SESSION, "payload": {}}
    raw["eventId"] = f"{SESSION_ENDED}-{digest_of([entity_id, module, last])[:32]}"
    key = keys.get(module)
    signed = {} if key is None else {"signature": signature(raw, key).decode()}
    return json.dumps({**raw, "handshake": {"protocol": PROTOCOL, **signed}}).encode()


def drop_cache(repository: Repository, branch: str, why: str = "") -> CacheDrop:
    """Let go of the state of the class `cache` that a branch keeps. Where there is none, nothing changes."""
    for _ in range(ATTEMPTS):
        before = repository.branch(branch)
        world = before.state.world
        checkpoint = None if world is None else world.checkpoint
        if world is None or checkpoint is None or checkpoint.cache is None:
            return CacheDrop(branch, 0, 0)
        after = replace(before.state, world=replace(world, checkpoint=_dropped(checkpoint)))
        try:
            repository.advance(branch, before, "world", after, why or "cache drop")
        except Conflict:
            continue
        return CacheDrop(branch, checkpoint.cached, checkpoint.cache.bytes)
    raise overtaken(f"branch {branch}")


def _dropped(checkpoint: WorldCheckpoint) -> WorldCheckpoint:
    return replace(checkpoint, cache=None)


def class_sizes(entities: Iterable[Entity]) -> dict[str, ClassSize]:
    """How much state there is of each class that is kept."""
    with_any: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for entity in entities:
        with_any.update({state_class for _, state_class in entity.parts})
        for (_, state_class), value in entity.parts.items():
            parts[state_class] += 1
            size[state_class] += len(orjson.dumps(value))
    return {name: ClassSize(with_any[name], parts[name], size[name]) for name in CLASSES if name != "transient"}
