"""What `[types]` of `ledger.toml` says of types of world events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger_cli.config.settings import FILE_NAME
from ledger_cli.errors import UsageError


@dataclass(frozen=True)
class TypeSettings:
    """What a table `[types."module.name.v1"]` says of a type of world events; None: what is registered."""

    schema: str | None = None
    """A file, from the directory of the ledger."""
    reducer: str | None = None
    fields: Mapping[str, str] | None = None
    upcast: Mapping[str, Any] | None = None
    constraints: tuple[str, ...] = ()
    consistency: str = "eventual"


CONSISTENCIES = ("eventual", "causal", "strong")
_TYPE_KINDS = {
    "schema": (str, "the name of a file in quotes"),
    "reducer": (str, "merge or replace in quotes"),
    "fields": (dict, 'a table such as {visits = "sum"}'),
    "upcast": (dict, 'a table such as {rename = {old = "new"}}'),
    "constraints": (list, "a list of SQL in quotes"),
    "consistency": (str, "eventual, causal or strong in quotes"),
}


def type_settings(tables: Any, file: str = FILE_NAME) -> dict[str, TypeSettings]:
    """Of the tables below `[types]` of a file. UsageError names what is wrong."""
    types = {}
    for name, entries in tables.items() if isinstance(tables, dict) else [("", None)]:
        where = f'{file}: [types."{name}"]'
        if not isinstance(entries, dict) or not entries.keys() <= _TYPE_KINDS.keys():
            # Without the quotes the parts of a name are tables in tables.
            raise UsageError(f"{where} takes {', '.join(_TYPE_KINDS)}, and its name stands in quotes")
        for key, value in entries.items():
            kind, told = _TYPE_KINDS[key]
            of_texts: Any = {"fields": dict.values, "constraints": iter}.get(key)
            fits = isinstance(value, kind)
            if not fits or (of_texts is not None and not all(isinstance(each, str) for each in of_texts(value))):
                raise UsageError(f"{where}: {key} = {value!r} must be {told}")
        settings = TypeSettings(**{**entries, "constraints": tuple(entries.get("constraints", ()))})
        if settings.consistency not in CONSISTENCIES:
            raise UsageError(f"{where}: consistency must be {_TYPE_KINDS['consistency'][1]}")
        types[name] = settings
    return types


def level_of(text: str) -> str:
    """A level of consistency as given. UsageError where it is none."""
    if text not in CONSISTENCIES:
        raise UsageError(f"consistency {text!r} is none of {', '.join(CONSISTENCIES)}")
    return text
