"""`ledger world`."""

from __future__ import annotations

from ledger_cli.cli.commands.world.change import apply, cache, drop, end, recover, session
from ledger_cli.cli.commands.world.look import aggregate, find, get, graph, history
from ledger_cli.cli.commands.world.modules import ack, poll, subscribe
from ledger_cli.cli.options import command_app

app = command_app()


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


for command in (apply, recover, subscribe, poll, ack, get, history, find, aggregate, graph):
    app.command()(command)
for group, act in ((session, end), (cache, drop)):
    below = command_app()
    below.callback()(group)
    below.command()(act)
    app.add_typer(below, name=group.__name__)
