"""The present of a branch's world, kept in memory: the entities as of a move, and which events are known.

It is a fold over the branch's events. A checkpoint, a Parquet file of all entities, is kept by the branch now and
then, so that only the events since have to be folded again; it is a cache, and the events alone are the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.history import CacheFile, WorldCheckpoint, WorldFile
from ledger_cli.core.vector_clock import VectorClock
from ledger_cli.core.world import Entity, with_part
from ledger_cli.errors import Corrupt
from ledger_cli.ports import Published
from ledger_cli.services.repository import Branch, Repository

Reducer = Callable[[Any, Mapping[str, Any]], Any]
"""The new state of a module's part of an entity, of the old one and an event's payload; None: there is none."""
READ_AS = ">"
"""Between the type of a stored event and the one that it was read as."""

ENTITIES = pa.schema(
    [
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("entity_kind", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("hlc", pa.string(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
    ]
)
"""One row an entity, sorted by id. `state`: JSON, by class and module."""
_FOLDED = [
    *("event_id", "entity_id", "entity_kind", "type", "read_as", "module", "state_class", "payload", "version", "hlc")
]
ROWS_PER_ROW_GROUP = 8192
CACHE = "cache"
"""The class whose parts are never in a checkpoint."""

_RUN_LIMIT = 2**20

Hashes = npt.NDArray[np.int64]


def vector_clock(branch: Branch) -> VectorClock:
    """Which moves of which histories the world of a branch has taken in."""
    return VectorClock({} if branch.state.world is None else branch.state.world.clock)


class KnownEvents:
    """The ids of all events: of each, 40 bits of its hash and 24 of the file it is in, to be confirmed there.

    They are 8 bytes an event, in a few sorted runs.
    """

    FILES = 2**24
    _FILE = np.uint64(FILES - 1)

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.uint64]] = []

    def add(self, hashes: Hashes, file: int) -> None:
        """Those of a file. Runs double in length up to a bound, so that adding stays cheap and few are searched."""
        run = hashes.view(np.uint64) & ~self._FILE | np.uint64(file % self.FILES)
        while self._runs and len(self._runs[-1]) <= min(2 * len(run), _RUN_LIMIT):
            run = np.concatenate([self._runs.pop(), run])
        run.sort()
        self._runs.append(run)

    def files(self, hashes: Hashes) -> dict[int, set[int]]:
        """By file (its number modulo `FILES`), the hashes that it may hold."""
        # What is looked up in order lies close together.
        sought = np.sort(hashes.view(np.uint64))
        found: dict[int, set[int]] = {}
        low, high = sought & ~self._FILE, sought | self._FILE
        for run in self._runs:
            first = np.searchsorted(run, low)
            inside = first < len(run)
            inside[inside] = run[first[inside]] <= high[inside]
            for place in np.flatnonzero(inside).tolist():
                last = np.searchsorted(run, high[place], side="right")
                for entry in run[first[place] : last].tolist():
                    found.setdefault(entry % self.FILES, set()).add(int(sought[place].astype(np.int64)))
        return found


class Known(NamedTuple):
    """An event that is there already. `payload`: as JSON; `hlc`: the text of its reading."""

    entity_id: str
    type: str
    payload: str
    hlc: str


class World:
    """The world of a branch as of one of its moves."""

    def __init__(self, repository: Repository, reducers: Callable[[str], Reducer]) -> None:
        """`reducers`: the reducer of a type, or of `type>type` where it was read as a newer version."""
        self._repository = repository
        self.reducers = reducers
        self.entities: dict[str, Entity] = {}
        self.files: list[WorldFile] = []
        self._known: KnownEvents | None = None
        self._indexed = 0

    def follow(self, branch: Branch, cached: bool = True) -> None:
        """Fold what came in since; after a reconciliation, which orders events anew, everything.

        `cached`: at first, the branch's checkpoint may stand for what it covers.
        """
        files = branch.world_files()
        if files[: len(self.files)] != self.files:
            self.entities, self.files, self._known, self._indexed = {}, [], None, 0
        state = branch.state.world
        if cached and not self.files and state is not None and state.checkpoint is not None:
            self.entities = read_checkpoint(self._repository, state.checkpoint, files, self.reducers)
            self.files = files[: state.checkpoint.files]
        if len(files) > len(self.files):
            self.take(files[len(self.files) :])

    def take(self, files: Sequence[WorldFile]) -> None:
        """Fold further files."""
        for file in files:
            for row in _rows(self._table(file, _FOLDED)):
                self._fold(row)
        self.files = [*self.files, *files]

    def moved(self, branch: Branch, changed: Mapping[str, Entity], hashes: Hashes) -> None:
        """Take in what this process itself has just added as one file: it need not be read again."""
        self.entities.update(changed)
        self.files = branch.world_files()
        if self._known is not None and self._indexed == len(self.files) - 1:
            self._known.add(hashes, self._indexed)
            self._indexed += 1

    def _fold(self, row: Mapping[str, Any]) -> None:
        entity = self.entities.get(row["entity_id"])
        self.entities[row["entity_id"]] = folded(entity, row, self.reducers)

    def known(self, hashes: Hashes) -> dict[str, Known]:
        """The stored events whose ids have one of some hashes, by id."""
        if self._known is None:
            self._known = KnownEvents()
        for number in range(self._indexed, len(self.files)):
            self._known.add(self._table(self.files[number], ["event_hash"])["event_hash"].to_numpy(), number)
        self._indexed = len(self.files)
        found: dict[str, Known] = {}
        for low, candidates in sorted(self._known.files(hashes).items()):
            for file in self.files[low :: KnownEvents.FILES]:
                columns = ["event_id", "entity_id", "type", "payload", "hlc"]
                for row in read_some(self._repository, file.file, columns, "event_hash", list(candidates)).to_pylist():
                    found[row["event_id"]] = Known(row["entity_id"], row["type"], row["payload"], row["hlc"])
        return found

    def _table(self, file: WorldFile, columns: list[str]) -> pa.Table:
        return read_parquet(self._repository, file.file, columns)


def folded(entity: Entity | None, row: Mapping[str, Any], reducers: Callable[[str], Reducer]) -> Entity:
    """An entity after a stored event; None: there was none."""
    part = row["module"], row["state_class"]
    reducer = reducers(row["type"] if row["read_as"] is None else f"{row['type']}{READ_AS}{row['read_as']}")
    before = {} if entity is None else entity.parts
    return Entity(
        row["entity_kind"],
        row["version"],
        row["hlc"],
        row["event_id"],
        with_part(before, part, reducer(before.get(part), orjson.loads(row["payload"]))),
    )


def read_parquet(
    repository: Repository, file: str, columns: list[str], filters: Sequence[tuple[str, str, Any]] | None = None
) -> pa.Table:
    """Columns of a file of the ledger, all rows or those that pass the filters. Corrupt where it cannot be read.

    A filter `entity_id =` comes first, the others, over some of the columns, after it.
    """
    alone = [each for each in filters or () if each[:2] == ("entity_id", "=")]
    if filters and alone:
        table = read_some(repository, file, columns, "entity_id", [alone[0][2]])
        rest = [each for each in filters if each is not alone[0]]
        return table.filter(pq.filters_to_expression(rest)) if rest and len(table) else table
    try:
        return pq.read_table(pa.BufferReader(repository.store.read_file(file)), columns=columns, filters=filters)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise Corrupt(f"{file} cannot be read: run `ledger verify`") from error


def read_some(repository: Repository, file: str, columns: list[str], by: str, values: list[Any]) -> pa.Table:
    """The rows whose column `by` has one of some values; without any, nothing else is read. Corrupt as above."""
    try:
        with pq.ParquetFile(pa.BufferReader(repository.store.read_file(file))) as parquet:
            bounds = min(values), max(values)
            groups = [each for each in range(parquet.num_row_groups) if _meets(parquet.metadata, each, by, bounds)]
            known = parquet.read_row_groups(groups, [by], use_threads=False)[by]
            places = np.flatnonzero(pc.is_in(known, pa.array(values, known.type)).to_numpy())
            found = parquet.read_row_groups(groups if len(places) else [], columns, use_threads=False)
            return found.take(places)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise Corrupt(f"{file} cannot be read: run `ledger verify`") from error


def _meets(metadata: pq.FileMetaData, group: int, by: str, bounds: tuple[Any, Any]) -> bool:
    row_group = metadata.row_group(group)
    columns = (row_group.column(place) for place in range(row_group.num_columns))
    held = next((each.statistics for each in columns if each.path_in_schema == by), None)
    return held is None or not held.has_min_max or bool(held.min <= bounds[1] and bounds[0] <= held.max)


def write_checkpoint(
    repository: Repository, entities: Mapping[str, Entity], files: int, scratch: Any
) -> WorldCheckpoint:
    """Publish all entities as of the first `files` files of events, what is of the class `cache` apart."""
    kept, cached = without_cache(entities)

    def publish(some: Mapping[str, Entity], name: str) -> Published:
        # A published file is linked to where it was written.
        path = scratch / name
        pq.write_table(entity_table(some), path, compression="zstd", row_group_size=ROWS_PER_ROW_GROUP)
        return repository.store.publish(path, "tiles/world-{sha256}.parquet")

    cache = CacheFile(**vars(publish(cached, "cache.parquet"))) if cached else None
    whole = publish(kept, "entities.parquet")
    return WorldCheckpoint(**vars(whole), entities=len(entities), files=files, cached=len(cached), cache=cache)


def without_cache(entities: Mapping[str, Entity]) -> tuple[Mapping[str, Entity], dict[str, Entity]]:
    """Entities without their parts of the class `cache`, and those that have such with these alone."""
    cached: dict[str, Entity] = {}
    if all(part[1] != CACHE for part in set[tuple[str, str]]().union(*[each.parts for each in entities.values()])):
        return entities, cached
    for name, entity in entities.items():
        own = {part: value for part, value in entity.parts.items() if part[1] == CACHE}
        if own:
            cached[name] = entity._replace(parts=own)
    rest = {
        name: entity._replace(parts={part: value for part, value in entity.parts.items() if part[1] != CACHE})
        for name, entity in entities.items()
        if name in cached
    }
    return {**entities, **rest}, cached


def entity_table(entities: Mapping[str, Entity]) -> pa.Table:
    """Entities as rows of `ENTITIES`."""
    kinds, versions, readings, event_ids, parts = zip(*entities.values(), strict=True) if entities else [()] * 5
    columns = [list(entities), kinds, versions, readings, event_ids, list(map(_state_text, parts))]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ENTITIES, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=ENTITIES)
    # As Python sorts texts: bytes of UTF-8 are in the order of code points.
    return table.take(pc.sort_indices(table["entity_id"]))


def _state_text(parts: Mapping[tuple[str, str], Any]) -> str:
    if len(parts) == 1:
        [((module, state_class), value)] = parts.items()
        return orjson.dumps({state_class: {module: value}}, option=orjson.OPT_SORT_KEYS).decode()
    return orjson.dumps(nested(parts), option=orjson.OPT_SORT_KEYS).decode()


def nested(parts: Mapping[tuple[str, str], Any]) -> dict[str, dict[str, Any]]:
    """The state of an entity by class and module."""
    state: dict[str, dict[str, Any]] = {}
    for (module, state_class), value in parts.items():
        state.setdefault(state_class, {})[module] = value
    return state


def read_checkpoint(
    repository: Repository,
    checkpoint: WorldCheckpoint,
    files: Sequence[WorldFile],
    reducers: Callable[[str], Reducer],
    only: Sequence[tuple[str, str, Any]] = (),
) -> dict[str, Entity]:
    """The entities of a checkpoint. `files`: those of the branch; what was dropped is folded from them.

    `only`: conditions on what is the same in all events of an entity; nothing else is read.
    """

    def read(file: str) -> dict[str, Entity]:
        table = read_parquet(repository, file, ENTITIES.names, list(only) or None)
        return {row["entity_id"]: entity_of(row) for row in _rows(table)}

    entities = read(checkpoint.file)
    if not checkpoint.cached:
        return entities
    cached: dict[str, Entity] = {}
    if checkpoint.cache is not None:
        cached = read(checkpoint.cache.file)
    else:
        for each in files[: checkpoint.files]:
            filters = [("state_class", "=", CACHE), *only]
            table = read_parquet(repository, each.file, _FOLDED, filters)
            for row in _rows(table.sort_by([("entity_id", "ascending"), ("version", "ascending")])):
                cached[row["entity_id"]] = folded(cached.get(row["entity_id"]), row, reducers)
    for name, entity in cached.items():
        entities[name] = entities[name]._replace(parts={**entities[name].parts, **entity.parts})
    return entities


def entity_of(row: Mapping[str, Any]) -> Entity:
    """Of a row of `ENTITIES`."""
    state = orjson.loads(row["state"])
    parts = {(module, name): value for name, modules in state.items() for module, value in modules.items()}
    return Entity(row["entity_kind"], row["version"], row["hlc"], row["event_id"], parts)


def _rows(table: pa.Table) -> Iterable[Mapping[str, Any]]:
    names = table.column_names
    columns = [column.to_pylist() for column in table.columns]
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
