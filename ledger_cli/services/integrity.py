"""`ledger verify`: moves, files, commits and chains against their digests, without replay.

Everything that is wrong is listed, not the first thing alone, and nothing that is stored can make it stop.
What no digest shows is a log that was cut short: `ledger replay --verify --expect` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from ledger_cli.core.history import (
    ADMIN,
    Added,
    CommitFile,
    Move,
    Pack,
    Snapshot,
    State,
    checkpoint_span,
    digest_of_move,
)
from ledger_cli.core.jcs import digest_of
from ledger_cli.errors import Corrupt, LedgerError, NotFound
from ledger_cli.services.archive_check import damages_of_archives
from ledger_cli.services.archived_store import ArchivedStore, manifest_file
from ledger_cli.services.integrity_commits import Links, broken, chains, check_file
from ledger_cli.services.packs import check
from ledger_cli.services.repository import NO_MOVES, Branch, Repository
from ledger_cli.services.snapshot_files import MANIFEST
from ledger_cli.services.snapshot_restore import damages
from ledger_cli.services.snapshots import path_of, show

_RESTORE = "restore it from a copy of the ledger, then run `ledger verify` again"
_DAMAGE = (
    LedgerError,
    pa.ArrowException,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    OSError,
)
"""What reading damaged bytes may raise; each becomes a finding."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written: in which file, what, and what to do."""

    file: str
    what: str
    next_step: str = _RESTORE

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"file": self.file, "what": self.what, "nextStep": self.next_step}


@dataclass(frozen=True)
class IntegrityReport:
    """What was checked, and what was found wrong."""

    refs: int
    moves: int
    files: int
    bytes: int
    commits: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether all is as it was written."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "ok": self.ok,
            "refs": self.refs,
            "moves": self.moves,
            "files": self.files,
            "bytes": self.bytes,
            "commits": self.commits,
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass
class _Seen:
    """What the check has met so far."""

    findings: dict[Finding, None] = field(default_factory=dict)
    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    commits: dict[str, CommitFile] = field(default_factory=dict)
    links: dict[str, Links] = field(default_factory=dict)
    moves: int = 0

    def wrong(self, file: str, what: str, next_step: str = _RESTORE) -> None:
        """Note a finding, once."""
        self.findings.setdefault(Finding(file, what, next_step))


def verify(
    repository: Repository, branches: Sequence[str] | None = None, archives: ArchivedStore | None = None
) -> IntegrityReport:
    """Check the refs named (None: all, deleted ones too) and every file that they name.

    Of what is archived the headers are checked; with `archives` every file of those in use too, where they are.
    NotFound where a branch that was named does not exist.
    """
    existing = repository.store.branches()
    for name in branches or ():
        if name not in existing:
            raise NotFound(f"there is no branch {name!r}: `ledger branch list` shows those that exist")
    seen = _Seen()
    if not existing:
        seen.wrong("refs", NO_MOVES)
    names = existing if branches is None else _with_parents(repository, branches)
    logs = {name: _check_log(repository, name, seen) for name in names}
    packed = _check_packs(repository, seen)
    whole = {file for file in sorted(seen.files) if file in packed or _file_is_whole(repository, file, seen)}
    for file in sorted(whole & seen.commits.keys() - seen.links.keys()):
        _check_commits(repository, seen.commits[file], seen)
    for name, moves in logs.items():
        for life in _lives(moves):
            _guarded(seen, f"refs/{name}", _check_chains, repository, name, life, seen)
            _guarded(seen, f"refs/{name}", _check_policies, name, life, seen)
            _guarded(seen, f"refs/{name}", _check_world, repository, name, life[-1], whole, seen)
    _check_tags(logs.get(ADMIN, []), seen)
    _check_snapshots(repository, logs.get(ADMIN, []), seen)
    _check_manifests(repository, logs.get(ADMIN, []), seen)
    if archives is not None:
        damages_there = damages_of_archives(repository, archives)
        for file, what in _guarded(seen, f"refs/{ADMIN}", lambda: list(damages_there)) or ():
            seen.wrong(file, what, "bring it back from a copy of the archive, then run this again")
    return IntegrityReport(
        refs=len(names),
        moves=seen.moves,
        files=len(seen.files),
        bytes=sum(size for _, size in seen.files.values()),
        commits=sum(len(each.shard) for each in seen.links.values()),
        findings=tuple(seen.findings),
    )


def _with_parents(repository: Repository, names: Iterable[str]) -> list[str]:
    """The refs named and those that their forks stand on: their commits are in files of these."""
    found: list[str] = []
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.append(name)
            raw = repository.store.read_ref(name, max(repository.store.move_numbers(name), default=0))
            try:
                base = None if raw is None else Move.from_bytes(raw).state.base
            except _DAMAGE:
                continue
            left += [] if base is None else [base.branch]
    return found


def _guarded(seen: _Seen, file: str, check: Callable[..., _T], *given: Any) -> _T | None:
    try:
        return check(*given)
    except _DAMAGE as error:
        line = str(error).strip().split("\n")[0] or type(error).__name__
        seen.wrong(file, f"cannot be checked: {line}")
        return None


def _check_log(repository: Repository, name: str, seen: _Seen) -> list[Move]:
    """The moves of a ref that can be read, in order."""
    moves: list[Move] = []
    previous = ""
    collected: list[Added] = []
    expected = 0
    for seq in repository.store.move_numbers(name):
        if seq > expected:
            more = "" if seq == expected + 1 else f", and so are the moves after it up to {seq - 1}"
            seen.wrong(_file_of_move(name, expected), f"is missing{more}")
            previous = "?"
        expected = seq + 1
        file = _file_of_move(name, seq)
        raw = _guarded(seen, file, repository.store.read_ref, name, seq)
        if raw is None:
            seen.wrong(file, "is missing")
            previous = "?"
            collected.append(Added())
            continue
        seen.moves += 1
        move = _guarded(seen, file, _parsed, raw, seq)
        if move is not None:
            if previous != "?" and move.previous != previous:
                seen.wrong(file, "does not follow the move before it: one of the two was changed")
            moves.append(move)
            _guarded(seen, file, _collect, move, seen)
        collected.append(Added() if move is None else move.added.arrived(seq))
        if move is not None and len(moves) == seq + 1:
            _guarded(seen, file, _check_checkpoint, move, collected, file, seen)
        previous = digest_of_move(raw)
    return moves


def _file_of_move(name: str, seq: int) -> str:
    return f"refs/{name}/{seq:020d}.json"


def _parsed(raw: bytes, seq: int) -> Move:
    move = Move.from_bytes(raw)
    if move.seq != seq:
        raise Corrupt(f"it says that it is the move {move.seq}")
    if move.to_bytes() != raw:
        raise Corrupt("it is not written as a move is")
    return move


def _collect(move: Move, seen: _Seen) -> None:
    for each in move.named:
        known = seen.files.setdefault(each.file, (each.sha256, each.bytes))
        if known[0] != each.sha256:
            seen.wrong(each.file, "has two different digests in the log")
    seen.commits |= {each.file: each for each in move.added.commits}


def _check_checkpoint(move: Move, collected: list[Added], file: str, seen: _Seen) -> None:
    span = checkpoint_span(move.seq)
    if not span or move.checkpoint is None:
        return
    first = max(move.seq - span + 1, move.state.created)
    listed = collected[first : move.seq + 1]
    segments = tuple(each for added in listed for each in added.segments)
    commits = tuple(each for added in listed for each in added.commits)
    quarantine = tuple(each for added in listed for each in added.quarantine)
    world = tuple(each for added in listed for each in added.world)
    if move.checkpoint != Added(segments, commits, quarantine, world):
        seen.wrong(file, "lists other files than the moves before it added")


def _check_packs(repository: Repository, seen: _Seen) -> set[str]:
    """Check every pack that counts with all of its members; the files that packs alone hold, as the log has them."""
    admin = _guarded(seen, f"refs/{ADMIN}", repository.find, ADMIN)
    alone: set[str] = set()
    for pack in () if admin is None else admin.state.packs:
        if pack.replaced is None:
            _guarded(seen, pack.file, _check_pack, repository, pack, seen, alone)
            seen.files[pack.file] = pack.sha256, pack.bytes
    return alone


def _check_pack(repository: Repository, pack: Pack, seen: _Seen, alone: set[str]) -> None:
    there = {folder: set(repository.store.folders(folder)) for folder in ("segments", "commits", "quarantine")}
    members = rows = 0
    for member in check(repository.store.location(pack.file)):
        members, rows = members + 1, rows + member.rows.num_rows
        sha256, _ = seen.files.get(member.file, (member.sha256, 0))
        if member.sha256 != sha256:
            seen.wrong(pack.file, f"{member.file} in it is not what its digest says")
        elif member.file in seen.files:
            folder, _, name = member.file.rpartition("/")
            if name not in there.get(folder, ()):
                alone.add(member.file)
            if member.file in seen.commits:
                # Now that its rows are at hand: to look for them in the pack once more takes as long as all of them.
                _check_commits(repository, seen.commits[member.file], seen, [member.rows])
    if (members, rows) != (pack.members, pack.rows):
        raise Corrupt(f"it holds {members} files and {rows} rows, its move says {pack.members} and {pack.rows}")


def _file_is_whole(repository: Repository, file: str, seen: _Seen) -> bool:
    archived = _guarded(seen, file, repository.store.archived, file)
    if archived is None:
        return False
    if archived and file not in seen.commits:
        return True  # `--archives` looks at it where it is
    sha256, _ = seen.files[file]
    digest = _guarded(seen, file, repository.store.digest_of_file, file)
    if digest is not None and file in seen.commits and repository.store.rewritten(file):
        return True  # its commits tell, one by one
    if digest is not None and digest != sha256:
        seen.wrong(file, "its SHA-256 is not the one in the log: it was changed or torn")
    return digest == sha256


def _check_commits(
    repository: Repository, file: CommitFile, seen: _Seen, rows: Iterable[pa.Table] | None = None
) -> None:
    wrong: list[str] = []
    links = _guarded(seen, file.file, check_file, repository, file, wrong, rows)
    for what in wrong:
        seen.wrong(file.file, what)
    if links is not None:
        seen.links[file.file] = links


def _lives(moves: Sequence[Move]) -> list[list[Move]]:
    """The moves of a ref, apart for each branch that had its name."""
    lives: dict[int, list[Move]] = {}
    for move in moves:
        lives.setdefault(move.state.created, []).append(move)
    return list(lives.values())


def _check_chains(repository: Repository, name: str, life: Sequence[Move], seen: _Seen) -> None:
    """Chains without gaps, and every head that a move records at its place in its chain."""
    last = life[-1]
    branch = Branch(repository, name, last, last.to_bytes())
    parts = branch.commit_slices()
    if any(part.file.file not in seen.links for part in parts):
        return  # a file of the chain is damaged, which is a finding already
    found = chains(parts, seen.links)
    where = _file_of_move(name, last.seq)
    for shard, chain in found.items():
        what = broken(chain)
        if what is not None:
            seen.wrong(where, f"the chain of shard {shard} {what}")
    for move in life:
        for shard_name, each in move.state.shards.items():
            if (each.head or "").encode() != _digest_at(found.get(int(shard_name)), each.commits - 1):
                seen.wrong(
                    _file_of_move(name, move.seq),
                    f"the head of shard {shard_name} is not the last of its chain",
                )
    _check_state(branch, last.state, where, found, seen)


def _check_world(repository: Repository, name: str, last: Move, whole: set[str], seen: _Seen) -> None:
    """The events of each entity are numbered without gaps, their clock readings ascend, no id stands twice."""
    files = Branch(repository, name, last, last.to_bytes()).world_files()
    if any(file.file not in whole or repository.store.archived(file.file) for file in files):
        return  # a finding already, or archived: then it was checked before it went
    where = _file_of_move(name, last.seq)
    counted = 0 if last.state.world is None else last.state.world.events
    if counted != sum(file.events for file in files):
        seen.wrong(where, "its number of world events is not that of its files")
    if not files:
        return
    names = [file.file for file in files]
    for what, sql in _WORLD_CHECKS.items():
        found = repository.engine.over(names, sql)[0].to_pylist()
        if found:
            seen.wrong(where, f"{what} {found[0]!r}")


_WORLD_CHECKS = {
    "the versions or clock readings do not ascend of the entity": """
        SELECT min(entity_id) FROM (
            SELECT entity_id, version, hlc, lag(hlc) OVER each_entity AS before, row_number() OVER each_entity AS place
            FROM files WINDOW each_entity AS (PARTITION BY entity_id ORDER BY version))
        WHERE version <> place OR before >= hlc HAVING count(*) > 0""",
    "two events have the id": "SELECT event_id FROM files GROUP BY event_id HAVING count(*) > 1 ORDER BY 1 LIMIT 1",
}


def _check_policies(name: str, life: Sequence[Move], seen: _Seen) -> None:
    """From its first run on, a branch has the policy that its commits were made under."""
    made: set[str] = set()
    checked: Mapping[str, Any] | None = None
    for move in life:
        found = [seen.links[file.file].policy for file in move.added.commits if file.file in seen.links]
        fresh = {digest.decode() for policies in found for digest in np.unique(policies) if digest} - made
        made |= fresh
        if made and (fresh or move.state.policy != checked) and made != {digest_of(move.state.policy)}:
            seen.wrong(_file_of_move(name, move.seq), "its policy is not the one that the commits were made under")
        checked = move.state.policy


def _check_tags(moves: Sequence[Move], seen: _Seen) -> None:
    """Every tag names a commit that is there."""
    tags = moves[-1].state.tags if moves else {}
    if not tags or seen.commits.keys() - seen.links.keys():
        return  # a commit that is not found may be in a file that is damaged, which is a finding already
    known = [np.isin(np.array(list(tags.values()), "S64"), links.digest) for links in seen.links.values()]
    for tag, there in zip(tags, np.any(known, axis=0) if known else [False] * len(tags), strict=True):
        if not there:
            what = f"tag {tag!r} names the commit {tags[tag][:12]}, which is in no file"
            seen.wrong(_file_of_move(ADMIN, moves[-1].seq), what, f"take it away: `ledger tag --delete {tag}`")


def _check_snapshots(repository: Repository, moves: Sequence[Move], seen: _Seen) -> None:
    """Every file of the snapshots that are kept is as it was written; those that were pruned are gone."""
    for record in moves[-1].state.snapshots.values() if moves else ():
        if record.digest is not None:
            _guarded(seen, path_of(record, MANIFEST), _check_snapshot, repository, record, seen)


def _check_manifests(repository: Repository, moves: Sequence[Move], seen: _Seen) -> None:
    """The ledger's own copies of the manifests of its archives."""
    for record in moves[-1].state.archives.values() if moves else ():
        name = manifest_file(record.manifest)
        data = _guarded(seen, name, repository.store.read_file, name)
        if data is not None:
            seen.files[name] = record.manifest, len(data)
            if hashlib.sha256(data).hexdigest() != record.manifest:
                seen.wrong(name, "its SHA-256 is not the one in the log: it was changed or torn")


def _check_snapshot(repository: Repository, record: Snapshot, seen: _Seen) -> None:
    found = dict(damages(repository, record))
    for file, what in found.items():
        seen.wrong(file, what, "restore it from a copy, or make another snapshot and prune this one")
    manifest = path_of(record, MANIFEST)
    files = () if manifest in found else show(repository, record).files or ()
    seen.files |= {path_of(record, each.file): (each.sha256, each.bytes) for each in files}
    seen.files[manifest] = str(record.manifest), record.bytes - sum(each.bytes for each in files)


def _digest_at(chain: tuple[Any, Any, Any] | None, height: int) -> bytes:
    """The digest of a commit of a chain, empty where it has none of that height."""
    return b"" if chain is None or not 0 <= height < len(chain[1]) else bytes(chain[1][height])


def _check_state(branch: Branch, state: State, where: str, found: dict[int, Any], seen: _Seen) -> None:
    """What the last move says of the whole against its lists: no later move vouches for it yet."""
    segments = branch.segments()
    if state.rows != sum(segment.rows for segment in segments):
        seen.wrong(where, "its number of rows is not that of its segments")
    if state.highest_tick != max((segment.tick_max for segment in segments), default=None):
        seen.wrong(where, "its highest tick is not that of its segments")
    longer = [s for s, chain in found.items() if len(chain[0]) != getattr(state.shards.get(str(s)), "commits", 0)]
    if longer:
        seen.wrong(where, f"its files hold more commits of shard {longer[0]} than it counts")
