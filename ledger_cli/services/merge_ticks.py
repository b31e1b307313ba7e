"""The tick events of two branches as one set: united by key, conflicts decided as within one ingest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.chunks import Refused
from ledger_cli.core.events import TICKS
from ledger_cli.core.history import QuarantineFile, Segment
from ledger_cli.core.tick_json import Tick
from ledger_cli.ports import Draft, Importer
from ledger_cli.services.ingest import publish_drafts
from ledger_cli.services.refusals import QUARANTINE, quarantined
from ledger_cli.services.repository import Branch, Repository

LISTED = 1000
"""Conflicts that a plan lists; all of their losers go to quarantine."""


@dataclass(frozen=True)
class TickConflict:
    """Two events with one key and other content, as canonical JSON, and the branches that they come from."""

    kept: str
    kept_of: str
    refused: str
    refused_of: str

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "kept": json.loads(self.kept),
            "keptOf": self.kept_of,
            "refused": json.loads(self.refused),
            "refusedOf": self.refused_of,
        }


@dataclass(frozen=True)
class TickUnion:
    """The events of two branches in one. `only_a`, `only_b`: events that only one of them has; `both`: since they
    parted, those that came to both."""

    shared: tuple[Segment, ...]
    """Segments that both branches read."""
    drafts: tuple[Draft, ...]
    """The others, without what stands twice and what was refused."""
    untouched: dict[Path, Segment]
    """Of the drafts those that are segments already."""
    only_a: int
    only_b: int
    both: int
    losers: tuple[Refused, ...]
    """Events that contradict one that is kept, as canonical JSON, ascending."""
    unknown_to_a: int
    unknown_to_b: int
    """Losers of the other branch that are not in quarantine yet."""
    conflicts: tuple[TickConflict, ...]
    """The first of them."""
    fresh_from: int | None
    """The lowest tick of the drafts."""

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "onlyA": self.only_a,
            "onlyB": self.only_b,
            "both": self.both,
            "conflicts": len(self.losers),
            "listed": [conflict.to_json() for conflict in self.conflicts],
        }

    @property
    def rows(self) -> int:
        """Events in all."""
        return sum(segment.rows for segment in self.shared) + sum(draft.rows for draft in self.drafts)

    @property
    def highest_tick(self) -> int | None:
        """The highest tick of all."""
        ticks = [segment.tick_max for segment in self.shared] + [draft.tick_max for draft in self.drafts]
        return max(ticks, default=None)

    @property
    def news_for_a(self) -> bool:
        """Whether the union is another set than a's; `news_for_b` likewise."""
        return self.only_b > 0 or self.unknown_to_a > 0

    @property
    def news_for_b(self) -> bool:
        """See `news_for_a`."""
        return self.only_a > 0 or self.unknown_to_b > 0

    def files(self, repository: Repository) -> tuple[Segment, ...]:
        """The segments of the union, published as far as they are new."""
        fresh = [draft for draft in self.drafts if draft.path not in self.untouched]
        return (*self.shared, *self.untouched.values(), *publish_drafts(repository, fresh))

    def quarantine(self, repository: Repository, source: str, scratch: Path) -> Iterator[QuarantineFile]:
        """The losers, where some are not told yet."""
        if not self.unknown_to_a and not self.unknown_to_b:
            return
        columns = [[getattr(loser, name) for loser in self.losers] for name in QUARANTINE.names]
        columns[QUARANTINE.get_field_index("line")] = list(range(1, len(self.losers) + 1))
        path = scratch / "losers.parquet"
        pq.write_table(pa.table(columns, schema=QUARANTINE), path, compression="zstd")
        published = repository.store.publish(path, "quarantine/{sha256}.parquet")
        digest = hashlib.sha256("\n".join(loser.raw for loser in self.losers).encode()).hexdigest()
        yield QuarantineFile(**vars(published), rows=len(self.losers), source=source, source_sha256=digest)


def unite_ticks(
    repository: Repository, importer: Importer, a: Branch, b: Branch, united: Sequence[Segment], scratch: Path
) -> TickUnion:
    """The events of both branches: of those with one key but other content the first by (timestamp, nulls last;
    canonical JSON) is kept, whichever branch has it.

    `united`: what their last merge had united; it stays as it was, as what is stored does when more is ingested.
    """
    directory = scratch / "union"
    directory.mkdir()
    mine, theirs = ({segment.file: segment for segment in branch.segments()} for branch in (a, b))
    stored = {segment.file: segment for segment in united}
    stored |= {file: segment for file, segment in mine.items() if file in theirs}
    shared = tuple(stored.values())
    apart = [(0, s) for file, s in mine.items() if file not in stored]
    apart += [(1, s) for file, s in theirs.items() if file not in stored]
    linked = {_linked(repository, s, directory, side, number): (side, s) for number, (side, s) in enumerate(apart)}
    drafts = [_draft(path, side, segment) for path, (side, segment) in linked.items()]
    known = importer.deduplicate(drafts, shared, directory, False)
    kept = importer.deduplicate(known.drafts, (), directory, True)
    rows = [sum(draft.rows for draft in kept.drafts if draft.source == side) for side in (0, 1)]
    refused = sorted([*known.refused, *kept.refused], key=lambda each: (each[1].raw, each[0]))
    texts = [{loser.raw for side, loser in refused if side == which} for which in (0, 1)]
    explained = _explained(repository, refused[:LISTED], kept.drafts, shared, (a.name, b.name))
    return TickUnion(
        shared=shared,
        drafts=tuple(kept.drafts),
        untouched={path: segment for path, (_, segment) in linked.items() if path in {d.path for d in kept.drafts}},
        only_a=rows[0] - kept.duplicates,
        only_b=rows[1],
        both=kept.duplicates,
        losers=tuple(loser for _, loser in refused),
        unknown_to_a=len(texts[1] - quarantined(repository, a, texts[1])),
        unknown_to_b=len(texts[0] - quarantined(repository, b, texts[0])),
        conflicts=tuple(sorted(explained, key=_key)),
        fresh_from=min((segment.tick_min for _, segment in apart), default=None),
    )


def _key(conflict: TickConflict) -> tuple[str, int]:
    event = json.loads(conflict.kept)
    return event["entityId"], event["tickId"]


def _linked(repository: Repository, segment: Segment, directory: Path, side: int, number: int) -> Path:
    path = directory / f"draft-{side}-{number:06d}.parquet"
    path.symlink_to(Path(repository.store.location(segment.file)).absolute())
    return path


def _draft(path: Path, side: int, segment: Segment) -> Draft:
    return Draft(
        path, side, segment.rows, segment.tick_min, segment.tick_max, segment.activity_max, segment.box, repeats=False
    )


def _explained(
    repository: Repository,
    refused: Sequence[tuple[int, Refused]],
    drafts: Sequence[Draft],
    shared: Sequence[Segment],
    names: tuple[str, str],
) -> Iterator[TickConflict]:
    """The refused events, each with the one that is kept."""
    keys = {}
    for side, loser in refused:
        event = json.loads(loser.raw)
        keys[event["tickId"], event["entityId"]] = (side, loser.raw)
    if not keys:
        return
    wanted = pa.table({"tick_id": [tick for tick, _ in keys], "entity_id": [entity for _, entity in keys]})
    winners: dict[tuple[int, str], str] = {}
    files: list[tuple[Draft | Segment, Path | str]] = [(draft, draft.path) for draft in drafts]
    files += [(segment, repository.store.location(segment.file)) for segment in shared]
    for file, path in files:
        near = [tick for tick, _ in keys if file.tick_min <= tick <= file.tick_max]
        if near:
            table = pq.read_table(path, columns=TICKS.names, filters=[("tick_id", "in", set(near))])
            found = table.join(wanted, ["tick_id", "entity_id"], join_type="left semi")
            for row in zip(*(found[name].to_pylist() for name in TICKS.names), strict=True):
                winner = Tick(*row)
                winners[winner.tick_id, winner.entity_id] = winner.canonical()
    for key, (side, text) in keys.items():
        yield TickConflict(winners[key], names[1 - side], text, names[side])
