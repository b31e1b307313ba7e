"""`Ledger.snapshots`: cuts through the world of a branch, made, looked at, checked and brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger_cli.config.file import Config
from ledger_cli.core.history import MAIN
from ledger_cli.services.repository import Repository
from ledger_cli.wiring import machine

if TYPE_CHECKING:
    from ledger_cli.core.history import Snapshot
    from ledger_cli.services.snapshot_restore import Proof, Restored
    from ledger_cli.services.snapshots import Keep, Reducers, SnapshotView


class SnapshotApi:
    """The snapshots of a ledger. They are named by their ids; None is the newest of a branch."""

    def __init__(self, repository: Repository, config: Config) -> None:
        """Use `Ledger.snapshots`."""
        self._repository = repository
        self._config = config

    def create(
        self, branch: str = MAIN, wait: int | None = None, every: str | None = None, why: str = ""
    ) -> SnapshotView:
        """Make a snapshot of the world as it is now.

        `wait`: seconds for which modules that subscribe may take to come to the cut, 0 for not at all; None: as in
        `ledger.toml`. `every`, like `1h`: only where the newest is as old.
        """
        from ledger_cli.core.durations import seconds_of
        from ledger_cli.services.snapshots import create

        seconds = self._config["snapshot_wait"] if wait is None else wait
        return create(
            self._repository,
            self._reducers(),
            branch,
            machine.patience(seconds) if seconds else None,
            self._keep(),
            None if every is None else seconds_of(every),
            why,
        )

    def show(self, snapshot: int | None = None, branch: str = MAIN) -> SnapshotView:
        """A snapshot with its files."""
        from ledger_cli.services.snapshots import show

        return show(self._repository, self._found(snapshot, branch))

    def verify(self, snapshot: int | None = None, branch: str = MAIN) -> Proof:
        """Check the files of a snapshot, and its state against a replay from nothing."""
        from ledger_cli.services.snapshot_restore import verify

        return verify(self._repository, self._reducers(), self._found(snapshot, branch))

    def restore(
        self,
        snapshot: int | None = None,
        branch: str = MAIN,
        to: str | None = None,
        verify: bool = True,
        why: str = "",
    ) -> Restored:
        """Let its branch start from a snapshot and the events since, or begin a new one (`to`) at the cut.

        `verify`: first compare with a replay from nothing.
        """
        from ledger_cli.services.snapshot_restore import restore

        found = self._found(snapshot, branch)
        return restore(self._repository, self._reducers(), found, to, verify, why)

    def prune(
        self, keep: int | None = None, branch: str = MAIN, why: str = "", *, before: str | None = None
    ) -> list[SnapshotView]:
        """Take away all snapshots of a branch but the newest `keep`, and those older than `before`, an age like `30d`.

        The newest one is never too old. None: as in `ledger.toml`.
        """
        from ledger_cli.services.snapshots import SnapshotView, prune

        return [SnapshotView(each) for each in prune(self._repository, self._keep(keep, before), branch, why)]

    def _keep(self, newest: int | None = None, before: str | None = None) -> Keep:
        from ledger_cli.api.retention import time_ago
        from ledger_cli.core.durations import seconds_of
        from ledger_cli.services.snapshots import Keep

        since = None if before is None else machine.time_before(seconds_of(before))
        if before is None and self._config["keep_snapshots_for"] is not None:
            since = time_ago(self._config, "keep_snapshots_for")
        return Keep(self._config["keep_snapshots"] if newest is None else newest, since)

    def _found(self, snapshot: int | None, branch: str) -> Snapshot:
        from ledger_cli.services.snapshots import find

        return find(self._repository, snapshot, branch)

    def _reducers(self) -> Reducers:
        from ledger_cli.services.world_types import reducer_of, registered

        return reducer_of(registered(self._repository))

    def list(self, branch: str = MAIN) -> list[SnapshotView]:
        """The snapshots of a branch, newest first."""
        from ledger_cli.services.snapshots import SnapshotView, snapshots

        return [SnapshotView(each) for each in snapshots(self._repository, branch)]
