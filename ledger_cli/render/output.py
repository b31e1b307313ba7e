"""The output protocol: a result goes to stdout, as text for people or as JSON; everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, Protocol

from rich.console import Console, RenderableType

WIDE = 200
"""Columns of a table that is not written to a terminal, so that nothing is cut for `grep`."""


class Result(Protocol):
    """What a verb of the ledger gives back."""

    def to_json(self) -> Any:
        """The documented JSON."""
        ...


class Output:
    """Where a command says what it has to say."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._stderr = Console(stderr=True, highlight=False)

    def emit(self, result: Any, *views: RenderableType) -> None:
        """The result: its JSON (or `result` itself, if it is JSON already), or its views."""
        if self.as_json:
            value = result.to_json() if hasattr(result, "to_json") else result
            sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")
            return
        console = stdout()
        for view in views:
            console.print(view)

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self._stderr.print(text, style="dim", markup=False)

    def warn(self, text: str) -> None:
        """Something that may be wrong."""
        self._stderr.print(f"warning: {text}", style="yellow", markup=False)


def stdout() -> Console:
    """A console on stdout; what is no terminal is wide, so that tables keep all of their text."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(WIDE, console.width))
    return console


def lines(texts: Iterable[str]) -> str:
    """Lines as one text."""
    return "\n".join(texts)
