"""The reference model against the shared vectors, and against the rules that no vector reaches.

The model is the oracle of the property tests, so it has to be right first: ids, digests, epochs, exact sums
and statistics of all small cases, heads of the real inputs, and canonical JSON by the vectors of RFC 8785.
"""

from __future__ import annotations

import io
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
import rfc8785
import zstandard

from tests.golden.cases import CASES
from tests.reference.commits import Commit, Entries, Event, policy_digest, q, region_of, shard_of, stats
from tests.reference.history import Branch, fold, merged
from tests.support import policy_json

REAL = ["pedestrians-fixed", "pedestrians-hybrid", "flights-fixed", "flights-hybrid"]
JCS = ["arrays", "french", "structures", "unicode", "values", "weird"]


# --- the vectors ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, Any]:
    loaded = json.loads((shared / "vectors/commits/cases.json").read_text(encoding="utf-8"))
    return {case["name"]: case for case in loaded}


def in_vector_shape(commit: Commit) -> dict[str, Any]:
    return {
        "commitId": commit.commit_id,
        "digest": commit.digest,
        "shard": commit.shard,
        "epochStart": commit.epoch_start,
        "epochEnd": commit.epoch_end,
        "metadata": commit.metadata,
        "entries": [
            {
                "region": region,
                "n": str(m.n),
                "activity": str(m.q),
                "activity2": str(m.q2),
                "weight": str(m.w),
                "stats": stats(*m)._asdict(),
            }
            for region, m in sorted(commit.entries.items())
        ],
    }


def test_every_case_is_named(cases: dict[str, Any]) -> None:
    assert sorted(CASES) == sorted(cases)


@pytest.mark.parametrize("name", CASES)
def test_case(cases: dict[str, Any], name: str) -> None:
    case = cases[name]
    branch = Branch(case["policy"])
    made: list[Commit] = []
    for run in case["runs"]:
        branch.ingest(run["ticks"])
        made += branch.run(final=run["final"])
    assert policy_digest(case["policy"]) == case["policyDigest"]
    assert [in_vector_shape(commit) for commit in branch.commits] == case["commits"]
    assert {commit.commit_id for commit in made} == {commit.commit_id for commit in branch.commits}


@pytest.mark.parametrize("index", range(len(REAL)), ids=REAL)
def test_real_input(shared: Path, index: int) -> None:
    case = json.loads((shared / "vectors/commits/real.json").read_text(encoding="utf-8"))[index]
    branch = Branch(case["policy"])
    branch.ingest(events_of(shared / case["source"]))
    branch.run(final=case["final"])
    assert policy_digest(case["policy"]) == case["policyDigest"]
    assert {str(shard): head for shard, head in branch.heads.items()} == case["heads"]
    assert {str(shard.number): len(shard.chain) for shard in branch.shards} == case["commits"]


def test_every_real_input_is_named(shared: Path) -> None:
    assert len(json.loads((shared / "vectors/commits/real.json").read_text(encoding="utf-8"))) == len(REAL)


def events_of(path: Path) -> list[Event]:
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return [json.loads(line) for line in io.TextIOWrapper(reader, encoding="utf-8")]


@pytest.mark.parametrize("name", JCS)
def test_canonical_json(shared: Path, name: str) -> None:
    data = shared / "vectors/jcs-rfc8785/testdata"
    canonical = rfc8785.dumps(json.loads((data / f"input/{name}.json").read_text(encoding="utf-8")))
    assert canonical == (data / f"output/{name}.json").read_bytes()
    assert canonical == bytes.fromhex((data / f"outhex/{name}.txt").read_text(encoding="ascii"))


def test_every_canonical_json_vector_is_named(shared: Path) -> None:
    assert sorted(path.stem for path in (shared / "vectors/jcs-rfc8785/testdata/input").iterdir()) == JCS


# --- rules that no vector reaches -----------------------------------------------------------------

FIXED = {"kind": "fixed", "interval": 20}
CAPPED = {"kind": "hybrid", "minInterval": 3, "maxInterval": 25, "maxSize": 6, "maxVariance": 0.7}
OPEN = {"kind": "adaptive", "maxSize": 9, "maxMean": 2.5}


def at(*ticks: int, activity: float = 0.5, entity: str = "E") -> list[Event]:
    """One event in region 0:0 at each tick."""
    return [{"entityId": entity, "tickId": tick, "x": 1, "y": 1, "activity": activity} for tick in ticks]


def epochs(branch: Branch) -> list[tuple[int, int, int]]:
    return [(c.epoch_start, c.epoch_end, sum(m.n for m in c.entries.values())) for c in branch.commits]


def ran(strategy: dict[str, Any], *ticks: int, final: bool = False, **changes: Any) -> Branch:
    branch = Branch(policy_json(strategy, **changes))
    branch.ingest(at(*ticks))
    branch.run(final=final)
    return branch


def test_a_forced_close_does_not_shift_the_grid() -> None:
    branch = ran(FIXED, 3, 27)
    assert [c.reason for c in branch.force("0:0")] == ["forced"]
    branch.ingest(at(33, 45, 61))
    branch.run()
    assert epochs(branch) == [(0, 20, 1), (20, 28, 1), (28, 40, 1), (40, 60, 1)]


def test_a_forced_close_leaves_the_watermark_and_the_other_shards() -> None:
    branch = Branch(policy_json(FIXED, shards=2))
    forced, other = shard_of(branch.policy, "0:0"), shard_of(branch.policy, "1:0")
    assert forced != other
    branch.ingest([*at(3, 27), {"entityId": "F", "tickId": 31, "x": 11, "y": 1, "activity": 1}])
    branch.run()
    start = branch.shards[other].start
    assert [(commit.shard, commit.epoch) for commit in branch.force("0:0")] == [(forced, (20, 28))]
    assert branch.force("0:0") == []
    assert (branch.watermark, branch.shards[other].start) == (31, start)


def test_rows_below_a_forced_close_are_late_whatever_the_watermark() -> None:
    branch = ran(OPEN, 0, 50, lateness=100)
    first = branch.force("0:0")[0]
    branch.ingest(at(50, entity="F"))
    (amending,) = branch.run()
    assert branch.watermark == -50
    assert amending.metadata == {"amends": first.commit_id}
    assert amending.epoch == first.epoch == (0, 51)


def test_fixed_below_the_very_first_epoch_keeps_to_the_grid() -> None:
    branch = ran(FIXED, 105, 190)
    branch.ingest(at(9, 47))
    branch.run()
    assert epochs(branch) == [(100, 120, 1), (0, 20, 1), (40, 60, 1)]


def test_fixed_commits_only_that_part_of_an_interval_that_lies_in_the_gap() -> None:
    branch = ran(OPEN, 7, 30, final=True).fork(policy=policy_json(FIXED))
    branch.ingest(at(2, 33, 100, 115))
    branch.run()
    branch.ingest(at(64))
    branch.run()
    assert epochs(branch) == [(7, 31, 2), (0, 7, 1), (31, 40, 1), (60, 80, 1)]


def test_a_fork_shares_the_chain_up_to_its_commit_and_commits_the_rest_again() -> None:
    parent = ran(FIXED, 3, 27, 45, 61)
    fork = parent.fork(parent.commits[1].commit_id)
    assert fork.commits == parent.commits[:2]
    assert (fork.watermark, fork.shards[0].start) == (40, 40)
    assert fork.run() == parent.commits[2:]


def test_a_fork_cuts_late_commits_behind_the_cut() -> None:
    parent = ran(FIXED, 3, 205, 300)
    parent.ingest(at(77))
    parent.run()
    fork = parent.fork(100)
    assert epochs(fork) == [(0, 20, 1)]
    fork.run()
    assert epochs(fork) == [(0, 20, 1), (60, 80, 1), (200, 220, 1)]


def test_a_fork_from_a_commit_starts_at_the_move_that_made_it() -> None:
    parent = ran(FIXED, 3, 47, 61)
    first = parent.commits[0]
    parent.ingest(at(8, entity="F"))
    parent.run()
    assert epochs(parent.fork(first.commit_id)) == [(0, 20, 1)]
    assert epochs(parent.fork(40)) == [(0, 20, 1)]
    assert epochs(parent.fork(60)) == [(0, 20, 1), (40, 60, 1), (0, 20, 1)]
    assert epochs(parent.fork(60).fork(first.commit_id)) == [(0, 20, 1)]
    amended = parent.fork(first.commit_id).run()
    assert [c.metadata for c in amended] == [{"amends": first.commit_id}, {}]


def test_a_fork_whose_cut_leaves_nothing_begins_anew() -> None:
    parent = ran(FIXED, 43, 99)
    fork = parent.fork(50, policy_json(OPEN))
    assert (fork.commits, fork.shards[0].start, fork.watermark) == ([], None, 50)
    fork.ingest(at(41, 48))
    fork.run(final=True)
    assert epochs(fork) == [(41, 100, 4)]


def test_late_rows_of_a_shared_epoch_are_weighed_by_the_policy_that_made_it() -> None:
    parent = ran(FIXED, 3, 27, 61)
    fork = parent.fork(policy=policy_json(FIXED, baseWeight=2))
    fork.ingest(at(4, 45))
    made = fork.run()
    assert [(c.epoch, sum(m.w for m in c.entries.values())) for c in made] == [
        ((0, 20), q(0.5)),
        ((40, 60), 2 * q(0.5)),
    ]
    assert [c.policy_digest for c in made] == [policy_digest(parent.policy), policy_digest(fork.policy)]


def test_another_region_map_starts_from_the_first_tick() -> None:
    parent = ran(FIXED, 3, 27, 61)
    fork = parent.fork(40, policy_json(FIXED, regions={"kind": "grid", "cell": 5}))
    assert (fork.commits, fork.watermark) == ([], None)
    fork.run()
    assert epochs(fork) == epochs(parent)


def test_the_first_tick_is_the_lowest_below_the_watermark() -> None:
    branch = ran(OPEN, 20, lateness=10)
    assert (branch.watermark, branch.shards[0].start) == (10, None)
    branch.ingest(at(12, 40))
    branch.run()
    assert (branch.watermark, branch.shards[0].start) == (30, 12)


def test_a_final_moves_empty_epochs_on_and_the_watermark_never_goes_back() -> None:
    branch = Branch(policy_json(CAPPED, shards=2, lateness=9))
    branch.ingest([*at(0, 30), {"entityId": "F", "tickId": 0, "x": 11, "y": 1, "activity": 1}])
    branch.run(final=True)
    assert epochs(branch) == [(0, 25, 1), (0, 25, 1), (25, 50, 1)]
    assert branch.watermark == 50
    assert [shard.start for shard in branch.shards] == [50, 50]
    assert branch.run() == []
    assert branch.watermark == 50


@pytest.mark.parametrize(
    ("event", "region"),
    [
        ({"place": "a", "meta": {"place": "b"}}, "a"),
        ({"meta": {"place": "b"}}, "b"),
        ({"place": None, "meta": {"place": "b"}}, "none"),
        ({"meta": None}, "none"),
        ({"place": 1.0}, "1"),
        ({"place": {"b": 1e21, "a": []}}, '{"a":[],"b":1e+21}'),
    ],
)
def test_a_field_region_is_the_top_level_key_where_present(event: Event, region: str) -> None:
    policy = policy_json(FIXED, regions={"kind": "field", "name": "place"})
    assert region_of(policy, event) == region


def test_a_run_without_ticks_leaves_the_watermark_unset() -> None:
    branch = Branch(policy_json(FIXED))
    assert branch.run(final=True) == []
    assert branch.force("0:0") == []
    assert branch.watermark is None


def test_a_weight_beyond_128_bits_is_an_error() -> None:
    with pytest.raises(OverflowError):
        ran(FIXED, 1, 2, 30, baseWeight=1e30)


def random_events(random_numbers: random.Random, count: int) -> list[Event]:
    return [
        {
            "entityId": f"E{number}",
            "tickId": random_numbers.randrange(200),
            "x": random_numbers.uniform(-20, 20),
            "y": random_numbers.uniform(-20, 20),
            "activity": round(random_numbers.uniform(0, 3), 6),
        }
        for number in range(count)
    ]


def weightless(entries: Entries) -> Entries:
    """Without the one number that a fork may count differently from then on."""
    return {region: moments._replace(w=0) for region, moments in entries.items()}


def assert_whole(branch: Branch) -> None:
    """The sum over a chain is the sum over the rows below `start`, and its epochs do not overlap."""
    for shard in branch.shards:
        rows = [] if shard.start is None else shard.rows_of(0, shard.start)
        assert weightless(merged(shard.chain)) == weightless(fold(branch.policy, rows))
        bounds = sorted(shard.epochs())
        assert all(low[1] <= high[0] for low, high in itertools.pairwise(bounds))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("strategy", [FIXED, CAPPED, OPEN], ids=["fixed", "capped", "open"])
def test_a_chain_holds_what_its_rows_hold(strategy: dict[str, Any], seed: int) -> None:
    random_numbers = random.Random(seed)
    branch = Branch(policy_json(strategy, shards=3, lateness=random_numbers.choice([0, 10])))
    events = random_events(random_numbers, 150)
    while events:
        count = random_numbers.randrange(1, 40)
        branch.ingest(events[:count])
        events = events[count:]
        branch = random_act(branch, random_numbers)
        branch.run(final=random_numbers.random() < 0.2)
        assert_whole(branch)


def random_act(branch: Branch, random_numbers: random.Random) -> Branch:
    """Now and then a forced close, or a fork with another strategy, in the middle of things."""
    chance = random_numbers.random()
    if chance < 0.15:
        watermark = branch.watermark
        branch.force(random_numbers.choice(["0:0", "1:1", "-1:0"]))
        assert branch.watermark == watermark
    elif chance < 0.4:
        policy = {**branch.policy, "strategy": random_numbers.choice([FIXED, CAPPED, OPEN]), "baseWeight": 3}
        ids = [commit.commit_id for commit in branch.commits]
        choices: list[int | str | None] = [None, random_numbers.randrange(200), *ids]
        return branch.fork(random_numbers.choice(choices), policy)
    return branch


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("strategy", [FIXED, CAPPED, OPEN], ids=["fixed", "capped", "open"])
def test_small_runs_within_the_lateness_give_the_commits_of_one(strategy: dict[str, Any], seed: int) -> None:
    random_numbers = random.Random(seed)
    events = random_events(random_numbers, 150)
    lateness = 12
    arriving = sorted(events, key=lambda event: event["tickId"] + random_numbers.uniform(0, lateness))
    policy = policy_json(strategy, shards=3, lateness=lateness)
    one, many = Branch(policy), Branch(policy)
    one.ingest(events)
    one.run(final=True)
    while arriving:
        count = random_numbers.randrange(1, 6)
        many.ingest(arriving[:count])
        arriving = arriving[count:]
        many.run(final=not arriving)
    assert many.commits == one.commits
