"""`ledger reconcile`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import JsonOption, LedgerOption, LimitOption, MessageOption, command_app
from ledger_cli.errors import NeedsDecision, UsageError
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def reconcile(
    a: Annotated[str | None, typer.Argument(metavar="A", help="The branch that moves on.", show_default=False)] = None,
    b: Annotated[
        str | None,
        typer.Argument(
            metavar="B", help="Another branch, or DIR[#BRANCH] of another ledger, which is fetched.", show_default=False
        ),
    ] = None,
    into: Annotated[
        str | None, typer.Option("--into", metavar="NAME", help="Leave A as it is: a new branch gets the result.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show every conflict and what would be done; no branch moves.")
    ] = False,
    remote: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="What the other ledger is called here [default: its directory]."),
    ] = None,
    resolutions: Annotated[
        str | None,
        typer.Option("--resolutions", metavar="FILE", help="Go on with what a person decided, A and B as named there."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Draw the conflicts into an .svg or .png file too.")
    ] = None,
    limit: LimitOption = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Unite two branches, or two ledgers, that went on apart: the events of both, folded anew from the split.

    Ticks are united by key; of two with other content the first by timestamp is kept, the other one goes to
    quarantine. World events are ordered by their clock readings. A merge commit names both old heads, B stays as it
    is, and a branch A.N keeps what A was. A and B can be named in either order: the ids are the same.

    Where a field has the rule `manual` and both sides wrote to it, a file asks for the choices, and the exit code is 5.

    JSON: a, b, into, outcome (nothing, advance or merge), split, ticks and world (onlyA, onlyB, both, conflicts,
    listed; of world also refused: event, reason, detail, and of: a, b, both, or neither for a decision); without --plan
    also branch, heads, watermark, kept, takenIn (ticks and worldEvents of B alone that the result holds).

    Example: ledger reconcile main old --plan

    Example: ledger reconcile main ../other-ledger
    """
    from ledger_cli.api import Ledger
    from ledger_cli.cli.hints import warn_where_the_bus_lacks_events
    from ledger_cli.render.views.reconcile import plan_views, reconciled_line
    from ledger_cli.wiring import drawing, inputs

    if out is not None:
        drawing.check_plan_picture(out)
    decided = None
    if resolutions is not None:
        decided = inputs.read_json_file(resolutions)
        named = decided if isinstance(decided, dict) else {}
        if any(not isinstance(named.get(name), str | None) for name in ("a", "b", "into")):
            raise UsageError(f"{resolutions}: a, b and into must be names: take them from a fresh file")
        a, b, into = a or named.get("a"), b or named.get("b"), into or named.get("into")
    if a is None or b is None:
        raise UsageError("name two branches, or a branch and another ledger: `ledger reconcile main ../other`")
    output = Output(as_json)
    with Ledger.open(ledger) as opened:
        if plan:
            found = opened.plan_reconcile(a, b, into=into, remote=remote, resolutions=decided)
            output.emit(found, *plan_views(found, output.most(limit)))
        else:
            try:
                done = opened.reconcile(a, b, into=into, remote=remote, resolutions=decided, why=message)
            except NeedsDecision as problem:
                raise NeedsDecision(asked(problem)) from problem
            found = done.plan
            output.emit(done, reconciled_line(done))
            warn_where_the_bus_lacks_events(output, opened)
        if out is not None:
            opened.draw_reconciliation(out, found)
            output.note(f"drew {out}")


def asked(problem: NeedsDecision) -> str:
    """Write what is asked into a file; the message that leads there."""
    told, name = ask(problem)
    where = "" if problem.ledger is None else f" --ledger {problem.ledger}"
    return f"{told}: fill in the choices in {name}, then `ledger reconcile --resolutions {name}{where}`"


def ask(problem: NeedsDecision) -> tuple[str, str]:
    """Write what is asked into a file: what is said of it, and its name."""
    from ledger_cli.wiring import inputs

    questions = problem.asked
    count = len(questions["conflicts"])
    name = inputs.write_new_json(f"reconcile-{questions['a']}-{questions['b']}.json", questions)
    told = "1 field needs" if count == 1 else f"{count} fields need"
    return f"{told} a person's decision", name
