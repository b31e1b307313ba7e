"""Gamma in a notebook."""

from __future__ import annotations

from ledger_cli.services.gamma import Gamma


class GammaInNotebook(Gamma):
    """Gamma that notebooks show as a map with the heaviest regions."""

    def _repr_html_(self) -> str:
        from ledger_cli.render.gamma import frame_html

        return frame_html(self.frame)
