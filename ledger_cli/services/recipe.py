"""Recipes: whole batch jobs as data. This module reads and checks one; it opens no file and runs nothing.

A recipe is TOML. Every key that is not listed here is an error, so that a slip never passes unseen.

    about = "What the job does."

    [parameters.source]            # --set source=PATH; ${source} stands for it in any text below
    help = "The raw file."         # required
    get = "where to get it"        # said where the file is missing
    path = true                    # relative to the recipe; as given with --set, to where the command runs
    default = "ticks.jsonl"        # without one, the parameter must be given

    [settings]                     # of ledger.toml, by name: regions, shards, weight, interval …
    regions = "grid:10"

    [types."shop.lamp.v1"]         # of ledger.toml, too: world events. A schema goes into a step `schema register`
    fields = { hours = "sum" }
    constraints = ["watts < 100"]

    [[steps]]                      # in order; `do` is a verb of `VERBS`, the rest are its arguments
    do = "ingest"
    say = "A line for the reader."
    sources = "../fixtures/ticks.jsonl"

    [expect.main]                  # what a branch must hold at the end; written by `ledger run R --update`
    rows = 800
    commits = 5
    quarantined = { broken_json = 1 }
    heads = { 0 = "5d3a980e-…" }
    world = "0d25f3…"
"""

from __future__ import annotations

import os.path
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from ledger_cli.config.file import load, template
from ledger_cli.config.settings import SETTINGS
from ledger_cli.config.types import TypeSettings, type_settings
from ledger_cli.core.world import type_parts
from ledger_cli.core.world_fields import check_rules
from ledger_cli.errors import UsageError
from ledger_cli.services.recipe_expect import Facts, read_facts
from ledger_cli.services.recipe_verbs import VERBS, checked_arguments, is_file_name

_KEYS = ("about", "parameters", "settings", "types", "steps", "expect")
_PARAMETER_KEYS = ("help", "get", "path", "default")
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_SETTINGS = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True)
class Parameter:
    """Something that is said when the recipe is run. `path`: a file, that must exist; `get`: where it is to be had."""

    name: str
    help: str
    get: str = ""
    path: bool = False
    default: Any = None


@dataclass(frozen=True)
class Step:
    """One verb with its arguments, checked and with the parameters put in."""

    number: int
    do: str
    say: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A recipe, ready to run. `values`: of its parameters; `expect`: facts by branch.

    `files`: the local files that parameters name, which must be there before anything is done.
    """

    name: str
    about: str
    parameters: tuple[Parameter, ...]
    values: Mapping[str, Any]
    settings: Mapping[str, Any]
    types: Mapping[str, TypeSettings]
    steps: tuple[Step, ...]
    expect: Mapping[str, Facts]
    files: tuple[tuple[Parameter, str], ...]


def read_recipe(
    text: str, name: str, given: Mapping[str, str] | None = None, directory: str = ".", here: str = "/"
) -> Recipe:
    """The recipe of a text. UsageError names what is wrong and where.

    `name` is used in messages, `given` are the values of `--set`. Paths of the recipe are relative to `directory`,
    those of `given` to `here`, which is absolute.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name} is not TOML: {error}") from error
    known_keys(tree, _KEYS, name)
    about = tree.get("about", "")
    if not isinstance(about, str):
        raise UsageError(f"{name}: about must be text")
    parameters = _parameters(tree.get("parameters", {}), name)
    values = _values(parameters, given or {}, name, here)
    steps = tree.get("steps")
    if not isinstance(steps, list) or not steps:
        raise UsageError(f'{name} has no [[steps]]: add at least one, such as do = "ingest"')
    return Recipe(
        name=name,
        about=about.strip(),
        parameters=parameters,
        values=values,
        settings=_settings(_filled(tree.get("settings", {}), values, f"{name}, [settings]"), name),
        types=_types(_filled(tree.get("types", {}), values, f"{name}, [types]"), name),
        steps=tuple(_step(each, number, values, name, directory) for number, each in enumerate(steps, 1)),
        expect=read_facts(tree.get("expect", {}), name),
        files=_files(parameters, values, directory),
    )


def known_keys(table: Any, known: tuple[str, ...], where: str) -> None:
    """UsageError for what is no table, or has another key."""
    if not isinstance(table, dict):
        raise UsageError(f"{where}: must be a table")
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}; it may have {', '.join(known)}")


def _parameters(tables: Any, name: str) -> tuple[Parameter, ...]:
    if not isinstance(tables, dict):
        raise UsageError(f"{name}: write a parameter as a table [parameters.NAME]")
    return tuple(_parameter(key, table, f"{name}, [parameters.{key}]") for key, table in tables.items())


def _parameter(key: str, table: Any, where: str) -> Parameter:
    known_keys(table, _PARAMETER_KEYS, where)
    if not _NAME.fullmatch(key):
        raise UsageError(f"{where}: a name is made of letters, digits, - and _")
    if not isinstance(table.get("help"), str):
        raise UsageError(f"{where}: needs a help text")
    if not isinstance(table.get("get", ""), str) or not isinstance(table.get("path", False), bool):
        raise UsageError(f"{where}: get is text, path is true or false")
    default = table.get("default")
    if default is not None and not isinstance(default, (str, int, float)):
        raise UsageError(f"{where}: default must be text, a number, true or false")
    if table.get("path") and not isinstance(default, (str, type(None))):
        raise UsageError(f"{where}: the default of a path is text")
    return Parameter(key, **table)


def _values(parameters: tuple[Parameter, ...], given: Mapping[str, str], name: str, here: str) -> Mapping[str, Any]:
    names = [each.name for each in parameters]
    for key in given:
        if key not in names:
            raise UsageError(f"--set {key}=…: {name} has no such parameter; it has {', '.join(names) or 'none'}")
    values: dict[str, Any] = {}
    for each in parameters:
        if each.name in given:
            value = _typed(each, given[each.name])
            values[each.name] = placed(value, here) if each.path else value
        elif each.default is None:
            raise UsageError(f"{name} needs --set {each.name}=…: {each.help.strip()}. {each.get}".rstrip())
        else:
            values[each.name] = each.default
    return MappingProxyType(values)


def _files(
    parameters: tuple[Parameter, ...], values: Mapping[str, Any], directory: str
) -> tuple[tuple[Parameter, str], ...]:
    paths = ((each, placed(str(values[each.name]), directory)) for each in parameters if each.path)
    return tuple((each, path) for each, path in paths if is_file_name(path))


def _typed(parameter: Parameter, text: str) -> Any:
    """The text of `--set` as what the default is."""
    kind = type(parameter.default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text) if kind in (int, float) else text
    except (KeyError, ValueError) as error:
        raise UsageError(f"--set {parameter.name}={text}: must be like {parameter.default!r}") from error


def placed(path: str, directory: str) -> str:
    """A path as seen from where the command runs; URLs and `-` as they are."""
    return os.path.normpath(os.path.join(directory, path)) if is_file_name(path) else path


def _filled(value: Any, values: Mapping[str, Any], where: str) -> Any:
    """`value` with `${name}` replaced; a text that is nothing else becomes the parameter's value itself."""
    if isinstance(value, dict):
        return {key: _filled(each, values, where) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, values, where) for each in value]
    if not isinstance(value, str):
        return value

    def named(match: re.Match[str]) -> Any:
        if match[1] not in values:
            known = ", ".join(values) or "none"
            raise UsageError(f"{where}: {match[0]} is no parameter of the recipe; it has {known}")
        return values[match[1]]

    alone = _REFERENCE.fullmatch(value)
    return named(alone) if alone else _REFERENCE.sub(lambda match: str(named(match)), value)


def _settings(table: Any, name: str) -> Mapping[str, Any]:
    where = f"{name}, [settings]"
    known_keys(table, tuple(_SETTINGS), where)
    try:
        checked = {key: _SETTINGS[key].checked(value) for key, value in table.items()}
        load(template(checked), {}).policy()
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return MappingProxyType(checked)


def _types(tables: Any, name: str) -> Mapping[str, TypeSettings]:
    types = type_settings(tables, name)
    for each, settings in types.items():
        where = f'{name}: [types."{each}"]'
        if settings.schema is not None:
            raise UsageError(f'{where}: give its schema in a step: do = "schema register", type = "{each}", schema = …')
        try:
            type_parts(each)
            check_rules(settings.fields or {})
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from error
    return MappingProxyType(types)


def _step(table: Any, number: int, values: Mapping[str, Any], name: str, directory: str) -> Step:
    where = f"{name}, step {number}"
    if not isinstance(table, dict) or table.get("do") not in VERBS:
        given = table.get("do") if isinstance(table, dict) else None
        near = get_close_matches(given, VERBS, n=1) if isinstance(given, str) else []
        meant = f" (did you mean {near[0]}?)" if near else ""
        not_that = "" if given is None else f", not {given!r}{meant}"
        raise UsageError(f"{where}: do must be one of {', '.join(VERBS)}{not_that}")
    where = f"{where} ({table['do']})"
    filled = _filled(table, values, where)
    do, say = filled.pop("do"), filled.pop("say", "")
    if not isinstance(say, str):
        raise UsageError(f"{where}: say must be text")
    arguments = checked_arguments(do, filled, where)
    for key in arguments.keys() & {key for key, kind in VERBS[do].takes.items() if kind.path}:
        given = arguments[key]
        made = placed(given, directory) if isinstance(given, str) else [placed(path, directory) for path in given]
        arguments[key] = made
    return Step(number, do, say.strip(), MappingProxyType(arguments))
