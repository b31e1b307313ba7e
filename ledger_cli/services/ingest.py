"""`ledger ingest`: sources become segments of a branch, refused rows quarantine; all of it in one ref move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.chunks import ColumnChunk, LineChunk, Refused
from ledger_cli.core.history import Added, QuarantineFile, Segment, State
from ledger_cli.errors import Conflict
from ledger_cli.ports import Draft, Importer, Source
from ledger_cli.ports import Mapping as FieldMapping
from ledger_cli.services.repository import Branch, Repository

_ATTEMPTS = 20
FAR_TICKS = 1000
"""A gap below the highest tick is worth a warning from this many ticks on, if it exceeds all below it tenfold."""

QUARANTINE = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),
        pa.field("partition", pa.int64()),
        pa.field("offset", pa.int64()),
        pa.field("raw", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class IngestResult:
    """What became of the rows of an ingest. Rows; ticks."""

    branch: str
    read: int
    stored: int
    duplicates: int
    quarantined: Mapping[str, int]
    """By reason code, also rows that an earlier ingest of the same source had refused already."""
    late: int
    """Stored rows below the branch's watermark: the next commit amends."""
    highest_tick: int | None
    far_above: tuple[int, int] | None
    """(tick below, tick above) of a gap that makes the highest ticks look wrong."""
    files: int = 0

    @property
    def refused(self) -> int:
        """Rows that went to quarantine, or are there already."""
        return sum(self.quarantined.values())

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "branch": self.branch,
            "sources": self.files,
            "read": self.read,
            "stored": self.stored,
            "duplicates": self.duplicates,
            "quarantined": dict(self.quarantined),
            "late": self.late,
            "highestTick": self.highest_tick,
            "farAbove": None if self.far_above is None else list(self.far_above),
        }


@dataclass(frozen=True)
class IngestOptions:
    """How to read. `max_tick_jump`: ticks; rows further above the rest are refused."""

    mapping: FieldMapping | None = None
    max_tick_jump: int | None = None
    why: str = ""


@dataclass
class _Intake:
    """What has been read so far."""

    drafts: list[Draft] = field(default_factory=list)
    refused: list[list[Refused]] = field(default_factory=list)
    read: int = 0
    duplicates: int = 0

    def refuse(self, refused: Sequence[tuple[int, Refused]]) -> None:
        for source, refusal in refused:
            self.refused[source].append(refusal)


def ingest(
    repository: Repository,
    importer: Importer,
    branch: str,
    sources: Sequence[Source],
    options: IngestOptions = IngestOptions(),
    watch: Callable[[], None] = lambda: None,
) -> IngestResult:
    """Read sources into a branch. Either all of it is stored, in one move, or nothing.

    SourceError where a source is not what it claims to be. `watch` is called now and then, to show progress.
    """
    with repository.store.scratch() as scratch:
        intake = _read(importer, sources, options, scratch, watch)
        before = repository.branch(branch)
        far_above = _inspect_ticks(importer, intake, before.state, options, scratch)
        seen: set[str] = set()
        among = True
        for _ in range(_ATTEMPTS):
            fresh = [segment for segment in before.segments() if segment.file not in seen]
            kept = importer.deduplicate(intake.drafts, fresh, scratch, among)
            intake.drafts, intake.duplicates = kept.drafts, intake.duplicates + kept.duplicates
            intake.refuse(kept.refused)
            seen |= {segment.file for segment in fresh}
            among = False
            try:
                after = _moved(repository, before, sources, intake, options, scratch)
            except Conflict:
                before = repository.branch(branch)
                continue
            watermark = before.state.watermark
            late = 0 if watermark is None else importer.count_below(intake.drafts, watermark)
            return _result(after, intake, late, far_above, len(sources))
    raise Conflict(f"branch {branch} is moved by many processes at once: run the command again")


def _read(
    importer: Importer,
    sources: Sequence[Source],
    options: IngestOptions,
    scratch: Path,
    watch: Callable[[], None],
) -> _Intake:
    intake = _Intake()
    for index, source in enumerate(sources):
        intake.refused.append([])
        for chunk in _chunks(importer, source, options, scratch / f"source-{index}", watch):
            parsed = importer.parse(chunk, "none" if options.mapping else source.envelope, index, scratch)
            intake.read += parsed.read
            intake.refused[index] += parsed.refused
            if parsed.draft is not None:
                intake.drafts.append(parsed.draft)
            watch()
    return intake


def _chunks(
    importer: Importer, source: Source, options: IngestOptions, directory: Path, watch: Callable[[], None]
) -> Iterator[LineChunk | ColumnChunk]:
    if options.mapping is None:
        return source.chunks()
    directory.mkdir()
    return iter(importer.mapped(source, options.mapping, directory, watch))


def _inspect_ticks(
    importer: Importer, intake: _Intake, state: State, options: IngestOptions, scratch: Path
) -> tuple[int, int] | None:
    """Refuse rows beyond `max_tick_jump`; without it, tell of a gap that looks like a wrong tick."""
    if not intake.drafts:
        return None
    known = [] if state.highest_tick is None else [state.highest_tick]
    if options.max_tick_jump is not None:
        gap = importer.widest_gap(intake.drafts, known, options.max_tick_jump)
        if gap is not None:
            intake.drafts, refused = importer.split_above(intake.drafts, gap[0], scratch)
            intake.refuse(refused)
        return None
    gap = importer.widest_gap(intake.drafts, known, None)
    lowest = min(draft.tick_min for draft in intake.drafts)
    if gap is None or gap[1] - gap[0] < max(FAR_TICKS, 10 * (gap[0] - lowest)):
        return None
    return gap


def _moved(
    repository: Repository,
    before: Branch,
    sources: Sequence[Source],
    intake: _Intake,
    options: IngestOptions,
    scratch: Path,
) -> Branch:
    """Publish what is new and move the ref; where nothing is new, the branch as it is."""
    quarantine = _quarantined(repository, before, sources, intake, scratch)
    if not intake.drafts and not quarantine:
        return before
    added = Added(segments=_published(repository, intake.drafts), quarantine=tuple(quarantine))
    rows = sum(draft.rows for draft in intake.drafts)
    ticks = [draft.tick_max for draft in intake.drafts]
    if before.state.highest_tick is not None:
        ticks.append(before.state.highest_tick)
    state = replace(before.state, rows=before.state.rows + rows, highest_tick=max(ticks, default=None))
    why = options.why or ", ".join(source.name for source in sources[:3]) + (", …" if len(sources) > 3 else "")
    return repository.advance(before.name, before, "ingest", state, why, added)


def _published(repository: Repository, drafts: Sequence[Draft]) -> tuple[Segment, ...]:
    segments = []
    for draft in drafts:
        name = f"segments/ticks-{draft.tick_min}-{draft.tick_max}-{{sha256}}.parquet"
        published = repository.store.publish(draft.path, name)
        segments.append(
            Segment(
                **vars(published),
                rows=draft.rows,
                tick_min=draft.tick_min,
                tick_max=draft.tick_max,
                activity_max=draft.activity_max,
            )
        )
    return tuple(segments)


def _quarantined(
    repository: Repository, before: Branch, sources: Sequence[Source], intake: _Intake, scratch: Path
) -> list[QuarantineFile]:
    """Files of the refused rows that are not in quarantine yet, by (SHA-256 of the source, line)."""
    files = []
    for index, (source, refused) in enumerate(zip(sources, intake.refused, strict=True)):
        if not refused:
            continue
        digest = source.digest()
        known = _known_lines(repository, before, digest)
        fresh = {refusal.line: refusal for refusal in refused if refusal.line not in known}
        if not fresh:
            continue
        path = scratch / f"quarantine-{index}.parquet"
        rows = sorted(fresh.values(), key=lambda refusal: refusal.line)
        table = pa.Table.from_pylist([vars(refusal) for refusal in rows], schema=QUARANTINE)
        pq.write_table(table, path, compression="zstd")
        published = repository.store.publish(path, "quarantine/{sha256}.parquet")
        files.append(QuarantineFile(**vars(published), rows=len(rows), source=source.name, source_sha256=digest))
    return files


def _known_lines(repository: Repository, before: Branch, digest: str) -> set[int]:
    known: set[int] = set()
    for file in before.quarantine():
        if file.source_sha256 == digest:
            data = pa.BufferReader(repository.store.read_file(file.file))
            known.update(pq.read_table(data, columns=["line"])["line"].to_pylist())
    return known


def _result(after: Branch, intake: _Intake, late: int, far_above: tuple[int, int] | None, files: int) -> IngestResult:
    reasons = Counter(refusal.reason for refused in intake.refused for refusal in refused)
    return IngestResult(
        branch=after.name,
        read=intake.read,
        stored=sum(draft.rows for draft in intake.drafts),
        duplicates=intake.duplicates,
        quarantined=dict(sorted(reasons.items())),
        late=late,
        highest_tick=after.state.highest_tick,
        far_above=far_above,
        files=files,
    )
