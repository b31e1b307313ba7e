"""One recorded run made again and compared with what it stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.commit import COMMIT
from ledger_cli.core.history import CommitFile, State
from ledger_cli.core.moments import SUMS
from ledger_cli.errors import Corrupt, MomentOverflow, PolicyChange
from ledger_cli.services.contributors import Committed, wrong
from ledger_cli.services.integrity_commits import torn
from ledger_cli.services.lookup import CommitRef
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.run import RunFold
from ledger_cli.services.scope import Scope

_PLACE = ["shard", "height", "epoch_start", "epoch_end"]
_REF = ["commit_id", "digest", *_PLACE]
_HEADER = ["layer", "epoch_start", "epoch_end", "parents", "policy", "metadata"]
_NONE = COMMIT.empty_table().select(_REF)
_FIRST_DIFFERENCE = """
    SELECT shard, height FROM known FULL JOIN made USING (shard, height)
    WHERE known.digest IS DISTINCT FROM made.digest
    ORDER BY height, coalesce(made.epoch_end, known.epoch_end), coalesce(made.epoch_start, known.epoch_start), shard
    LIMIT 1"""
"""Behind the first difference of a chain, every commit differs: the parent's digest is part of it."""
_INTEGERS = ("n", *SUMS)
_STATE = ("shards", "watermark", "policy", "folded", "runs", "final")
"""What a run alone changes."""

Key = tuple[int, int]
Exact = dict[str, str]


@dataclass(frozen=True)
class Window:
    """Ticks [first, last) that an epoch has to lie in to be compared; None is open."""

    first: int | None = None
    last: int | None = None

    @property
    def all(self) -> bool:
        """Whether it holds every epoch."""
        return self.first is None and self.last is None

    def meets(self, file: CommitFile) -> bool:
        """Whether an epoch of the file may lie in it."""
        above = self.last is not None and file.epoch_min >= self.last
        return not above and (self.first is None or file.epoch_max > self.first)


@dataclass(frozen=True)
class RegionDifference:
    """The exact integers of a region, by name, as stored and as recomputed; None: there is no such entry."""

    region: str
    stored: Exact | None
    recomputed: Exact | None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"region": self.region, "stored": self.stored, "recomputed": self.recomputed}


@dataclass(frozen=True)
class ReplayDifference:
    """The first difference. `branch` and `move`: where it is recorded."""

    what: Literal["commit", "state", "digest", "file"]
    branch: str
    move: int
    message: str
    stored: CommitRef | None = None
    recomputed: CommitRef | None = None
    header: Mapping[str, tuple[Any, Any]] | None = None
    """Fields of the header that differ: as stored and as recomputed."""
    regions: tuple[RegionDifference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "what": self.what,
            "branch": self.branch,
            "move": self.move,
            "message": self.message,
            "stored": None if self.stored is None else self.stored.to_json(),
            "recomputed": None if self.recomputed is None else self.recomputed.to_json(),
            "header": {name: list(pair) for name, pair in (self.header or {}).items()},
            "regions": [region.to_json() for region in self.regions],
        }


class RunCheck:
    """A run between two moves of a branch. `keep`: only so many commits of each chain count (None: all)."""

    def __init__(
        self,
        repository: Repository,
        before: Branch,
        after: Branch,
        window: Window,
        keep: Mapping[str, int] | None,
    ) -> None:
        self._repository = repository
        self._before = before
        self._after = after
        self._window = window
        self._keep = keep
        self._files = after.move.added.commits
        self.compared = 0

    @property
    def concerned(self) -> bool:
        """Whether the run has anything to be compared."""
        if self._whole:
            return True
        return any(self._window.meets(file) and self._keeps(file) for file in self._files)

    def differences(self) -> Iterator[ReplayDifference]:
        """What differs, the first thing first; reading on costs more."""
        yield from self._torn_files()
        try:
            fold, committed = self._fold(), Committed()
            tables: Iterator[pa.Table] = map(self._compared, fold.tables())
            if any(file.contributors for file in self._files):
                tables = committed.noted(tables)
            made = pa.concat_tables([_NONE, *(table.select(_REF) for table in tables)])
        except PolicyChange:
            yield self._difference(
                "state", "the move of the run records another policy than the branch had: run `ledger verify`"
            )
            return
        except (Corrupt, MomentOverflow) as error:
            # What was folded once can be folded again, if its events are still what they were.
            yield self._difference("file", f"the run cannot be made again, run `ledger verify`: {error}")
            return
        engine = self._repository.engine
        known = self._compared(engine.commits(self._files, _REF, headers=True))
        self.compared = len(made)
        if len(engine.query("SELECT DISTINCT shard, height FROM known", known=known)) != len(known):
            yield self._difference("file", f"{self._files[0].file} holds a commit twice")
        differing = engine.query(_FIRST_DIFFERENCE, known=known, made=made).to_pylist()
        if differing:
            first = (differing[0]["shard"], differing[0]["height"])
            yield self._explained(first, _ref_of(known, first), _ref_of(made, first))
            return
        yield from self._wrong_contributors(committed)
        if self._whole:
            yield from self._state_differences(fold)

    @property
    def _whole(self) -> bool:
        """Whether the run is compared with all that came of it."""
        return self._window.all and self._keep is None

    def _torn_files(self) -> Iterator[ReplayDifference]:
        for file in self._files:
            for what in torn(self._repository, file):
                yield self._difference("file", f"{file.file} {what}: run `ledger verify`")

    def _wrong_contributors(self, committed: Committed) -> Iterator[ReplayDifference]:
        """Whether who contributed is told rightly: as in a run of commit, that takes a second look at its ticks.

        No digest of a commit covers it, and that of the file is in the log, which says what it was told.
        """
        for file in self._files:
            if file.contributors is not None:
                what = wrong(self._repository, self._scope(), committed, file.contributors, self._whole)
                if what is not None:
                    told = f"{file.contributors.file} {what}: restore it and refs/{self._after.name} from a copy"
                    yield self._difference("file", told)

    def _fold(self) -> RunFold:
        return RunFold(self._repository, self._scope())

    def _scope(self) -> Scope:
        run = self._after.move.run
        assert run is not None
        policy = self._after.policy
        if policy is None:
            raise Corrupt(f"move {self._after.seq} of {self._after.name} records no policy")
        return Scope(self._before, policy, run)

    def _compared(self, table: pa.Table) -> pa.Table:
        """The commits of a table that are to be compared."""
        shard, height, start, end = (table[name].to_numpy() for name in _PLACE)
        mine = np.ones(len(table), dtype=bool)
        if self._window.first is not None:
            mine &= start >= self._window.first
        if self._window.last is not None:
            mine &= end <= self._window.last
        if self._keep is not None:
            shards, place = np.unique(shard, return_inverse=True)
            kept = np.array([self._keep.get(str(each), 0) for each in shards.tolist()], dtype=np.int64)
            mine &= height < kept[place]
        return table if mine.all() else table.filter(pa.array(mine))

    def _keeps(self, file: CommitFile) -> bool:
        keep = self._keep
        return keep is None or any(first < keep.get(shard, 0) for shard, (first, _) in file.heights.items())

    def _explained(self, key: Key, known: CommitRef | None, made: CommitRef | None) -> ReplayDifference:
        stored, recomputed = self._stored_row(key), self._recomputed_row(key)
        header, regions = _header_differences(stored, recomputed), _region_differences(stored, recomputed)
        shown = known or made
        assert shown is not None
        which = f"shard {key[0]}, ticks [{shown.epoch_start}, {shown.epoch_end})"
        if known is None:
            message = f"the events give a commit of {which} that is not stored"
        elif made is None:
            message = f"commit {known.commit_id} ({which}) is stored, but the events do not give it"
        elif self._window.first is not None and not regions and header.keys() == {"parents"}:
            message = (
                f"commit {known.commit_id} ({which}) has other parents and is the same otherwise: the difference lies "
                f"below tick {self._window.first}, `ledger replay --verify` without --from finds it"
            )
        else:
            message = f"commit {known.commit_id} ({which}) comes out of the events as {made.commit_id}"
        return ReplayDifference(
            "commit",
            self._after.name,
            self._after.seq,
            message,
            known,
            made,
            header,
            regions,
        )

    def _stored_row(self, key: Key) -> dict[str, Any] | None:
        where = f"shard = {key[0]} AND height = {key[1]}"
        rows = self._repository.engine.commits(self._files, ["*"], where).to_pylist()
        return rows[0] if rows else None

    def _recomputed_row(self, key: Key) -> dict[str, Any] | None:
        for table in self._fold().tables():
            mine = pc.and_(pc.equal(table["shard"], key[0]), pc.equal(table["height"], key[1]))
            rows: list[dict[str, Any]] = table.filter(mine).to_pylist()
            if rows:
                return rows[0]
        return None

    def _state_differences(self, fold: RunFold) -> Iterator[ReplayDifference]:
        names = changed(fold.state, self._after.state)
        if names:
            yield self._difference("state", f"the move after the run records another {names} than the run comes to")

    def _difference(self, what: Literal["state", "file"], message: str) -> ReplayDifference:
        return ReplayDifference(what, self._after.name, self._after.seq, message)


def changed(before: State, after: State) -> str:
    """The names of what two states differ in, of what a run alone changes; empty where they do not."""
    return " and ".join(name for name in _STATE if getattr(before, name) != getattr(after, name))


def _ref_of(table: pa.Table, key: Key) -> CommitRef | None:
    """The commit of a shard and height, None where the table has none."""
    rows = table.filter(pc.and_(pc.equal(table["shard"], key[0]), pc.equal(table["height"], key[1]))).to_pylist()
    return CommitRef(**rows[0]) if rows else None


def _header_differences(stored: dict[str, Any] | None, recomputed: dict[str, Any] | None) -> dict[str, tuple[Any, Any]]:
    if stored is None or recomputed is None:
        return {}
    return {name: (stored[name], recomputed[name]) for name in _HEADER if stored[name] != recomputed[name]}


def _region_differences(
    stored: dict[str, Any] | None, recomputed: dict[str, Any] | None
) -> tuple[RegionDifference, ...]:
    before, after = _exact(stored), _exact(recomputed)
    return tuple(
        RegionDifference(region, before.get(region), after.get(region))
        for region in sorted({*before, *after})
        if before.get(region) != after.get(region)
    )


def _exact(row: dict[str, Any] | None) -> dict[str, Exact]:
    entries = [] if row is None else row["entries"]
    return {entry["region"]: {name: str(entry[name]) for name in _INTEGERS} for entry in entries}
