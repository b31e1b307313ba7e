"""`ledger stores`."""

from __future__ import annotations

from ledger_cli.cli.options import JsonOption, command_app
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def stores(as_json: JsonOption = False) -> None:
    """The engines that can keep a ledger's commits and refs, and what each promises.

    "survived" says what an acknowledged write has outlived, "seen at once" what of a batch of commits appears in one
    piece. Choose one with `ledger init PATH --store URL`; move a ledger with `ledger copy`.

    JSON: a list of url (how it begins), engine, extra (to install, or null), refs (whether it keeps them too; else they
    are files of the ledger), processes, durable, atomic and exact.

    Example: ledger stores
    """
    from ledger_cli.api.stores import stores
    from ledger_cli.render.views.stores import store_views

    found = stores()
    Output(as_json).emit(found, *store_views(found))
