"""The status of a branch in a notebook."""

from __future__ import annotations

from ledger_cli.services.status import Status


class StatusInNotebook(Status):
    """A status that notebooks show as names and values."""

    def _repr_html_(self) -> str:
        from ledger_cli.render.views.notebook import status_html

        return status_html(self)
