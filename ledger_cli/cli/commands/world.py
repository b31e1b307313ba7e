"""`ledger world`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ledger_cli.cli.options import (
    AllowQuarantine,
    BranchOption,
    JsonOption,
    LedgerOption,
    LimitOption,
    MessageOption,
    command_app,
)
from ledger_cli.errors import LedgerError, QuarantinedRows, UsageError
from ledger_cli.render.output import Output, on_terminal

if TYPE_CHECKING:
    from ledger_cli.services.world_apply import ApplyResult

app = command_app()
session_app = command_app()
cache_app = command_app()
app.add_typer(session_app, name="session")
app.add_typer(cache_app, name="cache")
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
ModuleArgument = Annotated[str, typer.Argument(metavar="MODULE", help="Who listens.")]
ModuleOption = Annotated[str | None, typer.Option("--module", metavar="NAME", help="The state of this module alone.")]


@app.callback()
def root() -> None:
    """Change the world behind the ticks by events, and look into it.

    A MOMENT is a time (2026-01-29T19:21:00Z) or a date (its first instant, UTC): all events with a clock reading up to
    it. Or a clock reading itself. Or a commit (an id or its beginning) or tag: the events that the branch had when it
    made the commit. Or a tick: those it had at the run that folded all ticks below. What may be two of them is refused;
    time:, hlc:, commit:, tag: or tick: in front says which.

    Reads take --consistency. eventual: from the branch as it is. causal: with --after CLOCK, once the branch has taken
    in all that was seen when CLOCK was given, here or at another ledger; else refused. strong: from the ledger that the
    setting `canonical` names. Lists give no clock themselves: `ledger status --json` afterwards does.

    Example: ledger world apply events.jsonl
    """


@app.command()
def apply(
    file: Annotated[str, typer.Argument(metavar="FILE", help="World events, one JSON object a line; - is stdin.")],
    atomic: Annotated[bool, typer.Option("--atomic", help="All of them, or none where one is refused.")] = False,
    together: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--with",
            metavar="URL THEIRS",
            help="And the events of the file THEIRS on another ledger: all of both, or none.",
            show_default=False,
        ),
    ] = None,
    allow_quarantine: AllowQuarantine = False,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Apply world events: each changes one entity, or is refused and changes nothing.

    Types have to be registered first (`ledger schema register`). An event that is known already is skipped; a
    refused one goes to quarantine; one whose cause is not known waits for it (`causal_wait` in ledger.toml).

    Events of types whose consistency is strong are applied on the ledger that the setting `canonical` names, and taken
    in from there; where that cannot be reached, nothing is applied. --with is a two-phase commit that this ledger
    coordinates: killed at any step, the next write on either ledger, or `ledger world recover`, ends it.

    JSON: branch, read, applied, duplicates, transient, waiting, refused (rows by reason), refusals (line, eventId,
    reason, detail), hlc and clock (the branch's clock, and its vector clock: what --after takes); with --with also
    transaction (its name; null: all events were known) and with (the same of the other ledger).

    Example: ledger world apply events.jsonl

    Example: ledger world apply events.jsonl --with ../other-ledger theirs.jsonl
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import apply_table, refusal_table, together_views

    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        if together is not None:
            both = opened.world.apply_files_together(file, *together, branch, message)
            out.emit(both, *together_views(both, out.most()))
            for told in [*both.here.unheard, *both.there.unheard]:
                out.warn(told)
            _tell_refused(both.here, "nothing was applied", allow_quarantine)
            _tell_refused(both.there, "nothing was applied", allow_quarantine, together[0])
            return
        result = opened.world.apply_file(file, branch, atomic, message)
    views: list[object] = [apply_table(result)]
    if result.refused:
        views.append(refusal_table(result.refused, out.most()))
    out.emit(result, *views)
    for told in result.unheard:
        out.warn(told)
    _tell_refused(result, "nothing was applied" if atomic else "", allow_quarantine)


def _tell_refused(result: ApplyResult, nothing: str, allowed: bool, elsewhere: str | None = None) -> None:
    """QuarantinedRows where events were refused, and that was not allowed. `elsewhere`: the ledger, if not this one."""
    from ledger_cli.render.common.words import counted

    if not result.refused or allowed:
        return
    refused = sum(result.reasons.values())
    were, them = ("was", "it") if refused == 1 else ("were", "them")
    place = "" if elsewhere is None else f" --ledger {elsewhere}"
    raise QuarantinedRows(
        f"{refused} of {counted(result.read, 'event')} {were} refused{'; ' * bool(nothing)}{nothing}: "
        f'`ledger sql "SELECT * FROM quarantine"{place}` shows {them}, --allow-quarantine ends with 0'
    )


@app.command()
def recover(ledger: LedgerOption = None, branch: BranchOption = "main", as_json: JsonOption = False) -> None:
    """End the transactions over two ledgers (`world apply --with`) that were left under way, from either ledger.

    What is decided is carried out; what is not is given up, also before its time (the setting max_lock) is over. Exit
    code 1 where the other ledger of one cannot be reached: its part stays as it is.

    JSON: a list of transaction, ledger (the other one), outcome (carried out, given up, unreachable).

    Example: ledger world recover
    """
    from ledger_cli.api import Ledger
    from ledger_cli.cli.hints import warn_where_the_bus_lacks_events
    from ledger_cli.render.views.world import ended_table

    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        ended = opened.world.recover(branch, force=True)
        out.emit([each.to_json() for each in ended], ended_table(ended))
        warn_where_the_bus_lacks_events(out, opened)
    for each in ended:
        if each.outcome == "unreachable":
            raise LedgerError(
                f"transaction {each.transaction} waits for the ledger at {each.ledger}: make that reachable there, "
                f"then run the command again"
            )


@app.command()
def subscribe(
    module: Annotated[
        str | None, typer.Argument(metavar="[MODULE]", help="Who listens; without it all are listed.")
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--types", metavar="TYPE", help="A type, * for any text; repeatable [default: all]."),
    ] = None,
    start: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="POSITION",
            min=0,
            help="Behind this event of the log [default: where it stands, at first 0].",
            show_default=False,
        ),
    ] = None,
    delete: Annotated[str | None, typer.Option("--delete", metavar="MODULE", help="Take a subscription away.")] = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Let a module listen to types of events on a branch, or list those that do. `ledger world poll` hands them out.

    JSON: module, branch, types, cursor, lag (events not acknowledged yet); a list of these without MODULE; `deleted`
    with --delete.

    Example: ledger world subscribe physics --types "building.*"
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import subscription_line, subscription_table

    if module is None and (types or start is not None):
        raise UsageError("say who listens: `ledger world subscribe MODULE`")
    if delete is not None and (module is not None or types or start is not None):
        raise UsageError("--delete takes the module itself: `ledger world subscribe --delete MODULE`")
    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        if delete is not None:
            opened.world.unsubscribe(delete, branch, message)
            out.emit({"deleted": delete}, f"{delete} does not listen to {branch} any more")
        elif module is None:
            found = opened.world.subscriptions(branch)
            out.emit([each.to_json() for each in found], subscription_table(found))
        else:
            made = opened.world.subscribe(module, types or ("*",), branch, start, message)
            out.emit(made, subscription_line(made))


@app.command()
def poll(
    module: ModuleArgument,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many events.")] = 1000,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with events as they come, until Ctrl-C, SIGTERM or --idle.")
    ] = False,
    acknowledge: Annotated[
        bool, typer.Option("--ack", help="Acknowledge what was written, at most --limit events at a time.")
    ] = False,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="--follow: how often to look.")] = "1s",
    idle: Annotated[
        str | None,
        typer.Option(
            "--idle", metavar="TIME", help="--follow: end where nothing came for so long.", show_default=False
        ),
    ] = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """The next events for a module, a JSON object a line, in the order of the branch, each with its position.

    The same ones come again until `ledger world ack` says that they are dealt with: each at least once.

    JSON: module, branch, cursor, upTo (up to this position these are all), events: a list of position, and the event
    as it was sent, with version and hlc. With --follow such an object a line.

    Example: ledger world poll physics --limit 10

    Example: ledger world poll physics --follow --ack
    """
    from ledger_cli.api import Ledger
    from ledger_cli.cli.stopping import stopped_by_signals
    from ledger_cli.render.output import write
    from ledger_cli.render.views.world import delivered_lines

    if idle is not None and not follow:
        raise UsageError("--idle says when --follow ends: give both, or neither")
    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        if not follow:
            found = opened.world.poll(module, branch, limit)
            out.emit(found, *delivered_lines(found.events))
            if acknowledge and found.events:
                opened.world.ack(module, found.up_to, branch)
            return
        with stopped_by_signals() as stop:
            listening = opened.world.listen(module, branch, limit, ack=acknowledge, every=every, idle=idle, stop=stop)
            for found in listening:
                if as_json:
                    write(json.dumps(found.to_json(), ensure_ascii=False) + "\n")
                else:
                    out.emit(None, *delivered_lines(found.events))


@app.command()
def ack(
    module: ModuleArgument,
    position: Annotated[int, typer.Argument(metavar="POSITION", min=0, help="Of the last event dealt with.")],
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Say that a module is done with all events up to a position; one before its cursor changes nothing.

    JSON: module, branch, types, cursor, lag.

    Example: ledger world ack physics 1
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import subscription_line

    with Ledger.open(ledger) as opened:
        found = opened.world.ack(module, position, branch, message)
    Output(as_json).emit(found, subscription_line(found))


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@session_app.callback()
def session() -> None:
    """End what lasts for a session alone: state that events brought with stateClass session.

    Example: ledger world session end --module building
    """


@session_app.command()
def end(
    module: Annotated[str | None, typer.Option("--module", metavar="NAME", help="Of this module alone.")] = None,
    entity: Annotated[str | None, typer.Option("--entity", metavar="ID", help="In this entity alone.")] = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """End the session state, by one event of type MODULE.session_ended.v1 for each part; all else stays.

    Others may send such events too, with stateClass session and an empty payload.

    JSON: branch, entities, parts, hlc (the branch's clock).

    Example: ledger world session end --entity door-7
    """
    from ledger_cli.api import Ledger
    from ledger_cli.cli.hints import warn_where_the_bus_lacks_events
    from ledger_cli.render.common.words import counted

    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        ended = opened.world.end_session(branch, module, entity, message)
        entities = counted(ended.entities, "entity", "entities")
        out.emit(ended, f"ended {counted(ended.parts, 'session part')} of {entities}")
        warn_where_the_bus_lacks_events(out, opened)


@cache_app.callback()
def cache() -> None:
    """Drop what can be made again: state that events brought with stateClass cache.

    Example: ledger world cache drop
    """


@cache_app.command()
def drop(
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Let go of the cache state that a branch keeps. It is folded again from the events, and comes back equal.

    JSON: branch, entities, bytes (of the file that was kept).

    Example: ledger world cache drop
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.common.words import counted

    with Ledger.open(ledger) as opened:
        dropped = opened.world.drop_cache(branch, message)
    entities = counted(dropped.entities, "entity", "entities")
    Output(as_json).emit(dropped, f"dropped the cache state of {entities}: {counted(dropped.bytes, 'byte')}")
