"""What happened to a world is told to a bus, which is a subscriber like any module: `bus`, with a cursor in the log.

A branch moves first, then its events are told, then the cursor goes on. Killed in between, or where the bus is down,
the next who comes tells them: every event at least once, and each for the first time in the order of the log. Whoever
reads tells repeated ones by their `eventId`, or by `branch` and `position`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from ledger_cli.core.history import Subscription
from ledger_cli.errors import LedgerError
from ledger_cli.ports import Bus, BusEvent
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.subscriptions import found, lag, move_on
from ledger_cli.services.world_log import ANY_TYPE, POSITION, log_after, shared_length
from ledger_cli.services.world_query import Transition

MODULE = "bus"
BATCH_EVENTS = 10_000
"""Events that are published at a time, and acknowledged by one move."""


@dataclass(frozen=True)
class Told:
    """What a bus was told of a branch, in events, up to the position `cursor`.

    `lag`: those that it has still to be told; `failed`: why, None where nothing went wrong.
    """

    branch: str
    events: int
    cursor: int
    lag: int
    failed: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**vars(self)}


def deliver(repository: Repository, branch_name: str, bus: Bus, batches: int | None = None) -> Told:
    """Publish what lies behind the cursor of the bus, at most so many batches; None: all.

    What goes wrong with the bus is told, and raised by nobody.
    """
    told = done = 0
    while True:
        branch = repository.branch(branch_name)
        one = subscription(repository, branch)
        if done == batches:
            return Told(branch_name, told, one.cursor, lag(repository, branch, one))
        table, up_to = log_after(repository, branch, one.cursor, one.types, BATCH_EVENTS)
        if up_to == one.cursor:
            return Told(branch_name, told, one.cursor, 0)
        try:
            if table.num_rows:
                bus.publish(bus_events(repository, branch_name, table))
        except LedgerError as error:
            return Told(branch_name, told, one.cursor, lag(repository, branch, one), str(error))
        told += table.num_rows
        move_on(repository, branch, one, up_to, f"{MODULE} up to {up_to}")
        done += 1


def subscription(repository: Repository, branch: Branch) -> Subscription:
    """That of the bus on a branch. At first it has all events to come, but for those that are told on the parent."""
    known = found(repository, branch, MODULE)
    if known is not None:
        return known
    return Subscription(branch.name, branch.state.created, MODULE, (ANY_TYPE,), _told_elsewhere(repository, branch))


def _told_elsewhere(repository: Repository, branch: Branch) -> int:
    base = branch.state.base
    parent = None if base is None else repository.find(base.branch)
    if parent is None or parent.state.deleted or found(repository, parent, MODULE) is None:
        return 0
    return shared_length(parent, branch)


def bus_events(repository: Repository, branch: str, rows: pa.Table) -> list[BusEvent]:
    """Rows of `WORLD` as a bus is told of them; those without a position were never written."""
    place = {"ledger": repository.identity, "branch": branch}
    events = []
    for row in rows.to_pylist():
        value = {**place, "position": row.pop(POSITION, None), **Transition(row).to_json()}
        events.append(BusEvent(row["entity_id"], orjson.dumps(value)))
    return events
