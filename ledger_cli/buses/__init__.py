"""Where a ledger tells others what has happened to its world: one adapter a module (see `ports.Bus`)."""
