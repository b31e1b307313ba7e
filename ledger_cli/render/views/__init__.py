"""Results as people see them, by topic. Text from a ledger is never read as markup."""
