"""`ledger world apply`, and what else changes the world of a branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ledger_cli.cli.options import AllowQuarantine, BranchOption, JsonOption, LedgerOption, MessageOption
from ledger_cli.errors import LedgerError, QuarantinedRows
from ledger_cli.render.output import Output

if TYPE_CHECKING:
    from ledger_cli.services.world_apply import ApplyResult


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

    JSON: branch, read, applied, duplicates, transient, waiting, refused (rows by reason), refusals (line, null where it
    had waited, eventId, reason, detail), hlc and clock (the branch's clock, and its vector clock: what --after takes);
    with --with also transaction (its name; null: all events were known) and with (the same of the other ledger).

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
    waited = any(each.number is None for each in result.refused)
    what = counted(refused, "event") if waited else f"{refused} of {counted(result.read, 'event')}"
    raise QuarantinedRows(
        f"{what} {were} refused{'; ' * bool(nothing)}{nothing}: "
        f'`ledger sql "SELECT line, reason, raw FROM quarantine"{place}` shows {them}, --allow-quarantine ends with 0'
    )


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


def session() -> None:
    """End what lasts for a session alone: state that events brought with stateClass session.

    Example: ledger world session end --module building
    """


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


def cache() -> None:
    """Drop what can be made again: state that events brought with stateClass cache.

    Example: ledger world cache drop
    """


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
