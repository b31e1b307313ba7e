"""Memory of an ingest does not grow with its input, be it clean or all broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.benchmarks.data import parquet
from tests.faults.jobs import ROOT

_CHILD = r"""
import re, resource, sys
from pathlib import Path
from ledger_cli.api import Ledger
with Ledger.create(sys.argv[1]) as ledger:
    for path in sys.argv[2:]:
        result = ledger.ingest(path)
assert len(sys.argv) == 3 or result.stored == 0
status = Path("/proc/self/status")
# On Linux ru_maxrss begins with what the process that started this one had used by then.
peak = re.search(r"VmHWM:\s*(\d+)", status.read_text())[1] if status.exists() else None
print(int(peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) // 1024)
"""

_LINES = {
    "clean": '{{"entityId":"E{0}","tickId":{0},"x":1.5,"y":2,"activity":0.25,"timestamp":"2026-01-29T19:21:00Z"}}\n',
    "broken": '{{"entityId":"E{0}","tickId":{0},"x":1.5,"y":2,"activity":0.25,\n',
    "conflicting": '{{"entityId":"E0","tickId":1,"x":{0},"y":2,"activity":0.25}}\n',
}


def mebibytes_used(directory: Path, kind: str, rows: int) -> int:
    path = directory / f"{rows}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_LINES[kind].format(number) for number in range(rows))
    command = [sys.executable, "-c", _CHILD, str(directory / f"world-{rows}"), str(path)]
    environment = {"LEDGER_MEMORY": "512MB", "LEDGER_THREADS": "2", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.soak
@pytest.mark.parametrize("kind", list(_LINES))
def test_three_times_the_rows_take_little_more(tmp_path: Path, kind: str) -> None:
    rows = 1_000_000 if kind == "clean" else 200_000
    less, more = (mebibytes_used(tmp_path, kind, size) for size in (rows, 3 * rows))
    print(f"{kind}: {less} MiB for {rows} rows, {more} MiB for {3 * rows}")
    assert more < 1.5 * less + 200, f"{less} MiB, then {more} MiB"


def mebibytes_used_again(directory: Path, rows: int, content: str) -> int:
    """For ticks that are all stored, then come again: the same, or with another content each."""
    first, again = parquet(directory / f"{rows}.parquet", rows), directory / f"{rows}-again.parquet"
    duckdb.sql(f"COPY (SELECT * REPLACE (x + {int(content == 'other')} AS x) FROM '{first}') TO '{again}'")
    command = [sys.executable, "-c", _CHILD, str(directory / f"world-{rows}"), str(first), str(again)]
    environment = {"LEDGER_MEMORY": "300MiB", "LEDGER_THREADS": "2", "PATH": "/usr/bin:/bin"}
    return int(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.soak
@pytest.mark.parametrize(("content", "rows"), [("same", 4_000_000), ("other", 300_000)])
def test_stored_rows_that_come_again_take_no_memory(tmp_path: Path, content: str, rows: int) -> None:
    less, more = (mebibytes_used_again(tmp_path, size, content) for size in (rows, 3 * rows))
    print(f"{content} again: {less} MiB for {rows} rows, {more} MiB for {3 * rows}")
    assert more < less + 150, f"{less} MiB, then {more} MiB"
