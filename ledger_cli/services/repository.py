"""The ledger as its services see it: a store, an engine, and branches read through their moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from ledger_cli.core.history import (
    ADMIN,
    CHECKPOINT_EVERY,
    MAIN,
    Added,
    Base,
    Move,
    QuarantineFile,
    Run,
    Segment,
    State,
    WorldFile,
    branch_name,
    checkpoint_span,
    digest_of_move,
)
from ledger_cli.core.policy import Policy
from ledger_cli.core.slices import CommitSlice
from ledger_cli.errors import Conflict, Corrupt, NotFound, UsageError
from ledger_cli.ports import Engine, Store

ATTEMPTS = 20
"""At a move of a ref that others move too."""
_NOTHING = Added()

NO_MOVES = (
    "the ledger has no move at all: its refs are lost, or elsewhere (see `store` in ledger.toml, and LEDGER_STORE). "
    "Bring them back from a copy; where `ledger init` was cut off, run it again as it was"
)
"""What is told of a ledger whose store is empty: each begins with a move of `main`."""


@dataclass(frozen=True)
class Author:
    """Who moves refs, and when: handed in, so that the services know no clock."""

    name: str
    now: Callable[[], str]
    """RFC 3339 UTC."""


def overtaken(ref: str) -> Conflict:
    """What is raised where others were first at every attempt."""
    return Conflict(f"{ref} is moved by many processes at once: run the command again")


def parsed(name: str, seq: int, raw: bytes) -> Move:
    """A move of a ref. Corrupt where it is damaged, or another one."""
    try:
        move = Move.from_bytes(raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"refs/{name}/{seq:020d}.json is damaged: restore it from a copy of the ledger") from error
    if move.seq != seq:
        raise Corrupt(f"refs/{name}/{seq:020d}.json is the move {move.seq}: restore it from a copy")
    return move


class Branch:
    """A branch as of one move: its state, and its lists, read when asked for."""

    def __init__(self, repository: Repository, name: str, move: Move, raw: bytes) -> None:
        self._repository = repository
        self.name = name
        self.move = move
        self.raw = raw
        self._added: Added | None = None

    @property
    def seq(self) -> int:
        """The number of the move."""
        return self.move.seq

    @property
    def state(self) -> State:
        """The state after the move."""
        return self.move.state

    @property
    def policy(self) -> Policy | None:
        """The policy that the branch is recorded under, None before its first commit. Corrupt where it is none."""
        try:
            return None if self.state.policy is None else Policy.from_json(self.state.policy)
        except UsageError as error:
            raise Corrupt(
                f"move {self.seq} of {self.name} records a policy that cannot be used ({error}): install the package "
                f"that it needs, or restore refs/{self.name} from a copy of the ledger"
            ) from error

    @property
    def added(self) -> Added:
        """What the branch's own moves have added, oldest first."""
        if self._added is None:
            self._added = self._repository.added(self.name, self.state.created, self.move)
        return self._added

    @cached_property
    def base(self) -> Branch | None:
        """The parent as of the fork, with all the segments that the fork shares; None where it shares none."""
        base = self.state.base
        if base is None or base.segments_move < 0:
            return None
        return self._repository.branch_at(base.branch, base.segments_move)

    @cached_property
    def chain_parent(self) -> Branch | None:
        """The parent as of the move whose chains the fork has kept, by which they were made."""
        base = self.state.base
        return None if base is None else self._repository.branch_at(base.branch, base.commits_move)

    @property
    def chain_base(self) -> Branch | None:
        """The same where the chains kept are to be read there; None where the branch lists them itself."""
        base = self.state.base
        return None if base is None or base.listed else self.chain_parent

    def segments(self, sees: int | None = None) -> list[Segment]:
        """All segments that the branch reads, up to its move `sees`. A parent's arrived with the fork."""
        parent = self.base
        shared = [] if parent is None else [replace(s, arrival=self.state.created) for s in parent.segments()]
        own = self.added.segments
        if sees is not None and own and own[-1].arrival > sees:
            own = tuple(segment for segment in own if segment.arrival <= sees)
        return [*shared, *own]

    def commit_slices(self) -> list[CommitSlice]:
        """The commits of the branch by file, oldest first."""
        own = [CommitSlice(file) for file in self.added.commits]
        base, parent = self.state.base, self.chain_base
        if base is None or parent is None or not base.keep:
            return own
        shared = [part.cut(base.keep) for part in parent.commit_slices()]
        return [part for part in shared if not part.empty] + own

    def quarantine(self) -> list[QuarantineFile]:
        """Files of refused rows, also the parent's."""
        parent = self.base
        return ([] if parent is None else parent.quarantine()) + list(self.added.quarantine)

    def world_files(self) -> list[WorldFile]:
        """Files of world events in the order they came, the parent's first."""
        parent = self.base
        return ([] if parent is None else parent.world_files()) + list(self.added.world)

    def adopt(self, older: Branch) -> None:
        """Take over the lists of the same branch at an older move, reading only what came since."""
        if older._added is None or older.state.created != self.state.created or older.name != self.name:
            return
        if older.seq <= self.seq <= older.seq + CHECKPOINT_EVERY:
            fresh = [self._repository.move(self.name, seq) for seq in range(older.seq + 1, self.seq)]
            added = older._added
            for move in [*fresh, self.move] if self.seq > older.seq else []:
                added = added + move.added.arrived(move.seq)
            self._added = added


class Repository:
    """Reads and moves the refs of a ledger."""

    def __init__(
        self,
        store: Store,
        engine: Callable[[], Engine],
        author: Author,
        half_lives: tuple[int, ...] = (),
        entity_refs: int = 0,
    ) -> None:
        """`half_lives`: in ticks, those that decayed sums are kept for; `entity_refs`: see `config.SETTINGS`."""
        self.store = store
        self.half_lives = half_lives
        self.entity_refs = entity_refs
        self._make_engine = engine
        self._engine: Engine | None = None
        self.author = author
        self._latest: dict[str, Branch] = {}

    @property
    def engine(self) -> Engine:
        """The engine, made when first needed."""
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine

    def close(self) -> None:
        """Let go of the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    # -- reading ------------------------------------------------------------------------------------------

    def branch(self, name: str) -> Branch:
        """A branch at its latest move. NotFound where it does not exist or was deleted."""
        found = self.find(name) if self._may_be(name) else None
        if found is None or found.state.deleted:
            if not self.store.branches():
                raise NotFound(NO_MOVES)
            known = ", ".join(self.branch_names()) or "none yet"
            near = get_close_matches(name, self.branch_names(), n=1)
            next_step = f"did you mean {near[0]}?" if near else f"`ledger fork {name}` makes it"
            raise NotFound(f"there is no branch {name!r} (branches: {known}): {next_step}")
        return found

    def _may_be(self, name: str) -> bool:
        """Whether a branch may be called so: it is no path and not `admin`, and no other spelling of a ref.

        Some disks take `Main` for `main`.
        """
        if name in self._latest and name != ADMIN:
            return True
        try:
            return branch_name(name) in self.store.branches()
        except UsageError:
            return False

    def find(self, name: str) -> Branch | None:
        """A ref at its latest move, also a deleted one; None where there is none."""
        known = self._latest.get(name)
        seq = self.store.latest_seq(name, -1 if known is None else known.seq)
        if seq < 0:
            return None
        if known is not None and known.seq == seq:
            return known
        latest = self.branch_at(name, seq)
        if known is not None:
            latest.adopt(known)
        self._latest[name] = latest
        return latest

    def branch_at(self, name: str, seq: int) -> Branch:
        """A branch as it was after one of its moves."""
        raw = self._raw(name, seq)
        return Branch(self, name, parsed(name, seq, raw), raw)

    def lives(self, name: str) -> Iterator[Branch]:
        """The branches that had a name, deleted ones too, each at its last move; the newest first."""
        branch = self.find(name)
        while branch is not None:
            yield branch
            created = branch.state.created
            branch = self.branch_at(name, created - 1) if created else None

    def branch_names(self) -> list[str]:
        """The branches that exist, `main` first."""
        names = [name for name in self.store.branches() if name != ADMIN]
        found = {name: branch.state for name in names if (branch := self.find(name)) is not None}
        alive = [name for name, state in found.items() if not state.deleted and not state.temporary]
        return sorted(alive, key=lambda name: (name != MAIN, name))

    def move(self, name: str, seq: int) -> Move:
        """One move of a ref."""
        return parsed(name, seq, self._raw(name, seq))

    def moves(self, name: str, first: int, last: int) -> Iterator[Move]:
        """The moves first … last of a ref, in order."""
        for seq in range(first, last + 1):
            yield self.move(name, seq)

    def added(self, name: str, created: int, upto: Move) -> Added:
        """What the moves `created` … `upto` added, by way of checkpoints."""
        parts: list[Added] = []
        move, seq = upto, upto.seq
        while True:
            span = checkpoint_span(seq)
            if span and move.checkpoint is not None:
                parts.append(move.checkpoint)
                seq -= span
            else:
                parts.append(move.added.arrived(seq))
                seq -= 1
            if seq < created:
                break
            move = self.move(name, seq)
        total = Added()
        for part in reversed(parts):
            total = total + part
        return _since(total, created)

    @cached_property
    def identity(self) -> str:
        """8 hex digits that tell this ledger from others: of the first move of `main`. Copies share them."""
        return digest_of_move(self._raw(MAIN, 0))[:8]

    @property
    def tags(self) -> Mapping[str, str]:
        """Commit digests by tag."""
        admin = self.find(ADMIN)
        return {} if admin is None else admin.state.tags

    # -- moving -------------------------------------------------------------------------------------------

    def advance(
        self,
        name: str,
        before: Branch | None,
        kind: str,
        state: State,
        why: str,
        added: Added = _NOTHING,
        run: Run | None = None,
        merge: tuple[Mapping[str, str], ...] = (),
    ) -> Branch:
        """Move a ref on from `before` (None: it has no move yet). Conflict where somebody was first."""
        if before is not None and before.state.copy_of is not None and kind != "delete":
            raise UsageError(
                f"{name} is a copy of another ledger's branch and moves with that: go on in a fork, `ledger fork NAME "
                f"--branch {name}`"
            )
        seq = 0 if before is None else before.seq + 1
        move = Move(
            seq=seq,
            previous="" if before is None else digest_of_move(before.raw),
            kind=kind,
            at=self.author.now(),
            by=self.author.name,
            why=why,
            state=state,
            added=added,
            run=run,
            merge=merge,
        )
        span = checkpoint_span(seq)
        if span and before is not None:
            first = max(seq - span + 1, state.created)
            listed = before.added if before.state.created == state.created else Added()
            move = replace(move, checkpoint=_since(listed, first) + added.arrived(seq))
        raw = move.to_bytes()
        self.store.advance_ref(name, seq, raw)
        latest = Branch(self, name, move, raw)
        if before is not None:
            latest.adopt(before)
        self._latest[name] = latest
        return latest

    def administer(self, kind: str, why: str, change: Callable[[State], State]) -> None:
        """Move the ref `admin`; a race is run again, since `change` is made anew from what is there."""
        for _ in range(ATTEMPTS):
            admin = self.find(ADMIN)
            state = change(State() if admin is None else admin.state)
            # A Conflict of `change` itself is no race of this ref: it is told as it is.
            with suppress(Conflict):
                self.advance(ADMIN, admin, kind, state, why)
                return
        raise overtaken("the ref `admin`")

    def create_branch(
        self, name: str, kind: str, why: str, base: Base | None, state: State, added: Added = _NOTHING
    ) -> Branch:
        """A new branch, which begins with what is added. UsageError where the name is taken or cannot be one."""
        branch_name(name)
        taken = [other for other in self.store.branches() if other.casefold() == name.casefold() and other != name]
        if taken:
            raise UsageError(f"{name!r} differs from {taken[0]!r} by case alone: choose another name")
        found = self.find(name)
        if found is not None and not found.state.deleted:
            raise UsageError(f"branch {name!r} exists: choose another name or `ledger branch delete {name}`")
        created = 0 if found is None else found.seq + 1
        # The parent's tiles may cover more than the fork keeps: the first run makes its own.
        begun = replace(state, created=created, base=base, deleted=False, tiles=())
        return self.advance(name, found, kind, begun, why, added)

    # -- helpers ------------------------------------------------------------------------------------------

    def _raw(self, name: str, seq: int) -> bytes:
        raw = self.store.read_ref(name, seq)
        if raw is None:
            raise Corrupt(f"move {seq} of {name} is missing: restore refs/{name} from a copy of the ledger")
        return raw


def _since(added: Added, first: int) -> Added:
    def kept(items: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(item for item in items if item.arrival >= first)

    return Added(kept(added.segments), kept(added.commits), kept(added.quarantine), kept(added.world))
