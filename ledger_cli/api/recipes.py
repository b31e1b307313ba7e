"""Recipes, run: each step is one call of the facade, and may be run again without harm."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ledger_cli.api.ledger import Ledger
from ledger_cli.core.history import MAIN
from ledger_cli.errors import Difference, NeedsDecision, NotFound, UsageError
from ledger_cli.services.recipe import Recipe, Step, read_recipe
from ledger_cli.services.recipe_expect import FactDifference, Facts, differences, facts_of
from ledger_cli.wiring import drawing, inputs, ledgers


class Done(NamedTuple):
    """A step with its result; None: what it makes was there already, or is a picture that nobody asked for."""

    step: Step
    result: Any
    refused: int = 0
    """Rows that went to quarantine although the step does not allow it."""


@dataclass(frozen=True)
class RecipeRun:
    """What a recipe did and made. `branches`: facts by branch; `differences`: from what the recipe expects of them."""

    recipe: str
    ledger: str
    steps: tuple[Done, ...]
    branches: Mapping[str, Facts]
    differences: tuple[FactDifference, ...]

    @property
    def ok(self) -> bool:
        """Whether all branches end as the recipe says."""
        return not self.differences

    @property
    def refused(self) -> int:
        """Rows that went to quarantine in steps that do not allow it."""
        return sum(each.refused for each in self.steps)

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "recipe": self.recipe,
            "ledger": self.ledger,
            "steps": [{"do": each.step.do, "result": _json(each)} for each in self.steps],
            "branches": {branch: facts.to_json() for branch, facts in self.branches.items()},
            "differences": [each.to_json() for each in self.differences],
        }


class Watcher:
    """Is told of each step; this one says nothing."""

    def begins(self, step: Step) -> None:
        """A step is about to be done."""

    def ended(self, done: Done) -> None:
        """A step was done."""

    def reading(self) -> AbstractContextManager[Callable[[int, int | None], None] | None]:
        """Within it sources are read: what is told the bytes read and the total."""
        return nullcontext()

    def asks(self, problem: NeedsDecision) -> str:
        """A step needs a person's decision, which ends the run: what is said of the questions."""
        return str(problem)


def run_recipe(ledger: Ledger, recipe: Recipe, watcher: Watcher, *, pictures: bool) -> RecipeRun:
    """Do the steps in order. Difference where a verification fails; what was done before stands.

    Without `pictures` nothing is drawn; what else a step does is done.
    """
    runner = Runner(ledger, recipe, watcher, pictures=pictures)
    done = []
    for step in recipe.steps:
        watcher.begins(step)
        done.append(runner.run(step))
        watcher.ended(done[-1])
    found = runner.facts()
    different = tuple(differences(recipe.expect, found))
    return RecipeRun(recipe.name, ledger.location, tuple(done), found, different)


def check_pictures(recipe: Recipe) -> None:
    """MissingExtra, before any step, where one draws and what it needs is not installed."""
    for step in recipe.steps:
        if _draws(step) and not _is_plan_as_svg(step):
            drawing.check_drawing()


def _draws(step: Step) -> bool:
    return step.do in ("gamma", "reconcile") and drawing.is_picture(step.arguments.get("out", ""))


def _is_plan_as_svg(step: Step) -> bool:
    """The one picture that needs nothing installed."""
    return step.do == "reconcile" and str(step.arguments["out"]).endswith(".svg")


class Runner:
    """The steps of a recipe on an open ledger; without `pictures` nothing is drawn."""

    def __init__(
        self, ledger: Ledger, recipe: Recipe, watcher: Watcher | None = None, *, pictures: bool = True
    ) -> None:
        self._ledger = ledger
        self._recipe = recipe
        self._watcher = watcher or Watcher()
        self._pictures = pictures

    def run(self, step: Step) -> Done:
        """Do one step. Difference where a verification fails, NeedsDecision where a person has to decide."""
        verb: Callable[[dict[str, Any]], Any] = getattr(self, f"_{step.do.replace(' ', '_')}")
        arguments = dict(step.arguments)
        allowed = arguments.pop("allow_quarantine", False)
        if _draws(step) and not self._pictures:
            if step.do == "gamma":
                return Done(step, None)
            del arguments["out"]
        try:
            result = verb(arguments)
        except NeedsDecision as problem:
            where = f"{self._recipe.name}, step {step.number} ({step.do})"
            raise NeedsDecision(f"{where}: {self._watcher.asks(problem)}", problem.asked) from problem
        if step.do in ("ingest", "world apply"):
            refused = result.refused if step.do == "ingest" else sum(result.reasons.values())
            return Done(step, result, 0 if allowed else refused)
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
            status = self._ledger.status(branch.name)
            digest = None if status.world is None else self._ledger.world.digest(branch.name)
            found[branch.name] = facts_of(status, refused, digest)
        return found

    def _ingest(self, given: dict[str, Any]) -> Any:
        with self._watcher.reading() as watch:
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

    def _reconcile(self, given: dict[str, Any]) -> Any:
        out, planned = given.pop("out", None), given.pop("plan", False)
        if "resolutions" in given:
            given["resolutions"] = inputs.read_json_file(given["resolutions"])
        into = given.get("into")
        there = into is not None and self._has(into)
        made = None
        if planned or out is not None:
            # What a run before made is no reason to refuse the name: the plan is the same without it.
            left_out = {"message", "into"} if there else {"message"}
            made = self._ledger.plan_reconcile(**{name: each for name, each in given.items() if name not in left_out})
            made = replace(made, into=into or made.into)
        if out is not None and made is not None:
            # Drawn before anything moves: killed in between, a second run has the same to draw.
            picture = self._beside(out)
            if made.outcome == "merge" or not os.path.exists(picture):
                self._ledger.draw_reconciliation(picture, made)
        if planned:
            return made
        return None if there else self._ledger.reconcile(**_named(given))

    def _schema_register(self, given: dict[str, Any]) -> Any:
        for name in given.keys() & {"schema", "upcast"}:
            given[name] = inputs.read_json_object(given[name])
        return self._ledger.world.register(**_named(given, {"field": "fields"}))

    def _world_apply(self, given: dict[str, Any]) -> Any:
        return self._ledger.world.apply_file(given.pop("source"), **_named(given))

    def _world_find(self, given: dict[str, Any]) -> Any:
        given.pop("limit", None)
        return self._ledger.world.find(**given)

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
        return self._ledger.gamma(**given) if out is None else self._ledger.save_gamma(self._beside(out), **given)

    def _sql(self, given: dict[str, Any]) -> Any:
        return self._ledger.sql(**given)

    def _status(self, given: dict[str, Any]) -> Any:
        return self._ledger.status(**given)

    def _beside(self, out: str) -> str:
        """Where a picture goes: into the directory of the ledger, or into this one where that is elsewhere."""
        return ledgers.beside(out, self._ledger.location) if ledgers.is_directory(self._ledger.location) else out

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
        ledger = Ledger.create(location, types=recipe.types, **recipe.settings)
    try:
        check_settings(ledger, location, recipe)
    except UsageError:
        ledger.close()
        raise
    return ledger


def check_settings(ledger: Ledger, location: str, recipe: Recipe) -> None:
    """UsageError where a ledger has other settings than a recipe wants."""
    another = f"give another --ledger, or remove {location}"
    for name, value in recipe.settings.items():
        if ledger.config[name] != value:
            raise UsageError(
                f"{location}: its setting {name} is {ledger.config[name]!r}, the recipe has {value!r}: "
                f"{another} (or unset LEDGER_{name.upper()})"
            )
    for name, settings in recipe.types.items():
        if ledger.config.types.get(name) != settings:
            raise UsageError(
                f'{location}: its ledger.toml does not have [types."{name}"] as the recipe does: copy it, or {another}'
            )


def write_expectation(path: str, found: Mapping[str, Facts]) -> None:
    """Write what the branches hold into the recipe; the rest of it, comments too, stays as it is."""
    import tomlkit

    document = tomlkit.parse(Path(path).read_text(encoding="utf-8"))
    document.pop("expect", None)
    expect = tomlkit.table(is_super_table=True)
    for branch, facts in found.items():
        made = tomlkit.table()
        for key, value in facts.to_json().items():
            if value is not None:
                made.add(key, _inline(value) if isinstance(value, Mapping) else value)
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


def _json(done: Done) -> Any:
    """The result of a step as its command prints it with `--json`."""
    result = done.result
    if hasattr(result, "to_json"):
        return result.to_json()
    if done.step.do == "world find":
        from ledger_cli.render.views.world import found_json

        return found_json(result.slice(0, done.step.arguments.get("limit")))
    if hasattr(result, "to_batches"):
        from ledger_cli.render.common.values import rows_of

        return [
            dict(zip(batch.schema.names, row, strict=True)) for batch in result.to_batches() for row in rows_of(batch)
        ]
    return result
