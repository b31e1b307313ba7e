"""`ledger run`."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger_cli.cli.options import JsonOption, command_app
from ledger_cli.errors import Difference, QuarantinedRows, UsageError
from ledger_cli.render.output import Output

if TYPE_CHECKING:
    from ledger_cli.api.recipes import RecipeRun
    from ledger_cli.services.recipe import Recipe
    from ledger_cli.services.recipe_expect import FactDifference

app = command_app()
_LEDGERS = "out"
"""Where a plain run makes its ledger, below the current directory."""


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe, for example recipes/quickstart.toml.")],
    given: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the recipe; repeatable.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 4 where a branch does not end as the recipe says.")
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Write into the recipe how its branches end.")] = False,
    ledger: Annotated[
        str | None,
        typer.Option(
            "--ledger",
            metavar="DIR",
            help="The ledger, made if it is not there [default: out/RECIPE; for --check and --update one that is "
            "removed afterwards].",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe: a whole job as data, with the heads it must end with.

    Each step is shown as the command that does the same. Run again, it changes nothing. Pictures are
    drawn by a plain run alone; all but an .svg of conflicts need the extra `render`.

    JSON: recipe, ledger (null where it was removed), steps (do and result of each), branches (rows, commits,
    quarantined, heads and world, the digest of its state, of each), differences (branch, what, expected, found).

    Example: ledger run recipes/quickstart.toml --check
    """
    from ledger_cli.api.recipes import check_pictures, load_recipe, open_ledger, run_recipe, write_expectation
    from ledger_cli.cli.hints import warn_where_the_bus_lacks_events
    from ledger_cli.cli.recipe_shown import Shown

    if check and update:
        raise UsageError("--check and --update exclude each other: update first, then check")
    read = load_recipe(recipe, _parameters(given or []))
    if check and not read.expect:
        raise UsageError(f"{recipe} expects nothing yet: `ledger run {recipe} --update` writes what it makes")
    kept = not (check or update)
    if kept:
        check_pictures(read)
    out = Output(as_json)
    with _place(ledger, recipe, kept) as location, open_ledger(location, read) as opened:
        watcher = Shown(out, opened, read, told=kept and not as_json)
        made = run_recipe(opened, read, watcher, pictures=kept)
        warn_where_the_bus_lacks_events(out, opened)
    if update:
        write_expectation(recipe, made.branches)
        made = replace(made, differences=())
    result = made.to_json() | {"ledger": None if ledger is None and not kept else location}
    out.emit(result, *_end(recipe, read, location, made.differences, check, update))
    _judge(recipe, made, out, check)


def _end(
    recipe: str, read: Recipe, location: str, different: Sequence[FactDifference], check: bool, update: bool
) -> list[str]:
    if update:
        return [f"wrote into {recipe} how its branches end"]
    ends = f"{recipe} ends as it says: {', '.join(read.expect)}" if read.expect and not different else ""
    if check:
        return [ends] if ends else [str(each) for each in different]
    tries = [f"export LEDGER_URL={shlex.quote(location)}", "ledger log --graph", "ledger gamma", "ledger status"]
    return [*([ends] if ends else []), f"The ledger is {location}. Try next:", *(f"  {line}" for line in tries)]


def _judge(recipe: str, made: RecipeRun, out: Output, check: bool) -> None:
    different = made.differences
    if different:
        meant = f"if that is meant, `ledger run {recipe} --update` writes how it ends now"
        if check:
            raise Difference(f"{recipe} does not end as it says ({len(different)} differences): {meant}")
        told = "\n".join(f"  {each}" for each in different)
        out.warn(f"{recipe} does not end as it says; {meant}:\n{told}")
    if made.refused:
        from ledger_cli.render.common.words import counted

        raise QuarantinedRows(
            f"{counted(made.refused, 'row')} went to quarantine: look at them, and set "
            "allow_quarantine = true in the step if they may"
        )


@contextmanager
def _place(ledger: str | None, recipe: str, kept: bool) -> Iterator[str]:
    """Where the ledger is."""
    if ledger is not None:
        yield ledger
    elif kept:
        yield str(Path(_LEDGERS) / Path(recipe).stem)
    else:
        with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
            yield str(Path(folder) / Path(recipe).stem)


def _parameters(texts: list[str]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise UsageError(f"--set {text!r}: write it as NAME=VALUE, for example --set source=ticks.jsonl")
    return {name.strip(): value for name, _, value in (text.partition("=") for text in texts)}
