"""Sources: what can be ingested, and the writers of the same formats."""
