"""`watch` of an ingest: what it is told, and when."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_cli import Ledger

LINE = b'{"entityId":"E","tickId":%d,"x":1,"y":1,"activity":1}\n'
PATIENCE = 30.0


def lines(count: int, first: int = 0) -> bytes:
    return b"".join(LINE % (first + number) for number in range(count))


def test_bytes_are_told_while_a_piece_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    half = lines(100_000)
    seen = threading.Event()
    in_time: list[bool] = []

    def write() -> None:
        with pipe.open("wb") as file:
            file.write(half)
            file.flush()
            in_time.append(seen.wait(PATIENCE))
            file.write(lines(10, 100_000))

    writer = threading.Thread(target=write)
    writer.start()
    with Ledger.create(tmp_path / "world") as ledger:
        result = ledger.ingest(pipe, watch=lambda read, _: seen.set() if read >= len(half) // 2 else None)
    writer.join()
    assert result.stored == 100_010
    assert in_time == [True]


def test_the_total_is_told_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1000))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(1000, 1000)))
    columns = {"entityId": ["P"], "tickId": [1], "x": [1.0], "y": [1.0], "activity": [1.0]}
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    told: list[tuple[int, int | None]] = []
    with Ledger.create(tmp_path / "world") as ledger:
        ledger.ingest(*sorted(tmp_path.glob("*.*")), watch=lambda *position: told.append(position))
    assert {total for _, total in told} == {size}
    assert told == sorted(told)
    assert told[-1][0] == size


def test_an_error_of_the_watcher_stops_it_and_nothing_is_stored(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(10))

    def watch(read: int, total: int | None) -> None:
        raise KeyError("enough")

    with Ledger.create(tmp_path / "world") as ledger:
        with pytest.raises(KeyError, match="enough"):
            ledger.ingest(tmp_path / "a.jsonl", watch=watch)
        assert len(ledger.sql("FROM ticks")) == 0
