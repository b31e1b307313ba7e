"""Commits and refs in a RocksDB database: a directory, for one process at a time."""

from ledger_cli.stores.rocksdb.store import RocksStore

__all__ = ["RocksStore"]
