"""The files of a snapshot: Parquet, one file of all entities and one of each module's state, and a manifest.

    entities.parquet          entity_id, entity_kind, version, hlc, event_id: a row an entity, sorted by id
    module-<name>.parquet     entity_id, state_class, state (JSON, names sorted): the module's parts, sorted likewise
    manifest.json             what was cut, and of each file its rows, bytes, SHA-256 and digest

The digest of a file is the SHA-256 of its rows, each a JSON array without blanks in the order of the columns (state
as it stands there), each ended by a line feed: it does not depend on what wrote the Parquet. The digest of the state
is made of these: SHA-256 of the canonical JSON of `{"entities": digest, "modules": {name: digest}}`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.jcs import digest_of
from ledger_cli.core.world import Entity
from ledger_cli.errors import Corrupt

FORMAT = "ledger-snapshot/1"
MANIFEST = "manifest.json"
_ENTITIES_FILE = "entities.parquet"
_JSON_COLUMN = "state"
_ROWS_PER_ROW_GROUP = 65_536
_LINES_AT_ONCE = 4096
_NAME_LIMIT = 200

ENTITIES = pa.schema(
    [
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("entity_kind", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("hlc", pa.string(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
    ]
)
"""One row an entity."""
PARTS = pa.schema(
    [
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("state_class", pa.string(), nullable=False),
        pa.field(_JSON_COLUMN, pa.string(), nullable=False),
    ]
)
"""One row a part of an entity that belongs to a module."""

Read = Callable[[str], bytes]
"""The bytes of a file of a snapshot, by its name there. Corrupt where it is missing."""


@dataclass(frozen=True)
class SnapshotFile:
    """A file of a snapshot. `module`: whose state it holds; None: the entities themselves. Rows, bytes."""

    file: str
    module: str | None
    rows: int
    bytes: int
    sha256: str
    digest: str

    def to_json(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {**vars(self)}


def tables_of(entities: Mapping[str, Entity]) -> dict[str | None, pa.Table]:
    """Entities as the tables of a snapshot: by module, and by None the entities themselves."""
    ids = sorted(entities)
    heads = [(each, *_head(entities[each])) for each in ids]
    parts: dict[str, list[tuple[str, str, str]]] = {}
    for each in ids:
        for (module, state_class), value in sorted(entities[each].parts.items()):
            text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
            parts.setdefault(module, []).append((each, state_class, text))
    return {None: _table(heads, ENTITIES), **{name: _table(parts[name], PARTS) for name in sorted(parts)}}


def _head(entity: Entity) -> tuple[str, int, str, str]:
    return entity.kind, entity.version, entity.hlc, entity.event_id


def _table(rows: list[Any], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def digest_of_table(table: pa.Table) -> str:
    """The digest of the rows of a table of a snapshot (see above)."""
    digest = hashlib.sha256()
    lines = _lines(table)
    while some := list(islice(lines, _LINES_AT_ONCE)):
        digest.update(b"".join(some))
    return digest.hexdigest()


def _lines(table: pa.Table) -> Iterator[bytes]:
    for batch in table.to_batches(max_chunksize=_ROWS_PER_ROW_GROUP):
        columns = [column.to_pylist() for column in batch.columns]
        if table.column_names[-1] == _JSON_COLUMN:
            for entity, state_class, state in zip(*columns, strict=True):
                yield orjson.dumps((entity, state_class))[:-1] + b"," + state.encode() + b"]\n"
        else:
            for row in zip(*columns, strict=True):
                yield orjson.dumps(row) + b"\n"


def state_digest(digests: Mapping[str | None, str]) -> str:
    """The digest of a whole state, of those of its tables by module."""
    modules = {name: digest for name, digest in digests.items() if name is not None}
    return digest_of({"entities": digests[None], "modules": modules})


def digest_of_state(entities: Mapping[str, Entity]) -> str:
    """The digest of a state in memory."""
    return state_digest({module: digest_of_table(table) for module, table in tables_of(entities).items()})


def write_files(entities: Mapping[str, Entity], directory: Path) -> list[SnapshotFile]:
    """Write the data files of a snapshot into a local directory."""
    written = []
    for module, table in tables_of(entities).items():
        path = directory / _file_name(module)
        pq.write_table(table, path, compression="zstd", row_group_size=_ROWS_PER_ROW_GROUP)
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        written.append(SnapshotFile(path.name, module, table.num_rows, size, sha256, digest_of_table(table)))
    return written


def _file_name(module: str | None) -> str:
    if module is None:
        return _ENTITIES_FILE
    named = module if len(module) <= _NAME_LIMIT else hashlib.sha256(module.encode()).hexdigest()
    return f"module-{named}.parquet"


def manifest_text(about: Mapping[str, Any], files: list[SnapshotFile]) -> bytes:
    """The manifest. `about`: what was cut, in the JSON of a snapshot."""
    listed = {"format": FORMAT, **about, "files": [each.to_json() for each in files]}
    return json.dumps(listed, indent=2, ensure_ascii=False).encode() + b"\n"


def read_manifest(text: bytes, where: str) -> list[SnapshotFile]:
    """The files that a manifest lists. Corrupt where it is none."""
    try:
        raw = json.loads(text)
        if raw["format"] != FORMAT:
            raise Corrupt(f"{where} is of the format {raw['format']!r}: use the version of ledger that wrote it")
        return [SnapshotFile(**each) for each in raw["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(where) from error


def read_table(read: Read, file: SnapshotFile, where: str) -> pa.Table:
    """A data file whose bytes are as they were written. Corrupt, naming it, else."""
    data = read(file.file)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise damaged(where)
    schema = ENTITIES if file.module is None else PARTS
    try:
        table = pq.read_table(pa.BufferReader(data), columns=schema.names)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise damaged(where) from error
    return table


def damaged(where: str) -> Corrupt:
    """What is said of a file of a snapshot that is not as it was written."""
    return Corrupt(f"{where} is not as it was written: use another snapshot (`ledger snapshot list`)")


def entities_of(tables: Mapping[str | None, pa.Table]) -> dict[str, Entity]:
    """The state that the tables of a snapshot hold."""
    parts: dict[str, dict[tuple[str, str], Any]] = {}
    for module, table in tables.items():
        if module is not None:
            for entity, state_class, state in _rows(table):
                parts.setdefault(entity, {})[module, state_class] = orjson.loads(state)
    return {
        entity: Entity(kind, version, hlc, event_id, parts.get(entity, {}))
        for entity, kind, version, hlc, event_id in _rows(tables[None])
    }


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
