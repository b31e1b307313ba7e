"""`Ledger`: every verb of the command line as a method with a typed result. The command line is thin over it.

What a verb needs is imported when it is called: a command starts as fast as its own verb allows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger_cli.api.arguments import checks_arguments
from ledger_cli.api.views import own_views
from ledger_cli.config.file import Config, load, template
from ledger_cli.config.policies import policy_from
from ledger_cli.config.types import TypeSettings
from ledger_cli.core.history import MAIN, State
from ledger_cli.core.policy import Policy
from ledger_cli.errors import MissingExtra, UsageError
from ledger_cli.ports import SQL_VIEWS, Importer, Source, SqlAnswer
from ledger_cli.ports import Mapping as FieldMapping
from ledger_cli.wiring import drawing, inputs, ledgers, machine

if TYPE_CHECKING:
    from threading import Event

    import polars
    import pyarrow as pa

    from ledger_cli.api.recipes import RecipeRun
    from ledger_cli.api.snapshots import SnapshotApi
    from ledger_cli.api.world import WorldApi
    from ledger_cli.core.gamma_view import GammaView
    from ledger_cli.services.archive import Archived, ArchiveView
    from ledger_cli.services.archive_restore import RestoredArchive
    from ledger_cli.services.commit import CommitResult
    from ledger_cli.services.compact import Compaction
    from ledger_cli.services.copy import CopyResult, RefDifference
    from ledger_cli.services.diff import DiffResult, Parting
    from ledger_cli.services.doctor import Diagnosis
    from ledger_cli.services.follow import FollowStep
    from ledger_cli.services.fork import BranchView, Tag
    from ledger_cli.services.gamma import Gamma, GammaAt
    from ledger_cli.services.graph import GraphLine
    from ledger_cli.services.ingest import IngestResult
    from ledger_cli.services.integrity import IntegrityReport
    from ledger_cli.services.log import CommitView, LogPage
    from ledger_cli.services.lookup import Place
    from ledger_cli.services.reconcile import Reconciled, ReconcilePlan, Synced
    from ledger_cli.services.replay import ReplayReport
    from ledger_cli.services.repository import Repository
    from ledger_cli.services.simulate import SimulationResult
    from ledger_cli.services.status import Status
    from ledger_cli.services.world_health import Limits

FRAMES = 200
"""Frames of a page with a slider, at most."""


@dataclass(frozen=True)
class SavedGamma:
    """A file of gamma: how many regions it shows, at how many commits."""

    out: str
    regions: int
    frames: int

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"out": self.out, "regions": self.regions, "frames": self.frames}


@checks_arguments
class Ledger:
    """A ledger: `Ledger.create(path)` or `Ledger.open(path)`. Usable as a context manager.

    Every method works on a branch, `main` if not said otherwise, and raises a `LedgerError` that says what to
    do next. Ticks are integers; a place is a commit id or a prefix of it, a tag or a branch as text, or a tick.
    """

    def __init__(self, location: str, config: Config, repository: Repository | None = None) -> None:
        """Use `create` or `open`. `repository`: one that is open already, and stays open."""
        self.location = location
        """The path of its directory, or its URL."""
        self.config = config
        self._open_files = ExitStack()
        self._owns_repository = repository is None
        if repository is None:
            try:
                repository = ledgers.make_repository(location, config, self._open_files)
            except BaseException:
                self._open_files.close()
                raise
        self._repository = repository
        self._importer: Importer | None = None

    @cached_property
    def world(self) -> WorldApi:
        """The world behind the ticks."""
        from ledger_cli.api.world import WorldApi

        return WorldApi(self._repository, self.config, self.location, self._open_files)

    @cached_property
    def snapshots(self) -> SnapshotApi:
        """Snapshots of the world."""
        from ledger_cli.api.snapshots import SnapshotApi

        return SnapshotApi(self._repository, self.config)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({self.location!r})"

    # -- make ---------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        location: str | os.PathLike[str],
        *,
        store: str | None = None,
        types: Mapping[str, TypeSettings] | None = None,
        **settings: Any,
    ) -> Ledger:
        """Make a ledger with a commented `ledger.toml`; `settings` and `types` (of world events) as named there.

        `store`: the URL of the engine that keeps commits and refs. UsageError where there is a ledger already, here or
        in the engine, or a setting is wrong; Unavailable where the engine cannot be reached.
        """
        place = ledgers.location_of(os.fspath(location))
        text = template(settings if store is None else {**settings, "store": store}, types)
        load(text, {}).policy()
        ledgers.check_empty(place, store)
        ledgers.make_ledger(place, text)
        made = cls(place, ledgers.read_config(place))
        try:
            if made._repository.store.branches():
                raise UsageError(f"{place} is a ledger already: use it, or choose another directory")
            made._repository.create_branch(MAIN, "init", "", None, State())
        except BaseException:
            made.close()
            raise
        return made

    def copy(
        self,
        target: str | os.PathLike[str],
        *,
        store: str | None = None,
        watch: Callable[[str, int], None] = lambda *_: None,
    ) -> CopyResult:
        """Copy the whole ledger: the same moves, files and ids, its settings but for the store. Verified; resumable.

        `store`: the engine that keeps the copy's commits and refs; None: files of the copy, or what it has already.
        `watch` is told the ref and the move that come next. UsageError where another ledger is there.
        """
        from ledger_cli.services.copy import copy

        place = ledgers.location_of(os.fspath(target))
        ledgers.make_copy(self.location, place, store)
        # The variable names the store of one of the two: that of the source.
        others = {name: value for name, value in os.environ.items() if name != "LEDGER_STORE"}
        with Ledger(place, ledgers.read_config(place, others)) as there:
            return copy(self._repository, self.location, there._repository, watch)

    def compare(self, other: Ledger) -> list[RefDifference]:
        """The refs that another ledger does not have alike; none where the two are one history."""
        from ledger_cli.services.copy import compare

        return compare(self._repository, other._repository)

    @classmethod
    def open(cls, location: str | os.PathLike[str] | None = None) -> Ledger:
        """Open a ledger; None: `LEDGER_URL`, else the nearest parent directory with a `ledger.toml`."""
        place = ledgers.location_of(ledgers.locate(None if location is None else os.fspath(location)))
        return cls(place, ledgers.read_config(place))

    def close(self) -> None:
        """Let go of what is held open, at once; whoever goes on opens the ledger again.

        Not needed for what was written to last.
        """
        if self._owns_repository:
            self._repository.close()
        if self._importer is not None:
            self._importer.close()
            self._importer = None
        self._open_files.close()

    def ingest(
        self,
        *sources: str | os.PathLike[str],
        branch: str = MAIN,
        format: str | None = None,
        map: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        sql: str | None = None,
        delimiter: str | None = None,
        comment: str | None = None,
        columns: Sequence[str] | None = None,
        max_tick_jump: int | None = None,
        why: str = "",
        watch: Callable[[int, int | None], None] | None = None,
    ) -> IngestResult:
        """Read tick events from files, globs, directories, URLs or `-`; all of it is stored, or nothing.

        `map`: fields of the tick as SQL over the source's columns; `sql`: a SELECT over the whole `source`, one source
        at a time, whose column `_line` is the physical line of a row.
        `watch(bytes, total)` is called ten times a second, from another thread too; total is None where not known.
        """
        from ledger_cli.api.progress import telling
        from ledger_cli.services.ingest import IngestOptions, ingest

        mapping = _mapping(map, sql)
        for source in sources:
            if not isinstance(source, (str, os.PathLike)):
                raise UsageError(f"a source is a path or a URL, not {source!r}: of a list give each, ingest(*sources)")
        names = inputs.expand([os.fspath(source) for source in sources], format)
        given = {"format": format, "delimiter": delimiter, "comment": comment}

        def made(name: str) -> Source:
            return inputs.make_source(name, columns=None if columns is None else tuple(columns), **given)

        read = [made(name) for name in names]
        jump = self.config["max_tick_jump"] if max_tick_jump is None else max_tick_jump
        if jump is not None and jump < 1:
            raise UsageError(f"max_tick_jump must be at least 1 tick, not {jump}")
        with telling(read, watch) as tell:
            return ingest(
                self._repository,
                self._make_importer(),
                branch,
                read,
                IngestOptions(mapping, jump, why),
                tell,
                again=lambda index: made(names[index]) if _can_be_read_again(names[index]) else None,
            )

    def commit(
        self,
        branch: str = MAIN,
        *,
        final: bool = False,
        force: str | None = None,
        dry_run: bool = False,
        why: str = "",
        **policy: Any,
    ) -> CommitResult:
        """Fold what is new into commits.

        `final`: close what is open, nothing more comes. `force`: close the shard of this region now.
        `policy`: strategy, interval, min_interval, max_interval, max_size, max_mean, max_variance, lateness,
        regions, shards, weight, base_weight; they override `ledger.toml` and are recorded for the branch.
        """
        from ledger_cli.services.commit import CommitRequest, commit, plan

        request = CommitRequest(self.policy(branch, **policy), final, force, why)
        return (plan if dry_run else commit)(self._repository, branch, request)

    def follow(
        self,
        *sources: str | os.PathLike[str],
        world: Sequence[str | os.PathLike[str]] = (),
        branch: str = MAIN,
        every: float | str = 1,
        rows: int = 100_000,
        snapshot_every: str | None = None,
        idle: float | str | None = None,
        stop: Event | None = None,
    ) -> Iterator[FollowStep]:
        """Take ticks, and events of the `world`, as they come: JSON Lines of files that grow, FIFOs and `-`.

        Each step stores what is there (at most `rows` ticks, and as many events), commits what is complete, tells the
        bus and, with `snapshot_every` (like `1h`), keeps the world; steps that did nothing are not given. It goes on
        every so many seconds, until `stop` is set, nothing came for `idle` seconds, or all of the input has ended.
        Without any source it only tells the bus, commits and keeps what others bring.

        What is better tried again (another writer, a full disk, a bus that is down) is among the step's notes.
        UsageError where a source is none that grows, they are more than 100, or the branch is made again meanwhile;
        NotFound where a source is not there.
        """
        from threading import Event

        from ledger_cli.api.follow import follow, options_of
        from ledger_cli.services.followed import check_names

        ticks, events = ([os.fspath(each) for each in some] for some in (sources, world))
        check_names([*ticks, *events])
        options = options_of(branch, every, rows, snapshot_every, idle)
        return follow(self, ticks, events, options, stop or Event())

    def policy(self, branch: str = MAIN, **options: Any) -> Policy:
        """The policy of a branch: as recorded, else as in `ledger.toml`; changed by options."""
        recorded = self._repository.branch(branch).policy
        return self.config.policy(options) if recorded is None else policy_from(recorded, options)

    def overruled(self, branch: str = MAIN) -> dict[str, str]:
        """Settings of the policy that do not hold on a branch, since it has recorded another one.

        By name, where they are set: `ledger.toml` or a variable. A fork is meant to differ from the file.
        """
        found = self._repository.branch(branch)
        recorded = found.policy
        return {} if recorded is None else self.config.overruled(recorded, file=found.state.base is None)

    def run(
        self,
        recipe: str | os.PathLike[str],
        parameters: Mapping[str, Any] | None = None,
        *,
        pictures: bool = True,
    ) -> RecipeRun:
        """Run a recipe on this ledger; its `differences` are from what the recipe says that branches end with.

        `parameters`: as `--set` gives them, paths from the current directory. UsageError where the settings are not
        those of the recipe, MissingExtra before the first step where one draws a picture and cannot; without
        `pictures` none is drawn.
        """
        from ledger_cli.api.recipes import Watcher, check_pictures, check_settings, load_recipe, run_recipe

        given = {name: str(value) for name, value in (parameters or {}).items()}
        read = load_recipe(os.fspath(recipe), given)
        check_settings(self, self.location, read)
        if pictures:
            check_pictures(read)
        return run_recipe(self, read, Watcher(), pictures=pictures)

    @staticmethod
    def simulate(target: str | os.PathLike[str], **settings: Any) -> SimulationResult:
        """Write the ticks of a deterministic world to a file: input to try a ledger on.

        `settings`: entities, ticks, seed, format, commands … as `ledger_cli.api.simulation.simulate` takes them.
        """
        from ledger_cli.api.simulation import simulate

        return simulate(target, **settings)

    # -- look ---------------------------------------------------------------------------------------------

    def log(
        self,
        branch: str = MAIN,
        *,
        region: str | None = None,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
        entries: bool = False,
    ) -> LogPage:
        """Commits, newest first; `since` and `until` in ticks, half-open."""
        from ledger_cli.api.notebook.log import LogInNotebook
        from ledger_cli.services.log import log

        page = log(self._repository, branch, region, since, until, limit, entries=entries)
        return LogInNotebook(**vars(page))

    def graph(self, branches: Sequence[str] | None = None, limit: int | None = None, **chosen: Any) -> list[GraphLine]:
        """The commits of branches (None: of all) with their places in a drawing of the chains."""
        from ledger_cli.services.graph import graph_lines

        return graph_lines(self._repository, branches, limit=limit, **chosen)

    def show(self, place: str | int, branch: str = MAIN) -> CommitView:
        """One commit with its entries; of a branch its newest. A tick is no commit: UsageError."""
        from ledger_cli.services.log import show

        return show(self._repository, self.resolve(place, branch, ticks=False))

    def diff(
        self,
        a: str | int,
        b: str | int,
        branch: str = MAIN,
        *,
        sort: str = "weight_delta",
        descending: bool = True,
        equal: bool = False,
    ) -> DiffResult:
        """What two places hold of each region: two commits their entries, others the sums over their chains."""
        from ledger_cli.api.notebook.diff import DiffInNotebook
        from ledger_cli.services.diff import diff

        places = self.resolve(a, branch), self.resolve(b, branch)
        found = diff(self._repository, *places, sort, descending, equal=equal)
        return DiffInNotebook(**vars(found))

    def first_difference(self, a: str | int, b: str | int, branch: str = MAIN) -> list[Parting]:
        """The first commit of each shard on which two places part."""
        from ledger_cli.services.diff import first_difference

        return first_difference(self._repository, self.resolve(a, branch), self.resolve(b, branch))

    def gamma(
        self,
        branch: str = MAIN,
        *,
        region: str | None = None,
        at: str | int | None = None,
        half_life: int | None = None,
        window: int | None = None,
    ) -> Gamma:
        """The projection: of each region the accumulated weight, the statistics, counts and last commit."""
        from ledger_cli.api.notebook.gamma import GammaInNotebook
        from ledger_cli.services.gamma import gamma

        found = gamma(self._repository, branch, region, self._gamma_at(at, branch), half_life, window)
        return GammaInNotebook(**vars(found))

    def gamma_frames(
        self,
        branch: str = MAIN,
        *,
        region: str | None = None,
        at: str | int | None = None,
        half_life: int | None = None,
        window: int | None = None,
        frames: int = FRAMES,
    ) -> GammaView:
        """Gamma at many commits, evenly spread over the history, for pictures that move."""
        from ledger_cli.services.gamma_frames import gamma_view

        place = self._gamma_at(at, branch)
        return gamma_view(self._repository, branch, region, place, half_life, window, frames)

    def save_gamma(
        self,
        target: str | os.PathLike[str],
        branch: str = MAIN,
        *,
        frames: int = FRAMES,
        **chosen: Any,
    ) -> SavedGamma:
        """Write gamma to a .csv, .parquet, .png, .svg or .html file (a page with a slider over `frames`)."""
        name = os.fspath(target)
        if drawing.check_picture(name):
            view = self.gamma_frames(branch, frames=frames, **chosen)
            drawing.write_picture(name, view)
            regions = len(view.frames[-1].rows) if view.frames else 0
            return SavedGamma(name, regions, len(view.frames))
        found = self.gamma(branch, **chosen)
        table = Path(name).suffix.lower() in (".csv", ".parquet")
        drawing.write_picture(name, found.table if table else found.frame)
        return SavedGamma(name, found.table.num_rows, 1)

    def sql(self, statement: str, branch: str = MAIN) -> pa.Table:
        """The answer to a read-only SELECT over the views of a branch, those of `[views]` in `ledger.toml` too."""
        from ledger_cli.services.query import sql

        return sql(self._repository, branch, statement, own_views(self._repository, self.config))

    def sql_answer(self, statement: str, branch: str = MAIN) -> AbstractContextManager[SqlAnswer]:
        """The same, batch by batch within a context, for answers that may be larger than memory."""
        from ledger_cli.services.query import sql_answer

        return sql_answer(self._repository, branch, statement, views=own_views(self._repository, self.config))

    def to_arrow(self, view: str = "commit_entries", branch: str = MAIN) -> pa.Table:
        """A whole view (see `sql`) as an Arrow table."""
        if not view.isidentifier():
            raise UsageError(f"{view!r} is no view: use {', '.join((*SQL_VIEWS, *self.config.views))}")
        return self.sql(f"SELECT * FROM {view}", branch)

    def to_polars(self, view: str = "commit_entries", branch: str = MAIN) -> polars.DataFrame:
        """A whole view (see `sql`) as a Polars frame. MissingExtra without the extra `polars`."""
        try:
            import polars
        except ImportError as error:
            raise MissingExtra("polars", "polars") from error
        return polars.DataFrame(self.to_arrow(view, branch))

    def status(self, branch: str = MAIN) -> Status:
        """Where a branch stands."""
        from ledger_cli.api.notebook.status import StatusInNotebook
        from ledger_cli.services.status import status

        constraints, wrong = None, list[str]()
        try:
            constraints = self.world.constraints()
        except UsageError as error:
            wrong.append(str(error))
        found = status(self._repository, branch, self._limits(), constraints)
        return StatusInNotebook(**{**vars(found), "warnings": (*wrong, *found.warnings)})

    # -- history ------------------------------------------------------------------------------------------

    def resolve(self, place: str | int, branch: str = MAIN, *, ticks: bool = True) -> Place:
        """What a tag, branch, tick, commit id or prefix of one names; without `ticks`, digits are part of an id."""
        from ledger_cli.services.lookup import resolve

        return resolve(self._repository, place, branch, ticks=ticks)

    def fork(
        self, name: str, at: str | int | None = None, branch: str = MAIN, *, why: str = "", **policy: Any
    ) -> BranchView:
        """Begin a branch that shares everything with its parent up to a place; nothing is copied."""
        from ledger_cli.services.fork import fork

        place = None if at is None else self.resolve(at, branch)
        chosen = self._other_policy(branch, policy)
        return fork(self._repository, branch, name, place, chosen, why)

    def reconcile(
        self,
        a: str,
        b: str,
        *,
        into: str | None = None,
        remote: str | None = None,
        resolutions: Mapping[str, Any] | None = None,
        why: str = "",
    ) -> Reconciled:
        """Unite the histories of two branches: a moves on (or a new branch `into` does), b stays as it is.

        b may be `DIR` or `DIR#BRANCH` of another ledger; it is fetched first, see `fetch`. NeedsDecision, with the
        conflicts as `asked`, where fields are to be decided by a person: with the choices filled in, that goes into
        `resolutions`.
        """
        from ledger_cli.api.reconcile import branch_here, reconcile

        if a == b:
            raise UsageError(f"{a!r} is one branch: name two")
        return reconcile(self, a, branch_here(self, b, remote), into, resolutions, why)

    def plan_reconcile(
        self,
        a: str,
        b: str,
        *,
        into: str | None = None,
        remote: str | None = None,
        resolutions: Mapping[str, Any] | None = None,
    ) -> ReconcilePlan:
        """What `reconcile` would do, with every conflict; nothing is changed, but that another ledger is fetched."""
        from ledger_cli.api.reconcile import branch_here, plan_reconcile

        if a == b:
            raise UsageError(f"{a!r} is one branch: name two")
        return plan_reconcile(self, a, branch_here(self, b, remote), into, resolutions)

    def draw_reconciliation(self, target: str | os.PathLike[str], plan: ReconcilePlan) -> None:
        """Draw what becomes of every conflict of a plan into an .svg or .png file."""
        drawing.check_plan_picture(os.fspath(target))
        drawing.draw_plan(os.fspath(target), plan)

    def fetch(self, location: str | os.PathLike[str], branch: str = MAIN, *, remote: str | None = None) -> BranchView:
        """Copy a branch of another ledger, with its log, as `REMOTE.BRANCH`; what is here already is not copied again.

        `remote`: what that ledger is called here [default: the name of its directory].
        """
        from ledger_cli.api.reconcile import fetch

        return fetch(self, os.fspath(location), branch, remote)

    def sync(
        self,
        location: str | os.PathLike[str],
        branch: str = MAIN,
        *,
        remote: str | None = None,
        consistency: str | None = None,
        why: str = "",
    ) -> Synced:
        """Exchange events with the branch of the same name of another ledger: both end with the same history.

        `consistency`, of all types of events; None: of each as in `ledger.toml`. eventual: this ledger takes in what
        the other one has, then the other one. causal: the same, but CausalGap, and nothing moves, where the other one
        has an effect without its cause. strong: also, the other one's ref moves first, and this one's only after it.
        """
        from ledger_cli.api.reconcile import sync

        return sync(self, os.fspath(location), branch, remote, consistency, why)

    def branches(self) -> list[BranchView]:
        """All branches, `main` first."""
        from ledger_cli.services.fork import branches

        return branches(self._repository)

    def delete_branch(self, name: str, why: str = "") -> None:
        """Delete a branch; what forks share with it stays."""
        from ledger_cli.services.fork import delete

        delete(self._repository, name, why)

    def tag(self, name: str, place: str | int = MAIN, branch: str = MAIN, why: str = "") -> Tag:
        """Name a commit."""
        from ledger_cli.services.fork import tag

        return tag(self._repository, name, self.resolve(place, branch, ticks=False), why)

    def untag(self, name: str, why: str = "") -> None:
        """Remove a tag; its commit stays."""
        from ledger_cli.services.fork import untag

        untag(self._repository, name, why)

    def tags(self, branch: str = MAIN) -> list[Tag]:
        """All tags."""
        from ledger_cli.services.fork import tags

        return tags(self._repository, branch)

    def replay(
        self,
        branch: str = MAIN,
        *,
        since: int | None = None,
        until: int | None = None,
        expect: str | None = None,
    ) -> ReplayReport:
        """Recompute every commit from the events and compare the ids."""
        from ledger_cli.services.replay import verify_replay

        return verify_replay(self._repository, branch, since, until, expect)

    def what_if(
        self, name: str, branch: str = MAIN, *, at: str | int | None = None, why: str = "", **policy: Any
    ) -> CommitResult:
        """Another policy over the same events, on a new branch, from the first tick or from a place."""
        from ledger_cli.services.replay import what_if

        place = None if at is None else self.resolve(at, branch)
        return what_if(self._repository, branch, name, self.policy(branch, **policy), place, why)

    def verify(self, branches: Sequence[str] | None = None, *, archives: bool = False) -> IntegrityReport:
        """Check headers, entries, chains and files against their digests, without replay.

        `archives`: also what is archived, where it is.
        """
        from ledger_cli.services.integrity import verify

        return verify(self._repository, branches, ledgers.archives_of(self._repository) if archives else None)

    def compact(
        self,
        below: int | str = "128KiB",
        target: int | str = "128MiB",
        grace: str = "1d",
        *,
        dry_run: bool = False,
        why: str = "",
    ) -> Compaction:
        """Put small files into packs, and take away those that were packed longer than `grace` ago.

        `below`, `target`: bytes, or text like `64KiB`; files smaller than `below` make packs of about `target` bytes of
        files. `grace`: like `1d`, or `0s`. `dry_run`: only say what would be done.
        Corrupt where a file is not what its digest says, Conflict where another process packs: nothing was packed then.
        """
        from ledger_cli.core.durations import seconds_of
        from ledger_cli.core.sizes import bytes_of
        from ledger_cli.services.compact import Rules, compact

        sizes = [each if isinstance(each, int) else bytes_of(each) for each in (below, target)]
        rules = Rules(sizes[0], sizes[1], 0 if grace == "0s" else seconds_of(grace), dry_run)
        return compact(self._repository, rules, why)

    # -- retention ----------------------------------------------------------------------------------------

    def archive(
        self,
        before: int | str | None = None,
        *,
        max_activity: float | None = None,
        to: str | os.PathLike[str] | None = None,
        branch: str | None = None,
        ticks: bool = False,
        world: bool = False,
        dry_run: bool = False,
        why: str = "",
    ) -> Archived:
        """Move the entries of old commits to an archive; headers stay, and reads find what was moved.

        `before`: a tick at which epochs end at the latest, or an age like `30d`; `max_activity`: only commits in which
        no region's mean activity is above. Without both the rules of `[retention]` in `ledger.toml` hold. `branch`:
        only what this one reads. `ticks`, `world`: whole files of events too. `dry_run`: only count.
        """
        from ledger_cli.api.retention import request
        from ledger_cli.services.archive import archive

        asked = request(self.config, before, max_activity, None if to is None else os.fspath(to), ticks, world)
        asked = replace(asked, branch=branch, why=why)
        return archive(self._repository, ledgers.archives_of(self._repository), asked, dry_run)

    def archives(self) -> list[ArchiveView]:
        """The archives of the ledger, newest first, those that were restored too."""
        from ledger_cli.services.archive import ArchiveView, archives

        return [ArchiveView(each) for each in archives(self._repository)]

    def restore(
        self, pointer: str | None = None, *, since: int | None = None, until: int | None = None, why: str = ""
    ) -> list[RestoredArchive]:
        """Put back what an archive holds (by its pointer or id), or all that is archived of the ticks [since, until).

        LedgerError where an archive is missing, damaged or another ledger's: then nothing is changed.
        """
        from ledger_cli.ports import TickRange
        from ledger_cli.services.archive_restore import restore

        ticks = None if since is None and until is None else TickRange(since, until)
        return restore(self._repository, ledgers.archives_of(self._repository), pointer, ticks, why)

    def doctor(self, branch: str = MAIN, *, grace: str = "1d") -> Diagnosis:
        """Check the clocks and modules of a branch's world, drill snapshot and restore, look for what nobody needs.

        The history is not changed. Files and batches of commits that no move names, which killed jobs leave, and local
        copies of what is archived are removed where they are older than `grace`: what a running job writes must be
        named in that time. Where a log is damaged nothing is removed, since it may not tell all that it named.
        """
        from ledger_cli.core.durations import seconds_of
        from ledger_cli.services.doctor import Diagnosis, diagnose
        from ledger_cli.services.leftovers import sweep
        from ledger_cli.services.world_types import reducer_of, registered

        reducers = reducer_of(registered(self._repository))
        found = diagnose(self._repository, reducers, branch, self._limits(), machine.clock)
        before = machine.time_before(seconds_of(grace))
        checks = sweep(self._repository, ledgers.archives_of(self._repository), before, str(self.config["archive_to"]))
        return Diagnosis(found.branch, (*found.checks, *checks))

    # -- helpers ------------------------------------------------------------------------------------------

    def _limits(self) -> Limits:
        from ledger_cli.services.world_health import Limits

        return Limits(self.config["max_lag"], self.config["max_skew"], self.config["bus"] is not None)

    def _make_importer(self) -> Importer:
        if self._importer is None:
            self._importer = ledgers.make_importer(self._repository.store, self.config, self._open_files)
        return self._importer

    def _other_policy(self, branch: str, options: Mapping[str, Any]) -> Policy | None:
        return self.policy(branch, **options) if any(value is not None for value in options.values()) else None

    def _gamma_at(self, at: str | int | None, branch: str) -> GammaAt | None:
        if at is None:
            return None
        from ledger_cli.services.gamma import GammaAt, commit_at
        from ledger_cli.services.lookup import commit_of

        place = self.resolve(at, branch)
        if place.tick is not None:
            return GammaAt(place.tick)
        found = commit_of(self._repository, place)
        return commit_at(self._repository, place.branch, found.shard, found.height)


def _can_be_read_again(name: str) -> bool:
    """Whether a source gives its bytes more than once: a pipe does not, and would keep us waiting."""
    return "://" in name or Path(name).is_file()


def _mapping(fields: Mapping[str, str] | Iterable[tuple[str, str]] | None, sql: str | None) -> FieldMapping | None:
    if fields and sql is not None:
        raise UsageError("--map and --sql exclude each other: put the mapping into the SELECT")
    if sql is not None:
        return FieldMapping(sql=sql)
    pairs = tuple(fields.items() if isinstance(fields, Mapping) else fields or ())
    return FieldMapping(fields=pairs) if pairs else None
