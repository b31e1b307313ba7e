"""Commits and refs in the tables of Apache Cassandra or Scylla: a cluster, for many processes on many machines."""

from ledger_cli.stores.cassandra.store import CassandraStore

__all__ = ["CassandraStore"]
