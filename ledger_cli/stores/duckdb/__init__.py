"""Commits and refs in a DuckDB file, for many processes in turns."""

from ledger_cli.stores.duckdb.store import DuckdbStore

__all__ = ["DuckdbStore"]
