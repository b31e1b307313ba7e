"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

LedgerOption = Annotated[
    str | None,
    typer.Option("--ledger", metavar="DIR|URL", help="The ledger [default: LEDGER_URL, else the nearest parent]."),
]
BranchOption = Annotated[str, typer.Option("--branch", help="The branch.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]
MessageOption = Annotated[str, typer.Option("--message", "-m", help="Why; kept in the ref log.", show_default=False)]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="N", min=1, help="At most so many [default: 50 on a terminal, else all].", show_default=False
    ),
]
AllowQuarantine = Annotated[
    bool, typer.Option("--allow-quarantine", help="Exit with 0 also when rows went to quarantine.")
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=SQL", help="A field of the tick: a column, or SQL over columns; repeatable."),
]
_POLICY: dict[str, tuple[type, str, str]] = {
    "strategy": (str, "fixed|adaptive|hybrid", "When an epoch closes."),
    "interval": (int, "TICKS", "fixed: length of an epoch."),
    "min_interval": (int, "TICKS", "hybrid: no epoch is shorter."),
    "max_interval": (int, "TICKS", "hybrid: no epoch is longer."),
    "max_size": (int, "EVENTS", "adaptive, hybrid: close above as many."),
    "max_mean": (str, "A", "adaptive, hybrid: close above this mean activity of a region."),
    "max_variance": (str, "V", "adaptive, hybrid: close above this variance of a region's activity."),
    "lateness": (int, "TICKS", "How far the watermark stays behind the highest tick."),
    "regions": (str, "MAP", "grid:CELL, quadtree:X,Y,SIZE,DEPTH or field[:NAME]."),
    "shards": (int, "N", "Number of shards, each with a chain of its own."),
    "weight": (str, "F", "linear, nonlinear:ALPHA,BETA or softfloor:EPSILON."),
    "base_weight": (str, "W", "Factor on every weight."),
}
"""The options of a policy: type, metavar, help."""


def command_app() -> typer.Typer:
    """The Typer app of one command."""
    return typer.Typer(add_completion=False, rich_markup_mode=None)


def takes_policy(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a policy; it gets those that were given as `policy`, numbers as numbers."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        policy = {name: given.pop(name) for name in _POLICY}
        command(**given, policy=_policy_values(policy))

    signature = inspect.signature(command, eval_str=True)
    own = [each for name, each in signature.parameters.items() if name != "policy"]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                kind | None,
                typer.Option(f"--{name.replace('_', '-')}", metavar=metavar, help=text, rich_help_panel="Policy"),
            ],
        )
        for name, (kind, metavar, text) in _POLICY.items()
    ]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + added
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapped


def _policy_values(given: dict[str, Any]) -> dict[str, Any]:
    from ledger_cli.config.settings import number_of
    from ledger_cli.errors import UsageError

    made = {name: value for name, value in given.items() if value is not None}
    for name in ("max_mean", "max_variance", "base_weight"):
        if name in made:
            try:
                made[name] = number_of(made[name])
            except ValueError as error:
                raise UsageError(f"--{name.replace('_', '-')} {made[name]!r} must be a number") from error
    return made
