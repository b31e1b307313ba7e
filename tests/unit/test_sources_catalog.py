"""The catalog: which source reads a name; and every format the writers write is read back the same."""

from __future__ import annotations

import io
import json
import random
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger_cli.core.chunks import LineChunk
from ledger_cli.core.simulation import SimulationSettings, TickBatch, simulate
from ledger_cli.errors import NotFound, SourceError, UsageError
from ledger_cli.ports import Source
from ledger_cli.sources.catalog import SourceOptions, source_of
from ledger_cli.sources.common.names import FORMATS
from ledger_cli.sources.opening import expand
from ledger_cli.sources.writers import write_ticks

WORLD = SimulationSettings(entities=9, ticks=40, seed=5, tick_duration_ms=250)


def batches() -> Iterator[TickBatch]:
    yield from simulate(WORLD)


def keys_of(source: Source) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for chunk in source.chunks():
        if isinstance(chunk, LineChunk):
            texts = [chunk.raw(row).decode() for row in range(chunk.rows)]
            if source.envelope == "kcat":
                texts = [json.loads(text)["payload"] for text in texts]
            elif source.envelope == "kafka-console":
                texts = [text.split("\t")[-1] for text in texts]
            events = [json.loads(text) for text in texts]
        else:
            events = chunk.table.select(["entityId", "tickId"]).to_pylist()
        found += [(event["entityId"], int(event["tickId"])) for event in events]
    return found


def expected() -> list[tuple[str, int]]:
    return [
        key for batch in batches() for key in zip(batch["entity_id"].tolist(), batch["tick_id"].tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    ("format_name", "suffix"),
    [
        (name, suffix)
        for name in FORMATS
        for suffix in ("", ".gz", ".zst")
        if not suffix or name not in ("parquet", "arrow")
    ],
)
def test_what_is_written_is_read(format_name: str, suffix: str, tmp_path: Path) -> None:
    path = str(tmp_path / f"ticks.data{suffix}")
    write_ticks(batches(), path, format_name)
    source = source_of(path, SourceOptions(format=format_name))
    assert keys_of(source) == expected()
    assert source.name == path


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow", "feather"])
def test_the_name_tells_the_format(suffix: str, tmp_path: Path) -> None:
    path = str(tmp_path / f"ticks.{suffix}")
    write_ticks(batches(), path)
    assert keys_of(source_of(path, SourceOptions())) == expected()


def test_kcat_is_seen_in_the_first_line_and_json_lines_may_be_called_json(tmp_path: Path) -> None:
    for name, format_name, envelope in (("a.jsonl", "kcat", "kcat"), ("b.json", "jsonl", "none")):
        path = str(tmp_path / name)
        write_ticks(batches(), path, format_name)
        source = source_of(path, SourceOptions())
        assert source.envelope == envelope
        assert keys_of(source) == expected()
    assert source_of(str(tmp_path / "a.jsonl"), SourceOptions(format="jsonl")).envelope == "none"


def test_an_array_may_be_called_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_ticks(batches(), path, "json")
    assert keys_of(source_of(str(path), SourceOptions())) == expected()
    events = json.loads(path.read_text())
    for text in (json.dumps(events), json.dumps(events, indent=2), f"\n{json.dumps(events)}\n"):
        path.write_text(text)
        assert keys_of(source_of(str(path), SourceOptions())) == expected()


@pytest.mark.parametrize("first", [b"[1]", b"[]", b"[", b'[{"a":1}]'])
def test_a_broken_first_line_makes_no_array(tmp_path: Path, first: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(first + b'\n{"entityId":"E","tickId":1}\n' * 3)
    (chunk,) = source_of(str(tmp_path / "a.jsonl"), SourceOptions()).chunks()
    assert isinstance(chunk, LineChunk)
    assert chunk.raw(0) == first


def test_a_member_of_an_archive(tmp_path: Path) -> None:
    write_ticks(batches(), tmp_path / "ticks.jsonl")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "ticks.jsonl", "ticks.jsonl")
        archive.write(tmp_path / "ticks.jsonl", "more/ticks.jsonl")
    for name in expand([f"zip://ticks.jsonl::{tmp_path}/a.zip", f"zip://*/*.jsonl::{tmp_path}/a.zip"], None):
        assert keys_of(source_of(name, SourceOptions())) == expected()


@pytest.mark.parametrize("format_name", ["jsonl", "json", "kcat"])
def test_standard_input_is_looked_at(format_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ticks.gz"
    write_ticks(batches(), path, format_name)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert keys_of(source_of("-", SourceOptions())) == expected()


def test_options_reach_delimited_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("# x\nE1;5\n")
    options = SourceOptions("csv", ";", "#", ("entityId", "tickId"))
    assert keys_of(source_of(str(path), options)) == [("E1", 5)]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    for suffix in ("jsonl", "json", "csv", "tsv", "parquet", "arrow", "jsonl.gz", "json.zst"):
        path = tmp_path / f"empty.{suffix}"
        path.write_bytes(b"")
        assert keys_of(source_of(str(path), SourceOptions())) == []


def test_a_format_that_cannot_be_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--format jsonl\|json\|csv"):
        source_of("ticks.txt.gz", SourceOptions())
    with pytest.raises(UsageError, match='Unknown format "xml"'):
        source_of("ticks.txt", SourceOptions(format="xml"))
    with pytest.raises(NotFound):
        source_of(str(tmp_path / "missing.jsonl"), SourceOptions())


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("format_name", ["jsonl", "json", "csv", "kcat", "kafka-console"])
def test_a_truncated_file_never_passes_for_a_shorter_one(format_name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"ticks{suffix}"
    write_ticks(batches(), path, format_name)
    stored = path.read_bytes()
    for size in random.Random(7).sample(range(1, len(stored)), 12):
        path.write_bytes(stored[:size])
        with pytest.raises(SourceError, match="ends early"):
            keys_of(source_of(str(path), SourceOptions(format=format_name)))
