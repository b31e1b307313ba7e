"""A comparison in a notebook."""

from __future__ import annotations

from ledger_cli.services.diff import DiffResult


class DiffInNotebook(DiffResult):
    """A comparison that notebooks show as a table of the regions that differ."""

    def _repr_html_(self) -> str:
        from ledger_cli.render.views.notebook import diff_html

        return diff_html(self.a.text, self.b.text, self.table.to_pylist(), self.equal)
