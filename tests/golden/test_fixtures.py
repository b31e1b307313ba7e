"""`fixtures/` is what its script makes, and the ledger makes of it what `heads.json` says."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

import pyarrow.ipc
import pyarrow.parquet
import pytest
import zstandard

from ledger_cli.core.events import REASONS

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
SIZE_MAX = 1024 * 1024


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("fixtures_make", FIXTURES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = _script()
HEADS = json.loads((FIXTURES / "heads.json").read_text())


def _content(path: Path) -> Any:
    """The bytes; of what depends on the version of a library, what is in it."""
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path)
    if path.suffix == ".arrow":
        return pyarrow.ipc.open_file(path).read_all()
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    return path.read_bytes()


def _files(folder: Path) -> list[str]:
    own = {"make.py", "heads.json"}
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(str(path.relative_to(folder)) for path in found if path.name not in own)


def test_the_files_are_what_the_script_makes(tmp_path: Path) -> None:
    MAKE.make(tmp_path)
    assert _files(tmp_path) == _files(FIXTURES)
    for name in _files(tmp_path):
        assert _content(tmp_path / name) == _content(FIXTURES / name), f"{name}: run `python fixtures/make.py`"


def test_they_are_small() -> None:
    assert sum((FIXTURES / name).stat().st_size for name in _files(FIXTURES)) < SIZE_MAX


@pytest.fixture(scope="module")
def heads() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(MAKE.heads()))
    return made


@pytest.mark.parametrize("name", [*MAKE.CLEAN, *MAKE.BAD, "batches"])
def test_the_ledger_makes_of_them_what_is_recorded(heads: dict[str, Any], name: str) -> None:
    assert heads[name] == HEADS[name]


def test_every_format_gives_the_same() -> None:
    assert len({json.dumps(HEADS[name]) for name in MAKE.CLEAN}) == 1
    kept = ("bad.jsonl", "bad.kcat.jsonl", "bad.console.txt")
    assert len({json.dumps(HEADS[name]["heads"]) for name in kept}) == 1


def test_rows_of_every_reason_are_there() -> None:
    assert {reason for name in MAKE.BAD for reason in HEADS[name]["quarantined"]} == set(REASONS)
