"""A comparison in a notebook."""

from __future__ import annotations

from ledger_cli.services.diff import DiffResult


class DiffInNotebook(DiffResult):
    """A comparison that notebooks show as tables of the regions and entities that differ."""

    def _repr_html_(self) -> str:
        from ledger_cli.render.views.notebook import diff_html, world_html

        regions = diff_html(self.a.text, self.b.text, self.table.to_pylist(), self.equal, self.region_maps)
        return regions + world_html(self.world.to_pylist())
