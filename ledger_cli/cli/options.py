"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

LedgerOption = Annotated[
    str | None,
    typer.Option("--ledger", metavar="DIR|URL", help="The ledger [default: LEDGER_URL, else the nearest parent]."),
]
BranchOption = Annotated[str, typer.Option("--branch", help="The branch.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]
AllowQuarantine = Annotated[
    bool, typer.Option("--allow-quarantine", help="Exit with 0 also when rows went to quarantine.")
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=SQL", help="A field of the tick as SQL over the source's columns; repeatable."),
]
StrategyOption = Annotated[
    str | None, typer.Option("--strategy", metavar="fixed|adaptive|hybrid", help="When an epoch closes.")
]
IntervalOption = Annotated[int | None, typer.Option("--interval", help="fixed: ticks of an epoch.")]
MinIntervalOption = Annotated[int | None, typer.Option("--min-interval", help="hybrid: ticks an epoch has at least.")]
MaxIntervalOption = Annotated[int | None, typer.Option("--max-interval", help="hybrid: ticks an epoch has at most.")]
MaxSizeOption = Annotated[int | None, typer.Option("--max-size", help="Close above as many events.")]
MaxMeanOption = Annotated[str | None, typer.Option("--max-mean", metavar="A", help="Close above this mean activity of a region.")]
MaxVarianceOption = Annotated[
    str | None, typer.Option("--max-variance", metavar="V", help="Close above this variance of activity of a region.")
]
LatenessOption = Annotated[
    int | None, typer.Option("--lateness", metavar="TICKS", help="Ticks the watermark stays behind the highest tick.")
]
RegionsOption = Annotated[
    str | None,
    typer.Option("--regions", metavar="MAP", help="grid:CELL, quadtree:X,Y,SIZE,DEPTH or field[:NAME]."),
]
ShardsOption = Annotated[int | None, typer.Option("--shards", help="Number of shards, each with a chain of its own.")]
WeightOption = Annotated[
    str | None,
    typer.Option("--weight", metavar="F", help="linear, nonlinear:ALPHA,BETA or softfloor:EPSILON."),
]
BaseWeightOption = Annotated[str | None, typer.Option("--base-weight", metavar="W", help="Factor on every weight.")]


def policy_options(**given: Any) -> dict[str, Any]:
    """The options of a policy that were given, numbers as numbers."""
    from ledger_cli.config import number_of
    from ledger_cli.errors import UsageError

    made = {name: value for name, value in given.items() if value is not None}
    for name in ("max_mean", "max_variance", "base_weight"):
        if name in made:
            try:
                made[name] = number_of(made[name])
            except ValueError as error:
                raise UsageError(f"--{name.replace('_', '-')} {made[name]!r} must be a number") from error
    return made
