"""The command line: a table of commands, each imported when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from ledger_cli.cli.values import with_plain_values
from ledger_cli.errors import LedgerError, UsageError
from ledger_cli.render.output import reader_gone

INTERRUPTED = 130
TRACE = "LEDGER_TRACE"
"""Set, a defect shows its stack."""
_WRONG_USAGE: Any = typer.BadParameter.__mro__[1]
"""What the parser raises for a wrong command line; it is not exported under a name that all versions have."""


class Entry(NamedTuple):
    """A command: its group in the overview, and what it does in a line. Its module has its name."""

    panel: str
    help: str


COMMANDS = {
    "init": Entry("Make", "Make a ledger: a directory with a commented ledger.toml."),
    "ingest": Entry("Make", "Read tick events from files, globs, URLs or stdin."),
    "commit": Entry("Make", "Fold what is new on a branch into commits."),
    "run": Entry("Make", "Run a recipe: a whole job as data, with the heads it must end with."),
    "simulate": Entry("Make", "Write the ticks of a deterministic simulated world."),
    "log": Entry("Look", "List the commits of a branch, newest first."),
    "show": Entry("Look", "Show one commit with its entries."),
    "diff": Entry("Look", "Compare two commits or branches, region by region."),
    "gamma": Entry("Look", "The projection: accumulated weight and activity of each region."),
    "sql": Entry("Look", "Ask read-only SQL over ticks, commits, entries, state, quarantine and refs."),
    "status": Entry("Look", "Where a branch stands: rows, watermark, open epochs, quarantine."),
    "world": Entry("World", "Change the world behind the ticks by events, and look into it."),
    "schema": Entry("World", "Register the types of world events, compare their schemas, end old versions."),
    "follow": Entry("Live", "Take ticks and world events as they come, commit, tell the bus."),
    "snapshot": Entry("Keep", "Snapshots of the world: make, list, check, restore and prune them."),
    "archive": Entry("Keep", "Move the entries of old commits out; they are read from there as before."),
    "restore": Entry("Keep", "Put back what was archived."),
    "doctor": Entry("Keep", "Check clocks and modules, and drill snapshot and restore."),
    "compact": Entry("Keep", "Make large files of small ones; ids, proofs and readers are not disturbed."),
    "copy": Entry("Keep", "Copy a whole ledger into another store: the same ids, the same refs."),
    "stores": Entry("Keep", "The engines that can keep commits and refs, and what each promises."),
    "fork": Entry("History", "Begin a branch at a commit, tag or tick of another; nothing is copied."),
    "branch": Entry("History", "List or delete branches."),
    "replay": Entry("History", "Recompute the commits to verify them, or fork with another policy."),
    "reconcile": Entry("History", "Unite two branches, or two ledgers, that went on apart."),
    "sync": Entry("History", "Exchange events with another ledger."),
    "tag": Entry("History", "Name a commit, or list the names."),
    "verify": Entry("History", "Check every file, digest and chain, without replay."),
}


class _Lazy(TyperGroup):
    """A group that knows its commands by name and imports one when it is used, not to list it."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=entry.help, rich_help_panel=entry.panel)
        app = import_module(f"ledger_cli.cli.commands.{cmd_name}").app
        command = typer.main.get_command(app)
        command.name = cmd_name
        return with_plain_values(command)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = get_close_matches(name, COMMANDS, n=1)
            meant = f", did you mean `ledger {near[0]}`" if near else ""
            raise UsageError(f"there is no command {name!r}{meant}: `ledger --help` lists them all")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        self._listing = True
        return super().shell_complete(ctx, incomplete)


app = typer.Typer(
    cls=_Lazy,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"ledger {version('ledger-cli')}")
        except PackageNotFoundError:
            typer.echo("ledger, run from its sources without being installed")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", help="Show the version.", callback=_version, is_eager=True),
) -> None:
    """git + DuckDB for world state.

    Turns tick events into exact, content-addressed commits per region; replays, forks, compares and renders them.

    Begin with `ledger init world`, then, in that directory, `ledger ingest FILE`, `ledger commit` and `ledger gamma`.
    """


def run() -> NoReturn:
    """Run the command line as a process."""
    code = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    # All is written and closed: to take the libraries down in order takes 50 ms and changes nothing.
    os._exit(code)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; every failure is one line on stderr and an exit code (see `errors`)."""
    try:
        command = with_plain_values(typer.main.get_command(app))
        _check_text(arguments)
        code = command.main(list(arguments), prog_name="ledger", standalone_mode=False)
    except LedgerError as error:
        return said(str(error), error.exit_code)
    except _WRONG_USAGE as error:
        return said(_hint(error), error.exit_code)
    except BrokenPipeError:
        reader_gone()
        return 0
    except OSError as error:
        return said(f"{_what(error)}: check that the path exists, may be used, and that the disk has room", 1)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except RuntimeError as error:
        # DuckDB takes Ctrl-C for itself, and says it so.
        if "interrupt" not in str(error).lower():
            return _defect(error)
        code = INTERRUPTED
    except MemoryError:
        return said("out of memory: give the machine more, or the engine less by LEDGER_MEMORY", 1)
    except Exception as error:  # noqa: BLE001 - a defect of ours is still no reason for a page of code
        return _defect(error)
    if code == INTERRUPTED:
        return said("interrupted; nothing half-done is visible, run it again", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _defect(error: Exception) -> int:
    if os.environ.get(TRACE):
        raise error
    return said(f"a defect of ledger: {type(error).__name__}: {error}; {TRACE}=1 shows where, please report it", 1)


def _check_text(arguments: Sequence[str]) -> None:
    """UsageError where an argument is not UTF-8: it would fail somewhere deep."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{argument.encode(errors='replace').decode()!r} is not UTF-8: write it so") from error


def said(message: str, code: int) -> int:
    """Say in one line on stderr what is wrong, and give back the exit code."""
    sys.stderr.write(f"ledger: {' '.join(message.split())}\n" if message else "")
    return code


def _hint(error: Any) -> str:
    """What the parser found wrong, with the place to look at. Without arguments it has shown the help already."""
    message = str(error.format_message()).strip()
    if error.ctx is None or not message:
        return message
    option = getattr(error, "option_name", None)
    if option is not None and error.ctx.command_path == "ledger":
        return f"there is no {option} before the command: options come after it, as in `ledger log --ledger DIR`"
    return f"{message.rstrip('.')}: `{error.ctx.command_path} --help` shows what there is"


def _what(error: OSError) -> str:
    return " ".join(str(each) for each in (error.strerror or str(error), error.filename) if each)
