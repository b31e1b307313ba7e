"""`ledger world get` and its like: what a world is and was, at a level of consistency."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, LimitOption
from ledger_cli.errors import UsageError
from ledger_cli.render.output import Output, on_terminal

EntityArgument = Annotated[str, typer.Argument(metavar="ENTITY", help="The id of an entity, space or relationship.")]
AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="MOMENT",
        help="As it was at a time or date, clock reading, commit, tag or tick [default: now].",
        show_default=False,
    ),
]
ConsistencyOption = Annotated[
    str | None,
    typer.Option(
        "--consistency",
        metavar="eventual|causal|strong",
        help="From the branch as it is, once it holds what --after tells of, or from the canonical ledger.",
        show_default=False,
    ),
]
AfterOption = Annotated[
    str | None,
    typer.Option("--after", metavar="CLOCK", help="The `clock` that a read or write gave: not before that."),
]
WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for what --after tells of.")
]
ModuleOption = Annotated[str | None, typer.Option("--module", metavar="NAME", help="The state of this module alone.")]


def get(
    entity: EntityArgument,
    at: AtOption = None,
    module: ModuleOption = None,
    consistency: ConsistencyOption = None,
    after: AfterOption = None,
    wait: WaitOption = 0,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Show an entity: its version and its state by class and module. `ledger world --help` says what a MOMENT is.

    JSON: branch, at, clock (the branch's vector clock), entityId, entityKind, version, hlc, eventId, state (by class
    and module).

    Example: ledger world get door-7
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import entity_view

    with Ledger.open(ledger) as opened:
        found = opened.world.reading(consistency, after, wait, branch).get(entity, branch, at, module)
    Output(as_json).emit(found, *entity_view(found))


def history(
    entity: EntityArgument,
    first: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MOMENT", help="From a time or clock reading on, or after a commit, tag or tick."
        ),
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="MOMENT", help="Up to a moment of any kind.")] = None,
    consistency: ConsistencyOption = None,
    after: AfterOption = None,
    wait: WaitOption = 0,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """List the events of an entity, oldest first.

    JSON: a list of events as they were sent, with version and hlc.

    Example: ledger world history door-7 --from 2026-01-29
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import history_table

    with Ledger.open(ledger) as opened:
        events = opened.world.reading(consistency, after, wait, branch).history(entity, branch, first, last)
    Output(as_json).emit([each.to_json() for each in events], history_table(events))


def find(
    where: Annotated[
        str | None, typer.Option("--where", metavar="SQL", help="Over the columns of the view `world` [default: all].")
    ] = None,
    limit: LimitOption = None,
    offset: Annotated[int, typer.Option("--offset", metavar="N", min=0, help="Leave out the first N.")] = 0,
    at: AtOption = None,
    consistency: ConsistencyOption = None,
    after: AfterOption = None,
    wait: WaitOption = 0,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """List entities by id, all or those for which SQL holds. `state` is JSON, by class and module.

    JSON: a list of entityId, entityKind, version, hlc, eventId, state.

    Example: ledger world find --where "state->>'$.persistent.building.open' = 'true'"
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.rows import rows_views
    from ledger_cli.render.views.world import found_json

    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        table = opened.world.reading(consistency, after, wait, branch).find(
            where, branch, at, limit if as_json else None, offset
        )
    if as_json:
        out.emit(found_json(table))
    else:
        out.emit(None, *rows_views(table.column_names, table.to_batches(), out.most(limit)))


def aggregate(
    function: Annotated[
        str, typer.Option("--function", metavar="SQL", help="Aggregate functions over the view `world`.")
    ] = "count(*)",
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", metavar="SQL", help="One row for each of its values [default: one in all]."),
    ] = None,
    where: Annotated[str | None, typer.Option("--where", metavar="SQL", help="Only these entities.")] = None,
    at: AtOption = None,
    consistency: ConsistencyOption = None,
    after: AfterOption = None,
    wait: WaitOption = 0,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Count, add up or average over entities.

    JSON: a list of rows, each an object by column.

    Example: ledger world aggregate --group-by entity_kind --function "count(*) AS entities, max(version) AS version"
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.rows import rows_views

    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        table = opened.world.reading(consistency, after, wait, branch).aggregate(function, group_by, where, branch, at)
    out.emit(table.to_pylist(), *rows_views(table.column_names, table.to_batches(), out.most()))


def graph(
    entity: EntityArgument,
    depth: Annotated[int, typer.Option("--depth", metavar="N", min=0, help="Up to so many relations away.")] = 2,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="text|dot|svg|png",
            help="[default: from the name of --out, else text]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write a .dot, .svg or .png file.")] = None,
    at: AtOption = None,
    consistency: ConsistencyOption = None,
    after: AfterOption = None,
    wait: WaitOption = 0,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Show what an entity is related to, as a tree, or as a picture (no Graphviz needed).

    A relationship is an entity of the kind `relationship` whose state has, in some module, `from` and `to`: the ids of
    two entities; its `kind` is shown beside the arrow.

    JSON: branch, at, entityId, depth, entities: a list of entityId, entityKind (null: there is none), distance, and
    relations: a list of relationshipId, from, to, kind, module.

    Example: ledger world graph door-7 --depth 1
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.common.words import counted
    from ledger_cli.render.files import write_bytes
    from ledger_cli.render.relations import rendered
    from ledger_cli.render.views.world import graph_views

    shown = Output(as_json)
    chosen = _graph_format(format, out, as_json)
    with Ledger.open(ledger) as opened:
        if out is not None:
            found = opened.world.save_graph(out, entity, branch, at, depth)
        else:
            found = opened.world.reading(consistency, after, wait, branch).graph(entity, branch, at, depth)
    if out is not None:
        entities = counted(len(found.entities), "entity", "entities")
        shown.emit(found, f"wrote {out}: {entities}, {counted(len(found.relations), 'relation')}")
    elif chosen in (None, "text"):
        shown.emit(found, *graph_views(found, shown.most()))
        if not found.relations:
            shown.note(f"no relationship that has it as `from` or `to` is within --depth {depth}")
    else:
        write_bytes(rendered(found, chosen))


def _graph_format(format: str | None, out: str | None, as_json: bool) -> str | None:
    """The format asked for; None: nobody did."""
    if format not in (None, "text", "dot", "svg", "png"):
        raise UsageError(f"--format {format!r} is none of text, dot, svg, png")
    if format is not None and as_json:
        raise UsageError(f"--json and --format {format} exclude each other: give one of them")
    if format is not None and out is not None and not out.lower().endswith(f".{format}"):
        raise UsageError(f"--out {out} is no name for --format {format}: end it with .{format}, or leave --format out")
    if format == "png" and out is None and on_terminal():
        raise UsageError("PNG is binary, and this is a terminal: add --out FILE.png, or use a pipe")
    return format
