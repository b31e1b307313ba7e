"""`ledger diff`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, LimitOption, command_app
from ledger_cli.errors import Difference, UsageError
from ledger_cli.render.output import Output

app = command_app()
_PLACE = "A commit, tag, branch or tick."


@app.command()
def diff(
    a: Annotated[str | None, typer.Argument(metavar="A", help=_PLACE)] = None,
    b: Annotated[str | None, typer.Argument(metavar="B", help=_PLACE)] = None,
    other: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="LEDGER",
            help="Instead of two places, this whole ledger and another one.",
            show_default=False,
        ),
    ] = None,
    first: Annotated[
        bool, typer.Option("--first", help="The first commit of each shard on which the two part.")
    ] = False,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="COLUMN",
            help="region, or weight, mean or var with _a, _b or _delta, or count_a, count_b; deltas by their size."
            " The world by entity_id, change, module or field.",
        ),
    ] = "weight_delta",
    ascending: Annotated[bool, typer.Option("--ascending", help="The smallest first.")] = False,
    equal: Annotated[bool, typer.Option("--equal", help="List also regions without a difference.")] = False,
    limit: LimitOption = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Compare two places region by region: weight, mean and variance of A and B, and what B has more (Δ).

    Two commits by their own entries; branches and ticks by all that was committed up to there. Where the world behind
    them differs, its entities follow, field by field: of a branch as they stand, of a commit, tag or tick as
    `ledger world get --at` shows them.

    --limit counts regions, fields of entities, and with --first commits.

    --with holds two ledgers against each other, in whatever stores: all refs with all moves, and so, by digests, all
    commits. Exit code 4 where they differ.

    JSON: a, b, regionMaps (null, or of a and b where these have different ones: equal ids are other places then),
    equal (how many regions are), regions: a list of region, weight_a, weight_b, weight_delta, mean_*, var_*
    and count_a, count_b, and world: a list of entity_id, entity_kind, change (added, removed or changed), version_a,
    version_b, module, state_class, field (its path), a and b (its values). With --first a list of shard, height, a and
    b: commits, or null. With --with differences: a list of ref, movesA, movesB and first, the move they part at.

    Example: ledger diff main hybrid --sort mean_delta --limit 10
    """
    from ledger_cli.api import Ledger
    from ledger_cli.cli.hints import hint_where_nothing_is
    from ledger_cli.render.views.diff import diff_views, parting_views, world_views

    out = Output(as_json)
    most = out.most(limit)
    if other is not None:
        if a is not None:
            raise UsageError("--with compares whole ledgers: leave A and B out")
        _ledgers(out, ledger, other)
        return
    if a is None or b is None:
        raise UsageError("give two places to compare, or another ledger with --with: ledger diff main hybrid")
    with Ledger.open(ledger) as opened:
        if first:
            partings = opened.first_difference(a, b, branch)
            out.emit([each.to_json() for each in partings[:limit]], *parting_views(a, b, partings[:limit]))
            return
        found = opened.diff(a, b, branch, sort=sort, descending=not ascending, equal=equal)
        rows = found.table.to_pylist()
        differ = len(rows) - (found.equal if equal else 0)
        world = world_views(found.world.to_pylist(), found.world_counts, most)
        regions = diff_views(a, b, rows, found.equal, most, differ, region_maps=found.region_maps)
        made = found.to_json() if as_json else None
        if made is not None:
            made |= {"regions": made["regions"][:limit], "world": made["world"][:limit]}
        out.emit(made, *regions, *world)
        if not rows and not found.equal and not world:
            out.note(hint_where_nothing_is(opened, branch))


def _ledgers(out: Output, ledger: str | None, other: str) -> None:
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.stores import ref_differences

    with Ledger.open(ledger) as mine, Ledger.open(other) as theirs:
        found = mine.compare(theirs)
        out.emit(
            {"differences": [each.to_json() for each in found]},
            ref_differences(found, mine.location, theirs.location),
        )
    if found:
        names = ", ".join(each.ref for each in found[:5])
        raise Difference(f"refs that differ: {names}; `ledger copy` brings a copy up to date, `ledger sync` unites two")
