"""Whether a branch shows no effect before its cause, and all that a reader has seen elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.vector_clock import VectorClock
from ledger_cli.errors import CausalGap
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world import vector_clock

_EFFECTS = "SELECT event_id, type, hlc, unnest(causes) AS cause FROM files WHERE len(causes) > 0"
_GAPS = """
    SELECT effects.event_id, effects.cause FROM effects LEFT JOIN files AS causes ON causes.event_id = effects.cause
    WHERE causes.event_id IS NULL OR causes.hlc >= effects.hlc ORDER BY ALL"""


@dataclass(frozen=True)
class Gap:
    """An event that stands without a cause of its own before it."""

    event_id: str
    cause: str


def gaps(repository: Repository, branch: Branch, known: Branch, types: Collection[str] | None) -> list[Gap]:
    """The gaps among what a branch has and `known` has not. `types`: of these alone; None: of all."""
    files = [file.file for file in branch.world_files()]
    mine = {file.file for file in known.world_files()}
    fresh = [file for file in files if file not in mine]
    if not fresh or (types is not None and not types):
        return []
    effects = repository.engine.over(fresh, _EFFECTS)
    if types is not None:
        effects = effects.filter(pc.is_in(effects["type"], pa.array(sorted(types), pa.string())))
    if not len(effects):
        return []
    return [Gap(**row) for row in repository.engine.over(files, _GAPS, effects=effects).to_pylist()]


def refuse_gaps(repository: Repository, branch: Branch, known: Branch, types: Collection[str] | None) -> None:
    """CausalGap where a branch would bring an effect without its cause, see `gaps`."""
    found = gaps(repository, branch, known, types)
    if found:
        more = f" and {len(found) - 1} more" * (len(found) > 1)
        raise CausalGap(
            f"{branch.name} has {found[0].event_id} without its cause {found[0].cause} before it{more}: nothing was "
            f"taken in here; bring the causes there first, or sync with --consistency eventual"
        )


def refuse_stale(branch: Branch, seen: VectorClock) -> None:
    """CausalGap where a branch does not hold all that a vector clock tells of."""
    lacking = vector_clock(branch).lacks(seen)
    if lacking.moves:
        raise CausalGap(
            f"branch {branch.name} has not taken in {lacking} yet: `ledger sync` with a ledger that has, or wait "
            f"for it with --wait SECONDS"
        )
