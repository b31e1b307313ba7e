"""`Ledger.follow`: the sources opened, and what their follower needs of the ledger and of this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING

from ledger_cli.core.durations import seconds_given, seconds_of
from ledger_cli.core.policy import Policy
from ledger_cli.errors import UsageError
from ledger_cli.ports import Taken
from ledger_cli.services.broadcast import Broadcast
from ledger_cli.services.commit import CommitResult
from ledger_cli.services.follow import Clocks, Follower, FollowOptions, FollowStep
from ledger_cli.services.followed import Followed, Settle
from ledger_cli.services.ingest import IngestOptions, IngestResult, ingest
from ledger_cli.services.snapshots import SnapshotView
from ledger_cli.services.world_apply import ApplyRequest, ApplyResult
from ledger_cli.wiring import inputs, machine

if TYPE_CHECKING:
    from ledger_cli.api.ledger import Ledger


def follow(
    ledger: Ledger, sources: Sequence[str], world: Sequence[str], options: FollowOptions, stop: Event
) -> Iterator[FollowStep]:
    """Steps: see `services.follow.Follower.steps`."""
    with ExitStack() as opened:
        ticks = [_opened(ledger, "ticks", name, options.branch, opened) for name in sources]
        events = [_opened(ledger, "world", name, options.branch, opened) for name in world]
        clocks = Clocks(machine.clock, time.monotonic, round(ledger.config["causal_wait"] * 1e6))
        verbs, broadcaster = _Verbs(ledger, options.branch), ledger.world._broadcaster
        follower = Follower(ledger._repository, verbs, broadcaster, ticks, events, options, clocks)
        yield from follower.steps(stop)


def _opened(ledger: Ledger, use: str, name: str, branch: str, opened: ExitStack) -> Followed:
    # Another node may have other files of the same name.
    key = f"{use} {machine.node(ledger.config['node'])} {os.path.realpath(name)}"
    reached = ledger._repository.branch(branch).state.followed.get(key)
    tail = inputs.make_tail(name, reached)
    opened.callback(tail.close)
    return Followed(tail, key, reached)


class _Verbs:
    """The verbs of a ledger on a branch, as `services.follow.Verbs` has them."""

    def __init__(self, ledger: Ledger, branch: str) -> None:
        self._ledger = ledger
        self._branch = branch
        self._kept: set[str] = set()

    def ingest(self, name: str, taken: Taken, settle: Settle) -> IngestResult:
        source = inputs.taken_source(name, taken)
        options = IngestOptions(max_tick_jump=self._ledger.config["max_tick_jump"], settle=settle)
        repository, importer = self._ledger._repository, self._ledger._make_importer()
        return ingest(repository, importer, self._branch, [source], options, again=[source].__getitem__)

    def policy(self) -> Policy:
        return self._ledger.policy(self._branch)

    def commit(self) -> CommitResult:
        return self._ledger.commit(self._branch)

    def apply(self, request: ApplyRequest, broadcast: Broadcast) -> ApplyResult:
        return self._ledger.world._apply(request, broadcast)

    def snapshot(self, every: str) -> SnapshotView:
        return self._ledger.snapshots.create(self._branch, 0, every, "follow")

    def keep_views(self) -> None:
        from ledger_cli.api.views import own_views
        from ledger_cli.services.query import keep_views

        repository = self._ledger._repository
        views = own_views(repository, self._ledger.config)
        if views.kept and views.copies is not None:
            fresh = {key for key, _ in keep_views(repository, repository.branch(self._branch), views).values()}
            for key in self._kept - fresh:
                views.copies.drop(key)
            self._kept = fresh


def options_of(
    branch: str, every: float | str, rows: int, snapshot_every: str | None, idle: float | str | None
) -> FollowOptions:
    """Options as they are given; lengths of time in seconds or as `30s`, `1h`. UsageError for what cannot be one."""
    if rows < 1:
        raise UsageError(f"{rows} rows a step come to nothing: give 1 or more")
    if snapshot_every is not None:
        seconds_of(snapshot_every)
    patience = None if idle is None else seconds_given(idle)
    return FollowOptions(branch, seconds_given(every), rows, snapshot_every, patience)
