"""The engines of the ledger."""
