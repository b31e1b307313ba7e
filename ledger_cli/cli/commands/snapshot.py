"""`ledger snapshot`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, MessageOption, command_app
from ledger_cli.errors import Difference
from ledger_cli.render.output import Output

app = command_app()
IdArgument = Annotated[
    int | None,
    typer.Argument(metavar="[ID]", help="A snapshot [default: the newest of the branch].", show_default=False),
]


@app.callback()
def root() -> None:
    """Cuts through the world of a branch, as Parquet files with a manifest that others can read too.

    Example: ledger snapshot create
    """


@app.command()
def create(
    every: Annotated[
        str | None,
        typer.Option(
            "--every", metavar="TIME", help="Only where the newest is as old: 30m, 1h, 7d.", show_default=False
        ),
    ] = None,
    wait: Annotated[
        int | None,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="So long modules may take to acknowledge what is in it [default: the setting snapshot_wait].",
            show_default=False,
        ),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for modules.")] = False,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Make a snapshot of the world as it is now: announce it, wait for the modules, cut, write, complete.

    Of the branch the newest ones are kept, as the settings keep_snapshots and keep_snapshots_for say.

    JSON: id, branch, move, events, hlc, entities, digest, createdAt, createdBy, why, bytes, manifest; files (file,
    module, rows, bytes, sha256, digest) where it was made now.

    Example: ledger snapshot create --every 1h
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.snapshots import created_line

    with Ledger.open(ledger) as opened:
        made = opened.snapshots.create(branch, 0 if no_wait else wait, every, message)
    Output(as_json).emit(made, created_line(made))


@app.command("list")
def list_snapshots(ledger: LedgerOption = None, branch: BranchOption = "main", as_json: JsonOption = False) -> None:
    """List the snapshots of a branch, newest first.

    JSON: a list of id, branch, move, events, hlc, entities, digest, createdAt, createdBy, why, bytes, manifest.

    Example: ledger snapshot list
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.snapshots import snapshot_table

    with Ledger.open(ledger) as opened:
        found = opened.snapshots.list(branch)
    Output(as_json).emit([each.to_json() for each in found], snapshot_table(found))


@app.command()
def show(
    snapshot: IdArgument = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Show a snapshot: the cut, and its files; the state of each module has one of its own.

    JSON: id, branch, move, events, hlc, entities, digest, createdAt, createdBy, why, bytes, manifest, files (file,
    module, rows, bytes, sha256, digest).

    Example: ledger snapshot show
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.snapshots import snapshot_views

    with Ledger.open(ledger) as opened:
        found = opened.snapshots.show(snapshot, branch)
    Output(as_json).emit(found, *snapshot_views(found))


@app.command()
def restore(
    snapshot: IdArgument = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="NAME", help="Begin this branch at the cut [default: bring its branch up to now]."
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare with a replay from nothing; files are always checked.")
    ] = False,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Bring a world back: load a snapshot, replay the events since, compare with a replay from nothing.

    Its branch then starts from there; no event is lost. With --to, a branch begins as things were at the cut. Exit
    code 4 tells that the two differ: then nothing is changed.

    JSON: snapshot, branch, source, entities, events, tail (events since the snapshot), digest, verified.

    Example: ledger snapshot restore --to before-the-flood
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.snapshots import restored_line

    with Ledger.open(ledger) as opened:
        done = opened.snapshots.restore(snapshot, branch, to, not no_verify, message)
    Output(as_json).emit(done, restored_line(done))


@app.command()
def verify(
    snapshot: IdArgument = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Check every file of a snapshot, and its state against a replay from nothing. Exit code 4: something is wrong.

    JSON: snapshot, branch, events, digest (of its files), replayed (of the replay), ok, findings: a list of file, what.

    Example: ledger snapshot verify
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.snapshots import proof_views

    with Ledger.open(ledger) as opened:
        proof = opened.snapshots.verify(snapshot, branch)
    Output(as_json).emit(proof, *proof_views(proof))
    if not proof.ok:
        raise Difference(
            f"snapshot {proof.snapshot} is not to be relied on: `ledger snapshot create` makes another, "
            "`ledger verify` checks the events"
        )


@app.command()
def prune(
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", metavar="N", min=0, help="The newest so many stay [default: the setting keep_snapshots]."
        ),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(
            "--before",
            metavar="AGE",
            help="Older ones go too, like 90d; the newest stays [default: the setting keep_snapshots_for].",
        ),
    ] = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Take away all snapshots of a branch but the newest.

    JSON: pruned: a list of ids.

    Example: ledger snapshot prune --keep 5
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.common.words import counted

    with Ledger.open(ledger) as opened:
        gone = opened.snapshots.prune(keep, branch, message, before=before)
    Output(as_json).emit({"pruned": [each.record.id for each in gone]}, f"pruned {counted(len(gone), 'snapshot')}")
