"""What a transaction over two ledgers leaves in the state of a branch while it is under way, and what it locks.

The entities of prepared events are locked: no other event may change them, and no other event have one of their ids,
so that what was judged when they were prepared still holds when they are applied. Both stand in the state of the same
ref, so that a writer who has not seen the lock loses the race for the move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ledger_cli.core.history import State, Transaction
from ledger_cli.core.world import WorldEvent
from ledger_cli.core.world_batch import read_events
from ledger_cli.errors import Conflict, Corrupt
from ledger_cli.services.repository import Branch, Repository


@dataclass(frozen=True)
class Part:
    """What a batch is in a transaction. `settle` changes the state of the branch in the move of the batch."""

    transaction: str
    kind: Literal["prepare", "world"]
    """`prepare`: the events are judged and promised, but not applied yet."""
    settle: Callable[[State], State]


@dataclass(frozen=True)
class Locks:
    """Which transaction holds an entity, the id of an event, or (`whole`) everything."""

    entities: Mapping[str, str]
    event_ids: Mapping[str, str]
    whole: str | None

    def held(self, entity_id: str, event_id: str) -> str | None:
        """What is told of an event that a transaction does not let through; None where all do."""
        holder = self.entities.get(entity_id) or self.event_ids.get(event_id) or self.whole
        if holder is None:
            return None
        return (
            f"{entity_id} is locked by transaction {holder}: send it again when that has ended "
            f"(`ledger world recover` ends it now)"
        )


def locks_of(repository: Repository, branch: Branch, own: str | None) -> Locks | None:
    """The locks of all transactions but one's own; None where there are none."""
    entities: dict[str, str] = {}
    event_ids: dict[str, str] = {}
    whole = None
    for name, each in branch.state.transactions.items():
        if each.stage == "prepared" and name != own:
            events = prepared_events(repository, each)
            entities.update(dict.fromkeys((event.entity_id for event in events), name))
            event_ids.update(dict.fromkeys((event.event_id for event in events), name))
            whole = name if each.whole else whole
    return Locks(entities, event_ids, whole) if entities else None


def prepared_lines(repository: Repository, transaction: Transaction) -> list[bytes]:
    """The events that a branch has promised to apply, as they were sent. Corrupt where the file is not as it was."""
    prepared = transaction.prepared
    assert prepared is not None, "events are prepared in a file"
    if repository.store.digest_of_file(prepared.file) != prepared.sha256:
        raise Corrupt(f"{prepared.file} is not what its digest says: restore it from a copy of the ledger")
    return repository.store.read_file(prepared.file).split(b"\n")


def prepared_events(repository: Repository, transaction: Transaction) -> list[WorldEvent]:
    """The same, read."""
    lines = [line for line in prepared_lines(repository, transaction) if line and not line.isspace()]
    return [event for event in read_events(lines, {}).found if isinstance(event, WorldEvent)]


def with_transaction(state: State, name: str, transaction: Transaction | None) -> State:
    """A state with a transaction under way, or (None) without it."""
    others = {each: known for each, known in state.transactions.items() if each != name}
    return replace(state, transactions=others if transaction is None else {**others, name: transaction})


def refuse_prepared(branch: Branch, what: str) -> None:
    """Conflict where a branch has promised something that `what` might break."""
    for name, each in sorted(branch.state.transactions.items()):
        if each.stage == "prepared" or what == "deleted":
            raise Conflict(
                f"{branch.name} cannot be {what} before transaction {name} with {each.ledger} has ended: "
                f"`ledger world recover --branch {branch.name}` ends it"
            )
