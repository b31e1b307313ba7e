"""What most stores do alike of `ports.Commits`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import pyarrow as pa

from ledger_cli.core.slices import History
from ledger_cli.ports import TickRange
from ledger_cli.stores.common.rows import tile_of


class CommitsBase(ABC):
    """See `ports.Commits`."""

    def leading(self, branch: str, shards: Iterable[int]) -> AbstractContextManager[None]:
        """See `ports.Commits`. Nobody waits."""
        return nullcontext()

    def read_projection_tile(self, history: History, region: str) -> pa.Table:
        """See `ports.Commits`."""
        return tile_of(region, self.query_commits_by_region(history, region, TickRange()))

    @abstractmethod
    def query_commits_by_region(self, history: History, region: str, ticks: TickRange) -> pa.Table:
        """See `ports.Commits`."""
