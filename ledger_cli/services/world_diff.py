"""What the entities of two moments of the world differ in, field by field.

Only entities with an event that one of the two has and the other has not can differ: nothing else is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pyarrow as pa

from ledger_cli.core.world import Entity
from ledger_cli.services.moment import Moment
from ledger_cli.services.repository import Repository
from ledger_cli.services.world import read_parquet
from ledger_cli.services.world_query import entities_at
from ledger_cli.services.world_types import reducer_of, registered

WORLD_DIFF = pa.schema(
    [
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("entity_kind", pa.string(), nullable=False),
        pa.field("change", pa.string(), nullable=False),
        pa.field("version_a", pa.int64()),
        pa.field("version_b", pa.int64()),
        pa.field("module", pa.string()),
        pa.field("state_class", pa.string()),
        pa.field("field", pa.string()),
        pa.field("a", pa.string()),
        pa.field("b", pa.string()),
    ]
)
"""One row a field that differs. `change` of the entity: added, removed or changed. `field`: its path, parts divided by
`/`; null, as is `module`, where the state is the same after other events. `a`, `b`: JSON, null where there is none."""

_Field = tuple[str, str, str]


def world_changes(repository: Repository, a: Moment, b: Moment) -> pa.Table:
    """Rows of `WORLD_DIFF`, by entity, module and field. Neither moment is bound by a clock reading."""
    files = [{file.file for file in moment.branch.world_files()} for moment in (a, b)]
    touched: set[str] = set()
    for file in sorted(files[0] ^ files[1]):
        touched.update(read_parquet(repository, file, ["entity_id"])["entity_id"].to_pylist())
    rows: list[dict[str, Any]] = []
    if touched:
        only = [("entity_id", "in", touched)]
        reducers = reducer_of(registered(repository))
        before, after = (entities_at(repository, moment.branch, reducers, None, only) for moment in (a, b))
        for entity_id in sorted(touched):
            rows += _rows(entity_id, before.get(entity_id), after.get(entity_id))
    return pa.Table.from_pylist(rows, schema=WORLD_DIFF)


def counts(changes: pa.Table) -> dict[str, int]:
    """How many entities were added, removed and changed."""
    found = dict(zip(changes["entity_id"].to_pylist(), changes["change"].to_pylist(), strict=True))
    return {each: sum(change == each for change in found.values()) for each in ("added", "removed", "changed")}


def to_json(changes: pa.Table) -> list[dict[str, Any]]:
    """Rows with their values as JSON."""
    return [{**row, **{side: _value(row[side]) for side in ("a", "b")}} for row in changes.to_pylist()]


def _value(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def _rows(entity_id: str, a: Entity | None, b: Entity | None) -> Iterator[dict[str, Any]]:
    known = b or a
    if known is None or a == b:
        return
    row = {
        "entity_id": entity_id,
        "entity_kind": known.kind,
        "change": "added" if a is None else "removed" if b is None else "changed",
        "version_a": None if a is None else a.version,
        "version_b": None if b is None else b.version,
    }
    before, after = _fields(a), _fields(b)
    apart = [field for field in sorted({*before, *after}) if before.get(field) != after.get(field)]
    if not apart:
        yield row
    for module, state_class, field in apart:
        place = module, state_class, field
        values = {"a": before.get(place), "b": after.get(place)}
        yield {**row, "module": module, "state_class": state_class, "field": field, **values}


def _fields(entity: Entity | None) -> dict[_Field, str]:
    """Values as JSON, by module, class and path."""
    found = {}
    for (module, state_class), value in ({} if entity is None else entity.parts).items():
        for path, leaf in _leaves("", value):
            found[module, state_class, path] = orjson.dumps(leaf, option=orjson.OPT_SORT_KEYS).decode()
    return found


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        yield path, value
        return
    for name, inner in value.items():
        escaped = name.replace("~", "~0").replace("/", "~1")
        yield from _leaves(f"{path}/{escaped}" if path else escaped, inner)
