"""A recipe as a person follows it: each step as the command that does the same, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from rich.text import Text

from ledger_cli.api import Ledger
from ledger_cli.api.recipes import Done, Watcher
from ledger_cli.cli.commands.ingest import progress
from ledger_cli.cli.commands.reconcile import ask
from ledger_cli.cli.recipe_views import command_line, init_lines, views
from ledger_cli.errors import NeedsDecision
from ledger_cli.render.output import Output
from ledger_cli.services.recipe import Recipe, Step


class Shown(Watcher):
    """Shows each step, where it is `told`; a bar while sources are read, in any case."""

    def __init__(self, out: Output, ledger: Ledger, recipe: Recipe, told: bool) -> None:
        self._out = out
        self._told = told
        self._steps = len(recipe.steps)
        self._location = ledger.location
        if told:
            out.emit(None, recipe.about, "")
            if ledger.status().moves == 1:
                out.emit(None, *(Text(f"$ {line}", "dim") for line in init_lines(self._location, recipe)), "")
            else:
                out.emit(None, f"{self._location} is there already: the steps find what they did before", "")

    def begins(self, step: Step) -> None:
        """See `Watcher`."""
        if self._told:
            heading = Text(f"[{step.number}/{self._steps}] {step.say}".rstrip(), "bold")
            self._out.emit(None, heading, Text(f"$ {command_line(step, self._location)}", "dim"))

    def ended(self, done: Done) -> None:
        """See `Watcher`."""
        if self._told:
            self._out.emit(None, *views(done, self._location), "")

    def reading(self) -> AbstractContextManager[Callable[[int, int | None], None] | None]:
        """See `Watcher`."""
        return progress()

    def asks(self, problem: NeedsDecision) -> str:
        """See `Watcher`; the questions go into a file."""
        told, name = ask(problem)
        return f"{told}: fill in the choices in {name}, and name it in the step as resolutions"
