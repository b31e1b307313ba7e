"""A store that is another directory than the ledger's: what is no matter of an engine is tested with it."""

from __future__ import annotations

from pathlib import Path

from ledger_cli.stores.directory import DirectoryStore


class Elsewhere(DirectoryStore):
    """`elsewhere:///NAME`."""

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__(directory / url.removeprefix("elsewhere:///"))
