"""Tables for people, for commands that need no view of their own."""

from ledger_cli.render.common.tables import fields, short, shown, table

__all__ = ["fields", "short", "shown", "table"]
