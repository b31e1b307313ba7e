"""The engine inside the process: DuckDB over Parquet.

Every sum is an integer sum, so the result does not depend on threads, chunks or the order of rows. Sums of
BIGINT are exact in DuckDB (they widen to HUGEINT); a value that may not fit into BIGINT is a HUGEINT before it
is summed, and an overflow of that is an error.
"""

from __future__ import annotations

import contextlib
import math
import threading
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from ledger_cli.core.history import Box, CommitFile, Segment
from ledger_cli.core.policy import SCALE, Json, Weight
from ledger_cli.engines.common.duck import anew, connect, quoted, source_sql, translated
from ledger_cli.ports import Batches, Measure, SqlAnswer, SqlInput, Store, TickRange

if TYPE_CHECKING:
    import pyarrow as pa

    from ledger_cli.core.moments import Regions

_BIGINT_LIMIT = 9.2e18
_GRID_LIMIT = 2**53
_BATCH_ROWS = 500_000
_ENDLESS = 2**63 - 1
_MAX_RANGES = 64
"""More are joined with the ticks that there are: a row is not compared with each of them."""
_ROWS_AT_ONCE = 20_000_000
"""Rows that are grouped by one query: so the groups it holds are bounded too."""
_ENTITY_ROWS_AT_ONCE = 500_000
"""The same where each of them may have an entity of its own."""
_SIDES = (min, max, min, max)


class DuckEngine:
    """See `ports.Engine`. Holds one connection; not to be shared by threads."""

    def __init__(self, store: Store, threads: int | None, memory: str, spill: Path | None) -> None:
        self._store = store
        self._limits = (threads, memory, spill)
        self.connection = connect(threads, memory, spill)

    def moments(self, segments: Sequence[Segment], measure: Measure, ranges: Sequence[TickRange]) -> Batches:
        """See `ports.Engine`."""
        bounds = [(each.start or 0, _ENDLESS if each.end is None else each.end) for each in ranges]
        chosen = _meeting(segments, bounds)
        if not chosen:
            return _nothing()
        queries = map(partial(self._query, measure), _portions(chosen, bounds, measure.bucket))
        return Begun(self.connection, self._store, queries)

    def _query(self, measure: Measure, portion: tuple[Sequence[Segment], Sequence[Bounds]]) -> Query:
        """The query for the rows of some segments within some ranges, made when it is asked, maybe once more."""
        segments, bounds = portion
        highest = max(segment.activity_max for segment in segments)
        keys = region_sql(measure.regions, [segment.box for segment in segments])
        widths = self._widths(measure, highest)

        def made() -> tuple[str, Sequence[str]]:
            reading = self._store.reading([segment.file for segment in segments])
            source = source_sql(reading, self._store.location)
            condition = _condition(source, segments, bounds)
            return moments_sql(source, measure, keys, condition, widths), reading.names

        return made

    def contributors(
        self, segments: Sequence[Segment], measure: Measure, epochs: pa.Table, regions: Regions, most: int
    ) -> Iterator[pa.Table]:
        """See `ports.Engine`. Epochs that begin between two cuts are asked for at once, or in parts by region."""
        import pyarrow as pa

        starts, ends = epochs["start"].to_numpy(), epochs["end"].to_numpy()
        for low, high in pairwise([0, *_cuts(segments, 1, _ENTITY_ROWS_AT_ONCE), _ENDLESS]):
            mine = (starts >= low) & (starts < high)
            bounds = _united(starts[mine].tolist(), ends[mine].tolist())
            chosen = _meeting(segments, bounds) if bounds else []
            if chosen:
                inside = epochs.filter(pa.array(mine))
                yield from anew(
                    self._store, partial(self._contributors, chosen, bounds, measure, inside, regions, most)
                )

    def _contributors(
        self,
        segments: Sequence[Segment],
        bounds: Sequence[Bounds],
        measure: Measure,
        epochs: pa.Table,
        regions: Regions,
        most: int,
    ) -> list[pa.Table]:
        """Of some epochs, which lie within some ranges."""
        import pyarrow as pa

        reading = self._store.reading([segment.file for segment in segments])
        source = source_sql(reading, self._store.location)
        rows = f"{source}{_condition(source, segments, bounds)}"
        keys, region = region_sql(measure.regions, [segment.box for segment in segments])
        weight = self._widths(measure, max(segment.activity_max for segment in segments))[1]
        # A region's shard, and the id that a key of an event stands for, are known outside of SQL alone.
        places = self._answer(places_sql(rows, keys, region), {}, reading.names)
        codes = regions.encode(places["region"].combine_chunks())
        places = places.drop_columns(["region"]).append_column("code", pa.array(codes))
        places = places.append_column("shard", pa.array(regions.shard_of_code[codes]))
        sql = contributors_sql(rows, measure, keys, weight, most)
        parts = math.ceil(_rows_within(segments, bounds) / _ENTITY_ROWS_AT_ONCE)
        return [
            self._answer(
                sql, {"epochs": epochs, "places": places.filter(pa.array(codes % parts == part))}, reading.names
            )
            for part in range(parts)
        ]

    def commits(
        self, files: Sequence[CommitFile], columns: Sequence[str], where: str = "", headers: bool = False
    ) -> pa.Table:
        """See `ports.Engine`."""
        condition = f" WHERE {where}" if where else ""
        if not files:
            from ledger_cli.core.commit import COMMIT

            return self.query(f"SELECT {', '.join(columns)} FROM nothing{condition}", nothing=COMMIT.empty_table())
        return self.over([each.file for each in files], f"SELECT {', '.join(columns)} FROM files{condition}", headers)

    def query(self, sql: str, **tables: Any) -> pa.Table:
        """See `ports.Engine`."""
        return self._answer(sql, tables, ())

    def _answer(self, sql: str, tables: Mapping[str, Any], files: Sequence[str]) -> pa.Table:
        """`files`: those to name where one cannot be read."""
        for name, table in tables.items():
            self.connection.register(name, table)
        try:
            with translated(files):
                return self.connection.sql(sql).to_arrow_table()
        finally:
            for name in tables:
                self.connection.unregister(name)

    def over(self, files: Sequence[str], sql: str, headers: bool = False, **tables: pa.Table) -> pa.Table:
        """See `ports.Engine`."""

        place = self._store.headers if headers else self._store.location

        def answer() -> pa.Table:
            reading = self._store.reading(files, headers)
            source = f"WITH files AS NOT MATERIALIZED (SELECT * FROM {source_sql(reading, place, headers)})"
            return self._answer(f"{source} {sql}", tables, reading.names)

        return anew(self._store, answer)

    @contextlib.contextmanager
    def sql(self, given: SqlInput, statement: str) -> Iterator[SqlAnswer]:
        """See `ports.Engine`."""
        from ledger_cli.engines.common.duck_sql import run_sql

        def begun(opened: contextlib.ExitStack) -> SqlAnswer:
            with contextlib.ExitStack() as mine:
                connection = mine.enter_context(contextlib.closing(connect(*self._limits)))
                answer = mine.enter_context(run_sql(connection, self._store, given, statement))
                opened.enter_context(mine.pop_all())
                return answer

        with contextlib.ExitStack() as opened:
            yield anew(self._store, partial(begun, opened))

    def close(self) -> None:
        """See `ports.Engine`."""
        self.connection.close()

    def _widths(self, measure: Measure, highest: float) -> tuple[str, str]:
        """SQL types in which a squared activity and a weight are held before they are summed."""
        square = "BIGINT" if (highest * SCALE) ** 2 < _BIGINT_LIMIT else "HUGEINT"
        if not measure.weight.monotone:
            return square, "HUGEINT"
        value = weight_sql(measure.weight, measure.base_weight)
        ((bound,),) = self.connection.sql(f"SELECT {value} FROM (SELECT {highest!r}::DOUBLE AS a)").fetchall()
        return square, "BIGINT" if bound < _BIGINT_LIMIT else "HUGEINT"


def _nothing() -> Generator[pa.RecordBatch, None, None]:
    yield from ()


Query = Callable[[], tuple[str, Sequence[str]]]
"""Gives SQL, and the files to name where one cannot be read."""


class Begun(Iterator["pa.RecordBatch"]):
    """Queries over ascending ticks, the first of them at work already; their rows are taken when they are wanted.

    While the rows of one are taken the next is at work: never more than that is held.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, store: Store, queries: Iterator[Query]) -> None:
        self._connection = connection
        self._store = store
        self._queries = queries
        self._begun: deque[_BegunQuery] = deque()
        self._begin_next()

    def close(self) -> None:
        """Give up what is still at work."""
        for query in self._begun:
            query.close()

    def __next__(self) -> pa.RecordBatch:
        while self._begun:
            query = self._begun[0]
            if query.finish():
                self._begin_next()
            batch = next(query, None)
            if batch is not None:
                return batch
            self._begun.popleft()
        raise StopIteration

    def _begin_next(self) -> None:
        query = next(self._queries, None)
        if query is not None:
            self._begun.append(_BegunQuery(self._connection, self._store, query))


class _BegunQuery(Iterator["pa.RecordBatch"]):
    """A query at work in a thread, on a cursor of its own: its owner may ask for other things between two batches."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, store: Store, query: Query) -> None:
        self._cursor = connection.cursor()
        self._files: Sequence[str] = ()
        self._failed: BaseException | None = None
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._work = threading.Thread(target=self._run, args=(store, query), daemon=True)
        self._work.start()

    def _run(self, store: Store, query: Query) -> None:
        def begin() -> None:
            sql, self._files = query()
            with translated(self._files):
                self._cursor.execute(f"CREATE TEMP TABLE begun AS {sql}").fetchall()

        try:
            anew(store, begin)
        except BaseException as error:  # noqa: BLE001 - handed over to whoever takes the rows
            self._failed = error

    def close(self) -> None:
        """Give up what is still at work."""
        if self._work.is_alive():
            self._cursor.interrupt()
            self._work.join()

    def __del__(self) -> None:
        self.close()

    def finish(self) -> bool:
        """Wait for the end of the work; whether nobody has done so yet."""
        if self._batches is not None:
            return False
        self._work.join()
        with translated(self._files):
            if self._failed is not None:
                raise self._failed
            self._batches = iter(self._cursor.sql("FROM begun ORDER BY tick").to_arrow_reader(_BATCH_ROWS))
        return True

    def __next__(self) -> pa.RecordBatch:
        assert self._batches is not None, "finish comes first"
        with translated(self._files):
            try:
                return next(self._batches)
            except StopIteration:
                self._cursor.close()
                raise


def weight_sql(weight: Weight, base_weight: float) -> str:
    """base_weight × f(a) × 10⁹ in binary64, in the order of operations that DESIGN fixes."""
    return f"({float(base_weight)!r}::DOUBLE * ({weight.sql})) * {float(SCALE)!r}::DOUBLE"


def moments_sql(
    source: str, measure: Measure, grouping: tuple[list[str], str], condition: str, widths: tuple[str, str]
) -> str:
    """The query behind `DuckEngine.moments`; `grouping` as `region_sql` gives it."""
    keys, region = grouping
    square, weight = widths
    tick, start = "tick_id", "tick"
    if measure.bucket > 1:
        tick, start = f"tick_id // {measure.bucket}", f"tick * {measure.bucket}"
        if measure.fine_below:
            whole = f"{tick} * {measure.bucket}"
            tick, start = f"CASE WHEN tick_id < {measure.fine_below} THEN tick_id ELSE {whole} END", "tick"
    names = ", ".join(f"k{place}" for place in range(len(keys)))
    named = ", ".join(f"{key} AS k{place}" for place, key in enumerate(keys))
    return f"""
        SELECT {region} AS region, {start} AS tick, n, activity, activity2, weight FROM (
            SELECT {names}, tick, count(*) AS n, sum(q)::HUGEINT AS activity,
                   sum(q::{square} * q)::HUGEINT AS activity2, sum(w)::HUGEINT AS weight
            FROM (SELECT {named}, {tick} AS tick, CAST(a * {float(SCALE)!r}::DOUBLE AS BIGINT) AS q,
                         CAST({weight_sql(measure.weight, measure.base_weight)} AS {weight}) AS w
                  FROM (SELECT *, activity AS a FROM {source}{condition}))
            GROUP BY {names}, tick)"""


def places_sql(rows: str, keys: Sequence[str], region: str) -> str:
    """The keys that there are, see `region_sql`, with the region of each."""
    named = ", ".join(f"{key} AS k{place}" for place, key in enumerate(keys))
    return f"SELECT *, {region} AS region FROM (SELECT DISTINCT {named} FROM {rows})"


def contributors_sql(rows: str, measure: Measure, keys: Sequence[str], weight: str, most: int) -> str:
    """The query behind `DuckEngine.contributors`, over the tables `epochs` and `places`.

    The first few by a key take half of the time of a list in its order.
    """
    named = ", ".join(f"{key} AS k{place}" for place, key in enumerate(keys))
    same = " AND ".join(f"rows.k{place} IS NOT DISTINCT FROM places.k{place}" for place in range(len(keys)))
    return f"""
        WITH ticks AS (
            SELECT tick, epochs.shard AS shard, epoch
            FROM (FROM (SELECT DISTINCT tick_id AS tick FROM {rows}), (SELECT DISTINCT shard AS of_shard FROM epochs))
            ASOF JOIN epochs ON of_shard = epochs.shard AND tick >= epochs."start"
            WHERE tick < epochs."end")
        SELECT epoch, code AS region, arg_min(entity_id, {{'w': -w, 'id': entity_id}}, {most}) AS entity_refs FROM (
            SELECT epoch, code, entity_id, sum(w)::HUGEINT AS w
            FROM (SELECT entity_id, tick_id AS tick, {named},
                         CAST({weight_sql(measure.weight, measure.base_weight)} AS {weight}) AS w
                  FROM (SELECT *, activity AS a FROM {rows})) AS rows
            JOIN places ON {same} JOIN ticks ON rows.tick = ticks.tick AND places.shard = ticks.shard
            GROUP BY epoch, code, entity_id)
        GROUP BY epoch, code"""


def region_sql(regions: Json, boxes: Sequence[Box]) -> tuple[list[str], str]:
    """Keys to group events by, and the region's text made of the keys k0, k1, … afterwards.

    `boxes`: where the events lie (`Segment.box`).
    """
    if regions["kind"] == "grid":
        return _grid_sql(float(regions["cell"]), boxes)
    if regions["kind"] == "quadtree":
        return _quadtree_sql(regions)
    return [_field_sql(regions["name"])], "k0"


def _grid_sql(cell: float, boxes: Sequence[Box]) -> tuple[list[str], str]:
    """Column and row of a cell as one key, which is grouped sooner than two, where it is exact in binary64."""
    column, row = f"floor(x / {cell!r}::DOUBLE)", f"floor(y / {cell!r}::DOUBLE)"
    low_x, high_x, low_y, high_y = (
        pick(side) / cell for pick, side in zip(_SIDES, zip(*boxes, strict=True), strict=True)
    )
    if max(map(abs, (low_x, high_x, low_y, high_y))) < _GRID_LIMIT:
        first, last, lowest, highest = map(math.floor, (low_x, high_x, low_y, high_y))
        rows = highest - lowest + 1
        if max(abs(first), abs(last)) * rows + max(abs(lowest), abs(highest)) < _GRID_LIMIT:
            place = f"(CAST(k0 AS BIGINT) - {first * rows + lowest})"
            text = f"concat({place} // {rows} + {first}, ':', {place} % {rows} + {lowest})"
            return [f"{column} * {rows}::DOUBLE + {row}"], text
    inside = f"abs(k0) < {_GRID_LIMIT} AND abs(k1) < {_GRID_LIMIT}"
    text = f"CASE WHEN {inside} THEN concat(CAST(k0 AS BIGINT), ':', CAST(k1 AS BIGINT)) ELSE 'outside' END"
    return [column, row], text


def _quadtree_sql(regions: Json) -> tuple[list[str], str]:
    size, depth = f"{float(regions['size'])!r}::DOUBLE", regions["depth"]
    across, up = (f"((({axis}) - {float(regions[axis])!r}::DOUBLE) / {size})" for axis in ("x", "y"))
    inside = f"{across} >= 0 AND {across} < 1 AND {up} >= 0 AND {up} < 1"
    keys = [f"CASE WHEN {inside} THEN CAST(floor({u} * {2**depth}::DOUBLE) AS BIGINT) END" for u in (across, up)]
    digits = [f"((k0 >> {bit}) & 1) + 2 * ((k1 >> {bit}) & 1)" for bit in reversed(range(depth))]
    return keys, f"CASE WHEN k0 IS NULL THEN 'outside' ELSE concat('q', {', '.join(digits)}) END"


_FIELDS = {
    "entityId": "to_json(entity_id)",
    "tickId": "to_json(tick_id)",
    "x": "to_json(x)",
    "y": "to_json(y)",
    "activity": "to_json(activity)",
    "jitter": "to_json(jitter)",
    "timestamp": "to_json(strftime(make_timestamp(\"timestamp\"), '%Y-%m-%dT%H:%M:%S.%fZ'))",
    "meta": "meta",
}


def _field_sql(name: str) -> str:
    """The JSON text of a key of the event; `core.events.region_of_json` makes the region's id of it."""
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    return f"CAST({_FIELDS.get(name) or f'json_extract(meta, {quoted(pointer)})'} AS VARCHAR)"


Bounds = tuple[int, int]
"""Ticks [first, past)."""


def _portions(
    segments: Sequence[Segment], ranges: Sequence[Bounds], bucket: int
) -> Iterator[tuple[Sequence[Segment], Sequence[Bounds]]]:
    """The ranges cut between buckets, where they hold more rows than are grouped at once, with their segments."""
    cuts = _cuts(segments, bucket, _ROWS_AT_ONCE)
    for low, high in pairwise([0, *cuts, _ENDLESS]):
        inside = [(max(first, low), min(past, high)) for first, past in ranges if first < high and past > low]
        met = _meeting(segments, inside) if cuts else segments
        if met:
            yield met, inside


def _rows_within(segments: Sequence[Segment], ranges: Sequence[Bounds]) -> int:
    """About how many rows lie between the first and the last tick of some ranges, at least one."""
    low, high = ranges[0][0], ranges[-1][1]
    shares = (
        segment.rows
        * (min(segment.tick_max + 1, high) - max(segment.tick_min, low))
        / (segment.tick_max + 1 - segment.tick_min)
        for segment in segments
    )
    return max(1, math.ceil(sum(shares)))


def _cuts(segments: Sequence[Segment], bucket: int, most: int) -> list[int]:
    """Ticks between which lie about so many rows, as if each segment's were evenly spread."""
    if sum(segment.rows for segment in segments) <= most:
        return []
    changes: defaultdict[int, float] = defaultdict(float)
    for segment in segments:
        density = segment.rows / (segment.tick_max - segment.tick_min + 1)
        changes[segment.tick_min] += density
        changes[segment.tick_max + 1] -= density
    cuts: set[int] = set()
    reached, rows, density = min(changes), 0.0, 0.0
    for tick in sorted(changes):
        while rows + density * (tick - reached) >= most:
            reached += math.ceil((most - rows) / density)
            cuts.add(-(-reached // bucket) * bucket)
            rows = 0.0
        rows += density * (tick - reached)
        density, reached = density + changes[tick], tick
    return sorted(cuts)


def _united(starts: Sequence[int], ends: Sequence[int]) -> list[Bounds]:
    """Ranges of ticks, ascending, those that meet or overlap made one."""
    ranges: list[Bounds] = []
    for start, end in sorted(zip(starts, ends, strict=True)):
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return ranges


def _meeting(segments: Sequence[Segment], ranges: Sequence[Bounds]) -> list[Segment]:
    """The segments that may hold rows of the ranges."""
    if len(ranges) == 1:
        ((low, high),) = ranges
        return [s for s in segments if s.tick_min < high and low <= s.tick_max]
    ends = [past for _, past in ranges]
    at = [bisect_right(ends, segment.tick_min) for segment in segments]
    return [s for s, i in zip(segments, at, strict=True) if i < len(ranges) and ranges[i][0] <= s.tick_max]


def _condition(source: str, segments: Sequence[Segment], ranges: Sequence[Bounds]) -> str:
    """WHERE over ticks, empty where the ranges hold every row of the segments."""
    low, high = min(s.tick_min for s in segments), max(s.tick_max for s in segments)
    met = [(first, past) for first, past in ranges if first <= high and past > low]
    if met[0][0] <= low and met[0][1] > high:
        return ""
    if len(met) <= _MAX_RANGES:
        return " WHERE " + " OR ".join(f"({_within(first, past, low, high)})" for first, past in met)
    hull = _within(met[0][0], met[-1][1], low, high)
    firsts, pasts = ([bound[side] for bound in met] for side in (0, 1))
    return f""" WHERE {hull} AND tick_id IN (
        SELECT tick_id FROM (SELECT DISTINCT tick_id FROM {source} WHERE {hull})
        ASOF JOIN (SELECT unnest({firsts}) AS first, unnest({pasts}) AS past) ON tick_id >= first
        WHERE tick_id < past)"""


def _within(first: int, past: int, low: int, high: int) -> str:
    """SQL for ticks of [first, past), where all are of [low, high]."""
    bounds = [f"tick_id >= {first}"] * (first > low) + [f"tick_id < {past}"] * (past <= high)
    return " AND ".join(bounds) or "true"
