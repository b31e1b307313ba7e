"""The services of the ledger."""
