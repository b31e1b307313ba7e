"""Stores that keep files as they are: of packs and archives others know, who stand around them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from ledger_cli.ports import Reading


class PlainFiles:
    """See `ports.Store`."""

    by_engine = False

    @abstractmethod
    def location(self, file: str) -> str:
        """See `ports.Files`."""

    def reading(self, files: Sequence[str], headers: bool = False) -> Reading:
        """See `ports.Store`."""
        return Reading(files)

    def headers(self, file: str) -> str:
        """See `ports.Store`."""
        return self.location(file)

    def archived(self, file: str) -> bool:
        """See `ports.Store`."""
        return False

    @property
    def packings(self) -> int:
        """See `ports.Store`."""
        return 0

    def look_again(self) -> None:
        """See `ports.Store`."""
