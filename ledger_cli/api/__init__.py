"""The facade: `Ledger`; and `ledger_cli.api.simulation` for input to try it on."""

from ledger_cli.api.ledger import Ledger, SavedGamma
from ledger_cli.core.history import MAIN

__all__ = ["MAIN", "Ledger", "SavedGamma"]
