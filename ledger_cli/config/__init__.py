"""Settings of a ledger: the table of them, and what is read from `ledger.toml` and the environment."""
