"""The output protocol: a result goes to stdout, as text for people or as JSON; everything else to stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 10_000
"""Columns of what is not written to a terminal, so that nothing is cut or folded for `grep`."""

ROWS_ON_TERMINAL = 50
"""Rows of a long table on a terminal, where nobody said how many; in a pipe all."""


class Result(Protocol):
    """What a verb of the ledger gives back."""

    def to_json(self) -> Any:
        """The documented JSON."""
        ...


class Output:
    """Where a command says what it has to say."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    @property
    def terminal(self) -> bool:
        """Whether a person looks at the result."""
        return not self.as_json and on_terminal()

    def most(self, asked: int | None = None) -> int | None:
        """How many rows of a long table to show; None is all."""
        if asked is not None:
            return asked
        return ROWS_ON_TERMINAL if self.terminal else None

    def emit(self, result: Any, *views: object) -> bool:
        """The result: its JSON (or `result` itself, if it is JSON already), or its views, as rich prints them.

        False: nobody reads it any more, see `write`.
        """
        if self.as_json:
            value = result.to_json() if hasattr(result, "to_json") else result
            return write(json_text(value) + "\n")
        return write("".join(map(_printed, views)))

    def note(self, text: str) -> None:
        """Something worth knowing."""
        _say(text, "dim")

    def warn(self, text: str) -> None:
        """Something that may be wrong."""
        _say(f"warning: {text}", "yellow")


def _say(text: str, style: str) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    console.print(text, style=style, markup=False, emoji=False, soft_wrap=True)


def _printed(view: object) -> str:
    """What is written for a view; text as it is, which is also the only fast way for a long one."""
    if isinstance(view, str):
        return view + "\n"
    console = stdout()
    with console.capture() as captured:
        console.print(view, markup=False, emoji=False)
    text = captured.get()
    # Cells are filled up with blanks, which nobody wants in a file.
    return text if console.is_terminal else lines(line.rstrip(" ") for line in text.split("\n"))


def on_terminal() -> bool:
    """Whether a person looks at stdout; told without rich, which a line of text does not need."""
    return sys.stdout.isatty()


def stdout() -> Console:
    """A console on stdout; what is no terminal is wide, so that tables keep all of their text."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    return console


def write(text: str) -> bool:
    """Text to stdout, at once: a reader that has gone (`| head`) shows here and not at the end of the process.

    False: it has gone, and not all of this was read.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        reader_gone()
        return False
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        return write(text.encode(encoding, "replace").decode(encoding))
    return True


def reader_gone() -> None:
    """Nobody reads what we write any more: no error, and nothing more can be said."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def json_text(value: Any) -> str:
    """Indented JSON; numbers that JSON does not know are null."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=2, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, indent=2, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def lines(texts: Iterable[str]) -> str:
    """Lines as one text."""
    return "\n".join(texts)
