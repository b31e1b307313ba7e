"""What each step of a recipe shows: the command that does the same, and its result as that command prints it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from typing import Any, cast

from rich.console import RenderableType

from ledger_cli.api.recipes import Done
from ledger_cli.config.file import type_lines
from ledger_cli.config.settings import FILE_NAME
from ledger_cli.render.common.words import counted
from ledger_cli.services.recipe import Recipe, Step
from ledger_cli.services.recipe_verbs import POLICY

_ARGUMENTS = ("sources", "source", "type", "name", "commit", "a", "b", "statement")
"""What the command line takes without the name of an option."""

_MAP_SIZE = 72, 30
_TOP = 10


def command_line(step: Step, location: str) -> str:
    """The step as a command that can be pasted, on the ledger at a location."""
    words, options = ["ledger", *step.do.split()], []
    if step.do == "replay" and "fork" not in step.arguments:
        options.append("--verify")
    if step.do == "snapshot":
        words.append("create")
    given = dict(step.arguments)
    for name in _ARGUMENTS:
        value = given.pop(name, None)
        words += [] if value is None else [_word(each) for each in (value if isinstance(value, list) else [value])]
    given |= given.pop("policy", {})
    if "out" in given:
        given["out"] = _placed(step, location)
    for name, value in {**given, "ledger": location}.items():
        options += _option(name, value)
    return " ".join(words + options)


def init_lines(location: str, recipe: Recipe) -> list[str]:
    """How the ledger was made, as commands."""
    policy = {name: value for name, value in recipe.settings.items() if name in POLICY}
    made = ["ledger init", _quoted(location), *(word for each in policy.items() for word in _option(*each))]
    types = [line for each in recipe.types.items() for line in type_lines(*each)]
    said = " \\\n    ".join(shlex.quote(line) for line in types)
    written = [f"printf '%s\\n' {said} \\\n    >> {_quoted(os.path.join(location, FILE_NAME))}"] if types else []
    return [" ".join(made), *written]


def _option(name: str, value: Any) -> list[str]:
    option = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [option] if value else []
    if isinstance(value, Mapping):
        return [part for key, each in value.items() for part in (option, _quoted(f"{key}={each}"))]
    return [option, _quoted(",".join(value) if isinstance(value, list) else str(value))]


def _word(value: Any) -> str:
    """A word; a path from here, unless it is shorter as it stands."""
    text = str(value)
    if os.path.isabs(text) and os.path.exists(text):
        text = min(os.path.relpath(text), text, key=len)
    return _quoted(text)


def _quoted(text: str) -> str:
    """For a shell, with double quotes where SQL has single ones."""
    text = text.strip()
    return f'"{text}"' if "'" in text and not any(sign in text for sign in '"$`\\!') else shlex.quote(text)


def _placed(step: Step, location: str) -> str:
    """Where what a step draws is: beside the ledger's settings."""
    return os.path.join(location, step.arguments["out"])


def views(done: Done, location: str) -> list[RenderableType]:
    """The result of a step for people, on the ledger at a location."""
    if done.result is None:
        return ["there already"]
    shown = _VIEWS[done.step.do](done.step, done.result)
    drawn = done.step.do == "reconcile" and "out" in done.step.arguments
    return [*shown, f"drew {_placed(done.step, location)}"] if drawn else shown


def _ingest(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.cli.commands.ingest import summary

    return [cast(RenderableType, summary(result))]


def _commit(step: Step, result: Any) -> list[RenderableType]:
    watermark = "not set" if result.watermark is None else f"tick {result.watermark}"
    made = f"{counted(result.commits, 'commit')} with {counted(result.entries, 'entry', 'entries')}"
    return [f"made {made} on {result.branch}; watermark: {watermark}"]


def _fork(step: Step, result: Any) -> list[RenderableType]:
    return [f"{result.name} begins with {counted(result.commits, 'commit')} of {result.parent}"]


def _replay(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.checks import replay_views

    return _commit(step, result) if "fork" in step.arguments else replay_views(result, None)


def _reconcile(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.reconcile import plan_views, reconciled_line

    return plan_views(result, None) if step.arguments.get("plan") else [reconciled_line(result)]


def _schema_register(step: Step, result: Any) -> list[RenderableType]:
    return [f"{result.name} is registered"]


def _world_apply(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.world import apply_table, refusal_table

    return [apply_table(result), *([refusal_table(result.refused, _TOP)] if result.refused else [])]


def _world_find(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.rows import rows_views

    return rows_views(result.column_names, result.to_batches(), step.arguments.get("limit"))


def _tag(step: Step, result: Any) -> list[RenderableType]:
    return [f"{result.name} names {result.commit.commit_id}"]


def _snapshot(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.snapshots import created_line

    return [created_line(result)]


def _verify(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.checks import integrity_views

    return integrity_views(result)


def _log(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.history import log_table

    return [log_table(result.table.to_pylist())]


def _show(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.history import commit_fields, entries_table

    return [commit_fields(result.header, result.policy), "", *entries_table(result.entries.to_pylist(), _TOP)]


def _diff(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.diff import diff_views, world_views

    a, b, most = step.arguments["a"], step.arguments["b"], step.arguments.get("limit", _TOP)
    regions = diff_views(a, b, result.table.to_pylist(), result.equal, most, region_maps=result.region_maps)
    return regions + world_views(result.world.to_pylist(), result.world_counts, most)


def _gamma(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.core.gamma_view import by_weight
    from ledger_cli.render.gamma import terminal_map
    from ledger_cli.render.views.gamma import gamma_views

    if "out" in step.arguments:
        return [f"wrote {result.out}: {counted(result.regions, 'region')}, {counted(result.frames, 'frame')}"]
    top = step.arguments.get("top", _TOP)
    _, *table = gamma_views(result.frame, by_weight(result.frame.rows), top)
    return [terminal_map(result.frame, *_MAP_SIZE), "", *table]


def _sql(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.rows import rows_views

    return rows_views(result.column_names, result.to_batches(), None)


def _status(step: Step, result: Any) -> list[RenderableType]:
    from ledger_cli.render.views.branches import status_views

    return status_views(result)


_VIEWS: dict[str, Callable[[Step, Any], list[RenderableType]]] = {
    "ingest": _ingest,
    "commit": _commit,
    "fork": _fork,
    "replay": _replay,
    "reconcile": _reconcile,
    "schema register": _schema_register,
    "world apply": _world_apply,
    "world find": _world_find,
    "tag": _tag,
    "snapshot": _snapshot,
    "verify": _verify,
    "log": _log,
    "show": _show,
    "diff": _diff,
    "gamma": _gamma,
    "sql": _sql,
    "status": _status,
}
