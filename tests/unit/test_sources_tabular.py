"""Parquet and Arrow: columns as they are, row numbers, flat memory, and one line where a file is none."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from ledger_cli.core.chunks import ColumnChunk
from ledger_cli.errors import SourceError
from ledger_cli.sources.common.streams import ByteStream
from ledger_cli.sources.tabular import ArrowSource, ParquetSource

TABLE = pa.table({"entityId": [f"E{row}" for row in range(1000)], "tickId": pa.array(range(1000), pa.int64())})


def put(path: Path, kind: str, table: pa.Table = TABLE, **options: Any) -> Path:
    if kind == "parquet":
        parquet.write_table(table, path, **options)
        return path
    opener = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with opener(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=300)
    return path


def source_of(kind: str, name: str, **sizes: Any) -> ParquetSource | ArrowSource:
    return (ParquetSource if kind == "parquet" else ArrowSource)(ByteStream(name), **sizes)


def chunks_of(source: ParquetSource | ArrowSource) -> list[ColumnChunk]:
    return [chunk for chunk in source.chunks() if isinstance(chunk, ColumnChunk)]


def error_of(kind: str, path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        chunks_of(source_of(kind, str(path)))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("parquet", {"row_group_size": 300}),
        ("parquet", {"compression": "zstd"}),
        ("file", {}),
        ("file", {"compression": "zstd"}),
        ("stream", {"compression": "lz4"}),
    ],
)
class TestReading:
    def test_rows_columns_and_numbers(self, kind: str, options: dict[str, Any], tmp_path: Path) -> None:
        path = put(tmp_path / "a", kind, **options)
        source = source_of(kind, str(path), chunk_rows=256)
        chunks = chunks_of(source)
        assert pa.concat_tables(chunk.table for chunk in chunks).equals(TABLE)
        assert [line for chunk in chunks for line in chunk.lines.to_pylist()] == list(range(1, 1001))
        assert max(chunk.table.num_rows for chunk in chunks) <= 256
        assert not any(chunk.textual or list(chunk.refused) for chunk in chunks)
        second = chunks[0].table.num_rows
        assert json.loads(chunks[1].raw(3)) == {"entityId": f"E{second + 3}", "tickId": second + 3}
        assert source.digest() == hashlib.sha256(path.read_bytes()).hexdigest()
        assert source.position == (path.stat().st_size, path.stat().st_size)

    def test_chunks_are_bounded_by_bytes(self, kind: str, options: dict[str, Any], tmp_path: Path) -> None:
        path = put(tmp_path / "a", kind, **options)
        assert len(chunks_of(source_of(kind, str(path), chunk_bytes=2000))) >= 8

    def test_what_cannot_be_sought_is_copied(
        self, kind: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
        monkeypatch.setattr("tempfile.tempdir", None)
        (tmp_path / "scratch").mkdir()
        stored = put(tmp_path / "a", kind, **options).read_bytes()
        packed = zstandard.ZstdCompressor().compress(stored)
        (tmp_path / "a.zst").write_bytes(packed)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stored)))
        for name, data in ((str(tmp_path / "a.zst"), packed), ("-", stored)):
            source = source_of(kind, name)
            assert pa.concat_tables(chunk.table for chunk in chunks_of(source)).equals(TABLE)
            assert source.digest() == hashlib.sha256(data).hexdigest()
            assert source.position[0] == len(data)
        assert not list((tmp_path / "scratch").iterdir())

    def test_truncated_is_an_error(self, kind: str, options: dict[str, Any], tmp_path: Path) -> None:
        path = put(tmp_path / "a", kind, **options)
        stored = path.read_bytes()
        for size in range(1, len(stored), len(stored) // 20):
            path.write_bytes(stored[:size])
            assert "cannot be read as" in error_of(kind, path)

    def test_nothing_in_it(self, kind: str, options: dict[str, Any], tmp_path: Path) -> None:
        path = put(tmp_path / "a", kind, TABLE.slice(0, 0), **options)
        assert chunks_of(source_of(kind, str(path))) == []
        path.write_bytes(b"")
        source = source_of(kind, str(path))
        assert chunks_of(source) == []
        assert source.digest() == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_something_else(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.x"
    path.write_bytes(b'{"a":1}\n' * 100)
    assert "cannot be read as" in error_of(kind, path)


def test_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PARE" + bytes(100) + (20).to_bytes(4, "little") + b"PARE")
    assert "is encrypted" in error_of("parquet", path)


def test_raw_is_json(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 29, 19, 21, 0, 5000, UTC)
    table = pa.table(
        {
            "s": ["é"],
            "none": pa.array([None], pa.timestamp("us")),
            "utc": pa.array([moment], pa.timestamp("ms", tz="UTC")),
            "nano": pa.array([1], pa.timestamp("ns")),
            "day": [date(2026, 1, 2)],
            "decimal": [Decimal("1.5")],
            "nested": [{"a": [1.5, None]}],
            "word": pa.array(["x"]).dictionary_encode(),
            "span": pa.array([1], pa.duration("ns")),
        }
    )
    (chunk,) = chunks_of(ArrowSource(ByteStream(str(put(tmp_path / "a", "file", table)))))
    values = json.loads(chunk.raw(0))
    assert values["utc"] == "2026-01-29T19:21:00.005Z"
    assert values["nano"] == "1970-01-01T00:00:00.000000001"
    assert (values["s"], values["none"], values["day"], values["word"]) == ("é", None, "2026-01-02", "x")
    assert (values["decimal"], values["nested"]) == ("1.5", {"a": [1.5, None]})


def test_one_large_row_group_passes_in_pieces(tmp_path: Path) -> None:
    rows = 2_000_000
    table = pa.table({"a": pa.array(range(rows), pa.int64()), "b": pa.array([0.5]).take(pa.array([0] * rows))})
    path = put(tmp_path / "a", "parquet", table, row_group_size=rows, use_dictionary=False)
    del table
    before = pa.total_allocated_bytes()
    peak = 0
    for chunk in ParquetSource(ByteStream(str(path)), chunk_rows=50_000).chunks():
        assert isinstance(chunk, ColumnChunk)
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 12 << 20


def test_stopping_early_gives_up_the_digest(tmp_path: Path) -> None:
    chunks = ParquetSource(ByteStream(str(put(tmp_path / "a", "parquet"))), chunk_rows=10).chunks()
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
