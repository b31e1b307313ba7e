"""The facade: `Ledger`; and `ledger_cli.api.simulation` for input to try it on."""

from ledger_cli.api.ledger import MAIN, Ledger, SavedGamma

__all__ = ["MAIN", "Ledger", "SavedGamma"]
