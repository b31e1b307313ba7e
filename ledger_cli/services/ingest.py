"""`ledger ingest`: sources become segments of a branch, refused rows quarantine; all of it in one ref move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ledger_cli.core.chunks import ColumnChunk, LineChunk, Refused
from ledger_cli.core.history import Added, Segment, State
from ledger_cli.errors import Conflict, SourceError
from ledger_cli.ports import Draft, Importer, Source
from ledger_cli.ports import Mapping as FieldMapping
from ledger_cli.services.followed import Settle, unchanged
from ledger_cli.services.refusals import Refusals, by_source, quarantine_files, with_own_text
from ledger_cli.services.repository import ATTEMPTS, Branch, Repository, overtaken

_PUBLISHED_AT_ONCE = 2
"""Files that are digested and brought to the disk at a time."""
FAR_TICKS = 1000
"""A gap below the highest tick is worth a warning from this many ticks on, if it exceeds all below it tenfold."""


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
    settle: Settle = unchanged
    """What else the move changes."""


@dataclass
class _Intake:
    """What has been read, and what of it is kept."""

    read_refusals: Refusals
    """Rows refused for what they are."""
    drafts: list[Draft] = field(default_factory=list)
    read: int = 0
    duplicates: int = 0
    refusals: list[Refusals] = field(default_factory=list)
    """Rows refused for what they are, and because of others."""


Again = Callable[[int], Source | None]
"""A source of the command once more, from its beginning; None where it can be read only once."""


def _read_only_once(_: int) -> None:
    return None


def ingest(
    repository: Repository,
    importer: Importer,
    branch: str,
    sources: Sequence[Source],
    options: IngestOptions = IngestOptions(),
    watch: Callable[[], None] = lambda: None,
    again: Again = _read_only_once,
) -> IngestResult:
    """Read sources into a branch. Either all of it is stored, in one move, or nothing.

    SourceError where a source is not what it claims to be. `watch` is called now and then, to show progress.
    With `again`, rows refused because of others have their source's own text, else canonical JSON.
    """
    repository.branch(branch)
    with repository.store.scratch() as scratch:
        intake = _read(importer, sources, options, scratch, watch)
        before = repository.branch(branch)
        texts = _Texts(again if options.mapping is None else _read_only_once)
        far_above = _inspect_ticks(importer, intake, before.state, options, scratch, texts)
        drafts = intake.drafts
        _deduplicate(importer, intake, drafts, before, scratch, texts)
        for _ in range(ATTEMPTS):
            try:
                after = _moved(repository, before, sources, intake, options, scratch)
            except Conflict:
                older, before = before, repository.branch(branch)
                if before.state.created != older.state.created:
                    raise Conflict(
                        f"branch {branch} was deleted and made again meanwhile: nothing was stored, run it again"
                    ) from None
                seen = {segment.file for segment in older.segments()}
                fresh = [segment for segment in before.segments() if segment.file not in seen]
                if importer.deduplicate(intake.drafts, fresh, scratch, False).drafts != intake.drafts:
                    _deduplicate(importer, intake, drafts, before, scratch, texts)
                continue
            watermark = before.state.watermark
            late = 0 if watermark is None else importer.count_below(intake.drafts, watermark)
            return _result(after, intake, late, far_above, len(sources))
    raise overtaken(f"branch {branch}")


def _read(
    importer: Importer,
    sources: Sequence[Source],
    options: IngestOptions,
    scratch: Path,
    watch: Callable[[], None],
) -> _Intake:
    intake = _Intake(Refusals(scratch / "refused"))
    drafts: list[Future[Draft | None]] = []
    for index, source in enumerate(sources):
        for chunk in _chunks(importer, source, options, scratch / f"source-{index}", watch):
            try:
                parsed = importer.parse(chunk, "none" if options.mapping else source.envelope, index, scratch)
            except SourceError as error:
                raise SourceError(f"{source.name}: {error}") from error
            intake.read += parsed.read
            intake.read_refusals.add(index, parsed.refused)
            drafts.append(parsed.draft)
            watch()
    intake.drafts = [draft for future in drafts if (draft := future.result()) is not None]
    return intake


def _deduplicate(
    importer: Importer, intake: _Intake, drafts: Sequence[Draft], before: Branch, scratch: Path, texts: _Texts
) -> None:
    """Judge all rows against each other and what is stored: what another ingest stored meanwhile counts too."""
    kept = importer.deduplicate(drafts, before.segments(), scratch, True)
    lost = Refusals(scratch / f"lost-{before.seq}")
    texts.add(lost, kept.refused)
    intake.drafts, intake.duplicates = kept.drafts, kept.duplicates
    intake.refusals = [intake.read_refusals, lost]


class _Texts:
    """Gives rows that were refused because of others the text that their source has for them."""

    def __init__(self, again: Again) -> None:
        self._again = again

    def add(self, refusals: Refusals, refused: Iterable[tuple[int, Refused]]) -> None:
        for index, rows in by_source(refused):
            source = self._again(index)
            refusals.add(index, rows if source is None else with_own_text(source, rows))


def _chunks(
    importer: Importer, source: Source, options: IngestOptions, directory: Path, watch: Callable[[], None]
) -> Iterator[LineChunk | ColumnChunk]:
    if options.mapping is None:
        return source.chunks()
    directory.mkdir()
    return iter(importer.mapped(source, options.mapping, directory, watch))


def _inspect_ticks(
    importer: Importer, intake: _Intake, state: State, options: IngestOptions, scratch: Path, texts: _Texts
) -> tuple[int, int] | None:
    """Refuse rows beyond `max_tick_jump`; without it, tell of a gap that looks like a wrong tick."""
    if not intake.drafts:
        return None
    known = [] if state.highest_tick is None else [state.highest_tick]
    limit = FAR_TICKS - 1 if options.max_tick_jump is None else options.max_tick_jump
    if _widest_possible(intake.drafts, known) <= limit:
        return None
    if options.max_tick_jump is not None:
        gap = importer.widest_gap(intake.drafts, known, options.max_tick_jump)
        if gap is not None:
            intake.drafts, refused = importer.split_above(intake.drafts, gap[0], scratch)
            texts.add(intake.read_refusals, refused)
        return None
    gap = importer.widest_gap(intake.drafts, known, None)
    lowest = min(draft.tick_min for draft in intake.drafts)
    # What is stored already was told of when it came.
    if gap is None or gap[1] in known or gap[1] - gap[0] < max(FAR_TICKS, 10 * (gap[0] - lowest)):
        return None
    return gap


def _widest_possible(drafts: Sequence[Draft], known: Sequence[int]) -> int:
    """What no gap between ticks exceeds, for all that the ranges of the drafts tell."""
    ranges = sorted([(draft.tick_min, draft.tick_max) for draft in drafts] + [(tick, tick) for tick in known])
    reached, widest = ranges[0][0], 0
    for first, last in ranges:
        widest = max(widest, first - reached, last - first)
        reached = max(reached, last)
    return widest


def _moved(
    repository: Repository,
    before: Branch,
    sources: Sequence[Source],
    intake: _Intake,
    options: IngestOptions,
    scratch: Path,
) -> Branch:
    """Publish what is new and move the ref; where nothing is new, the branch as it is."""
    quarantine = quarantine_files(repository, before, sources, intake.refusals, scratch)
    if not intake.drafts and not quarantine and options.settle(before) == before.state:
        return before
    added = Added(segments=publish_drafts(repository, intake.drafts), quarantine=tuple(quarantine))
    rows = sum(draft.rows for draft in intake.drafts)
    ticks = [draft.tick_max for draft in intake.drafts]
    if before.state.highest_tick is not None:
        ticks.append(before.state.highest_tick)
    state = replace(options.settle(before), rows=before.state.rows + rows, highest_tick=max(ticks, default=None))
    why = options.why or ", ".join(source.name for source in sources[:3]) + (", …" if len(sources) > 3 else "")
    return repository.advance(before.name, before, "ingest", state, why, added)


def publish_drafts(repository: Repository, drafts: Sequence[Draft]) -> tuple[Segment, ...]:
    """Make drafts segments of the ledger; no move names them yet."""

    def segment(draft: Draft) -> Segment:
        name = f"segments/ticks-{draft.tick_min}-{draft.tick_max}-{{sha256}}.parquet"
        return Segment(
            **vars(repository.store.publish(draft.path, name)),
            rows=draft.rows,
            tick_min=draft.tick_min,
            tick_max=draft.tick_max,
            activity_max=draft.activity_max,
            box=draft.box,
        )

    with ThreadPoolExecutor(_PUBLISHED_AT_ONCE) as pool:
        return tuple(pool.map(segment, drafts))


def _result(after: Branch, intake: _Intake, late: int, far_above: tuple[int, int] | None, files: int) -> IngestResult:
    reasons = sum((refusals.counts for refusals in intake.refusals), Counter[str]())
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
