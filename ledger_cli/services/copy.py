"""A whole ledger copied into another store: the same moves, byte by byte, and the files that they name.

A move is written after all that it names, so that a copy that was killed is a shorter ledger, and goes on. Nothing is
taken on trust: files are checked by their digests, batches of commits commit by commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_cli.core.history import ADMIN, Move
from ledger_cli.errors import Conflict, UsageError
from ledger_cli.services.archived_store import manifest_file
from ledger_cli.services.fetch import copy_file
from ledger_cli.services.integrity import IntegrityReport, verify
from ledger_cli.services.other_ledger import OtherLedger
from ledger_cli.services.repository import Repository
from ledger_cli.services.snapshots import copy_snapshots


@dataclass(frozen=True)
class CopyResult:
    """What was copied: refs there are, moves that were missing, and what `verify` found in the copy."""

    refs: int
    moves: int
    report: IntegrityReport

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"refs": self.refs, "moves": self.moves, "verify": self.report.to_json()}


@dataclass(frozen=True)
class RefDifference:
    """A ref that two ledgers have otherwise: its moves in each, and the first on which they part."""

    ref: str
    moves_a: int
    moves_b: int
    first: int

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"ref": self.ref, "movesA": self.moves_a, "movesB": self.moves_b, "first": self.first}


def copy(
    source: Repository, location: str, target: Repository, watch: Callable[[str, int], None] = lambda *_: None
) -> CopyResult:
    """Bring a target up to a source, and verify it. UsageError where the target has moves of its own.

    `location`: what the source is called in errors; `watch` is told the ref and the move that come next.
    """
    refs = source.store.branches()
    # What a branch names others have first: a fork its parent, `admin` snapshots of them.
    ends = {ref: source.store.latest_seq(ref) for ref in refs}
    for ref, last in ends.items():
        _check_prefix(source, target, ref, last)
    copied = 0
    _copy_packs(source, location, target)
    _copy_manifests(source, target)
    with target.store.scratch() as scratch:
        for ref in sorted(refs, key=lambda ref: (ref == ADMIN, ref)):
            for seq in range(target.store.latest_seq(ref) + 1, ends[ref] + 1):
                watch(ref, seq)
                _copy_move(source, location, target, ref, seq, scratch)
                copied += 1
    copy_snapshots(source, target)
    target.store.commits.upsert_entity_state(source.store.commits.entity_state())
    return CopyResult(len(refs), copied, verify(target))


def compare(a: Repository, b: Repository) -> list[RefDifference]:
    """The refs that two ledgers do not have alike. As each move holds the digest of the one before, the last tells."""
    found = []
    for ref in sorted({*a.store.branches(), *b.store.branches()}):
        ends = a.store.latest_seq(ref), b.store.latest_seq(ref)
        if ends[0] != ends[1] or a.store.read_ref(ref, ends[0]) != b.store.read_ref(ref, ends[1]):
            found.append(RefDifference(ref, ends[0] + 1, ends[1] + 1, _first_apart(a, b, ref, min(ends))))
    return found


def _first_apart(a: Repository, b: Repository, ref: str, last: int) -> int:
    """The first move that differs: all after it do, since they hold its digest."""
    low, high = -1, last + 1
    while high - low > 1:
        middle = (low + high) // 2
        if a.store.read_ref(ref, middle) == b.store.read_ref(ref, middle):
            low = middle
        else:
            high = middle
    return high


def _check_prefix(source: Repository, target: Repository, ref: str, last: int) -> None:
    there = target.store.latest_seq(ref)
    if there > last or (there >= 0 and target.store.read_ref(ref, there) != source.store.read_ref(ref, there)):
        raise UsageError(
            f"the target has moves of {ref} that the source has not: it is another ledger, or went on alone. Choose an "
            "empty place, or unite the two with `ledger sync`"
        )


def _copy_packs(source: Repository, location: str, target: Repository) -> None:
    """Bring the packs that count, before the move that names them; what they replaced is no longer to be had."""
    admin = source.find(ADMIN)
    packs = [] if admin is None else [pack for pack in admin.state.packs if pack.replaced is None]
    with target.store.scratch() as scratch:
        for pack in packs:
            copy_file(target, OtherLedger(source, location), pack, scratch)


def _copy_manifests(source: Repository, target: Repository) -> None:
    """Bring what a ledger keeps of its archives. The copy does not need these: it has all itself."""
    admin = source.find(ADMIN)
    with target.store.scratch() as scratch:
        for record in () if admin is None else admin.state.archives.values():
            path = scratch / record.manifest
            path.write_bytes(source.store.read_file(manifest_file(record.manifest)))
            target.store.publish(path, manifest_file(record.manifest))


def _copy_move(source: Repository, location: str, target: Repository, ref: str, seq: int, scratch: Path) -> None:
    move: Move = source.move(ref, seq)
    for file in move.named:
        copy_file(target, OtherLedger(source, location), file, scratch)
    raw = source.store.read_ref(ref, seq)
    assert raw is not None, "it was read just now"
    try:
        target.store.advance_ref(ref, seq, raw)
    except Conflict:
        if target.store.read_ref(ref, seq) != raw:
            raise
