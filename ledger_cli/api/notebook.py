"""Results that a notebook shows as what they are."""

from __future__ import annotations

from ledger_cli.render.gamma import frame_html
from ledger_cli.render.views.notebook import log_html
from ledger_cli.services.gamma import Gamma
from ledger_cli.services.log import LogPage


class LogInNotebook(LogPage):
    """A page of the log that notebooks show as a table."""

    def _repr_html_(self) -> str:
        return log_html(self.branch, self.table.to_pylist())


class GammaInNotebook(Gamma):
    """Gamma that notebooks show as a map with the heaviest regions."""

    def _repr_html_(self) -> str:
        return frame_html(self.frame)
