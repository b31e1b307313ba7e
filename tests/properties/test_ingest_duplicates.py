"""Rows with one key (DESIGN, invariant 5) against a plain model: what is stored, refused and counted.

Order never matters within one command, nor how rows are split into files; a second try adds nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_cli.core.tick_json import Refusal, Tick, parse_tick
from ledger_cli.engines.importer import DuckImporter
from ledger_cli.errors import Conflict
from ledger_cli.services.ingest import IngestOptions, IngestResult, ingest
from ledger_cli.services.repository import Repository
from ledger_cli.sources.common.streams import open_stream
from ledger_cli.sources.lines import LineSource
from tests.importing import COLUMNS
from tests.support import make_ledger

File = Sequence[bytes]
Key = tuple[int, str]


# --- the model ------------------------------------------------------------------------------------


@dataclass
class Model:
    stored: dict[Key, str] = field(default_factory=dict)
    quarantine: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)

    def ingest(self, files: Sequence[File]) -> tuple[int, int, int, dict[str, int]]:
        """Rows read, stored and equal to a stored one, and the refused ones by reason."""
        contenders: dict[Key, list[tuple[float, str, str, int, str]]] = defaultdict(list)
        refused: list[tuple[str, int, str, str]] = []
        read = duplicates = 0
        for lines in files:
            digest = hashlib.sha256(content(lines)).hexdigest()
            for number, line in enumerate(lines, 1):
                read += bool(line.strip())
                try:
                    tick = parse_tick(line)
                except Refusal as refusal:
                    refused.append((digest, number, refusal.reason, line.decode()))
                    continue
                if tick is not None:
                    instant = math.inf if tick.timestamp is None else tick.timestamp
                    row = (instant, tick.canonical(), digest, number, line.decode())
                    contenders[tick.tick_id, tick.entity_id].append(row)
        before = len(self.stored)
        for key, rows in contenders.items():
            first = min(rows)[1]
            new = key not in self.stored
            kept = self.stored.setdefault(key, first)
            equal = sum(text == kept for _, text, *_ in rows)
            duplicates += equal - new
            refused += [
                (digest, number, "key_conflict", line) for _, text, digest, number, line in rows if text != kept
            ]
        for digest, number, reason, line in refused:
            self.quarantine.setdefault((digest, number), (reason, line))
        return read, len(self.stored) - before, duplicates, dict(Counter(reason for _, _, reason, _ in refused))


# --- the ledger -----------------------------------------------------------------------------------


def content(lines: File) -> bytes:
    return b"".join(line + b"\n" for line in lines)


class World:
    """A ledger in a directory, and the files that are ingested into it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = make_ledger(directory / "world")
        self.importer = DuckImporter(self.repository.store, 2, "1GB", None)

    def ingest(self, files: Sequence[File], chunk_rows: int = 4, **options: Any) -> IngestResult:
        names = [self._written(content(lines)) for lines in files]

        def source(index: int) -> LineSource:
            return LineSource(open_stream(str(names[index])), chunk_rows=chunk_rows, block_bytes=64)

        sources = [source(index) for index in range(len(names))]
        return ingest(self.repository, self.importer, "main", sources, IngestOptions(**options), again=source)

    def rows(self) -> dict[Key, str]:
        return {(tick.tick_id, tick.entity_id): tick.canonical() for tick in stored(self.repository)}

    def quarantine(self) -> dict[tuple[str, int], tuple[str, str]]:
        found: dict[tuple[str, int], tuple[str, str]] = {}
        for file in self.repository.branch("main").quarantine():
            table = pq.read_table(pa.BufferReader(self.repository.store.read_file(file.file)))
            assert len(table) == file.rows
            for row in table.to_pylist():
                assert (file.source_sha256, row["line"]) not in found
                found[file.source_sha256, row["line"]] = (row["reason"], row["raw"])
        return found

    def _written(self, data: bytes) -> Path:
        path = self.directory / f"{hashlib.sha256(data).hexdigest()}.jsonl"
        path.write_bytes(data)
        return path


def stored(repository: Repository) -> list[Tick]:
    branch = repository.branch("main")
    found = []
    for segment in branch.segments():
        table = pq.read_table(repository.store.location(segment.file))
        assert len(table) == segment.rows
        rows = table.select(list(COLUMNS)).to_pylist()
        found += [Tick(*(row[name] for name in COLUMNS)) for row in rows]
        ticks = [row["tick_id"] for row in rows]
        x, y = [row["x"] for row in rows], [row["y"] for row in rows]
        described = (segment.tick_min, segment.tick_max, segment.activity_max, segment.box)
        box = (min(x), max(x), min(y), max(y))
        assert described == (min(ticks), max(ticks), max(row["activity"] for row in rows), box)
    assert branch.state.rows == len(found)
    assert branch.state.highest_tick == max((tick.tick_id for tick in found), default=None)
    return found


def check(world: World, model: Model, files: Sequence[File], seed: object) -> None:
    expected = model.ingest(files)
    result = world.ingest(files)
    got = (result.read, result.stored, result.duplicates, dict(result.quarantined))
    assert got == expected, f"seed {seed}"
    assert world.rows() == model.stored, f"seed {seed}"
    assert world.quarantine() == model.quarantine, f"seed {seed}"


# --- rows -----------------------------------------------------------------------------------------

_METAS = ["{}", "null", "", '{"a":1,"b":{"c":[1,2]}}', '{"a":2}', '{"a":123456789012345678901}', '{"n":0}', '{"é":"x"}']
_TIMES = ["null", "", "1769714460000", "1769714461000", "-1"]
_SAME_META = {
    "{}": ["{}", "null", ""],
    "null": ["{}", "null", ""],
    "": ["{}", "null", ""],
    _METAS[3]: [_METAS[3], '{"b":{"c":[1.0,2e0]},"a":1.0}', '{"a":1,"b":{"\\u0063":[1,2]}}'],
    '{"a":2}': ['{"a":2}', '{"a":2.0}', '{ "a" : 20e-1 }'],
    '{"n":0}': ['{"n":0}', '{"n":-0.0}', '{"n":0e5}'],
    '{"é":"x"}': ['{"é":"x"}', '{"\\u00e9":"\\u0078"}'],
}
_SAME_TIME = {
    "null": ["null", ""],
    "": ["null", ""],
    "1769714460000": ["1769714460000", '"2026-01-29T19:21:00Z"', '"2026-01-29T20:21:00.000+01:00"', "1769714460000.0"],
    "1769714461000": ["1769714461000", '"2026-01-29t19:21:01z"', '"2026-01-29 19:21:01.0000009Z"'],
}
_SAME_NUMBER = {"0": ["0", "-0.0", "0.0", "0e9"], "1": ["1", "1.0", "10e-1"], "2.5": ["2.5", "25e-1"]}


def random_row(chance: random.Random, entities: int, ticks: int) -> bytes:
    """One of few events, spelled in one of many ways."""
    if chance.random() < 0.05:
        return chance.choice([b"{", b"", b'{"entityId":5}', b"  "])
    entity, tick = chance.randrange(entities), chance.randrange(ticks)
    alike = random.Random(f"{entity},{tick},{chance.choice([0, 0, 0, 1, 2, 3])}")
    meta, time = alike.choice(_METAS), alike.choice(_TIMES)
    meta = chance.choice(_SAME_META.get(meta, [meta]))
    time = chance.choice(_SAME_TIME.get(time, [time]))
    x, activity = (chance.choice(_SAME_NUMBER[alike.choice(list(_SAME_NUMBER))]) for _ in range(2))
    members = [f'"entityId":"E{entity}"', f'"tickId":{chance.choice([tick, f"{tick}.0"])}', f'"x":{x}', '"y":1']
    members += [f'"activity":{activity}']
    members += [f'"meta":{meta}'] if meta else []
    members += [f'"timestamp":{time}'] if time else []
    if chance.random() < 0.2:
        chance.shuffle(members)
    return ("{" + ",".join(members) + "}").encode()


def random_command(chance: random.Random, entities: int = 3, ticks: int = 4) -> list[File]:
    pool = [random_row(chance, entities, ticks) for _ in range(chance.randrange(1, 12))]
    return [[chance.choice(pool) for _ in range(chance.randrange(0, 15))] for _ in range(chance.randrange(1, 4))]


# --- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_commands_against_the_model(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    world, model = World(tmp_path), Model()
    past: list[File] = []
    for _ in range(5):
        files = random_command(chance)
        if past and chance.random() < 0.4:
            files.append(chance.choice(past))
        check(world, model, files, seed)
        past += files


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_many_commands_against_the_model(tmp_path: Path, seed: int) -> None:
    test_commands_against_the_model(tmp_path, seed)


@pytest.mark.parametrize("seed", range(6))
def test_order_and_split_never_matter_within_one_command(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    lines = [line for file in random_command(chance, 2, 3) for line in file if line.strip()]
    outcomes = []
    for name in range(4):
        chance.shuffle(lines)
        cuts = sorted(chance.randrange(len(lines) + 1) for _ in range(name))
        files = [lines[a:b] for a, b in zip([0, *cuts], [*cuts, len(lines)], strict=True)]
        world = World(tmp_path / str(name))
        result = world.ingest(files, chunk_rows=chance.choice([1, 3, 100]))
        # Which of several rows with equal content counts as the kept one is the same for everybody.
        texts = Counter((reason, Model_text(raw)) for reason, raw in all_refused(world))
        outcomes.append((world.rows(), texts, result.stored, result.duplicates, dict(result.quarantined)))
    assert all(outcome == outcomes[0] for outcome in outcomes), f"seed {seed}"


def Model_text(raw: str) -> str:
    try:
        tick = parse_tick(raw.encode())
    except Refusal as refusal:
        return refusal.reason
    return "" if tick is None else tick.canonical()


def all_refused(world: World) -> list[tuple[str, str]]:
    return list(world.quarantine().values())


def event(entity: str, tick: int, **more: Any) -> bytes:
    return json.dumps({"entityId": entity, "tickId": tick, "x": 1, "y": 1, "activity": 0.5, **more}).encode()


@pytest.mark.parametrize("major", ["entity", "tick"])
def test_many_chunks_that_overlap_or_do_not(tmp_path: Path, major: str) -> None:
    keys = [(entity, tick) for entity in range(30) for tick in range(40)]
    keys.sort(key=lambda key: key if major == "entity" else key[::-1])
    lines = [event(f"E{entity}", tick) for entity, tick in keys]
    lines[700:700] = [lines[3], event("E3", 5, x=9), event("E29", 39)]
    world, model = World(tmp_path), Model()
    model.ingest([lines])
    result = world.ingest([lines], chunk_rows=100)
    assert (result.stored, result.duplicates, dict(result.quarantined)) == (1200, 2, {"key_conflict": 1})
    assert (world.rows(), world.quarantine()) == (model.stored, model.quarantine)
    again = world.ingest([lines[:600], lines[600:]], chunk_rows=50)
    assert (again.stored, again.duplicates) == (0, 1202)


def test_the_same_file_again_moves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    lines = [event("A", 1), event("A", 1, x=2), b"{", event("B", 1)]
    first = world.ingest([lines])
    seq = world.repository.branch("main").seq
    second = world.ingest([lines])
    assert world.repository.branch("main").seq == seq
    assert (second.read, second.stored, second.duplicates) == (4, 0, 2)
    assert dict(first.quarantined) == dict(second.quarantined) == {"broken_json": 1, "key_conflict": 1}


def test_one_file_named_twice_is_in_quarantine_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    lines = [event("A", 1), event("A", 1, x=2), b"{"]
    world.ingest([lines, lines])
    assert len(world.quarantine()) == 2


def test_one_key_very_often(tmp_path: Path) -> None:
    lines = [event("A", 1, x=number % 700) for number in range(3000)]
    world, model = World(tmp_path), Model()
    model.ingest([lines])
    result = world.ingest([lines], chunk_rows=500)
    assert (result.stored, dict(result.quarantined)) == (1, {"key_conflict": 2995})
    assert (world.rows(), world.quarantine()) == (model.stored, model.quarantine)


@pytest.mark.parametrize("seed", range(8))
def test_portions_of_a_tick_or_two_judge_as_one(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger_cli.engines.importer.drafts._ROWS_AT_ONCE", 3)
    chance = random.Random(seed)
    world, model = World(tmp_path), Model()
    for _ in range(4):
        check(world, model, random_command(chance, 3, 6), seed)


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["key_conflict", "tick_jump"])
def test_a_row_refused_because_of_others_keeps_its_own_text(tmp_path: Path, reason: str) -> None:
    own = b'{ "entityId":"A", "tickId": 100000, "x":1,"y":2.50,"activity":0.5, "note":"\\u00e9" }'
    lines = [event("A", 1), b"", event("A", 2), own, event("B", 100000 if reason == "key_conflict" else 3)]
    if reason == "key_conflict":
        lines.append(event("A", 100000, timestamp=5))
    world = World(tmp_path)
    result = world.ingest([lines], max_tick_jump=None if reason == "key_conflict" else 50)
    assert dict(result.quarantined) == {reason: 1}
    ((_, line),) = world.quarantine()
    assert (line, world.quarantine().popitem()[1]) == (4, (reason, own.decode()))


def test_rows_of_kafka_keep_partition_and_offset(tmp_path: Path) -> None:
    world = World(tmp_path)
    payloads = [event("A", 1, timestamp=1).decode(), json.loads(event("A", 1, x=9)), event("A", 2).decode()]
    lines = [
        json.dumps({"topic": "t", "partition": 3, "offset": 70 + place, "payload": payload})
        for place, payload in enumerate(payloads)
    ]
    path = tmp_path / "dump.kcat"
    path.write_text("\n".join(lines))
    source = lambda _=0: LineSource(open_stream(str(path)), "kcat")  # noqa: E731
    ingest(world.repository, world.importer, "main", [source()], again=source)
    (file,) = world.repository.branch("main").quarantine()
    (row,) = pq.read_table(world.repository.store.location(file.file)).to_pylist()
    assert row == {"line": 2, "partition": 3, "offset": 71, "raw": lines[1], "reason": "key_conflict"}


def test_without_a_second_look_the_text_is_canonical(tmp_path: Path) -> None:
    world = World(tmp_path)
    path = tmp_path / "a.jsonl"
    path.write_bytes(content([event("A", 1), event("A", 1, x=2)]))
    ingest(world.repository, world.importer, "main", [LineSource(open_stream(str(path)))])
    assert world.quarantine().popitem()[1] == (
        "key_conflict",
        '{"activity":0.5,"entityId":"A","jitter":null,"meta":{},"tickId":1,"timestamp":null,"x":2,"y":1}',
    )


# --- races ----------------------------------------------------------------------------------------


class Interrupted:
    """A store in which another command lands just before a move, a few times."""

    def __init__(self, store: Any, others: list[Any]) -> None:
        self._store = store
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        if self._others:
            self._others.pop(0)()
        self._store.advance_ref(branch, seq, move)


@pytest.mark.parametrize("seed", range(10))
def test_a_lost_race_ends_as_if_the_other_had_been_first(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    mine, *others = (random_command(chance, 2, 3) for _ in range(1 + chance.randrange(1, 4)))
    world, model = World(tmp_path), Model()
    expected = [model.ingest(files) for files in (*others, mine)][-1]
    other = World.__new__(World)
    other.directory, other.repository = (
        tmp_path,
        Repository(world.repository.store, world.repository._make_engine, world.repository.author),
    )
    other.importer = DuckImporter(other.repository.store, 1, "1GB", None)
    lands = [lambda files=files: other.ingest(files) for files in others]
    world.repository.store = Interrupted(world.repository.store, lands)
    result = world.ingest(mine)
    for late in lands:  # nothing of mine was to be moved
        late()
    if not lands:
        assert (result.read, result.stored, result.duplicates, dict(result.quarantined)) == expected, f"seed {seed}"
        assert (world.rows(), world.quarantine()) == (model.stored, model.quarantine), f"seed {seed}"


def test_a_race_without_end_is_given_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    others = World.__new__(World)
    others.directory, others.repository, others.importer = tmp_path, make_other(world), world.importer
    landing = [lambda tick=tick: others.ingest([[event("Z", tick)]]) for tick in range(30)]
    world.repository.store = Interrupted(world.repository.store, landing)
    with pytest.raises(Conflict, match="run the command again"):
        world.ingest([[event("A", 1)]])
    assert (1, "A") not in world.rows()


def make_other(world: World) -> Repository:
    return Repository(world.repository.store, world.repository._make_engine, world.repository.author)
