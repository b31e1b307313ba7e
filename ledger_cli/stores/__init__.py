"""The stores of the ledger."""
