"""What is measured, against what, and how much it may cost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.data import WORLD_KEY
from tests.benchmarks.measure import LEDGER, ROOT, Cost, Job, in_turns, python, run
from tests.benchmarks.stores import CLIENTS, compared

NONLINEAR = ["--weight", "nonlinear:0.7,0.3"]
FIXED = ["--strategy", "fixed", "--interval", "20"]
HYBRID = ["--strategy", "hybrid", "--min-interval", "5", "--max-size", "95000", "--max-mean", "1.7"]
_EMPTY_TYPER = """
import typer
app = typer.Typer()
for number in range({commands}):
    app.command(f"command{{number}}", help="Does nothing.")(lambda: None)
app()
"""
_FLOAT = """
import duckdb
duckdb.connect(config={{"threads": 2}}).execute('''COPY (
    SELECT floor(x/128) AS cx, floor(y/128) AS cy, {bucket} AS bucket, count(*) AS n,
           sum(0.7*activity + 0.3*activity*activity) AS weight, avg(activity) AS mean, var_pop(activity) AS variance
    FROM read_parquet('{files}') GROUP BY floor(x/128), floor(y/128), {bucket}) TO '{out}' (FORMAT parquet)''')
"""
_COPY = """
import duckdb
duckdb.connect(config={{"threads": 2}}).execute('''COPY (
    SELECT * FROM {source} ORDER BY "tickId", "entityId") TO '{out}' (FORMAT parquet)''')
"""
_JSON = (
    "read_json('{path}', format = 'newline_delimited', ignore_errors = {loose}, columns = {{entityId: 'VARCHAR', "
    "tickId: 'BIGINT', x: 'DOUBLE', y: 'DOUBLE', activity: 'DOUBLE', jitter: 'DOUBLE', meta: 'VARCHAR', "
    "\"timestamp\": \\'VARCHAR\\'}})"
).replace("\\'", "'")


_BARE = """
import hmac, os, orjson
from itertools import islice
world = {{}}
with open({source!r}, "rb") as lines, open({out!r}, "wb") as out:
    while batch := list(islice(lines, 10_000)):
        for line in batch:
            event = orjson.loads(line)
            handshake = event.pop("handshake")
            text = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
            if not hmac.compare_digest(hmac.digest({key!r}, text, "sha256").hex(), handshake["signature"]):
                raise SystemExit("wrong signature")
            world[event["entityId"]] = {{**world.get(event["entityId"], {{}}), **event["payload"]}}
        out.writelines(batch)
        out.flush()
        os.fsync(out.fileno())
"""
_ASK = """
import random, time
from tests.benchmarks.data import WORLD_ENTITIES, world_moment
{setup}
draw = random.Random(5)
questions = [(f"E{{draw.randrange(WORLD_ENTITIES)}}", world_moment(draw.randrange({events} // 2, {events})))
             for _ in range({questions})]
took = []
for entity, moment in questions:
    started = time.perf_counter()
    {ask}
    took.append(time.perf_counter() - started)
print(sorted(took)[len(took) * 95 // 100])
"""
_OURS = """
from ledger_cli import Ledger
from ledger_cli.errors import NotFound
ledger = Ledger.open({ledger!r})
ledger.world.keep()
def get(entity, at=None):
    try:
        return ledger.world.get(entity, at=at)
    except NotFound:
        return None
"""
_SQLITE = """
import sqlite3
from ledger_cli import Ledger
with Ledger.open({ledger!r}) as ledger:
    rows = [tuple(row.values()) for row in ledger.world.find().to_pylist()]
database = sqlite3.connect({database!r})
database.execute("CREATE TABLE IF NOT EXISTS world (entity_id TEXT PRIMARY KEY, entity_kind TEXT, version INTEGER, "
                 "hlc TEXT, event_id TEXT, state TEXT) WITHOUT ROWID")
database.executemany("INSERT OR REPLACE INTO world VALUES (?, ?, ?, ?, ?, ?)", rows)
database.commit()
def now(entity):
    return database.execute("SELECT * FROM world WHERE entity_id = ?", [entity]).fetchone()
"""
_SORTED = """
import duckdb
database = duckdb.connect(config={{"threads": 2}})
database.execute('''COPY (SELECT * FROM read_parquet('{ledger}/segments/world-*.parquet') ORDER BY entity_id, version)
                    TO '{out}' (FORMAT parquet, COMPRESSION zstd)''')
def past(entity, moment):
    return database.execute("SELECT * FROM read_parquet('{out}') WHERE entity_id = ? AND hlc <= ? ORDER BY version",
                            [entity, moment]).fetchall()
"""


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    name: str
    ours: str
    other: str
    ratio: float
    target: float

    @property
    def reached(self) -> bool:
        """Whether the ratio is within its target."""
        return self.ratio <= self.target


@dataclass(frozen=True)
class Bench:
    """Where the cases work, at which scale, and how often."""

    directory: Path
    scale: float
    rounds: int

    def rows(self, full: int) -> int:
        """A number of rows at this scale; whole ticks of 10,000 entities."""
        return max(20_000, int(full * self.scale) // 10_000 * 10_000)

    def made(self, name: str, expression: str) -> Path:
        """An input file, made by a process of its own: what makes it must not weigh on what is measured."""
        path = self.directory / name
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            draft = path.with_name("draft-" + name)
            script = f"from pathlib import Path; from tests.benchmarks import data; data.{expression}"
            run(python(script.replace("PATH", f"Path({str(draft)!r})")))
            draft.rename(path)
        return path

    def ticks(self, full: int = 20_000_000) -> Path:
        """Parquet ticks of 10,000 entities."""
        rows = self.rows(full)
        return self.made(f"ticks-{rows}.parquet", f"parquet(PATH, {rows})")

    def ledger(self, name: str, source: Path, *policy: str) -> Path:
        """A ledger into which a source was ingested, made once."""
        path = self.directory / name
        if not path.exists():
            run([*LEDGER, "init", str(path), "--regions", "grid:128", *policy])
            run([*LEDGER, "ingest", "--ledger", str(path), str(source)])
        return path

    def world_events(self, full: int) -> tuple[Path, int]:
        """World events of 100,000 entities, and how many they are."""
        events = max(20_000, int(full * self.scale))
        return self.made(f"world-{events}.jsonl", f"world_events(PATH, {events})"), events

    def world(self, name: str) -> tuple[Path, list[str]]:
        """A new ledger that knows the type of the events, and the command that applies a file (to be appended)."""
        path, key = self.directory / name, self.directory / "key"
        shutil.rmtree(path, ignore_errors=True)
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_bytes(WORLD_KEY)
        run([*LEDGER, "init", str(path)])
        run([*LEDGER, "schema", "register", "physics.moved.v1", "--ledger", str(path)])
        return path, ["env", f"LEDGER_KEYS=physics=file:{key}", *LEDGER, "world", "apply", "--ledger", str(path)]

    def copy(self, ledger: Path) -> Path:
        """A copy whose files are shared (they never change), its refs its own."""
        target = self.directory / "work"
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-al", str(ledger), str(target)], check=True)
        return target


def against(name: str, target: float, costs: Sequence[Cost], rows: int = 0) -> Finding:
    """Ours (first) against the other, by the clock; CPU seconds beside."""
    ours, other = costs
    speed = f", {rows / ours.wall / 1e6:.1f} M ticks/s" if rows else ""
    told = [f"{cost.wall:.2f} s (CPU {cost.cpu:.2f} s)" for cost in (ours, other)]
    return Finding(name, told[0] + speed, told[1], ours.wall / other.wall, target)


def _commit(bench: Bench, name: str, target: float, policy: Sequence[str], bucket: str) -> list[Finding]:
    base = bench.ledger(f"ledger-{bench.rows(20_000_000)}", bench.ticks())
    work = bench.directory / "work"
    other = _FLOAT.format(bucket=bucket, files=base / "segments" / "*.parquet", out=bench.directory / "out.parquet")
    ours = Job([*LEDGER, "commit", "--ledger", str(work), *NONLINEAR, *policy, "--final"], lambda: bench.copy(base))
    return [against(name, target, in_turns([ours, Job(python(other))], bench.rounds), bench.rows(20_000_000))]


def commit_fixed(bench: Bench) -> list[Finding]:
    """commit --strategy fixed against a float GROUP BY."""
    return _commit(bench, "commit fixed", 1.5, FIXED, "tick_id // 20")


def commit_hybrid(bench: Bench) -> list[Finding]:
    """commit --strategy hybrid against a float GROUP BY per tick."""
    return _commit(bench, "commit hybrid", 1.75, HYBRID, "tick_id")


def replay_verify(bench: Bench) -> list[Finding]:
    """replay --verify against our commit."""
    base = bench.ledger(f"ledger-{bench.rows(20_000_000)}", bench.ticks())
    work = str(bench.directory / "work")
    commit = Job([*LEDGER, "commit", "--ledger", work, *NONLINEAR, *FIXED, "--final"], lambda: bench.copy(base))
    verify = Job([*LEDGER, "replay", "--ledger", work, "--verify"])
    other, ours = in_turns([commit, verify], bench.rounds)
    return [against("replay --verify", 1.1, [ours, other], bench.rows(20_000_000))]


def _ingest(bench: Bench, name: str, target: float, path: Path, source: str) -> list[Finding]:
    fresh = bench.directory / "fresh"

    def prepare() -> None:
        shutil.rmtree(fresh, ignore_errors=True)
        run([*LEDGER, "init", str(fresh)])

    ours = Job([*LEDGER, "ingest", "--ledger", str(fresh), str(path)], prepare)
    other = Job(python(_COPY.format(source=source, out=bench.directory / "out.parquet")))
    return [against(name, target, in_turns([ours, other], bench.rounds), bench.rows(20_000_000))]


def ingest_json(bench: Bench) -> list[Finding]:
    """ingest of clean JSON Lines against COPY (read_json … ORDER BY)."""
    rows = bench.rows(20_000_000)
    path = bench.made(f"clean-{rows}.jsonl", f"json_lines(PATH, {rows})")
    return _ingest(bench, "ingest JSON Lines, clean", 1.75, path, _JSON.format(path=path, loose="false"))


def ingest_dirty(bench: Bench) -> list[Finding]:
    """The same with 0.1 % bad rows and 1 % unknown fields; the other reads the clean file."""
    rows = bench.rows(20_000_000)
    clean = bench.made(f"clean-{rows}.jsonl", f"json_lines(PATH, {rows})")
    path = bench.made(f"dirty-{rows}.jsonl", f"json_lines(PATH, {rows}, dirty=True)")
    return _ingest(bench, "ingest JSON Lines, dirty", 3, path, _JSON.format(path=clean, loose="false"))


def ingest_parquet(bench: Bench) -> list[Finding]:
    """ingest of Parquet against sorted Parquet to Parquet."""
    path = bench.ticks()
    return _ingest(bench, "ingest Parquet", 1.25, path, f"read_parquet('{path}')")


def memory(bench: Bench) -> list[Finding]:
    """Peak memory of ingest and commit, 100 M ticks against 20 M."""
    found = {}
    for full in (20_000_000, 100_000_000):
        path = bench.directory / f"memory-{full}"
        shutil.rmtree(path, ignore_errors=True)
        run([*LEDGER, "init", str(path), "--regions", "grid:128"])
        found[full] = (
            run([*LEDGER, "ingest", "--ledger", str(path), str(bench.ticks(full))]).peak,
            run([*LEDGER, "commit", "--ledger", str(path), *HYBRID, "--final"]).peak,
        )
        shutil.rmtree(path)
    small, large = found[20_000_000], found[100_000_000]
    lines = [
        Finding(f"peak memory of {verb}", f"{large[i]:.0f} MiB", f"{small[i]:.0f} MiB", large[i] / small[i], 1.3)
        for i, verb in enumerate(("ingest", "commit"))
    ]
    most = max(large)
    return [*lines, Finding("peak memory in all", f"{most:.0f} MiB", "2048 MiB", most / 2048, 1)]


def world_apply(bench: Bench) -> list[Finding]:
    """world apply of signed events against a loop that parses, checks signatures, merges and writes."""
    source, events = bench.world_events(1_000_000)
    path, apply = bench.world("world-apply")
    bare = _BARE.format(source=str(source), out=str(bench.directory / "out.jsonl"), key=WORLD_KEY)
    jobs = [Job([*apply, str(source)], lambda: bench.world(path.name)), Job(python(bare))]
    return [against(f"world apply of {events:,} events", 2.5, in_turns(jobs, bench.rounds))]


def world_memory(bench: Bench) -> list[Finding]:
    """Peak memory of world apply, 5 M events on 100,000 entities against 500,000."""
    peaks = []
    for full in (5_000_000, 500_000):
        source, _ = bench.world_events(full)
        path, apply = bench.world("world-memory")
        peaks.append(run([*apply, str(source)]).peak)
        shutil.rmtree(path)
    large, small = peaks
    return [Finding("peak memory of world apply", f"{large:.0f} MiB", f"{small:.0f} MiB", large / small, 1.3)]


def world_get(bench: Bench) -> list[Finding]:
    """world get in a process that has the ledger open: now against SQLite, at a past reading against DuckDB."""
    source, events = bench.world_events(5_000_000)
    path, apply = bench.world("world-get")
    run([*apply, str(source)])
    names = {"ledger": str(path), "out": str(bench.directory / "sorted.parquet")}
    names["database"] = str(bench.directory / "world.sqlite")
    found = []
    for name, target, questions, other, ours, others in (
        ("world get, p95", 5, 20_000, _SQLITE, "get(entity)", "now(entity)"),
        ("world get --at, p95", 2, 300, _SORTED, "get(entity, moment)", "past(entity, moment)"),
    ):
        took = []
        for setup, ask in ((_OURS, ours), (other, others)):
            script = _ASK.format(setup=setup.format(**names), ask=ask, events=events, questions=questions)
            took.append(min(_asked(script) for _ in range(bench.rounds)))
        told = [f"{1e6 * seconds:,.0f} µs" for seconds in took]
        found.append(Finding(name, told[0], told[1], took[0] / took[1], target))
    shutil.rmtree(path)
    return found


def _asked(script: str) -> float:
    """The number of seconds that a script prints last."""
    done = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return float(done.stdout.splitlines()[-1])


def more_ticks(bench: Bench) -> list[Finding]:
    """commit after 0.1 % more ticks on 100 M, against the first commit of all of them."""
    rows = bench.rows(100_000_000)
    base = bench.ledger(f"ledger-{rows}", bench.ticks(100_000_000))
    more = max(10_000, rows // 1000 // 10_000 * 10_000)
    extra = bench.made(f"more-{more}.parquet", f"parquet(PATH, {more}, first_tick={rows // 10_000})")
    work = bench.copy(base)
    commit = [*LEDGER, "commit", "--ledger", str(work), *NONLINEAR, *FIXED]
    first = run(commit)
    run([*LEDGER, "ingest", "--ledger", str(work), str(extra)])
    return [against("commit after 0.1 % more", 0.15, [run(commit), first])]


def small_steps(bench: Bench) -> list[Finding]:
    """The 10,000th small ingest and commit of one ledger in one process against the 100th; gamma after so many jobs."""
    many, few = max(300, int(10_000 * bench.scale)), max(150, int(1_000 * bench.scale))
    _stepwise(bench, few)
    early, late = _stepwise(bench, many)
    told = [f"{1000 * seconds:.1f} ms" for seconds in (late, early)]
    step = Finding(f"small step {many:,} (median of 80)", told[0], told[1] + " (100th)", late / early, 1.5)
    ask = [
        Job([*LEDGER, "gamma", "--ledger", str(bench.directory / f"steps-{steps}"), "--region", "3:0"])
        for steps in (many, few)
    ]
    gamma = against(f"gamma --region after {many:,} jobs", 2, in_turns(ask, bench.rounds))
    for steps in (many, few):
        shutil.rmtree(bench.directory / f"steps-{steps}")
    return [step, gamma]


def _stepwise(bench: Bench, steps: int) -> list[float]:
    """A ledger of so many small jobs, each an ingest and a commit: seconds of a job at the 100th and at the last."""
    path = bench.directory / f"steps-{steps}"
    script = f"""
import json, time
from ledger_cli import Ledger
ledger = Ledger.create({str(path)!r}, regions="grid:128", interval=1)
took = []
for step in range({steps}):
    with open({str(bench.directory / "step.jsonl")!r}, "w") as file:
        for entity in range(20):
            file.write(json.dumps({{"entityId": f"E{{entity}}", "tickId": step, "x": entity * 50.0, "y": 1.0,
                                   "activity": 0.5}}) + "\\n")
    started = time.perf_counter()
    ledger.ingest({str(bench.directory / "step.jsonl")!r})
    ledger.commit()
    took.append(time.perf_counter() - started)
print(json.dumps([sorted(took[60:140])[40], sorted(took[-80:])[40]]))
"""
    shutil.rmtree(path, ignore_errors=True)
    bench.directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    answer: list[float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def gamma_region(bench: Bench) -> list[Finding]:
    """gamma --region at the end of many commits against few; in one job, and in many."""
    many, few = max(5_000, int(100_000 * bench.scale)), 1_000
    ledgers = []
    for commits in (many, few):
        source = bench.made(f"epochs-{commits}.parquet", f"parquet(PATH, {commits * 64}, entities=64)")
        path = bench.directory / f"gamma-{commits}"
        if not path.exists():
            run([*LEDGER, "init", str(path), "--regions", "grid:128", "--interval", "1"])
            run([*LEDGER, "ingest", "--ledger", str(path), str(source)])
            run([*LEDGER, "commit", "--ledger", str(path), "--final"])
        ledgers.append(path)
    ask = [Job([*LEDGER, "gamma", "--ledger", str(path), "--region", "3:3"]) for path in ledgers]
    return [against(f"gamma --region after {many:,} commits", 2, in_turns(ask, bench.rounds))]


def help_page(bench: Bench) -> list[Finding]:
    """ledger --help against an empty Typer app with as many commands."""
    from ledger_cli.cli.main import COMMANDS

    other = python(_EMPTY_TYPER.format(commands=len(COMMANDS)))
    jobs = [Job([*LEDGER, "--help"]), Job([*other, "--help"])]
    return [against("ledger --help", 1.2, in_turns(jobs, max(7, bench.rounds)))]


def linear(bench: Bench) -> list[Finding]:
    """200,000 regions, and 1 M short epochs: twice the size takes about twice the time."""
    found = []
    shapes = {
        "200,000 regions": (["--regions", "grid:1", *FIXED], "entities=200_000, side=450", 200_000, 20),
        "1 M short epochs": (
            ["--regions", "grid:512", "--strategy", "fixed", "--interval", "1"],
            "entities=2",
            2,
            1_000_000,
        ),
        "100,000 threshold epochs": (
            ["--regions", "grid:512", "--strategy", "adaptive", "--max-mean", "0.1"],
            "entities=2",
            2,
            100_000,
        ),
    }
    for name, (policy, shape, entities, ticks) in shapes.items():
        costs = []
        for part in (1, 2):
            length = max(2, int(ticks * min(1.0, bench.scale)) * part // 2)
            rows = entities * length
            source = bench.made(f"linear-{entities}-{rows}.parquet", f"parquet(PATH, {rows}, {shape})")
            path = bench.directory / "linear"
            shutil.rmtree(path, ignore_errors=True)
            run([*LEDGER, "init", str(path), *policy])
            run([*LEDGER, "ingest", "--ledger", str(path), str(source)])
            costs.append(run([*LEDGER, "commit", "--ledger", str(path), "--final"]))
            shutil.rmtree(path)
        found.append(against(f"{name}: twice the size", 2.5, [costs[1], costs[0]]))
    return found


_WORLD = """
import json
from ledger_cli import Ledger
def events(first, last):
    for n in range(first, last):
        yield json.dumps({{"eventId": f"e{{n}}", "entityId": f"E{{n * 7919 % {entities}}}", "type": "physics.moved.v1",
                           "payload": {{"x": n % 997 / 8, "y": n % 31}}, "handshake": {{"protocol": "55-45-17"}}}})
with Ledger.create("{path}") as ledger:
    ledger.world.register("physics.moved.v1")
    ledger.world.apply(events(0, {events} * 99 // 100))
    ledger.snapshots.create()
    ledger.world.apply(events({events} * 99 // 100, {events}))
"""
_REPLAY = """
from ledger_cli import Ledger
from ledger_cli.services.snapshot_restore import replayed
with Ledger.open("{path}") as ledger:
    replayed(ledger._repository, ledger.snapshots._reducers(), ledger._repository.branch("main"))
"""


def snapshot_restore(bench: Bench) -> list[Finding]:
    """snapshot restore with a tail of 1 % of 5 M events against a replay from nothing; 50 events an entity."""
    events = bench.rows(5_000_000)
    base, work = bench.directory / f"world-{events}", bench.directory / "work"
    if not base.exists():
        run(python(_WORLD.format(path=base, events=events, entities=events // 50)))
    ours = Job([*LEDGER, "snapshot", "restore", "--no-verify", "--ledger", str(work)], lambda: bench.copy(base))
    other = Job(python(_REPLAY.format(path=base)))
    return [against(f"snapshot restore, {events:,} events", 0.2, in_turns([ours, other], bench.rounds))]


def reconcile(bench: Bench) -> list[Finding]:
    """reconcile of two branches with 1 M world events each, 1 % about the same entities, against a replay of both."""
    half = bench.world_events(1_000_000)[1]
    base, merged = (bench.directory / f"{name}-{half}" for name in ("parted", "merged"))
    if not merged.exists():
        shutil.rmtree(base, ignore_errors=True)
        at = ["--ledger", str(base)]
        for words in (["init", str(base)], ["schema", "register", "physics.moved.v1", *at], ["fork", "south", *at]):
            run([*LEDGER, *words])
        for node, branch in (("north", "main"), ("south", "south")):
            made = f"world_events(PATH, {half}, node='{node}', shared=0.01)"
            source = bench.made(f"world-{node}-{half}.jsonl", made)
            run([*LEDGER, "world", "apply", str(source), "--branch", branch, *at])
        shutil.copytree(base, merged)
        run([*LEDGER, "reconcile", "main", "south", "--ledger", str(merged)])
    work = bench.directory / "work"
    ours = Job([*LEDGER, "reconcile", "main", "south", "--ledger", str(work)], lambda: bench.copy(base))
    other = Job(python(_REPLAY.format(path=merged)))
    return [against(f"reconcile, twice {half:,} events", 2, in_turns([ours, other], bench.rounds))]


def stores(bench: Bench) -> Iterator[Finding]:
    """Each store against the bare client of its engine; those whose server does not start are left out."""
    for engine in CLIENTS:
        for work, ours, other in compared(engine, bench.scale, bench.rounds):
            told = [f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.2f} ms" for seconds in (ours, other)]
            yield Finding(f"{work}, {engine}", *told, ours / other, 1.5)


_SINGLE = """
import numpy, pyarrow, pyarrow.parquet
ticks = numpy.arange({commits})
names = pyarrow.array([f"E{{each % 1000}}" for each in ticks.tolist()])
zeros, activity = numpy.zeros({commits}), numpy.random.default_rng(1).random({commits})
columns = {{"entityId": names, "tickId": ticks, "x": zeros, "y": zeros, "activity": activity}}
pyarrow.parquet.write_table(pyarrow.table(columns), "{source}")
from ledger_cli import Ledger
with Ledger.create("{path}", regions="field:entityId", interval=1, shards={shards}) as ledger:
    ledger.ingest("{source}")
    ledger.commit(final=True)
"""
_THERE_AND_BACK = """
from ledger_cli import Ledger
with Ledger.open("{path}") as ledger:
    made = ledger.archive({commits})
    assert made.made.record.commits == {commits}
    ledger.restore(str(made.made.record.id))
"""
_REWRITE = """
import pyarrow.parquet
for source, target in (("{source}", "{there}"), ("{there}", "{back}")):
    with pyarrow.parquet.ParquetFile(source) as file:
        with pyarrow.parquet.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
            for group in range(file.num_row_groups):
                writer.write_table(file.read_row_group(group))
"""


def archive_restore(bench: Bench) -> Iterator[Finding]:
    """archive and restore of 1 M commits, one entry each, against pyarrow reading and writing the same file twice.

    The batch of one shard goes as its file; that of two, whose commits take turns, is put in order.
    """
    peaks = []
    commits = bench.rows(1_000_000)
    paths = {name: bench.directory / f"{name}.parquet" for name in ("there", "back")}
    for shards, turns in ((1, ""), (2, ", two shards in turns")):
        base, ours = _single(bench, commits, shards)
        (batch,) = (base / "commits").iterdir()
        costs = in_turns([ours, Job(python(_REWRITE.format(source=batch, **paths)))], bench.rounds)
        yield against(f"archive and restore, {commits:,} commits{turns}", 2, costs)
    for number in (commits, commits // 4):
        base, ours = _single(bench, number, 1)
        bench.copy(base)
        peaks.append(run(ours.command).peak)
    large, small = peaks
    yield Finding("peak memory of archive and restore", f"{large:.0f} MiB", f"{small:.0f} MiB", large / small, 1.1)


def _single(bench: Bench, commits: int, shards: int) -> tuple[Path, Job]:
    """A ledger of commits with one entry each, and the job that archives and restores them in a copy."""
    base = bench.directory / f"single-{commits}-{shards}"
    if not base.exists():
        source = bench.directory / "single.parquet"
        run(python(_SINGLE.format(commits=commits, source=source, path=base, shards=shards)))
    there_and_back = python(_THERE_AND_BACK.format(path=bench.directory / "work", commits=commits))
    return base, Job(there_and_back, lambda: bench.copy(base))


CASES: dict[str, Callable[[Bench], Iterable[Finding]]] = {
    "help": help_page,
    "commit-fixed": commit_fixed,
    "commit-hybrid": commit_hybrid,
    "replay-verify": replay_verify,
    "ingest-json": ingest_json,
    "ingest-dirty": ingest_dirty,
    "ingest-parquet": ingest_parquet,
    "small-steps": small_steps,
    "gamma-region": gamma_region,
    "linear": linear,
    "world-apply": world_apply,
    "world-get": world_get,
    "world-memory": world_memory,
    "more-ticks": more_ticks,
    "memory": memory,
    "snapshot-restore": snapshot_restore,
    "reconcile": reconcile,
    "stores": stores,
    "archive-restore": archive_restore,
}
