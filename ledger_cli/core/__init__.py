"""The core of the ledger."""
