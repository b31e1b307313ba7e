"""The render of the ledger."""
