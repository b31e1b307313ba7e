"""`ledger log`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger_cli.cli.options import JsonOption, LedgerOption, LimitOption, command_app
from ledger_cli.errors import UsageError
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def log(
    graph: Annotated[
        bool, typer.Option("--graph", help="Draw the chains of all shards and branches as lanes.")
    ] = False,
    region: Annotated[str | None, typer.Option("--region", help="Commits with an entry of this region.")] = None,
    since: Annotated[int | None, typer.Option("--since", metavar="TICK", help="Epochs that end above it.")] = None,
    until: Annotated[int | None, typer.Option("--until", metavar="TICK", help="Epochs that start below it.")] = None,
    limit: LimitOption = None,
    entries: Annotated[bool, typer.Option("--entries", help="With --json: the entries of each commit.")] = False,
    ledger: LedgerOption = None,
    branch: Annotated[
        str | None, typer.Option("--branch", help="The branch [default: main; with --graph all].", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the commits of a branch, newest first.

    JSON: a list of commits: commitId, layer, shard, epochStart, epochEnd, parents, policy, digest, metadata, height,
    reason, regions, events, createdAt, by, branch; entries (see `ledger show`) only with --entries. With --graph also
    labels and graph: column, lanes, joins, opens.

    Example: ledger log --since 0 --until 1000 --limit 10
    """
    from ledger_cli.api import Ledger
    from ledger_cli.cli.hints import hint_where_nothing_is
    from ledger_cli.render.views.history import Graph, log_table

    if entries and (graph or not as_json):
        raise UsageError("--entries goes with --json, and not with --graph: `ledger log --entries --json`")
    out = Output(as_json)
    most = out.most(limit)
    with Ledger.open(ledger) as opened:
        chosen: dict[str, Any] = {"region": region, "since": since, "until": until, "limit": most}
        if graph:
            lines = opened.graph(None if branch is None else [branch], **chosen)
            out.emit([line.to_json() for line in lines], Graph(lines))
            listed = len(lines)
        else:
            page = opened.log(branch or "main", entries=entries, **chosen)
            out.emit(page, log_table(page.table.to_pylist()))
            listed = page.table.num_rows
        if not listed and not (region is not None or since is not None or until is not None):
            out.note(hint_where_nothing_is(opened, branch or "main"))
    if limit is None and listed == most:
        out.note(f"the newest {most}; --limit N shows more")
