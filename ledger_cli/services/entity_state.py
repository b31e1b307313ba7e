"""The table `entity_state` of an engine: the last tick of each entity of `main`, for whoever looks into the engine.

A run brings it up to the events that it saw, and its move says how far that is. A run that is killed before its move
leaves the next one to do it again, which changes nothing: rows are united with those that are there.
"""

from __future__ import annotations

import pyarrow as pa

from ledger_cli.core.events import ENTITY_STATE
from ledger_cli.core.history import MAIN
from ledger_cli.services.repository import Branch, Repository

_HISTORY = 16
_FRESH = f"""
    SELECT entity_id, max(tick_id) AS last_tick, arg_max(coalesce(meta, '{{}}'), tick_id) AS metadata,
           arg_max([tick_id::DOUBLE, activity], tick_id, {_HISTORY}) AS latest
    FROM files GROUP BY entity_id"""
_UNITED = f"""
    WITH stored AS (
        SELECT entity_id, last_tick, metadata, activity_history::JSON::DOUBLE[][] AS latest FROM known),
    united AS (
        SELECT entity_id, max(last_tick) AS last_tick, arg_max(metadata, last_tick) AS metadata,
               list_distinct(flatten(list(latest))) AS latest
        FROM (FROM fresh UNION ALL BY NAME FROM stored) GROUP BY entity_id),
    sorted AS (SELECT *, list_sort(latest)[-{_HISTORY}:] AS kept FROM united)
    SELECT entity_id, last_tick, kept[-1][2] AS activity,
           '[' || array_to_string(
               list_transform(kept, lambda each: '[' || each[1]::BIGINT || ',' || to_json(each[2])::VARCHAR || ']'), ','
           ) || ']' AS activity_history, metadata
    FROM sorted ORDER BY entity_id"""


def refresh(repository: Repository, branch: Branch) -> int | None:
    """Bring the table up to the branch as it stands; the move it is up to then. For `main` alone, in engines alone."""
    known = branch.state.entities
    if branch.name != MAIN or not repository.store.by_engine:
        return known
    files = [segment.file for segment in branch.segments() if known is None or segment.arrival > known]
    if files:
        fresh = repository.engine.over(files, _FRESH)
        stored = repository.store.commits.entity_state(fresh["entity_id"].to_pylist())
        repository.store.commits.upsert_entity_state(_united(repository, fresh, stored))
    return branch.seq


def _united(repository: Repository, fresh: pa.Table, stored: pa.Table) -> pa.Table:
    return repository.engine.query(_UNITED, fresh=fresh, known=stored).cast(ENTITY_STATE)
