"""A branch of another ledger, copied into this one with its whole log, so that it can be read and reconciled here.

The copy keeps who moved the ref, when and why; only the names of the branches it stands on are those that they have
here. A log is known by what it says: what came from here, or by way of a third ledger, is found again and not
copied once more, so that ledgers may exchange for as long as they like.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from ledger_cli.core.events import TICK_LIMIT
from ledger_cli.core.history import (
    ADMIN,
    CommitFile,
    Move,
    NamedFile,
    Pack,
    State,
    branch_name,
    digest_of_move,
)
from ledger_cli.core.hlc import Hlc
from ledger_cli.core.policy import Policy
from ledger_cli.errors import ClockError, Corrupt, UsageError, told_of
from ledger_cli.services.contributors import publish_commits, told
from ledger_cli.services.merge_base import in_chains
from ledger_cli.services.other_ledger import OtherLedger
from ledger_cli.services.reconcile import keep_old
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world_types import check_record, decisive

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(
    r"(?:segments|commits|contributors|quarantine|tiles)/(?:[a-z0-9]+-)*([0-9a-f]{64})\.(?:parquet|jsonl)"
)
"""The files of a ledger are named by their digests: nothing else is written, whatever a move names."""
_REMOTE_MAX = 40


@dataclass(frozen=True)
class Guard:
    """What a fetched log has to keep to: readings at most `max_drift` ahead of the clock's `now`, in µs."""

    now: int
    max_drift: int


def remote_name(given: str | None, directory: str) -> str:
    """What another ledger is called here: as given, else by the name of its directory. UsageError where it cannot."""
    if given is None:
        return re.sub(r"[^A-Za-z0-9_-]", "-", directory)[:_REMOTE_MAX]
    if len(given) > _REMOTE_MAX:
        raise UsageError(f"{given!r} is too long to be the name of a ledger: use {_REMOTE_MAX} characters at most")
    return branch_name(given)


def fetch(repository: Repository, other: OtherLedger, branch: str, remote: str, guard: Guard) -> Branch:
    """The branch of the other ledger as it is here: `REMOTE.BRANCH`, brought up to date, or what it was copied from.

    Corrupt where a file or move of the other ledger is not what it has to be, ClockError where its clock is too far
    ahead; what was copied by then stays, and is whole.
    """
    try:
        latest = other.branch(branch)
        with told_of(other.location):
            _check_clock(latest, guard)
        _share_types(repository, other, remote)
        copies = _Copies(repository, other, remote)
        copies.need(branch, latest.seq)
        with repository.store.scratch() as scratch:
            copies.make(scratch)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise other.unusable(f"{type(error).__name__}: {error}") from error
    name = copies.name_of(branch)
    found = repository.branch_at(name, latest.seq)
    if repository.store.latest_seq(name) > latest.seq:
        return repository.branch(keep_old(repository, found, f"{branch} of {remote}"))
    return repository.branch(name)


def _check_clock(latest: Branch, guard: Guard) -> None:
    world = latest.state.world
    if world is None:
        return
    wall, _, node = Hlc.parse(world.hlc)
    if wall - guard.now > guard.max_drift:
        raise ClockError(
            f"its clock stands at {world.hlc} by node {node}, {(wall - guard.now) / 1e6:.0f} s ahead of "
            f"this machine's: set the clocks right and wait, or raise max_drift in ledger.toml"
        )


def _check_move(other: OtherLedger, move: Move) -> None:
    """Refuse a move that no ledger writes. Its digests are checked where they are used."""
    state, base = move.state, move.state.base
    numbers = [state.created, state.rows, state.runs, *(each.commits for each in state.shards.values())]
    if state.highest_tick is not None:
        numbers.append(state.highest_tick)
    # The watermark stays behind the highest tick, and so below tick 0 where the lateness is more than that.
    marks = [each for each in (state.watermark, state.merged) if each is not None]
    whole = all(type(each) is int and 0 <= each < TICK_LIMIT for each in numbers)
    whole &= all(type(each) is int and abs(each) <= 2 * TICK_LIMIT for each in marks)
    heads = all(each.head is None or _DIGEST.fullmatch(each.head) for each in state.shards.values())
    if not whole or not heads or state.created > move.seq:
        raise other.unusable(f"move {move.seq} says what cannot be")
    if base is not None and (type(base.segments_move) is not int or type(base.commits_move) is not int):
        raise other.unusable(f"move {move.seq} stands on nothing")
    if state.policy is not None:
        with told_of(other.location):
            Policy.from_json(state.policy)
    if state.world is not None:
        Hlc.parse(state.world.hlc)


def _share_types(repository: Repository, other: OtherLedger, remote: str) -> None:
    """Make known what the other ledger knows of types of world events: state is made of events by them.

    What only judges new events, a schema or an end, may differ.
    """
    admin = repository.find(ADMIN)
    mine, theirs = {} if admin is None else admin.state.types, other.types()
    with told_of(other.location):
        for name, record in theirs.items():
            check_record(name, record)

    def both(state: State) -> State:
        for name, record in theirs.items():
            if decisive(state.types.get(name, record)) != decisive(record):
                raise UsageError(
                    f"{name} is registered otherwise in {other.location} than here: register one of the two as its "
                    f"next version"
                )
        return replace(state, types={**theirs, **state.types})

    if any(decisive(mine.get(name, {})) != decisive(record) for name, record in theirs.items()):
        repository.administer("schema", f"types of {remote}", both)


def _said(move: Move) -> Move:
    """What a move says, but for the names of branches and the digests that follow from them."""
    base = move.state.base
    unnamed = None if base is None else replace(base, branch="")
    return replace(move, previous="", state=replace(move.state, base=unnamed, copy_of=None))


def _may_say(raw: bytes | None, move: Move) -> bool:
    """Whether a stored move can say what another one does: to parse all of them takes long."""
    return raw is not None and json.dumps(move.at).encode() in raw


@dataclass
class _Copy:
    """What is known here of a ref of the other ledger: its name, its last move that is here, and that needed."""

    name: str
    known: int
    needed: int


class _Copies:
    """The refs that a branch of another ledger stands on, and what has to be copied of each."""

    def __init__(self, repository: Repository, other: OtherLedger, remote: str) -> None:
        self._repository = repository
        self._other = other
        self._remote = remote
        self._copies: dict[str, _Copy] = {}
        self._here: set[tuple[str, str]] = set()
        """Files that are here and whole, by name and digest."""

    def name_of(self, ref: str) -> str:
        """What a ref of the other ledger is called here."""
        return self._copies[ref].name

    def need(self, ref: str, upto: int) -> None:
        """Find out what is missing here of a ref up to one of its moves, and of all that these stand on."""
        left = [(ref, upto)]
        while left:
            ref, upto = left.pop()
            copy = self._copies.get(ref)
            if copy is not None and copy.needed >= upto:
                continue
            if copy is None or copy.known == copy.needed:
                # What is here up to one move need not be here up to a later one: copied ledgers begin alike.
                copy = self._found(ref, upto) or self._begun(ref)
            first = max(copy.known, copy.needed) + 1
            copy.needed = upto
            self._copies[ref] = copy
            for move in self._other.moves(ref, first, upto):
                left += _base_of(move)

    def make(self, scratch: Path) -> None:
        """Copy what is missing, each move after all that it stands on: killed at any time, what is here is whole."""
        older = [
            self._repository.branch_at(copy.name, copy.known)
            for copy in self._copies.values()
            if 0 <= copy.known < copy.needed
        ]
        for ref, copy in self._copies.items():
            self._make(ref, copy.needed, scratch)
        for branch in older:
            latest = self._repository.find(branch.name)
            assert latest is not None, "it was copied"
            if not branch.state.deleted and not in_chains(self._repository, latest, branch.state):
                keep_old(self._repository, branch, f"{branch.name} began anew")

    def _make(self, ref: str, upto: int, scratch: Path) -> None:
        left = [(ref, upto)]
        while left:
            ref, upto = left[-1]
            copy = self._copies[ref]
            if copy.known >= upto:
                left.pop()
                continue
            move = self._other.move(ref, copy.known + 1)
            missing = [(name, seq) for name, seq in _base_of(move) if self._copies[name].known < seq]
            if missing:
                if {name for name, _ in missing} & {name for name, _ in left}:
                    raise self._other.unusable(f"the branch {ref} stands on itself")
                left += missing
                continue
            _check_move(self._other, move)
            self._add(ref, copy, move, scratch)

    def _add(self, ref: str, copy: _Copy, move: Move, scratch: Path) -> None:
        for file in move.named:
            # What is united lists all that it is made of: each file is looked at once.
            if (file.file, file.sha256) not in self._here:
                _copy_file(self._repository, self._other, file, scratch)
                self._here.add((file.file, file.sha256))
        last = None if copy.known < 0 else self._repository.move(copy.name, copy.known)
        before = None if move.seq == 0 else self._other.read_ref(ref, move.seq - 1)
        if move.previous != ("" if before is None else digest_of_move(before)):
            raise self._other.unusable(f"move {move.seq} of {ref} does not follow the one before it")
        base = move.state.base
        named = None if base is None else replace(base, branch=self.name_of(base.branch))
        made = replace(
            move,
            previous="" if last is None else digest_of_move(last.to_bytes()),
            state=replace(move.state, base=named, copy_of=ref),
        )
        self._repository.store.advance_ref(copy.name, move.seq, made.to_bytes())
        copy.known = move.seq

    def _found(self, ref: str, upto: int) -> _Copy | None:
        """The ref of this ledger whose log is that of the other one's up to a move; None where there is none."""
        wanted = self._other.move(ref, upto)
        for mine in self._repository.store.branches():
            raw = self._repository.store.read_ref(mine, upto)
            if _may_say(raw, wanted) and _said(self._repository.move(mine, upto)) == _said(wanted):
                return _Copy(mine, upto, upto)
        return None

    def _begun(self, ref: str) -> _Copy:
        """A copy that lacks but the newest moves; else one to be made."""
        for mine in self._repository.store.branches():
            found = self._repository.find(mine)
            if found is None or found.state.copy_of is None:
                continue
            last = found.seq
            may = _may_say(self._other.read_ref(ref, last), found.move)
            if may and _said(self._other.move(ref, last)) == _said(found.move):
                return _Copy(mine, last, last)
        taken = {
            *self._repository.store.branches(),
            *self._repository.tags,
            *(each.name for each in self._copies.values()),
        }
        names = (branch_name(f"{self._remote}{'' if n == 1 else f'-{n}'}.{ref}") for n in count(1))
        return _Copy(next(name for name in names if name not in taken), -1, -1)


def _base_of(move: Move) -> list[tuple[str, int]]:
    """The ref that a move's branch stands on, and up to which move."""
    base = move.state.base
    return [] if base is None else [(base.branch, max(base.segments_move, base.commits_move))]


def _copy_file(repository: Repository, other: OtherLedger, file: NamedFile, scratch: Path) -> None:
    named = _FILE.fullmatch(file.file)
    if named is None or named[1] != file.sha256:
        raise other.unusable(f"a move names the file {file.file!r}")
    copy_file(repository, other, file, scratch)


def copy_file(repository: Repository, other: OtherLedger, file: NamedFile | Pack, scratch: Path) -> None:
    """Make a file of another ledger one of this ledger, if it is not there: under its name, checked by its digest.

    Of a batch of commits that has been written anew the commits are checked. What is archived here stays so. Corrupt
    where it is not what it was.
    """
    store = repository.store
    if store.archived(file.file):
        return
    if not store.rewritten(file.file):
        try:
            if store.digest_of_file(file.file) == file.sha256:
                store.touch(file.file)
                return
        except Corrupt:
            pass  # it is not here yet
    if isinstance(file, CommitFile) and other.rewritten(file):
        commits = told(repository, file.contributors, other.commits(file))
        store.commits.persist_commits(file.file, repository.author.now(), commits)
        return
    path = scratch / "fetched"
    with path.open("wb") as target:
        for block in other.blocks(file.file, file.bytes):
            target.write(block)
    with path.open("rb") as copied:
        if hashlib.file_digest(copied, "sha256").hexdigest() != file.sha256:
            raise other.unusable(f"{file.file} is not what its digest says")
    if isinstance(file, CommitFile):
        publish_commits(repository, path, file.contributors, file.file)
    else:
        store.publish(path, file.file)
    path.unlink()  # what is published may be this very file: it must not be written to again
