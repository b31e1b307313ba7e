"""What happened to a world is told to a bus, which is a subscriber like any module: `bus`, with a cursor in the log.

A branch moves first, then its events are told, then the cursor goes on. Killed in between, or where the bus is down,
the next who comes tells them: every event at least once, and each for the first time in the order of the log. Whoever
reads tells repeated ones by their `eventId`, or by `branch` and `position`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import pyarrow as pa

from ledger_cli.config.settings import FILE_NAME
from ledger_cli.core.history import Subscription
from ledger_cli.errors import LedgerError, UsageError
from ledger_cli.ports import Bus, BusEvent
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.subscriptions import found, lag, move_on
from ledger_cli.services.world_log import ANY_TYPE, POSITION, log_after, shared_length
from ledger_cli.services.world_query import Transition

MODULE = "bus"
GONE = "the bus was not told of transient events, which are gone: {}"
BATCH_EVENTS = 10_000
"""Events that are published at a time, and acknowledged by one move."""


Broadcast = Callable[[pa.Table], str | None]
"""Tells others of rows of `WORLD` that are transient; what went wrong, None: nothing."""


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


class Broadcaster:
    """Tells the bus of a ledger what happens on its branches; without a bus it tells nobody."""

    def __init__(self, repository: Repository, make: Callable[[], Bus | None]) -> None:
        """`make`: makes the bus when it is first asked for. UsageError for a kind that there is not."""
        self._repository = repository
        self._make = make
        self.undelivered: str | None = None
        """Why the bus lacks events after the last write; None: it has them all, or there is none."""

    @cached_property
    def bus(self) -> Bus | None:
        """Where events are told to others."""
        return self._make()

    def deliver(self, branch_name: str, batches: int | None = None) -> Told:
        """Publish what lies behind the cursor of the bus, at most so many batches; None: all.

        What goes wrong with the bus is told, and raised by nobody. UsageError without a bus.
        """
        if self.bus is None:
            raise UsageError(f"there is no bus: set bus in {FILE_NAME}, or LEDGER_BUS")
        told = done = 0
        while True:
            branch = self._repository.branch(branch_name)
            one = subscription(self._repository, branch)
            if done == batches:
                return Told(branch_name, told, one.cursor, lag(self._repository, branch, one))
            table, up_to = log_after(self._repository, branch, one.cursor, one.types, BATCH_EVENTS)
            if up_to == one.cursor:
                return Told(branch_name, told, one.cursor, 0)
            try:
                if table.num_rows:
                    self.bus.publish(_bus_events(self._repository, branch_name, table))
            except LedgerError as error:
                return Told(branch_name, told, one.cursor, lag(self._repository, branch, one), str(error))
            told += table.num_rows
            move_on(self._repository, branch, one, up_to, f"{MODULE} up to {up_to}")
            done += 1

    def deliver_written(self, branch: str) -> list[str]:
        """Deliver after a write, which stands whatever comes of that: what went wrong, none or one."""
        self.undelivered = None
        try:
            failed = None if self.bus is None else self.deliver(branch).failed
        except LedgerError as error:
            failed = str(error)
        if failed is not None:
            self.undelivered = (
                f"the bus could not be told: {failed}; the events are applied, and the next write or `ledger follow` "
                "tells it"
            )
        return [] if self.undelivered is None else [self.undelivered]

    def pass_on(self, branch: str, rows: pa.Table) -> str | None:
        """Tell of transient events, which nobody can deliver later. What went wrong; None: nothing."""
        try:
            if self.bus is not None:
                self.bus.publish(_bus_events(self._repository, branch, rows))
        except LedgerError as error:
            return GONE.format(error)
        return None

    def passing_on(self, branch: str) -> Broadcast:
        """Passes on, but not again once the bus did not answer. UsageError for no kind of bus."""
        _ = self.bus
        down = list[str]()

        def told(rows: pa.Table) -> str | None:
            failed = None if down else self.pass_on(branch, rows)
            down.extend([] if failed is None else [failed])
            return failed

        return told


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


def _bus_events(repository: Repository, branch: str, rows: pa.Table) -> list[BusEvent]:
    """Rows of `WORLD` as a bus is told of them; those without a position were never written."""
    place = {"ledger": repository.identity, "branch": branch}
    events = []
    for row in rows.to_pylist():
        value = {**place, "position": row.pop(POSITION, None), **Transition(row).to_json()}
        events.append(BusEvent(row["entity_id"], orjson.dumps(value)))
    return events
