"""`ledger world apply`: the transition protocol, batch by batch; a batch is one move of the ref.

Per event: handshake, type, version, causes, reducer, constraints. Locking is optimistic: where another writer moved
the world first, the batch is judged anew against what is there then.
"""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.history import Added, QuarantineFile, WorldFile, WorldState
from ledger_cli.core.vector_clock import VectorClock, writer_name
from ledger_cli.core.world_batch import Events
from ledger_cli.errors import Conflict
from ledger_cli.services.followed import Settle, unchanged
from ledger_cli.services.prepared import Part, locks_of
from ledger_cli.services.refusals import QUARANTINE
from ledger_cli.services.repository import ATTEMPTS, Branch, Repository, overtaken
from ledger_cli.services.world import World, vector_clock, write_checkpoint
from ledger_cli.services.world_judge import Batch, Judged, Refusal, Rules, all_or_nothing, judge, passed_rows
from ledger_cli.services.world_reader import EventReader
from ledger_cli.services.world_waiting import Waiting, read_waiting, write_waiting

BATCH_EVENTS = 10_000
CHECKPOINT_FILES = 64
CHECKPOINT_EVENTS = 20_000
"""A checkpoint is due after so many files, or after twice as many events as entities, but at least so many."""
_ALIKE = ["entity_kind", "type", "module", "state_class"]
"""Columns with few values: others are larger, and take longer to write, as dictionaries."""


@dataclass(frozen=True)
class ApplyRequest:
    """Events to be applied to a branch, one a line. `source`: what they are called in the log and in quarantine."""

    branch: str
    lines: Iterable[bytes]
    source: str = "events"
    atomic: bool = False
    """All of them in one move, or none where one is refused or would have to wait."""
    why: str = ""
    first_line: int = 1
    """The number of the first one, for what is refused."""
    settle: Settle = unchanged
    """What else the move of a batch changes; give at most `BATCH_EVENTS` lines then."""
    part: Part | None = None
    """What they are, atomic, in a transaction."""


@dataclass
class ApplyResult:
    """What became of the events. `hlc`: the branch's clock afterwards."""

    branch: str
    read: int = 0
    applied: int = 0
    duplicates: int = 0
    transient: int = 0
    """Checked and passed on, not written."""
    refused: list[Refusal] = field(default_factory=list)
    """The first of them."""
    reasons: Counter[str] = field(default_factory=Counter)
    hlc: str | None = None
    clock: VectorClock = VectorClock()  # noqa: RUF009 - it never changes
    """The branch's vector clock afterwards."""
    waiting: int = 0
    """Events that wait for their causes afterwards, older ones too."""
    unheard: list[str] = field(default_factory=list)
    """Why the guardian or the bus could not be told."""

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "branch": self.branch,
            "read": self.read,
            "applied": self.applied,
            "duplicates": self.duplicates,
            "transient": self.transient,
            "waiting": self.waiting,
            "refused": dict(sorted(self.reasons.items())),
            "refusals": [each.to_json() for each in self.refused],
            "hlc": self.hlc,
            "clock": str(self.clock),
        }


def both(one: ApplyResult, other: ApplyResult) -> ApplyResult:
    """What became of the events of two batches; the clocks are those of the second one."""
    return ApplyResult(
        other.branch,
        one.read + other.read,
        one.applied + other.applied,
        one.duplicates + other.duplicates,
        one.transient + other.transient,
        sorted([*one.refused, *other.refused], key=lambda refusal: refusal.line)[:REFUSALS_TOLD],
        one.reasons + other.reasons,
        other.hlc,
        other.clock,
        other.waiting,
        one.unheard + other.unheard,
    )


REFUSALS_TOLD = 1000
"""Refusals that a result lists; all are in quarantine."""


def apply(repository: Repository, world: World, request: ApplyRequest, rules: Rules) -> ApplyResult:
    """Apply events to a branch. What is refused goes to quarantine and changes nothing.

    An event whose cause is not known waits for it, and is judged again with every batch until then. Without any line,
    what waits is judged. `world`: that of the branch, brought up to date.
    """
    result = ApplyResult(request.branch)
    take = partial(_apply_batch, repository, world, request, rules, result)
    # A batch is read while the one before is judged and written.
    with _uncollected(), EventReader(rules.keys) as reader, ThreadPoolExecutor(1, "ledger-world") as writer:
        before: Future[None] | None = None
        for numbers, texts in _batches(request):
            written = writer.submit(_after, before, partial(take, numbers, texts, reader.read(texts)))
            del numbers, texts
            if before is not None:
                before.result()
            before = written
        if before is None:
            take([], [], reader.read([]))
        else:
            before.result()
    after = repository.branch(request.branch)
    result.hlc = None if after.state.world is None else after.state.world.hlc
    result.clock = vector_clock(after)
    result.waiting = 0 if after.state.waiting is None else after.state.waiting.events
    return result


def _after(before: Future[None] | None, work: Callable[[], None]) -> None:
    """Do some work, unless what came before it failed."""
    if before is not None:
        before.result()
    work()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: nothing here is cyclic, and it would walk over all entities again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            # To the oldest generation, unseen: the next collection need not look at all entities either.
            gc.freeze()
            gc.unfreeze()
            gc.enable()


def _batches(request: ApplyRequest) -> Iterator[tuple[Sequence[int], list[bytes]]]:
    """Lines and their numbers; blank ones left out."""
    rest, number = iter(request.lines), request.first_line
    while taken := list(islice(rest, None if request.atomic else BATCH_EVENTS)):
        numbers: Sequence[int] = range(number, number + len(taken))
        number += len(taken)
        if not all(taken) or any(map(bytes.isspace, taken)):
            numbers = [line for line, text in zip(numbers, taken, strict=True) if text and not text.isspace()]
            taken = [text for text in taken if text and not text.isspace()]
        if taken:
            yield numbers, taken


def _apply_batch(
    repository: Repository,
    world: World,
    request: ApplyRequest,
    rules: Rules,
    result: ApplyResult,
    lines: Sequence[int],
    texts: Sequence[bytes],
    reading: Future[Events],
) -> None:
    sent = Batch(lines, texts, reading.result(), len(texts))
    result.read += len(texts)
    branch, part = request.branch, request.part
    before = repository.branch(branch)
    for _ in range(ATTEMPTS):
        world.follow(before)
        locks = locks_of(repository, before, None if part is None else part.transaction)
        waiting = {} if request.atomic else read_waiting(repository, before.state)
        batch = sent.and_older(waiting, rules.keys)
        judged = judge(world, before.state.world, batch, rules, waiting, locks)
        if request.atomic:
            judged = all_or_nothing(judged, batch, promised=part is not None and part.kind == "prepare")
        try:
            after = _persist(repository, world, before, batch, judged, request, waiting, rules.node)
        except Conflict:
            older, before = before, repository.branch(branch)
            if before.state.created != older.state.created:
                raise Conflict(f"branch {branch} was deleted and made again meanwhile: run the command again") from None
            continue
        if judged.applied:
            hashes = [rows["event_hash"].to_numpy() for rows in judged.rows]
            world.moved(after, judged.changed, np.concatenate(hashes))
        result.applied += judged.applied
        result.duplicates += judged.duplicates
        result.transient += len(judged.passed)
        result.reasons.update(refusal.reason for refusal in judged.refused)
        result.refused += judged.refused[: REFUSALS_TOLD - len(result.refused)]
        unheard = rules.guardian([each.to_json() for each in judged.refused if each.reason == "causal_gap"])
        result.unheard += [] if unheard is None else [unheard]
        if judged.passed:
            unheard = rules.broadcast(passed_rows(judged, batch))
            result.unheard += [] if unheard is None else [unheard]
        return
    raise overtaken(f"branch {branch}")


def _persist(
    repository: Repository,
    world: World,
    before: Branch,
    batch: Batch,
    judged: Judged,
    request: ApplyRequest,
    waiting: Waiting,
    node: str,
) -> Branch:
    """Write what was accepted, refused or waits, and move the ref; nothing where there is nothing new."""
    part, settle = request.part, request.settle
    with repository.store.scratch() as scratch:
        quarantine = _quarantined(repository, before, batch, judged, request.source, scratch)
        decide = None if part is None or judged.refused else part.settle
        settled = settle(before) != before.state or (decide is not None and decide(before.state) != before.state)
        if not judged.applied and not quarantine and judged.waiting == waiting and not settled:
            return before
        files: tuple[WorldFile, ...] = ()
        state = before.state.world
        if judged.applied:
            files = (_published(repository, judged.rows, scratch),)
            writer = writer_name(node, repository.identity, before.name)
            clock = vector_clock(before).ticked(writer, before.seq + 1)
            state = replace(_state_after(repository, world, state, judged, scratch), clock=clock.moves)
        added = Added(world=files, quarantine=quarantine)
        kept = before.state.waiting
        if judged.waiting != waiting:
            kept = write_waiting(repository, judged.waiting, scratch)
        after = replace(settle(before), world=state, waiting=kept)
        after = after if decide is None else decide(after)
        kind = "world" if part is None or judged.refused else part.kind
        return repository.advance(before.name, before, kind, after, request.why or request.source, added)


def _state_after(
    repository: Repository, world: World, state: WorldState | None, judged: Judged, scratch: Path
) -> WorldState:
    entities = len(world.entities) + len(judged.changed) - sum(map(world.entities.__contains__, judged.changed))
    checkpoint = None if state is None else state.checkpoint
    covered = 0 if checkpoint is None else checkpoint.files
    events = sum(file.events for file in world.files[covered:])
    if len(world.files) - covered >= CHECKPOINT_FILES or events >= max(CHECKPOINT_EVENTS, 2 * len(world.entities)):
        checkpoint = write_checkpoint(repository, world.entities, len(world.files), scratch)
    total = judged.applied + (0 if state is None else state.events)
    return WorldState(str(judged.clock), total, entities, checkpoint)


def _published(repository: Repository, rows: Sequence[pa.Table], scratch: Path) -> WorldFile:
    path = scratch / "world.parquet"
    table = pa.concat_tables(rows).combine_chunks()
    bounds = pc.min_max(table["hlc"]).as_py()
    # Stable: the events of an entity stand in the order of their versions already.
    ordered = table.take(pc.sort_indices(table["entity_id"]))
    pq.write_table(ordered, path, compression="zstd", use_dictionary=_ALIKE)
    published = repository.store.publish(path, "segments/world-{sha256}.parquet")
    return WorldFile(**vars(published), events=len(table), first=bounds["min"], last=bounds["max"])


def _quarantined(
    repository: Repository,
    before: Branch,
    batch: Batch,
    judged: Judged,
    source: str,
    scratch: Path,
) -> tuple[QuarantineFile, ...]:
    """The refused events, once: a batch that is sent again adds none."""
    refused = judged.refused
    if not refused:
        return ()
    texts = dict(zip(batch.lines, batch.texts, strict=True))
    late = sorted(texts[each.line] for each in refused if each.line < 0)
    digest = hashlib.sha256(b"\n".join([*batch.texts[: batch.sent], *late])).hexdigest()
    if any(file.source_sha256 == digest for file in before.quarantine()):
        return ()
    rows = [
        (each.line, None, None, texts[each.line].decode(errors="replace").rstrip("\r\n"), each.reason)
        for each in refused
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), QUARANTINE, strict=True)]
    path = scratch / "refused.parquet"
    pq.write_table(pa.Table.from_arrays(arrays, schema=QUARANTINE), path, compression="zstd")
    published = repository.store.publish(path, "quarantine/{sha256}.parquet")
    return (QuarantineFile(**vars(published), rows=len(rows), source=source, source_sha256=digest),)
