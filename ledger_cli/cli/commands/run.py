"""`ledger run`."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger_cli.cli.options import JsonOption, command_app
from ledger_cli.errors import Difference, QuarantinedRows, UsageError
from ledger_cli.render.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ledger_cli.cli.recipe_runner import Done, Runner
    from ledger_cli.services.recipe import Recipe
    from ledger_cli.services.recipe_expect import FactDifference, Facts

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

    Each step is shown as the command that does the same. Run again, it changes nothing.

    JSON: recipe, ledger (null where it was removed), steps (do and result of each), branches (rows, commits,
    quarantined and heads of each), differences (branch, what, expected, found).

    Example: ledger run recipes/quickstart.toml --check
    """
    from ledger_cli.cli.recipe_runner import load_recipe, open_ledger, write_expectation

    if check and update:
        raise UsageError("--check and --update exclude each other: update first, then check")
    read = load_recipe(recipe, _parameters(given or []))
    if check and not read.expect:
        raise UsageError(f"{recipe} expects nothing yet: `ledger run {recipe} --update` writes what it makes")
    out = Output(as_json)
    with _place(ledger, recipe, kept=not (check or update)) as location, open_ledger(location, read) as opened:
        done, found, different = _run(opened, read, out, told=not (check or update))
    if update:
        write_expectation(recipe, found)
    result = {
        "recipe": recipe,
        "ledger": None if ledger is None and (check or update) else location,
        "steps": [{"do": each.step.do, "result": _json(each.result)} for each in done],
        "branches": {branch: facts.to_json() for branch, facts in found.items()},
        "differences": [] if update else [each.to_json() for each in different],
    }
    out.emit(result, *_end(recipe, read, location, different, check, update))
    _judge(recipe, done, [] if update else different, out, check)


def _run(ledger: Any, recipe: Recipe, out: Output, told: bool) -> tuple[list[Done], dict[str, Facts], list[Any]]:
    from rich.text import Text

    from ledger_cli.cli.recipe_runner import Runner
    from ledger_cli.cli.recipe_views import init_line
    from ledger_cli.services.recipe_expect import differences

    runner = Runner(ledger, recipe)
    if told and not out.as_json:
        out.emit(None, recipe.about, "")
        if ledger.status().moves == 1:
            out.emit(None, Text(f"$ {init_line(str(ledger.root), recipe)}", "dim"), "")
    done = list(_steps(runner, recipe, str(ledger.root), out, told))
    found = runner.facts()
    return done, found, differences(recipe.expect, found)


def _steps(runner: Runner, recipe: Recipe, location: str, out: Output, told: bool) -> Iterator[Done]:
    from rich.text import Text

    from ledger_cli.cli.recipe_views import command_line, views

    for step in recipe.steps:
        show = told and not out.as_json
        if show:
            heading: list[RenderableType] = [Text(f"[{step.number}/{len(recipe.steps)}] {step.say}".rstrip(), "bold")]
            out.emit(None, *heading, Text(f"$ {command_line(step, location)}", "dim"))
        done = runner.run(step)
        if show:
            out.emit(None, *views(done), "")
        yield done


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


def _judge(recipe: str, done: Sequence[Done], different: Sequence[FactDifference], out: Output, check: bool) -> None:
    if different:
        meant = f"if that is meant, `ledger run {recipe} --update` writes how it ends now"
        if check:
            raise Difference(f"{recipe} does not end as it says ({len(different)} differences): {meant}")
        told = "\n".join(f"  {each}" for each in different)
        out.warn(f"{recipe} does not end as it says; {meant}:\n{told}")
    refused = sum(each.refused for each in done)
    if refused:
        from ledger_cli.render.common.words import counted

        raise QuarantinedRows(
            f"{counted(refused, 'row')} went to quarantine: look at them, and set "
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


def _json(result: Any) -> Any:
    if hasattr(result, "to_json"):
        return result.to_json()
    if hasattr(result, "to_batches"):
        from ledger_cli.render.common.values import rows_of

        return [
            dict(zip(batch.schema.names, row, strict=True)) for batch in result.to_batches() for row in rows_of(batch)
        ]
    return result
