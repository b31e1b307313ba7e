"""Questions to the world of a branch: one entity, its history, and all of them, now or at a past moment.

One entity is read from the last checkpoint before the time asked for and from the events since; nothing else of
the world is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from ledger_cli.core.history import WorldCheckpoint, WorldFile
from ledger_cli.core.hlc import Hlc
from ledger_cli.core.vector_clock import VectorClock
from ledger_cli.core.world import WORLD, Entity
from ledger_cli.errors import NotFound
from ledger_cli.services.moment import Moment
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world import Reducer, folded, read_checkpoint, read_parquet

Reducers = Callable[[str], Reducer]
Filters = Sequence[tuple[str, str, Any]]
"""(column, operator, value) triples, as Parquet is read with."""
_TOLD = [name for name in WORLD.names if name != "event_hash"]


@dataclass(frozen=True)
class EntityView:
    """An entity at a moment (None: now). `clock`: the vector clock of the branch that it was read from."""

    branch: str
    entity_id: str
    entity: Entity
    at: str | None
    module: str | None = None
    clock: VectorClock = VectorClock()  # noqa: RUF009 - it never changes

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        entity = self.entity.to_json(self.entity_id, self.module)
        return {"branch": self.branch, "at": self.at, "clock": str(self.clock), **entity}


@dataclass(frozen=True)
class Transition:
    """One event of an entity, as stored. `version`: the entity's after it."""

    event: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`: the event as it was sent, with its version and clock reading."""
        row = self.event
        return {
            "eventId": row["event_id"],
            "entityId": row["entity_id"],
            "entityKind": row["entity_kind"],
            "type": row["type"],
            "readAs": row["read_as"],
            "module": row["module"],
            "stateClass": row["state_class"],
            "payload": orjson.loads(row["payload"]),
            "version": row["version"],
            "expectedVersion": row["expected_version"],
            "hlc": row["hlc"],
            "causes": row["causes"],
            "handshake": orjson.loads(row["handshake"]),
            "timestamp": row["timestamp"],
        }


def entity_at(
    repository: Repository, branch: Branch, entity_id: str, reducers: Reducers, at: Hlc | None = None
) -> Entity | None:
    """An entity after all of its events up to a clock reading, that included; None where there was none yet."""
    return entities_at(repository, branch, reducers, at, [("entity_id", "=", entity_id)]).get(entity_id)


def history(repository: Repository, entity_id: str, first: Moment | None, last: Moment) -> list[Transition]:
    """The events of an entity up to a moment, oldest first; NotFound where there was none by then.

    `first`: only from a clock reading or time on, or what came after a commit, tag or tick.
    """
    files = last.branch.world_files()
    low = None if first is None else first.first
    if first is not None and low is None:
        known = {file.file for file in first.branch.world_files()}
        wanted = [file for file in files if file.file not in known]
    else:
        wanted = files
    only = [("entity_id", "=", entity_id)]
    rows = list(_events(repository, wanted, only, low, last.last))
    if not rows and not any(True for _ in _events(repository, files, only, None, last.last)):
        raise unknown(last, entity_id)
    return [Transition(row) for row in rows]


def unknown(moment: Moment, entity_id: str) -> NotFound:
    """What is said of an entity without events."""
    then = "" if moment.text is None else f" at {moment.text}"
    return NotFound(f"branch {moment.name} has no entity {entity_id!r}{then}: `ledger world find` lists what there is")


def entities_at(
    repository: Repository, branch: Branch, reducers: Reducers, at: Hlc | None = None, only: Filters = ()
) -> dict[str, Entity]:
    """All entities after the events up to a clock reading, that included.

    `only`: those of some ids or of a kind, which are the same in all events of an entity; nothing else is read.
    """
    checkpoint = _checkpoint_before(repository, branch, at)
    entities: dict[str, Entity] = {}
    covered = 0
    if checkpoint is not None:
        covered = checkpoint.files
        entities = read_checkpoint(repository, checkpoint, branch.world_files(), reducers, only)
    for row in _events(repository, branch.world_files()[covered:], only, None, at):
        entity = entities.get(row["entity_id"])
        entities[row["entity_id"]] = folded(entity, row, reducers)
    return entities


def _events(
    repository: Repository, files: list[WorldFile], only: Filters, first: Hlc | None, last: Hlc | None
) -> Iterator[Mapping[str, Any]]:
    """Events in the order of each entity's versions. Readings sort as their texts."""
    low, high = str(first or ""), None if last is None else str(last)
    for file in files:
        if file.last < low or (high is not None and file.first > high):
            continue
        filters = [("hlc", ">=", low), *([] if high is None else [("hlc", "<=", high)]), *only]
        yield from _sorted(read_parquet(repository, file.file, _TOLD, filters)).to_pylist()


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([("entity_id", "ascending"), ("version", "ascending")])


def _checkpoint_before(repository: Repository, branch: Branch, at: Hlc | None) -> WorldCheckpoint | None:
    """The last checkpoint whose events all have a clock reading of at most `at`."""
    state = branch.state.world
    if state is None:
        return None
    if at is None or state.hlc <= str(at):
        return state.checkpoint
    low, high = branch.state.created, branch.seq
    # The clock of a branch never goes back: look for the last move at which it was not beyond.
    while low < high:
        middle = (low + high + 1) // 2
        then = repository.move(branch.name, middle).state.world
        if then is None or then.hlc <= str(at):
            low = middle
        else:
            high = middle - 1
    then = repository.move(branch.name, low).state.world
    if then is not None and then.hlc <= str(at):
        return then.checkpoint
    return None if branch.base is None else _checkpoint_before(repository, branch.base, at)
