"""Work on whole drafts: keys that stand twice, ticks that lie too far out, counts.

A key can stand twice only where two files meet in their ticks, or in a file that repeats one itself; so the
search looks at those ranges alone, which for rows that come in the order of time are a few ticks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow.parquet as pq

from ledger_cli.core.chunks import Refused
from ledger_cli.core.events import DRAFT
from ledger_cli.core.history import Segment
from ledger_cli.engines.common.duck import anew, quoted, source_sql, sql_list, translated
from ledger_cli.engines.importer.rivals import Rivals, number_of, placed_sql, stored_sql
from ledger_cli.ports import Deduplicated, Draft, Store

COPY = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 122880"
_RANGES_LIMIT = 64
_BINS = 1000
_BATCH_ROWS = 1_000_000
_ROWS_AT_ONCE = 1_000_000
"""Rows that are compared at once: a hundred MB or two, should all of their keys stand twice."""

_Range = tuple[int, int]
"""Ticks, inclusive."""


class DraftTools:
    """Operations on drafts, over one connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, store: Store) -> None:
        self._connection = connection
        self._store = store
        self._numbered = 0

    def deduplicate(
        self, drafts: Sequence[Draft], stored: Sequence[Segment], directory: Path, among: bool
    ) -> Deduplicated:
        """See `ports.Importer`."""
        low, high = min((d.tick_min for d in drafts), default=0), max((d.tick_max for d in drafts), default=-1)
        near = [s for s in stored if s.tick_min <= high and low <= s.tick_max]
        met = [s for s in near if any(d.tick_min <= s.tick_max and s.tick_min <= d.tick_max for d in drafts)]
        shared = _shared_ranges(drafts) if among else []
        rivals: Rivals | None = None
        duplicates = 0
        for part in _parts(_merged([*shared, *_common_range(drafts, met)]), [*drafts, *met]):
            mine, theirs = _meeting(drafts, part), _meeting(met, part)
            if not anew(self._store, partial(self._found, mine, theirs, part, _common(part, shared))):
                continue
            with translated([]):
                rivals = rivals or self._rivals(directory)
                duplicates += rivals.judge()
        if rivals is None:
            return Deduplicated(list(drafts), 0, [])
        with translated([]):
            return Deduplicated(self._rewritten(drafts, rivals, directory), duplicates, rivals.refused("key_conflict"))

    def split_above(
        self, drafts: Sequence[Draft], tick: int, directory: Path
    ) -> tuple[list[Draft], Iterable[tuple[int, Refused]]]:
        """See `ports.Importer`."""
        above = [draft for draft in drafts if draft.tick_max > tick]
        with translated([]):
            rivals = self._rivals(directory)
            rivals.refuse(f"{placed_sql(_scan(above))} WHERE tick_id > {tick}")
            return self._rewritten(drafts, rivals, directory), rivals.refused("tick_jump")

    def widest_gap(self, drafts: Sequence[Draft], known: Sequence[int], limit: int | None) -> tuple[int, int] | None:
        """See `ports.Importer`."""
        base = min([self._about_median(drafts), *known[:1]])
        listed = "SELECT unnest(" + str(list(known)) + "::BIGINT[]) AS tick_id"
        ticks = self._connection.sql(f"""
            SELECT DISTINCT tick_id FROM (SELECT tick_id FROM {_scan(drafts)} UNION ALL {listed})
            WHERE tick_id >= {base} ORDER BY tick_id""")
        best: tuple[int, int] | None = None
        last: int | None = None
        for batch in ticks.to_arrow_reader(_BATCH_ROWS):
            values = batch.column(0).to_numpy()
            if last is not None:
                values = np.concatenate([[last], values])
            gaps = np.diff(values)
            if len(gaps) and limit is not None and (gaps > limit).any():
                at = int(np.argmax(gaps > limit))
                return int(values[at]), int(values[at + 1])
            at = int(np.argmax(gaps)) if len(gaps) else 0
            if limit is None and len(gaps) and (best is None or int(gaps[at]) > best[1] - best[0]):
                best = int(values[at]), int(values[at + 1])
            last = int(values[-1])
        return best

    def _about_median(self, drafts: Sequence[Draft]) -> int:
        """The lower end of that thousandth of the span of ticks which holds their median: exact, in flat memory."""
        lowest, highest = min(draft.tick_min for draft in drafts), max(draft.tick_max for draft in drafts)
        width = (highest - lowest) // _BINS + 1
        bins = self._rows(f"""
            SELECT (tick_id - {lowest}) // {width} AS bin, count(*) FROM {_scan(drafts)} GROUP BY bin ORDER BY bin""")
        half, seen = sum(count for _, count in bins) / 2, 0
        for bin_number, count in bins:
            seen += count
            if seen >= half:
                return lowest + int(bin_number) * width
        return lowest

    def count_below(self, drafts: Sequence[Draft], tick: int) -> int:
        """See `ports.Importer`."""
        met = [draft for draft in drafts if draft.tick_min < tick]
        if not met:
            return 0
        ((count,),) = self._rows(f"SELECT count(*) FROM {_scan(met)} WHERE tick_id < {tick}")
        return int(count)

    def _found(
        self, mine: Sequence[Draft], theirs: Sequence[Segment], part: Sequence[_Range], shared: Sequence[_Range]
    ) -> bool:
        """Fill the tables `keys` and `rivals` with the rows of a part; whether there are any."""
        with translated([segment.file for segment in theirs]):
            if not self._find_keys(mine, theirs, part, shared):
                return False
            self._gather(mine, theirs, part)
            return True

    def _find_keys(
        self, mine: Sequence[Draft], theirs: Sequence[Segment], part: Sequence[_Range], shared: Sequence[_Range]
    ) -> bool:
        """Fill the table `keys` with those of a part that stand twice; whether there are any."""
        self._run("CREATE OR REPLACE TEMP TABLE keys (tick_id BIGINT, entity_id VARCHAR)")
        if shared:
            self._run(f"""INSERT INTO keys SELECT tick_id, entity_id FROM {_scan(_meeting(mine, shared))}
                WHERE {_within(shared)} GROUP BY tick_id, entity_id HAVING count(*) > 1""")
        if mine and theirs:
            self._run(f"""INSERT INTO keys
                SELECT tick_id, entity_id FROM (SELECT * FROM {self._stored(theirs)} WHERE {_within(part)})
                SEMI JOIN (SELECT * FROM {_scan(mine)} WHERE {_within(part)}) USING (tick_id, entity_id)""")
        return bool(self._rows("SELECT 1 FROM keys LIMIT 1"))

    def _gather(self, mine: Sequence[Draft], theirs: Sequence[Segment], part: Sequence[_Range]) -> None:
        """The table `rivals`: every row of a part with one of the keys, and where it stands."""
        rows = [placed_sql(_scan(mine))] + ([stored_sql(self._stored(theirs))] if theirs else [])
        within = _within(part)
        self._run(f"""CREATE OR REPLACE TEMP TABLE rivals AS
            SELECT * FROM ({" UNION ALL ".join(f"{each} WHERE {within}" for each in rows)})
            SEMI JOIN keys USING (tick_id, entity_id)""")

    def _rivals(self, directory: Path) -> Rivals:
        self._numbered += 1
        return Rivals(self._connection, directory, self._numbered)

    def _rewritten(self, drafts: Sequence[Draft], rivals: Rivals, directory: Path) -> list[Draft]:
        """The drafts without the rows that were dropped."""
        dropped = rivals.dropped()
        left = []
        for draft in drafts:
            number = number_of(draft.path)
            if number not in dropped:
                left.append(draft)
            elif dropped[number] < draft.rows:
                # A name never used before: the older file may be part of the ledger by now.
                path = directory / f"{draft.path.stem}-{self._numbered}.parquet"
                self._run(f"""COPY (SELECT * EXCLUDE (filename, file_row_number) FROM {_scan([draft])}
                    WHERE file_row_number NOT IN ({rivals.dropped_sql(number)})
                    ORDER BY tick_id, entity_id) TO {quoted(str(path))} ({COPY})""")
                made = draft_of(path, draft.source)
                left += [] if made is None else [made]
        return left

    def _stored(self, segments: Sequence[Segment]) -> str:
        return source_sql(self._store.reading([segment.file for segment in segments]), self._store.location)

    def _run(self, sql: str) -> None:
        self._connection.execute(sql).fetchall()

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.sql(sql).fetchall()


def draft_of(path: Path, source: int) -> Draft | None:
    """The record of a draft just written; None where it has no rows."""
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    encodings = {each for group in groups for each in group.column(DRAFT.get_field_index("entity_id")).encodings}
    # As a dictionary, texts are compared by their indices; not every encoding can be read as one.
    dictionary = ["entity_id"] if encodings == {"RLE_DICTIONARY"} else None
    with pq.ParquetFile(path, metadata=metadata, read_dictionary=dictionary) as file:
        rows = sum(group.num_rows for group in groups)
        if not rows:
            return None
        tick, activity, x, y = (_bounds(groups, name) for name in ("tick_id", "activity", "x", "y"))
        return Draft(
            path,
            source,
            rows,
            *tick,
            activity[1],
            (*x, *y),
            _has_repeats(file),
        )


def _bounds(groups: Sequence[Any], name: str) -> tuple[Any, Any]:
    """The lowest and the highest value of a column, by the statistics of its row groups."""
    place = DRAFT.get_field_index(name)
    found = [group.column(place).statistics for group in groups]
    return min(each.min for each in found), max(each.max for each in found)


def _has_repeats(file: pq.ParquetFile) -> bool:
    """Whether two neighbours of the sorted rows have one key."""
    last: tuple[int, str] | None = None
    for index in range(file.metadata.num_row_groups):
        rows = file.read_row_group(index, ["tick_id", "entity_id"])
        tick, entity = (rows[name].combine_chunks() for name in ("tick_id", "entity_id"))
        entity = entity.dictionary_encode()
        ticks, codes = tick.to_numpy(), entity.indices.to_numpy()
        if last == (tick[0].as_py(), entity[0].as_py()):
            return True
        if ((ticks[1:] == ticks[:-1]) & (codes[1:] == codes[:-1])).any():
            return True
        last = tick[-1].as_py(), entity[-1].as_py()
    return False


def _scan(drafts: Iterable[Draft]) -> str:
    paths = sql_list([str(draft.path) for draft in drafts])
    return f"read_parquet({paths}, filename = true, file_row_number = true)"


def _shared_ranges(drafts: Sequence[Draft]) -> list[_Range]:
    """Ranges of ticks (inclusive) in which a key may stand twice among the drafts."""
    found = [(draft.tick_min, draft.tick_max) for draft in drafts if draft.repeats]
    reached: int | None = None
    for draft in sorted(drafts, key=lambda each: each.tick_min):
        if reached is not None and draft.tick_min <= reached:
            found.append((draft.tick_min, min(reached, draft.tick_max)))
        reached = draft.tick_max if reached is None else max(reached, draft.tick_max)
    return _merged(found)


def _merged(ranges: Iterable[_Range]) -> list[_Range]:
    """Ranges that share no tick, in order, for the same ticks."""
    merged: list[_Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _common(some: Iterable[_Range], others: Sequence[_Range]) -> list[_Range]:
    """The ticks that are in both."""
    both = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return [(first, last) for first, last in both if first <= last]


def _common_range(drafts: Sequence[Draft], met: Sequence[Segment]) -> list[_Range]:
    """The ticks (inclusive) that the drafts and the stored segments have in common, as one range; none without."""
    if not met:
        return []
    first = max(min(draft.tick_min for draft in drafts), min(segment.tick_min for segment in met))
    last = min(max(draft.tick_max for draft in drafts), max(segment.tick_max for segment in met))
    return [(first, last)] if first <= last else []


_Meets = TypeVar("_Meets", Draft, Segment)


def _meeting(files: Sequence[_Meets], ranges: Sequence[_Range]) -> list[_Meets]:
    """The files with ticks in one of the ranges."""
    return [f for f in files if any(f.tick_min <= last and first <= f.tick_max for first, last in ranges)]


def _parts(ranges: Sequence[_Range], files: Sequence[Draft | Segment]) -> Iterator[list[_Range]]:
    """The ranges in portions of about as many rows as fit into memory at once, long ranges cut between ticks."""
    portion: list[_Range] = []
    rows = 0.0
    for first, last in ranges:
        inside = [f for f in files if f.tick_min <= last and first <= f.tick_max]
        for start, end in _cut(first, last, math.ceil(_rows_in(inside, first, last) / _ROWS_AT_ONCE)):
            size = _rows_in(inside, start, end)
            if portion and (rows + size > _ROWS_AT_ONCE or len(portion) == _RANGES_LIMIT):
                yield portion
                portion, rows = [], 0.0
            portion.append((start, end))
            rows += size
    if portion:
        yield portion


def _cut(first: int, last: int, parts: int) -> Iterator[_Range]:
    step = (last - first) // max(1, parts) + 1
    for start in range(first, last + 1, step):
        yield start, min(last, start + step - 1)


def _rows_in(files: Iterable[Draft | Segment], first: int, last: int) -> float:
    """About how many rows of the files have ticks in a range, as if they were evenly spread."""
    total = 0.0
    for file in files:
        common = min(last, file.tick_max) - max(first, file.tick_min) + 1
        total += file.rows * max(0, common) / (file.tick_max - file.tick_min + 1)
    return total


def _within(ranges: Sequence[_Range]) -> str:
    return "(" + " OR ".join(f"tick_id BETWEEN {first} AND {last}" for first, last in ranges) + ")"
