"""The importer: DuckDB checks, sorts and deduplicates rows on their way into a ledger."""

from ledger_cli.engines.importer.importer import DuckImporter

__all__ = ["DuckImporter"]
