"""Texts, whole numbers and flags of the command line, without pydantic, and named in its help as everywhere else.

Typer imports pydantic to turn the words of a command line into values: a tenth of a second at every start. Ours
are texts, whole numbers and flags only; these few lines do for them what it would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typer import BadParameter


def _whole(value: Any) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise BadParameter(f"{value!r} is not a whole number.") from error


_KINDS: dict[Any, Callable[[Any], Any]] = {
    str: str,
    int: _whole,
    bool: bool,
    list[str]: lambda values: [str(value) for value in values],
}


class _Plain:
    """What Typer calls to turn a word into a value."""

    def __init__(self, convert: Callable[[Any], Any], least: int | None) -> None:
        self._convert = convert
        self._least = least

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value, or BadParameter, which names the option."""
        try:
            made = None if value is None else self._convert(value)
            if made is not None and self._least is not None and made < self._least:
                raise BadParameter(f"{made} is too small, it takes at least {self._least}.")
            return made
        except BadParameter as error:
            error.param, error.ctx = param, ctx
            raise


def with_plain_values(command: Any) -> Any:
    """The command, and the commands below it, with the plain conversion wherever it serves."""
    for below in getattr(command, "commands", {}).values():
        with_plain_values(below)
    for parameter in command.params:
        _plain(parameter)
    made = command.get_help_option
    command.get_help_option = lambda ctx: _plain(made(ctx))
    return command


def _plain(parameter: Any) -> Any:
    described = getattr(parameter, "type_descriptor", None)
    convert = _KINDS.get(getattr(described, "annotation", None))
    if convert is not None:
        parameter._runtime_param = _Plain(convert, getattr(parameter, "min", None))
    return _named(parameter)


def _named(parameter: Any) -> Any:
    """What a parameter takes as docs/cli.md names it.

    Typer would write <str>, <bool> beside a flag, and in the line of usage {FILE} and [[NAME]].
    """
    if parameter.metavar is None:
        parameter.metavar = parameter.name.upper()
    if parameter.param_type_name == "argument":
        named = parameter.metavar
        parameter.get_usage_pieces = lambda ctx: [named if parameter.required or named[0] == "[" else f"[{named}]"]
    if parameter.param_type_name == "argument" or parameter.is_flag:
        parameter.display_type_rich = lambda ctx: None
    return parameter
