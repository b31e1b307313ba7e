"""A page of the log in a notebook."""

from __future__ import annotations

from ledger_cli.services.log import LogPage


class LogInNotebook(LogPage):
    """A page of the log that notebooks show as a table."""

    def _repr_html_(self) -> str:
        from ledger_cli.render.views.notebook import log_html

        return log_html(self.branch, self.table.to_pylist())
