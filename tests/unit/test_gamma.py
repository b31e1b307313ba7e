"""Gamma: whatever tiles there are, it is what the commits add up to."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.core.gamma_view import GammaRow
from ledger_cli.core.history import Move
from ledger_cli.engines.duck import DuckEngine
from ledger_cli.errors import NotFound, UsageError
from ledger_cli.services import tiles
from ledger_cli.services.commits import read_commits
from ledger_cli.services.fork import fork
from ledger_cli.services.gamma import Gamma, GammaAt, commit_at, gamma
from ledger_cli.services.gamma_frames import gamma_view
from ledger_cli.services.lookup import Place
from ledger_cli.services.repository import Author, Branch, Repository
from ledger_cli.stores.directory import DirectoryStore
from tests.support import add_events, events_at, make_ledger, policy_json, run

Commit = dict[str, Any]
TOLERANCE = 1e-12
FIXED = policy_json({"kind": "fixed", "interval": 1})
STRATEGIES = (
    {"kind": "fixed", "interval": 5},
    {"kind": "hybrid", "minInterval": 2, "maxInterval": 9, "maxSize": 4},
    {"kind": "adaptive", "maxSize": 3},
)


# --- the definition, in plain Python ------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """One region, by the definition."""

    weight: float
    decayed: float
    mean: float
    variance: float
    pooled: tuple[float | None, float | None]
    count: int
    commits: int
    last: str
    last_end: int
    exact: dict[str, str]


def commits_of(branch: Branch) -> list[Commit]:
    return sorted(
        read_commits(branch._repository, branch, ["*"]).to_pylist(),
        key=lambda commit: (commit["shard"], commit["height"]),
    )


def cut(commits: Iterable[Commit], tick: int) -> list[Commit]:
    """Each chain before its first commit that ends above a tick."""
    ended: set[int] = set()
    kept = []
    for commit in commits:
        if commit["epoch_end"] > tick:
            ended.add(commit["shard"])
        if commit["shard"] not in ended:
            kept.append(commit)
    return kept


def decayed(weight: int, delta: int, half_life: int) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        return Decimal(weight) / 10**9 * Decimal(2) ** (Decimal(-delta) / half_life)


def expected(
    commits: Iterable[Commit], tick: int, half_life: int = 1, window: int | None = None
) -> dict[str, Expected]:
    by_region: dict[str, list[tuple[Commit, Mapping[str, Any]]]] = {}
    for commit in commits:
        for entry in commit["entries"]:
            by_region.setdefault(entry["region"], []).append((commit, entry))
    return {region: one_expected(rows, tick, half_life, window) for region, rows in sorted(by_region.items())}


def one_expected(
    rows: list[tuple[Commit, Mapping[str, Any]]], tick: int, half_life: int, window: int | None
) -> Expected:
    def total(name: str, among: Iterable[tuple[Commit, Mapping[str, Any]]]) -> int:
        return sum(int(entry[name]) for _, entry in among)

    inside = [row for row in rows if window is None or row[0]["epoch_end"] > tick - window]
    n, activity, activity2 = (total(name, inside) for name in ("n", "activity", "activity2"))
    mean = float(Fraction(activity, n * 10**9)) if n else None
    variance = float(Fraction(n * activity2 - activity**2, n * n * 10**18)) if n else None
    commit, entry = max(rows, key=lambda row: row[0]["height"])
    return Expected(
        weight=float(Fraction(total("weight", rows), 10**9)),
        decayed=float(sum(decayed(int(e["weight"]), tick - c["epoch_end"], half_life) for c, e in rows)),
        mean=entry["activity_mean"],
        variance=entry["activity_var"],
        pooled=(mean, variance),
        count=total("n", rows),
        commits=len(rows),
        last=commit["commit_id"],
        last_end=commit["epoch_end"],
        exact={name: str(total(name, rows)) for name in ("n", "activity", "activity2", "weight")},
    )


def check(found: Gamma, commits: Iterable[Commit], where: object) -> None:
    """Compare with the definition, everything exactly but for what is decayed."""
    wanted = expected(commits, found.tick, found.half_life or 1, found.window)
    rows = found.to_json()["regions"]
    assert [row["region"] for row in rows] == list(wanted), where
    for row, want in zip(rows, wanted.values(), strict=True):
        assert row["exact"] == want.exact, where
        check_row(row, want, found.half_life, where)
        assert (row["lastCommit"], row["lastEpochEnd"]) == (want.last, want.last_end), where


def check_row(row: Mapping[str, Any], want: Expected, half_life: int | None, where: object) -> None:
    if half_life is None:
        assert row["weight"] == want.weight, where
    else:
        assert row["weight"] == pytest.approx(want.decayed, rel=TOLERANCE), where
    assert (row["activity_mean"], row["activity_var"]) == (want.mean, want.variance), where
    assert (row["pooled_mean"], row["pooled_var"]) == want.pooled, where
    assert (row["count"], row["commits"]) == (want.count, want.commits), where


def as_row(row: GammaRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in GammaRow.__slots__}


def highest(commits: Iterable[Commit]) -> int:
    return max((commit["epoch_end"] for commit in commits), default=0)


def made(branch: Branch, shard: int, height: int) -> Branch:
    """The branch, or its ancestor, as of the move that made a commit."""
    base, parent = branch.state.base, branch.chain_base
    if base is not None and parent is not None and height < base.keep.get(str(shard), 0):
        return made(parent, shard, height)
    for file in branch.added.commits:
        first, last = file.heights.get(str(shard), (0, -1))
        if first <= height <= last:
            return branch._repository.branch_at(branch.name, file.arrival)
    raise AssertionError(f"no file holds commit {height} of shard {shard}")


# --- random histories ---------------------------------------------------------------------------------


class History:
    """Ingests, runs, forced closes, idle runs and forks, in an order that a seed decides."""

    def __init__(self, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.repository = make_ledger(root)
        self.repository.half_lives = self.random.choice([(), (7,), (3, 40)])
        self.branches = ["main"]
        self.tick = 20
        self.policy = policy_json(
            self.random.choice(STRATEGIES),
            shards=self.random.choice([1, 1, 3]),
            lateness=self.random.choice([0, 4]),
            weight=self.random.choice([{"kind": "linear"}, {"kind": "nonlinear", "alpha": 0.7, "beta": 0.3}]),
        )

    def step(self) -> None:
        branch = self.random.choice(self.branches)
        act = self.random.random()
        if act < 0.45:
            self.ingest(branch)
        elif act < 0.85:
            run(self.repository, branch, self.policy, final=self.random.random() < 0.3)
        elif act < 0.93 and self.repository.branch(branch).state.rows:
            run(self.repository, branch, self.policy, force=f"{self.random.randrange(4)}:0")
        elif len(self.branches) < 4 and self.repository.branch(branch).state.commits:
            self.fork(branch)

    def ingest(self, branch: str) -> None:
        late = self.random.random() < 0.3
        ticks = [self.tick + (self.random.randrange(-20, 3) if late else i) for i in range(6)]
        self.tick += 0 if late else 6
        add_events(
            self.repository,
            branch,
            [
                event
                for i, tick in enumerate(ticks)
                for event in events_at(
                    tick,
                    entity=f"E{self.random.randrange(10**9)}-{i}",
                    activity=self.random.choice([0.0, 0.1, self.random.random(), 900.25]),
                    x=10.0 * self.random.randrange(4),
                )
            ],
        )

    def fork(self, parent: str) -> None:
        at = None
        if self.random.random() < 0.8:
            at = Place("", "tick", parent, tick=self.random.randrange(10, self.tick + 1))
        name = f"fork{len(self.branches)}"
        fork(self.repository, parent, name, at)
        self.branches.append(name)

    def states(self) -> Iterator[Branch]:
        return (self.repository.branch(name) for name in self.branches)


@pytest.mark.parametrize("least", [1, 4])
@pytest.mark.parametrize("seed", range(8))
def test_random_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, least: int) -> None:
    monkeypatch.setattr(tiles, "LEAST_COMMITS", least)
    history = History(tmp_path / "world", 100 * least + seed)
    for _ in range(30):
        history.step()
    for branch in history.states():
        commits = commits_of(branch)
        for half_life, window in ((None, None), (7, 11), (40, 10**9)):
            found = gamma(history.repository, branch.name, half_life=half_life, window=window)
            assert found.tick == highest(commits)
            check(found, commits, (branch.name, half_life, window))
        check_cuts(history, branch, commits)


def check_cuts(history: History, branch: Branch, commits: list[Commit]) -> None:
    for tick in history.random.sample(range(history.tick + 2), 2):
        found = gamma(history.repository, branch.name, at=GammaAt(tick), half_life=7, window=5)
        assert found.tick == tick
        check(found, cut(commits, tick), (branch.name, tick))
    for commit in history.random.sample(commits, min(4, len(commits))):
        at = commit_at(history.repository, branch.name, commit["shard"], commit["height"])
        assert (at.label, at.tick) == (commit["commit_id"], commit["epoch_end"])
        then = commits_of(made(branch, commit["shard"], commit["height"]))
        check(gamma(history.repository, branch.name, at=at), cut(then, at.tick), (branch.name, at))
    view = gamma_view(history.repository, branch.name, half_life=7, window=11, frames=5)
    for frame in view.frames:
        wanted = expected(cut(commits, frame.tick), frame.tick, 7, 11)
        assert [row.region for row in frame.rows] == list(wanted)
        for row, want in zip(frame.rows, wanted.values(), strict=True):
            check_row(as_row(row), want, 7, (branch.name, frame.tick))
            assert (row.last_commit, row.last_epoch_end) == (want.last, want.last_end)


def test_the_tiles_cover_all_but_the_last_commits_and_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "LEAST_COMMITS", 3)
    repository = make_ledger(tmp_path)
    for tick in range(60):
        add_events(repository, "main", events_at(tick, x=float(tick % 3) * 10))
        run(repository, "main", FIXED, final=True)
        state = repository.branch("main").state
        covered = sum(tile.commits for tile in state.tiles)
        assert 0 <= state.commits - covered < tiles.LEAST_COMMITS
        assert [tile.first for tile in state.tiles[1:]] == [tile.last for tile in state.tiles[:-1]]
        assert len(state.tiles) == (state.tiles[-1].last.bit_count() if state.tiles else 0)
    assert Move.from_bytes(repository.branch("main").raw).state.tiles == state.tiles


# --- options ------------------------------------------------------------------------------------------


@pytest.fixture
def short(tmp_path: Path) -> Repository:
    """Ten commits of one tick in two regions, each region every other tick."""
    repository = make_ledger(tmp_path)
    for tick in range(10):
        add_events(repository, "main", events_at(tick, activity=0.25 * tick, x=10.0 * (tick % 2)))
    run(repository, "main", FIXED, final=True)
    return repository


def test_one_region(short: Repository) -> None:
    everything = gamma(short, "main", half_life=3, window=4)
    for region in ("0:0", "1:0"):
        one = gamma(short, "main", region=region, half_life=3, window=4)
        assert one.table.to_pylist() == [r for r in everything.table.to_pylist() if r["region"] == region]
    assert gamma(short, "main", region="it's not there").table.num_rows == 0


def test_a_region_outside_the_window_has_no_pooled_statistics(short: Repository) -> None:
    found = gamma(short, "main", window=1).table.to_pylist()
    assert [row["pooled_mean"] for row in found] == [None, 2.25]
    assert [row["activity_mean"] for row in found] == [2.0, 2.25]


def test_decay_at_a_later_tick(short: Repository) -> None:
    at = GammaAt(10 + 3 * 2000)
    rows = gamma(short, "main", half_life=3, at=at).table.to_pylist()
    assert [row["weight"] for row in rows] == [0.0, 0.0], "long below the smallest float"
    near = gamma(short, "main", half_life=3, at=GammaAt(13)).table.to_pylist()
    now = gamma(short, "main", half_life=3).table.to_pylist()
    for one, other in zip(near, now, strict=True):
        assert one["weight"] == pytest.approx(other["weight"] / 2, rel=TOLERANCE)


def test_a_new_half_life_is_kept_from_the_next_tile_on(short: Repository) -> None:
    before = gamma(short, "main", half_life=5).table
    short.half_lives = (5, 9)
    for tick in range(10, 30):
        add_events(short, "main", events_at(tick, x=10.0 * (tick % 2)))
    run(short, "main", FIXED, final=True)
    (tile,) = short.branch("main").state.tiles
    assert (tile.half_lives, tile.commits) == ((5, 9), 30)
    assert gamma(short, "main", half_life=5, at=GammaAt(10)).table.equals(before)
    check(gamma(short, "main", half_life=9), commits_of(short.branch("main")), "kept")
    short.half_lives = ()
    add_events(short, "main", [event for tick in range(30, 50) for event in events_at(tick)])
    run(short, "main", FIXED, final=True)
    assert {tile.half_lives for tile in short.branch("main").state.tiles} == {(5, 9)}, "costs nothing to keep"


def test_sums_beyond_128_bits(tmp_path: Path) -> None:
    """A sum over commits has no bound, though that of one commit does."""
    repository = make_ledger(tmp_path)
    policy = {**FIXED, "baseWeight": 1.5e29}
    for tick in range(40):
        add_events(repository, "main", events_at(tick, activity=1.0))
        run(repository, "main", policy, final=True)
    commits = commits_of(repository.branch("main"))
    assert sum(int(commit["entries"][0]["weight"]) for commit in commits) > 2**127
    check(gamma(repository, "main"), commits, "latest")
    check(gamma(repository, "main", at=GammaAt(33)), commits[:33], "cut")
    assert gamma_view(repository, "main").frames[-1].rows[0].weight == pytest.approx(40 * 1.5e29)


def test_no_commits(tmp_path: Path) -> None:
    repository = make_ledger(tmp_path)
    assert gamma(repository, "main").to_json() == {
        "branch": "main",
        "tick": 0,
        "commitId": None,
        "halfLife": None,
        "window": None,
        "regions": [],
    }
    assert gamma(repository, "main", half_life=3, window=3, at=GammaAt(5)).frame.rows == ()
    assert gamma_view(repository, "main").frames == ()


def test_what_cannot_be_asked_for(short: Repository) -> None:
    with pytest.raises(UsageError, match="half-life"):
        gamma(short, "main", half_life=0)
    with pytest.raises(UsageError, match="window"):
        gamma_view(short, "main", window=0)
    with pytest.raises(NotFound, match="no commit 10"):
        commit_at(short, "main", 0, 10)


def test_as_it_is_shown(short: Repository) -> None:
    found = gamma(short, "main")
    frame = found.frame
    assert frame.tick == 10
    assert frame.label == found.to_json()["commitId"] == commits_of(short.branch("main"))[-1]["commit_id"]
    assert [row.bounds for row in frame.rows] == [(0, 0, 10, 10), (10, 0, 20, 10)]
    assert gamma_view(short, "main").frames[-1].rows == frame.rows


def test_frames_are_spread_evenly(short: Repository) -> None:
    def ticks(frames: int = 200, last: int | None = None) -> list[int]:
        return [frame.tick for frame in gamma_view(short, "main", frames=frames, last=last).frames]

    assert ticks() == list(range(1, 11))
    assert ticks(frames=4) == [1, 4, 7, 10]
    assert ticks(frames=1) == [10]
    assert ticks(last=3) == [8, 9, 10]
    labels = [frame.label for frame in gamma_view(short, "main").frames]
    assert labels == [commit["commit_id"] for commit in commits_of(short.branch("main"))]


# --- time ---------------------------------------------------------------------------------------------


class CountingStore(DirectoryStore):
    """Counts the moves and files that are read."""

    moves = 0
    files = 0

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        self.moves += 1
        return super().read_ref(branch, seq)

    def location(self, file: str) -> str:
        self.files += 1
        return super().location(file)


def reader_of(store: DirectoryStore) -> Repository:
    author = Author("tester", lambda: "2026-01-01T00:00:00Z")
    return Repository(store, lambda: DuckEngine(store, 2, "1GB", None), author)


def test_reads_do_not_grow_with_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = make_ledger(tmp_path)
    monkeypatch.setattr(tiles, "LEAST_COMMITS", 4)
    for tick in range(300):
        add_events(writer, "main", events_at(tick, activity=tick / 7, x=10.0 * (tick % 5)))
        run(writer, "main", FIXED, final=True)
    commits = commits_of(writer.branch("main"))
    for at, moves in ((None, 20), (GammaAt(299), 30), (GammaAt(151), 45)):
        store = CountingStore(tmp_path)
        found = gamma(reader_of(store), "main", at=at)
        check(found, cut(commits, found.tick), at)
        assert store.moves <= moves
        assert store.files <= 12
