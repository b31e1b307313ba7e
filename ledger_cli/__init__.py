"""git + DuckDB for world state: exact, append-only, content-addressed commits of entity tick events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger_cli.api import Ledger
    from ledger_cli.errors import LedgerError

    __version__: str

__all__ = ["Ledger", "LedgerError", "__version__"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: `ledger --help` needs no engine."""
    if name == "Ledger":
        from ledger_cli.api import Ledger

        return Ledger
    if name == "LedgerError":
        from ledger_cli.errors import LedgerError

        return LedgerError
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("ledger-cli")
        except PackageNotFoundError:
            return "0+sources"
    raise AttributeError(f"module 'ledger_cli' has no attribute {name!r}")
