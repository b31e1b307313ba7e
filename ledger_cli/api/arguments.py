"""The facade takes what its annotations say: no value of another kind gets any further, into SQL for example."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

from ledger_cli.errors import UsageError

_Class = TypeVar("_Class", bound=type)
_WANTED = {"force": "the id of a region as text, for example '0:0'"}


def checks_arguments(cls: _Class) -> _Class:
    """Let all public methods of a class check the texts and whole numbers that they are given.

    UsageError names the argument. What counts as an integer elsewhere, as NumPy's do, becomes an int.
    """
    for name, method in list(vars(cls).items()):
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(cls, name, _checking(method))
    return cls


def _checking(method: FunctionType) -> Callable[..., Any]:
    signature = inspect.signature(method)
    kinds = {
        name: kind for name, each in signature.parameters.items() if (kind := _KINDS.get(_plain(each))) is not None
    }

    @functools.wraps(method)
    def checked(*given: Any, **named: Any) -> Any:
        bound = signature.bind(*given, **named)
        for name in kinds.keys() & bound.arguments.keys():
            value = bound.arguments[name]
            if value is not None or signature.parameters[name].default is not None:
                bound.arguments[name] = kinds[name](name, value)
        return method(*bound.args, **bound.kwargs)

    return checked


def _plain(parameter: inspect.Parameter) -> str:
    """The annotation, which is a text here, without `None`."""
    return str(parameter.annotation).removesuffix(" | None")


def _whole(name: str, value: Any) -> Any:
    try:
        return operator.index(_no_bool(value))
    except TypeError as error:
        raise _wrong(name, "a whole number", value) from error


def _text(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        raise _wrong(name, "text", value)
    return value


def _place(name: str, value: Any) -> Any:
    try:
        return value if isinstance(value, str) else operator.index(_no_bool(value))
    except TypeError as error:
        raise _wrong(name, "a place: a tag, a branch or a commit id as text, or a tick as int", value) from error


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise TypeError
    return value


def _wrong(name: str, wanted: str, value: Any) -> UsageError:
    return UsageError(f"{name} must be {_WANTED.get(name, wanted)}, not {value!r}")


_KINDS: dict[str, Callable[[str, Any], Any]] = {"int": _whole, "str": _text, "str | int": _place}
