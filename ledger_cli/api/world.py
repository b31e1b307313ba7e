"""`Ledger.world`: the entities of a ledger, changed by events and looked up now or at a past moment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ledger_cli.api.views import own_views
from ledger_cli.config.file import Config
from ledger_cli.config.types import level_of
from ledger_cli.core.history import MAIN
from ledger_cli.errors import UsageError
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.wiring import drawing, inputs, ledgers, listeners, machine

if TYPE_CHECKING:
    from threading import Event

    import pyarrow as pa

    from ledger_cli.services.broadcast import Broadcast, Broadcaster, Told
    from ledger_cli.services.moment import Moment
    from ledger_cli.services.subscriptions import Listener, Polled, SubscriptionView
    from ledger_cli.services.transactions import Ended, Side, Together
    from ledger_cli.services.world import Reducer, World
    from ledger_cli.services.world_apply import ApplyRequest, ApplyResult
    from ledger_cli.services.world_classes import CacheDrop, SessionEnd
    from ledger_cli.services.world_constraints import Constraints
    from ledger_cli.services.world_graph import WorldGraph
    from ledger_cli.services.world_judge import Rules
    from ledger_cli.services.world_query import EntityView, Transition
    from ledger_cli.services.world_types import RegisteredType, SchemaCheck

DEPTH = 2
"""Relations between an entity and the last that its graph shows."""
When = str | int | datetime
"""A moment: a text as `--at` takes it, a tick, or a time with its zone."""
POLLED = 1000
"""Events of a poll where nobody says how many."""


class WorldApi:
    """The world behind the ticks. A moment (`at`) is one of those that `ledger world --help` names."""

    def __init__(self, repository: Repository, config: Config, location: str, open_files: ExitStack) -> None:
        """Use `Ledger.world`."""
        self._repository = repository
        self._open_files = open_files
        self._config = config
        self._location = location
        self._kept: dict[str, tuple[Branch, World]] = {}

    def register(
        self,
        type: str,
        schema: Mapping[str, Any] | None = None,
        reducer: str | None = None,
        fields: Mapping[str, str] | None = None,
        upcast: Mapping[str, Any] | None = None,
        why: str = "",
    ) -> RegisteredType:
        """Make a type of events known: JSON Schema of the payload, reducer, rules by field, upcaster of the version
        before; None: as recorded, or none."""
        from ledger_cli.services.world_types import register

        return register(self._repository, type, schema, reducer, fields, upcast, why)

    def check(self, type: str, schema: Mapping[str, Any]) -> SchemaCheck:
        """What another JSON Schema would break of a type's."""
        from ledger_cli.services.world_types import check

        return check(self._repository, type, schema)

    def deprecate(self, type: str, until: str, why: str = "") -> RegisteredType:
        """Accept events of a version until a date (that day included, in UTC) or moment, and refuse them afterwards."""
        from ledger_cli.services.world_types import deprecate

        return deprecate(self._repository, type, until, why)

    def types(self) -> list[RegisteredType]:
        """The types that are known."""
        from ledger_cli.api.world_rules import types_of

        return types_of(self._repository, self._config)

    def apply(
        self,
        events: Iterable[bytes | str],
        branch: str = MAIN,
        atomic: bool = False,
        source: str = "events",
        why: str = "",
        first_line: int = 1,
    ) -> ApplyResult:
        """Apply events, each a JSON text. What is refused changes nothing; `atomic`: then none does.

        Those of strong types are applied on the canonical ledger first, and taken in from there; atomic, all are if one
        is of such a type. Unavailable, and nothing has changed, where that ledger cannot be reached. `first_line`: the
        number of the first event, for what is refused.
        """
        from ledger_cli.services.world_apply import ApplyRequest

        lines = map(_bytes, events)
        result = self._apply(ApplyRequest(branch, lines, source, atomic, why, first_line))
        result.unheard += self._broadcaster.deliver_written(branch)
        return result

    def _apply(self, request: ApplyRequest, broadcast: Broadcast | None = None) -> ApplyResult:
        """Apply events, those of strong types on the canonical ledger.

        The bus is not told yet but of transient events, by `broadcast` where it is given.
        """
        from ledger_cli.api.canonical import apply_by_level
        from ledger_cli.api.ledger import Ledger

        strong = self._config.types_from("strong")
        canonical = self._canonical() if strong else None
        apply_here = partial(self._apply_here, broadcast=broadcast)
        if canonical is None:
            return apply_here(request)
        with Ledger(self._location, self._config, self._repository) as here:
            return apply_by_level(canonical, here, strong, request, apply_here)

    def _apply_here(self, request: ApplyRequest, broadcast: Broadcast | None) -> ApplyResult:
        """The same, all of them on this very ledger."""
        from ledger_cli.services.world_apply import apply

        self._end_transactions(request.branch)
        rules = self._rules(request.branch)
        if broadcast is not None:
            rules = replace(rules, broadcast=broadcast)
        return apply(self._repository, self._world(self._repository.branch(request.branch)), request, rules)

    @cached_property
    def _broadcaster(self) -> Broadcaster:
        from ledger_cli.services.broadcast import Broadcaster

        return Broadcaster(self._repository, lambda: listeners.make_bus(self._config["bus"], self._location))

    @property
    def undelivered(self) -> str | None:
        """Why the bus lacks events after the last write; None: it has them all, or there is none."""
        return self._broadcaster.undelivered

    def deliver(self, branch: str = MAIN, batches: int | None = None) -> Told:
        """Tell the bus what it has not been told of a branch, at most so many batches of 10,000 events; None: all.

        Writes do so themselves. UsageError without a bus.
        """
        return self._broadcaster.deliver(branch, batches)

    def _canonical(self) -> str | None:
        from ledger_cli.api.canonical import canonical_of

        return canonical_of(self._config, self._location)

    def reading(
        self, consistency: str | None = None, after: str | None = None, wait: float = 0, branch: str = MAIN
    ) -> WorldApi:
        """The world to be read from at a level of consistency.

        eventual: this ledger as it stands. causal: it, once it holds all that `after` tells of, the `clock` that a read
        or write gave; CausalGap where it does not within `wait` seconds. strong: the canonical ledger.
        """
        from ledger_cli.api.canonical import open_canonical
        from ledger_cli.core.vector_clock import VectorClock
        from ledger_cli.services.causality import refuse_stale
        from ledger_cli.services.world import vector_clock

        level = level_of(consistency or ("eventual" if after is None else "causal"))
        if (level == "causal") != (after is not None) and level != "strong":
            raise UsageError("--consistency causal and --after belong together: give the clock that was seen last")
        canonical = self._canonical() if level == "strong" else None
        world = self
        if canonical is not None:
            there = open_canonical(canonical, "nothing was read; --consistency eventual reads here")
            world = self._open_files.enter_context(there).world
        if level == "strong":
            world.recover(branch)
        if after is not None:
            try:
                seen = VectorClock.parse(after)
            except ValueError as error:
                raise UsageError(f"{error}: give the `clock` that a read or write has printed") from error
            machine.wait_until(lambda: vector_clock(world._repository.branch(branch)).holds(seen), wait)
            refuse_stale(world._repository.branch(branch), seen)
        return world

    def apply_together(
        self,
        events: Iterable[bytes | str],
        location: str | os.PathLike[str],
        their_events: Iterable[bytes | str],
        branch: str = MAIN,
        sources: tuple[str, str] = ("events", "their events"),
        why: str = "",
    ) -> Together:
        """Apply events here and others on another ledger: all of both or none, by two-phase commit.

        Killed at any step, what is left is ended by the next write on either ledger, or by `recover`. Events of strong
        types are refused but on their canonical ledger.
        """
        from ledger_cli.api.ledger import Ledger
        from ledger_cli.services.transactions import apply_together

        with Ledger.open(location) as other:
            for world in (self, other.world):
                world._end_transactions(branch)
            until = machine.clock() + round(self._config["max_lock"] * 1e6)
            ours, theirs = ([_bytes(each) for each in every] for every in (events, their_events))
            here, there = self._side(branch), other.world._side(branch)
            done = apply_together(here, there, ours, theirs, machine.transaction_name(), until, sources, why)
            done.here.unheard += self._broadcaster.deliver_written(branch)
            done.there.unheard += other.world._broadcaster.deliver_written(branch)
            return done

    def apply_files_together(
        self, name: str, location: str | os.PathLike[str], their_name: str, branch: str = MAIN, why: str = ""
    ) -> Together:
        """The same of two files, URLs or `-`."""
        if name == their_name == "-":
            raise UsageError("both files are standard input: give the name of one of them")
        lines = inputs.open_lines(name), inputs.open_lines(their_name)
        return self.apply_together(lines[0], location, lines[1], branch, (name, their_name), why)

    def recover(self, branch: str = MAIN, force: bool = False) -> list[Ended]:
        """End the transactions over two ledgers that are under way on a branch, as far as they are decided or their
        time is over; `force`: those too that are not."""
        ended = self._end_transactions(branch, force)
        if ended:
            self._broadcaster.deliver_written(branch)
        return ended

    def _end_transactions(self, branch: str, force: bool = False) -> list[Ended]:
        """The same; the bus is told by whoever asks for it."""
        if not self._repository.branch(branch).state.transactions:
            return []
        from ledger_cli.services.transactions import recover

        return recover(self._side(branch), _opened_side, machine.clock(), force)

    def _side(self, branch: str) -> Side:
        from ledger_cli.services.transactions import Side

        rules = partial(self._rules, branch)
        return Side(self._repository, ledgers.absolute(self._location), branch, self._world, rules)

    def end_session(
        self, branch: str = MAIN, module: str | None = None, entity_id: str | None = None, why: str = ""
    ) -> SessionEnd:
        """End the session state of a module (None: of each) in an entity (None: in all), by events of the log."""
        from ledger_cli.services.world_classes import end_session

        world = self._world(self._repository.branch(branch))
        ended = end_session(self._repository, world, branch, self._rules(branch), module, entity_id, why)
        self._broadcaster.deliver_written(branch)
        return ended

    def drop_cache(self, branch: str = MAIN, why: str = "") -> CacheDrop:
        """Let go of the cache state that a branch keeps; it is folded again from the events when it is asked for."""
        from ledger_cli.services.world_classes import drop_cache

        return drop_cache(self._repository, branch, why)

    def _rules(self, branch: str, judged: bool = False) -> Rules:
        from ledger_cli.api.world_rules import rules_for

        broadcast = self._broadcaster.passing_on(branch)
        return rules_for(self._repository, self._config, self._location, broadcast, judged=judged)

    def constraints(self) -> Constraints | None:
        """Those of ledger.toml, None without any. The engine is made where there are some."""
        from ledger_cli.api.world_rules import constraints_of

        return constraints_of(self._repository, self._config)

    def apply_file(self, name: str, branch: str = MAIN, atomic: bool = False, why: str = "") -> ApplyResult:
        """Apply the events of a file, URL or `-`, one a line."""
        return self.apply(inputs.open_lines(name), branch, atomic, name, why)

    def subscribe(
        self,
        module: str,
        types: Sequence[str] = ("*",),
        branch: str = MAIN,
        start: int | None = None,
        why: str = "",
    ) -> SubscriptionView:
        """Let a module listen to types of events (`building.*`) behind a position; None: from where it stands."""
        from ledger_cli.services.subscriptions import subscribe

        return subscribe(self._repository, branch, module, types, start, why)

    def unsubscribe(self, module: str, branch: str = MAIN, why: str = "") -> None:
        """Take a subscription away."""
        from ledger_cli.services.subscriptions import unsubscribe

        unsubscribe(self._repository, branch, module, why)

    def subscriptions(self, branch: str = MAIN) -> list[SubscriptionView]:
        """The modules that listen to a branch, with their lag."""
        from ledger_cli.services.subscriptions import views

        return views(self._repository, self._repository.branch(branch))

    def poll(self, module: str, branch: str = MAIN, limit: int = POLLED) -> Polled:
        """The next events for a module, in order; the same ones until they are acknowledged."""
        from ledger_cli.services.subscriptions import poll

        return poll(self._repository, branch, module, limit)

    def listen(
        self,
        module: str,
        branch: str = MAIN,
        limit: int = POLLED,
        *,
        ack: bool = False,
        every: float | str = 1,
        idle: float | str | None = None,
        stop: Event | None = None,
    ) -> Iterator[Polled]:
        """Events for a module as they come, at most `limit` at a time, looked for every so many seconds.

        `ack`: they are acknowledged once the next ones are asked for. Until `stop` is set, or nothing came for `idle`
        seconds. NotFound without a subscription.
        """
        from threading import Event

        from ledger_cli.core.durations import seconds_given
        from ledger_cli.services.subscriptions import Listener

        if limit < 1:
            raise UsageError(f"{limit} events cannot be polled: ask for 1 or more")
        stopped, pause, patience = stop or Event(), seconds_given(every), None if idle is None else seconds_given(idle)
        listener = Listener(self._repository, branch, module)
        return machine.until(stopped, pause, patience, lambda: _heard(listener, limit, ack, stopped))

    def ack(self, module: str, position: int, branch: str = MAIN, why: str = "") -> SubscriptionView:
        """Say that a module is done with all events up to a position."""
        from ledger_cli.services.subscriptions import ack

        return ack(self._repository, branch, module, position, why)

    def get(self, entity_id: str, branch: str = MAIN, at: When | None = None, module: str | None = None) -> EntityView:
        """An entity, now or at a moment. NotFound where there is none."""
        from ledger_cli.services.world import vector_clock
        from ledger_cli.services.world_query import EntityView, entity_at, unknown

        moment = self._moment(at, branch)
        if at is None and branch in self._kept:
            seen, world = self._kept[branch]
            # Where the branch has not moved, nothing is to be folded.
            entity = (world if seen is moment.branch else self._world(moment.branch)).entities.get(entity_id)
        else:
            entity = entity_at(self._repository, moment.branch, entity_id, self._reducers(), moment.last)
        if entity is None:
            raise unknown(moment, entity_id)
        return EntityView(moment.name, entity_id, entity, moment.text, module, vector_clock(moment.branch))

    def find(
        self,
        where: str | None = None,
        branch: str = MAIN,
        at: When | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> pa.Table:
        """The entities for which SQL over the view `world` holds, by id."""
        bounds = f" LIMIT {limit}" * (limit is not None) + f" OFFSET {offset}" * (offset > 0)
        return self._asked(f"FROM world WHERE {_condition(where)} ORDER BY entity_id{bounds}", branch, at)

    def aggregate(
        self,
        function: str = "count(*)",
        group_by: str | None = None,
        where: str | None = None,
        branch: str = MAIN,
        at: When | None = None,
    ) -> pa.Table:
        """An aggregate function, in SQL over the view `world`, of all entities or of each group."""
        columns = function if group_by is None else f"{group_by}, {function}"
        return self._asked(
            f"SELECT {columns} FROM world WHERE {_condition(where)} GROUP BY ALL ORDER BY ALL", branch, at
        )

    def _asked(self, statement: str, branch: str, at: When | None) -> pa.Table:
        import pyarrow as pa

        from ledger_cli.services.query import sql_answer

        moment = self._moment(at, branch)
        views = own_views(self._repository, self._config)
        with sql_answer(self._repository, branch, statement, moment, views) as answer:
            return pa.Table.from_batches(answer.batches, answer.schema)

    def digest(self, branch: str = MAIN) -> str:
        """The digest of the present state of all entities, as that of a snapshot is made (`ledger snapshot`)."""
        from ledger_cli.services.snapshot_files import digest_of_state
        from ledger_cli.services.world_query import entities_at

        return digest_of_state(entities_at(self._repository, self._repository.branch(branch), self._reducers()))

    def keep(self, branch: str = MAIN) -> None:
        """Keep the present world of a branch in memory: `get` then answers from there."""
        self._world(self._repository.branch(branch))

    def history(
        self, entity_id: str, branch: str = MAIN, first: When | None = None, last: When | None = None
    ) -> list[Transition]:
        """The events of an entity from a moment on, up to a moment, oldest first.

        Clock readings and times are inclusive; from a commit, tag or tick means what came after it.
        """
        from ledger_cli.services.world_query import history

        begin = None if first is None else self._moment(first, branch)
        return history(self._repository, entity_id, begin, self._moment(last, branch))

    def graph(self, entity_id: str, branch: str = MAIN, at: When | None = None, depth: int = DEPTH) -> WorldGraph:
        """The entities within `depth` relations of one, and what relates them."""
        from ledger_cli.services.world_graph import world_graph

        return world_graph(self._repository, self._moment(at, branch), entity_id, self._reducers(), depth)

    def save_graph(
        self,
        target: str | os.PathLike[str],
        entity_id: str,
        branch: str = MAIN,
        at: When | None = None,
        depth: int = DEPTH,
    ) -> WorldGraph:
        """Write `graph` to a .dot, .svg or .png file; Graphviz is not needed. MissingExtra: .png is of `render`."""
        format = drawing.check_graph(os.fspath(target))
        found = self.graph(entity_id, branch, at, depth)
        drawing.write_graph(os.fspath(target), found, format)
        return found

    def _moment(self, at: When | None, branch: str) -> Moment:
        from ledger_cli.services.moment import moment_of

        if isinstance(at, datetime):
            return moment_of(self._repository, f"time:{at.isoformat()}", branch)
        return moment_of(self._repository, f"tick:{at}" if isinstance(at, int) else at, branch)

    def _reducers(self) -> Callable[[str], Reducer]:
        from ledger_cli.services.world_types import reducer_of, registered

        return reducer_of(registered(self._repository))

    def _world(self, branch: Branch) -> World:
        """The present world of a branch, kept between calls."""
        from ledger_cli.services.world import World

        # Of now: others may have registered types meanwhile.
        reducers = self._reducers()
        seen, world = self._kept.get(branch.name, (branch, World(self._repository, reducers)))
        if seen.state.created != branch.state.created:
            world = World(self._repository, reducers)
        world.reducers = reducers
        world.follow(branch)
        self._kept[branch.name] = branch, world
        return world


def _heard(listener: Listener, limit: int, ack: bool, stop: Event) -> Iterator[Polled]:
    """What there is to be heard now."""
    while not stop.is_set() and (polled := listener.hear(limit)).events:
        yield polled
        if ack:
            listener.acknowledge()


def _bytes(event: bytes | str) -> bytes:
    return event.encode() if isinstance(event, str) else event


@contextmanager
def _opened_side(location: str, branch: str) -> Iterator[Side]:
    from ledger_cli.api.ledger import Ledger

    with Ledger.open(location) as other:
        yield other.world._side(branch)


def _condition(where: str | None) -> str:
    return "true" if where is None else f"({where})"
