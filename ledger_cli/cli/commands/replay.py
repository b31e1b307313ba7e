"""`ledger replay`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, MessageOption, command_app, takes_policy
from ledger_cli.errors import Difference, UsageError
from ledger_cli.render.output import Output

app = command_app()


@app.command()
@takes_policy
def replay(
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute every commit from the events and compare the ids.")
    ] = False,
    fork: Annotated[
        str | None, typer.Option("--fork", metavar="NAME", help="What if: the same events under another policy.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="PLACE", help="--verify: a tick; --fork: a commit, tag or tick."),
    ] = None,
    until: Annotated[int | None, typer.Option("--to", metavar="TICK", help="--verify: epochs up to here.")] = None,
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="DIGEST", help="--verify: the branch digest that `ledger status` showed."),
    ] = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
    *,
    policy: dict[str, Any],
) -> None:
    """Recompute the commits of a branch: to verify them, or into a fork with another policy.

    Exit code 4 tells of a difference, and the first one is shown region by region. Where `entity_refs` asked for
    contributors they are chosen anew from the ticks too. --expect also notices a history that was cut short. The
    options of the policy go with --fork.

    JSON of --verify: branch, ok, digest, runs, skippedRuns, commits, difference: null, or what, branch, move, message,
    stored, recomputed, header and regions. Of --fork: branch, commits, entries, watermark, heads, policy.

    Example: ledger replay --verify --from 0 --to 1000

    Example: ledger replay --fork every10 --strategy fixed --interval 10
    """
    if verify == (fork is not None):
        raise UsageError("say what for: `ledger replay --verify`, or `ledger replay --fork NAME` with a policy")
    out = Output(as_json)
    if fork is not None:
        if until is not None or expect is not None:
            raise UsageError("--to and --expect go with --verify: leave them out with --fork")
        _what_if(out, ledger, branch, fork, since, message, policy)
        return
    if policy or message:
        raise UsageError("a policy and --message go with --fork NAME: --verify takes those that are recorded")
    _verify(out, ledger, branch, _tick(since), until, expect)


def _verify(
    out: Output, ledger: str | None, branch: str, since: int | None, until: int | None, expect: str | None
) -> None:
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.checks import replay_views

    with Ledger.open(ledger) as opened:
        report = opened.replay(branch, since=since, until=until, expect=expect)
    out.emit(report, *replay_views(report, out.most()))
    if report.difference is not None and report.difference.what == "digest":
        raise Difference(
            f"{branch} was expected to have the branch digest {expect}, and has {report.digest}: if it went on since, "
            f"note that one; if not, its log was cut short: restore refs/{branch} from a copy"
        )
    if report.difference is not None:
        raise Difference(
            f"replay found a difference in {report.difference.branch}, move {report.difference.move}: "
            "`ledger verify` tells which stored file was changed"
        )


def _what_if(
    out: Output, ledger: str | None, branch: str, name: str, at: str | None, message: str, policy: dict[str, Any]
) -> None:
    from ledger_cli.api import Ledger
    from ledger_cli.render.common.words import counted

    with Ledger.open(ledger) as opened:
        result = opened.what_if(name, branch, at=at, why=message, **policy)
    made = f"{counted(result.commits, 'commit')} with {counted(result.entries, 'entry', 'entries')} on {name}"
    out.emit(result, f"made {made}; next: `ledger diff {branch} {name}`")


def _tick(since: str | None) -> int | None:
    if since is None:
        return None
    if not since.isascii() or not since.isdigit():
        raise UsageError(f"--from {since!r}: with --verify give a tick, for example --from 0")
    return int(since)
