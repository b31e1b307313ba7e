"""Writers: every format reads back to the same rows, bit for bit, and a failure leaves nothing behind."""

from __future__ import annotations

import gzip
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import zstandard

from ledger_cli.core.simulation import SimulationSettings, TickBatch, simulate
from ledger_cli.errors import LedgerError, UsageError
from ledger_cli.sources import writers
from ledger_cli.sources.common.names import FORMATS
from ledger_cli.sources.writers import format_of, write_ticks

Row = tuple[str, int, str, str, str, str, int]
WORLD = SimulationSettings(entities=9, ticks=40, seed=5, tick_duration_ms=250)
QUERY = """
SELECT "entityId", "tickId", x::DOUBLE, y::DOUBLE, activity::DOUBLE, jitter::DOUBLE,
       epoch_ms("timestamp"::TIMESTAMPTZ)
FROM {source}
"""


def batches() -> Iterator[TickBatch]:
    """Three batches, with numbers that are hard to write."""
    for batch in simulate(WORLD):
        batch["x"][:4] = 0.1 + 0.2, 5e-324, 1.7976931348623157e308, -123456789.12345679
        batch["y"][:3] = 42.0, 1e-7, 1e22
        for rows in (slice(0, 100), slice(100, 101), slice(101, 360)):
            yield {name: column[rows] for name, column in batch.items()}


def hexed(row: Any) -> Row:
    entity, tick, x, y, activity, jitter, moment = row
    return (entity, tick, x.hex(), y.hex(), activity.hex(), jitter.hex(), moment)


def expected() -> list[Row]:
    rows: list[Row] = []
    for batch in batches():
        moments = batch["timestamp"].astype(np.int64)
        columns = [
            *(batch[name] for name in ("entity_id", "tick_id", "x", "y", "activity", "jitter")),
            moments,
        ]
        rows += map(hexed, zip(*(column.tolist() for column in columns), strict=True))
    return rows


def from_duckdb(source: str) -> list[Row]:
    with duckdb.connect() as connection:
        return [hexed(row) for row in connection.execute(QUERY.format(source=source)).fetchall()]


def from_event(text: str) -> Row:
    event = json.loads(text)
    assert list(event) == ["entityId", "tickId", "x", "y", "activity", "jitter", "meta", "timestamp"]
    assert event["meta"] == {}
    moment = int(np.datetime64(event["timestamp"].removesuffix("Z"), "ms").astype(np.int64))
    return hexed([*(event[name] for name in ("entityId", "tickId", "x", "y", "activity", "jitter")), moment])


def from_arrow(path: Path) -> list[Row]:
    table = pa.ipc.open_file(path).read_all()
    table = table.drop_columns(["meta"]).set_column(6, "timestamp", table["timestamp"].cast(pa.int64()))
    return [hexed(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


READERS: dict[str, Callable[[Path], list[Row]]] = {
    "jsonl": lambda path: from_duckdb(f"read_json('{path}', format='newline_delimited')"),
    "json": lambda path: from_duckdb(f"read_json('{path}', format='array')"),
    "csv": lambda path: from_duckdb(f"read_csv('{path}')"),
    "tsv": lambda path: from_duckdb(f"read_csv('{path}', delim='\t')"),
    "parquet": lambda path: from_duckdb(f"read_parquet('{path}')"),
    "arrow": from_arrow,
    "kcat": lambda path: [from_event(json.loads(line)["payload"]) for line in path.read_text().splitlines()],
    "kafka-console": lambda path: [from_event(line.split("\t", 5)[5]) for line in path.read_text().splitlines()],
}


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_reads_back_bit_for_bit(format_name: str, tmp_path: Path) -> None:
    path = tmp_path / "ticks"
    assert write_ticks(batches(), path, format_name) == 360
    assert sorted(READERS[format_name](path)) == sorted(expected())
    assert os.listdir(tmp_path) == ["ticks"]


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_same_ticks_give_the_same_bytes(format_name: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_ticks(batches(), tmp_path / name, format_name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("format_name", [name for name in FORMATS if name not in ("parquet", "arrow")])
def test_where_batches_are_cut_does_not_show(format_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ticks(batches(), tmp_path / "one", format_name)
    monkeypatch.setattr(writers, "_ROWS_AT_ONCE", 7)
    write_ticks(batches(), tmp_path / "two", format_name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("format_name", FORMATS)
def test_no_ticks_make_a_valid_file(format_name: str, tmp_path: Path) -> None:
    path = tmp_path / "ticks"
    assert write_ticks([], path, format_name) == 0
    if format_name in ("parquet", "arrow"):
        assert READERS[format_name](path) == []
    else:
        header = "entityId,tickId,x,y,activity,jitter,meta,timestamp\n"
        texts = {"json": "[]\n", "csv": header, "tsv": header.replace(",", "\t")}
        assert path.read_text() == texts.get(format_name, "")


def test_csv_reads_back_with_arrow(tmp_path: Path) -> None:
    write_ticks(batches(), tmp_path / "ticks.csv")
    table = pyarrow.csv.read_csv(tmp_path / "ticks.csv")
    assert [value.hex() for value in table["x"].to_pylist()] == [row[2] for row in expected()]


def test_a_tick_has_the_documented_shape(tmp_path: Path) -> None:
    write_ticks(simulate(WORLD), tmp_path / "ticks.jsonl")
    lines = (tmp_path / "ticks.jsonl").read_text().splitlines()
    assert lines[0].startswith('{"entityId":"E0","tickId":0,"x":')
    assert lines[0].endswith(',"meta":{},"timestamp":"2026-01-01T00:00:00Z"}')
    assert lines[9].endswith(',"meta":{},"timestamp":"2026-01-01T00:00:00.250Z"}')


def test_json_is_one_array(tmp_path: Path) -> None:
    write_ticks(batches(), tmp_path / "ticks.json")
    assert len(json.loads((tmp_path / "ticks.json").read_text())) == 360


def test_kafka_formats_count_offsets_per_partition(tmp_path: Path) -> None:
    write_ticks(batches(), tmp_path / "kcat", "kcat", topic='a "topic"')
    write_ticks(batches(), tmp_path / "console", "kafka-console")
    ends = [0, 0, 0]
    console = (tmp_path / "console").read_text().splitlines()
    for line, text in zip((tmp_path / "kcat").read_text().splitlines(), console, strict=True):
        message = json.loads(line)
        assert list(message) == ["topic", "partition", "offset", "tstype", "ts", "broker", "key", "payload"]
        key, partition, offset, moment = (message[name] for name in ("key", "partition", "offset", "ts"))
        assert (message["topic"], message["tstype"]) == ('a "topic"', "create")
        assert partition == zlib.crc32(key.encode()) % 3
        assert offset == ends[partition]
        ends[partition] += 1
        assert text == (
            f"CreateTime:{moment}\tPartition:{partition}\tOffset:{offset}\tNO_HEADERS\t{key}\t{message['payload']}"
        )
    assert min(ends) > 0


def test_names_are_escaped(tmp_path: Path) -> None:
    names = ['a,"b"', "c\td\ne", "back\\slash", "ünïcode"]
    batch = {name: column[:4] for name, column in next(simulate(WORLD)).items()} | {"entity_id": np.array(names)}
    for format_name in ("jsonl", "json", "csv", "tsv", "parquet", "arrow", "kcat"):
        write_ticks([batch], tmp_path / "ticks", format_name)
        if format_name == "kcat":
            keys = [json.loads(line)["key"] for line in (tmp_path / "ticks").read_text().splitlines()]
            assert keys == names
        assert [row[0] for row in READERS[format_name](tmp_path / "ticks")] == names
    with pytest.raises(LedgerError, match="cannot carry the tab or line break"):
        write_ticks([batch], tmp_path / "console", "kafka-console")
    assert not (tmp_path / "console").exists()


@pytest.mark.parametrize("format_name", ["jsonl", "json", "csv", "tsv", "kcat", "kafka-console"])
def test_a_suffix_compresses(format_name: str, tmp_path: Path) -> None:
    for suffix in ("", ".gz", ".zst"):
        write_ticks(batches(), tmp_path / f"ticks{suffix}", format_name)
    plain = (tmp_path / "ticks").read_bytes()
    assert gzip.decompress((tmp_path / "ticks.gz").read_bytes()) == plain
    with zstandard.ZstdDecompressor().stream_reader((tmp_path / "ticks.zst").read_bytes()) as reader:
        assert reader.read() == plain


def test_gzip_carries_no_time(tmp_path: Path) -> None:
    write_ticks(batches(), tmp_path / "ticks.csv.gz")
    assert (tmp_path / "ticks.csv.gz").read_bytes()[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_read_back_in_place(suffix: str, tmp_path: Path) -> None:
    write_ticks(batches(), tmp_path / f"ticks.jsonl{suffix}")
    assert sorted(READERS["jsonl"](tmp_path / f"ticks.jsonl{suffix}")) == sorted(expected())


def test_names_tell_the_format() -> None:
    names = ["-", "a.ndjson.gz", "s3://b/A.JSON.ZST", "a.csv", "a.tsv.gz", "a.parquet", "a.feather"]
    assert [format_of(name) for name in names] == ["jsonl", "jsonl", "json", "csv", "tsv", "parquet", "arrow"]
    with pytest.raises(UsageError, match="does not tell its format: give one of jsonl, json"):
        format_of("ticks.txt")


def test_unusable_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='Unknown format "xml": use one of'):
        write_ticks(batches(), tmp_path / "ticks.csv", "xml")
    for name in ("ticks.parquet.gz", "ticks.arrow.zst"):
        with pytest.raises(UsageError, match="is not compressed as a whole"):
            write_ticks(batches(), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    write_ticks(batches(), tmp_path / "ticks.jsonl")
    write_ticks(batches(), "-")
    assert capfdbinary.readouterr().out == (tmp_path / "ticks.jsonl").read_bytes()


@pytest.mark.parametrize("format_name", FORMATS)
def test_urls_of_other_file_systems(format_name: str, tmp_path: Path) -> None:
    url = f"memory://writers/{tmp_path.name}/ticks"
    assert write_ticks(batches(), url, format_name) == 360
    (tmp_path / "ticks").write_bytes(fsspec.filesystem("memory").cat(url))
    assert sorted(READERS[format_name](tmp_path / "ticks")) == sorted(expected())


def test_file_urls_are_local_files(tmp_path: Path) -> None:
    write_ticks(batches(), f"file://{tmp_path}/ticks.csv")
    assert os.listdir(tmp_path) == ["ticks.csv"]


def failing() -> Iterator[TickBatch]:
    yield from batches()
    raise LedgerError("enough")


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_failure_leaves_what_was_there(format_name: str, suffix: str, tmp_path: Path) -> None:
    if suffix and format_name in ("parquet", "arrow"):
        return
    path, url = tmp_path / f"ticks{suffix}", f"memory://writers/failed/{format_name}{suffix}"
    path.write_text("before")
    for target in (path, url):
        with pytest.raises(LedgerError, match="enough"):
            write_ticks(failing(), target, format_name)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == [path.name]
    assert not fsspec.filesystem("memory").exists(url)


def test_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    batch = next(simulate(WORLD))
    batch["y"][3] = np.nan
    with pytest.raises(LedgerError, match="y is not finite"):
        write_ticks([batch], tmp_path / "ticks.csv")
    assert os.listdir(tmp_path) == []


def test_targets_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="Check the path and its permissions"):
        write_ticks(batches(), tmp_path / "missing" / "ticks.csv")
    with pytest.raises(LedgerError, match="Cannot write"):
        write_ticks(batches(), tmp_path, "csv")
    with pytest.raises(UsageError, match="Give a path or an fsspec URL"):
        write_ticks(batches(), "nowhere://bucket/ticks.csv")


def test_a_pipe_is_written_to_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_ticks(batches(), pipe, "jsonl")
    reader.join(10)
    assert received[0].count(b"\n") == 360
