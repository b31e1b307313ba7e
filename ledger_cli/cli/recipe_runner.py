"""Runs a recipe: each step is one call of the facade, and may be run again without harm."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ledger_cli.api import MAIN, Ledger
from ledger_cli.cli.commands.ingest import progress
from ledger_cli.errors import Difference, NotFound, UsageError
from ledger_cli.services.recipe import Recipe, Step, read_recipe
from ledger_cli.services.recipe_expect import Facts, facts_of


class Done(NamedTuple):
    """A step with its result; None: what it makes was there already."""

    step: Step
    result: Any
    refused: int = 0
    """Rows that went to quarantine although the step does not allow it."""


class Runner:
    """The steps of a recipe on an open ledger."""

    def __init__(self, ledger: Ledger, recipe: Recipe) -> None:
        self._ledger = ledger
        self._recipe = recipe

    def run(self, step: Step) -> Done:
        """Do one step. Difference where a verification fails."""
        verb: Callable[[dict[str, Any]], Any] = getattr(self, f"_{step.do}")
        arguments = dict(step.arguments)
        allowed = arguments.pop("allow_quarantine", False)
        result = verb(arguments)
        if step.do == "ingest":
            return Done(step, result, 0 if allowed else result.refused)
        if getattr(result, "ok", True) is not True:
            raise Difference(
                f"{self._recipe.name}, step {step.number} ({step.do}) found a difference:\n{_told(result)}"
            )
        return Done(step, result)

    def facts(self) -> dict[str, Facts]:
        """What each branch holds now."""
        counted = "SELECT reason, count(*)::BIGINT AS rows FROM quarantine GROUP BY reason ORDER BY reason"
        found = {}
        for branch in self._ledger.branches():
            rows = self._ledger.sql(counted, branch.name).to_pylist()
            refused = {row["reason"]: row["rows"] for row in rows}
            found[branch.name] = facts_of(self._ledger.status(branch.name), refused)
        return found

    def _ingest(self, given: dict[str, Any]) -> Any:
        with progress() as watch:
            return self._ledger.ingest(*given.pop("sources"), **_named(given), watch=watch)

    def _commit(self, given: dict[str, Any]) -> Any:
        return self._ledger.commit(**_named(given))

    def _fork(self, given: dict[str, Any]) -> Any:
        return None if self._has(given["name"]) else self._ledger.fork(**_named(given, {"from": "at"}))

    def _replay(self, given: dict[str, Any]) -> Any:
        name = given.pop("fork", None)
        if name is not None:
            return None if self._has(name) else self._ledger.what_if(name, **_named(given, {"from": "at"}))
        since = given.pop("from", None)
        given["since"] = None if since is None else int(since)
        return self._ledger.replay(**_named(given, {"to": "until"}))

    def _tag(self, given: dict[str, Any]) -> Any:
        if any(tag.name == given["name"] for tag in self._ledger.tags()):
            return None
        given.setdefault("commit", given.get("branch", MAIN))
        return self._ledger.tag(**_named(given, {"commit": "place"}))

    def _snapshot(self, given: dict[str, Any]) -> Any:
        return self._ledger.snapshots.create(**_named(given))

    def _verify(self, given: dict[str, Any]) -> Any:
        return self._ledger.verify(**given)

    def _log(self, given: dict[str, Any]) -> Any:
        return self._ledger.log(**given)

    def _show(self, given: dict[str, Any]) -> Any:
        return self._ledger.show(**_named(given, {"commit": "place"}))

    def _diff(self, given: dict[str, Any]) -> Any:
        given.pop("limit", None)
        return self._ledger.diff(**given)

    def _gamma(self, given: dict[str, Any]) -> Any:
        given.pop("top", None)
        out = given.pop("out", None)
        return self._ledger.gamma(**given) if out is None else self._ledger.save_gamma(self._ledger.root / out, **given)

    def _sql(self, given: dict[str, Any]) -> Any:
        return self._ledger.sql(**given)

    def _status(self, given: dict[str, Any]) -> Any:
        return self._ledger.status(**given)

    def _has(self, branch: str) -> bool:
        return any(each.name == branch for each in self._ledger.branches())


def load_recipe(path: str, given: Mapping[str, str]) -> Recipe:
    """The recipe of a file, with the values of its parameters. NotFound for a file that it needs."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such recipe. Check the path; recipes end in .toml.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    recipe = read_recipe(text, path, given, os.path.dirname(path), os.getcwd())
    for parameter, file in recipe.files:
        if not os.path.exists(file) and not any(sign in file for sign in "*?["):
            hint = f" {parameter.get}" if parameter.get else ""
            raise NotFound(f"{file}: no such file, needed as {parameter.name}: {parameter.help.strip()}.{hint}")
    return recipe


def open_ledger(location: str, recipe: Recipe) -> Ledger:
    """The ledger of a recipe, made if it is not there. UsageError where its settings are others."""
    try:
        ledger = Ledger.open(location)
    except NotFound:
        ledger = Ledger.create(location, **recipe.settings)
    for name, value in recipe.settings.items():
        if ledger.config[name] != value:
            ledger.close()
            raise UsageError(
                f"{location}: its setting {name} is {ledger.config[name]!r}, the recipe has {value!r}: "
                f"give another --ledger, or remove {location} (or unset LEDGER_{name.upper()})"
            )
    return ledger


def write_expectation(path: str, found: Mapping[str, Facts]) -> None:
    """Write what the branches hold into the recipe; the rest of it, comments too, stays as it is."""
    import tomlkit

    document = tomlkit.parse(Path(path).read_text(encoding="utf-8"))
    document.pop("expect", None)
    expect = tomlkit.table(is_super_table=True)
    for branch, facts in found.items():
        made = tomlkit.table()
        for key, value in facts.to_json().items():
            made.add(key, value if isinstance(value, int) else _inline(value))
        expect.append(branch, made)
    document.append("expect", expect)
    text = tomlkit.dumps(document)
    temporary = Path(f"{path}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _inline(value: Mapping[str, Any]) -> Any:
    import tomlkit

    made = tomlkit.inline_table()
    made.update(value)
    return made


def _named(given: dict[str, Any], names: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Arguments of the command line as the facade calls them, the settings of the policy beside the others."""
    policy = given.pop("policy", {})
    names = {"message": "why", **names}
    return {**{names.get(name, name): value for name, value in given.items()}, **policy}


def _told(report: Any) -> str:
    """The first thing that a verification found."""
    if not hasattr(report, "findings"):
        return str(report.difference.message)
    first, *more = report.findings
    return f"{first.file}: {first.what}" + (f" (and {len(more)} more: `ledger verify`)" if more else "")
