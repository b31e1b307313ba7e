"""All commands of the live command line, as its help shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from ledger_cli.cli.main import COMMANDS, app


@dataclass(frozen=True)
class Walked:
    """A command by the words that call it; a group has commands below it."""

    words: tuple[str, ...]
    command: Any
    group: bool

    @property
    def name(self) -> str:
        return " ".join(("ledger", *self.words))

    @property
    def paragraphs(self) -> list[str]:
        """The help, each paragraph in a line."""
        return [" ".join(each.split()) for each in (self.command.help or "").split("\n\n")]

    @property
    def examples(self) -> list[str]:
        return [each.removeprefix("Example: ") for each in self.paragraphs if each.startswith("Example: ")]

    @property
    def parameters(self) -> list[Any]:
        return [each for each in self.command.params if each.name != "help"]


def walk() -> Iterator[Walked]:
    """Every command, groups before what is in them, in the order of `ledger --help`."""
    root: Any = typer.main.get_command(app)
    context = root.context_class(root, info_name="ledger")
    for name in COMMANDS:
        command = root.get_command(context, name)
        yield from _below((name,), command)


def _below(words: tuple[str, ...], command: Any) -> Iterator[Walked]:
    inner = getattr(command, "commands", {})
    yield Walked(words, command, bool(inner))
    for name, found in inner.items():
        yield from _below((*words, name), found)
