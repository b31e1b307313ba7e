"""A deterministic world of wandering entities, as batches of tick columns.

What holds:

* The same settings and commands give the same ticks, bit for bit, on every machine and NumPy build. Chance is
  Philox4x32-10 in integers, a pure function of (seed, tick, entity). It meets only elementwise `+ - * / sqrt
  rint`, which IEEE 754 rounds correctly: no `sin`, `exp` or `normal` (these differ between builds), no sums.
* Adding ticks changes no earlier one. A command changes nothing before its tick, nor any entity but its own.
  Another number of entities is another world.
* Every value is a decimal of at most six places, as the nearest binary64, so that all formats carry the same.
* `0 <= x < width`, `0 <= y < height`, `0 <= activity <= 10**6`; no negative zero, nothing non-finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ledger_cli.errors import UsageError

TickBatch: TypeAlias = dict[str, NDArray[Any]]
"""Columns of equal length, ordered by `(tick, number of the entity)`; keys are `COLUMNS`.

`entity_id` unicode, `tick_id` int64, `x y activity jitter` float64, `timestamp` datetime64[ms], UTC.
"""

Floats: TypeAlias = NDArray[np.float64]
Words: TypeAlias = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]

COLUMNS = ("entity_id", "tick_id", "x", "y", "activity", "jitter", "timestamp")
DEFAULT_START = datetime(2026, 1, 1, tzinfo=UTC)
ACTIVITY_MAX = 1_000_000.0

_BATCH_ROWS = 131_072
_UNITS = 1_000_000.0  # positions, activities and jitters are whole millionths
_SIZE_MAX = 1e9
_TICK_END_MAX = 2**53
_LAST_MOMENT = datetime(9999, 12, 31, tzinfo=UTC)

_TURN = 0.3  # noise added to each component of the unit heading, per tick
_LENGTH_SPREAD = 0.2  # largest share by which a step deviates from its expected length
_REVERSION = 0.05  # share of the distance to its base that an activity loses per tick
_NOISE = 0.1  # noise of the activity, in bases
_BURST_CHANCE = 0.002
_BURST_SIZE = 20.0  # largest burst, in bases
_BLOCKS_PER_TICK = range(4)  # of two draws each
_BLOCKS_AT_START = range(4, 7)

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_PHILOX_FACTORS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_PHILOX_WEYL = 0x9E3779B9, 0xBB67AE85


@dataclass(frozen=True)
class SimulationSettings:
    """A world: size, pace and seed. Raises `UsageError` where a setting is out of its range.

    `step` is the expected distance per tick, in world units; `base_activity` the mean of the levels that
    the activities return to; `decoupled_share` the share of entities whose activity is 0 (their exact number,
    rounded half to even); `start` the timestamp of `first_tick`, in whole milliseconds.
    """

    entities: int = 100
    ticks: int = 1_000
    seed: int = 0
    first_tick: int = 0
    width: float = 100.0
    height: float = 100.0
    step: float = 1.0
    base_activity: float = 0.5
    decoupled_share: float = 0.1
    start: datetime = DEFAULT_START
    tick_duration_ms: int = 1_000

    def __post_init__(self) -> None:
        _check_integer("entities", self.entities, 1, 2**31)
        _check_integer("first_tick", self.first_tick, 0, _TICK_END_MAX - 1)
        _check_integer("ticks", self.ticks, 0, _TICK_END_MAX - self.first_tick)
        _check_integer("seed", self.seed, 0, 2**64 - 1)
        _check_integer("tick_duration_ms", self.tick_duration_ms, 1, 2**53)
        for name in ("width", "height"):
            _check_size(name, getattr(self, name))
        _check_number("step", self.step, 0.0, min(self.width, self.height) / 2)
        _check_number("base_activity", self.base_activity, 0.0, ACTIVITY_MAX)
        _check_number("decoupled_share", self.decoupled_share, 0.0, 1.0)
        _check_start(self.start, self.ticks * self.tick_duration_ms)


@dataclass(frozen=True)
class Command:
    """`setActivity`: lead an activity to `value` and hold it there until the entity's next command.

    In the tick of the command the activity is that of the tick before; it then moves in a straight line and
    is exactly `value` (rounded to six places) from `ramp_ticks` ticks later on (0: at once).
    """

    entity_id: str
    timestamp: datetime
    value: float
    ramp_ticks: int = 0


def parse_command(event: Mapping[str, Any]) -> Command:
    """Read one `entity.commands` event: `{"entityId", "cmd", "params", "timestamp"}`.

    The command is `setActivity`, with the params `value` (0 to 10**6) and optionally `rampTicks`; other
    top-level keys are ignored. Raises `UsageError` for everything else.
    """
    entity_id, name, params = event.get("entityId"), event.get("cmd"), event.get("params")
    if not isinstance(entity_id, str) or not isinstance(name, str) or not isinstance(params, Mapping):
        raise UsageError('A command needs the texts "entityId" and "cmd", the object "params", a "timestamp".')
    if name != "setActivity":
        raise UsageError(f'Unknown command "{name}" for {entity_id}: use setActivity.')
    if not {"value"} <= params.keys() <= {"value", "rampTicks"}:
        given = ", ".join(map(str, params)) or "nothing"
        raise UsageError(f"setActivity for {entity_id} takes value and optionally rampTicks, not: {given}.")
    value = _check_number("value", params["value"], 0.0, ACTIVITY_MAX)
    ramp_ticks = _check_integer("rampTicks", params.get("rampTicks", 0), 0, _TICK_END_MAX)
    return Command(entity_id, _parse_timestamp(event.get("timestamp")), value, ramp_ticks)


def simulate(settings: SimulationSettings, commands: Sequence[Command] = ()) -> Iterator[TickBatch]:
    """Yield the ticks of a world in batches of at most 131,072 rows; where batches are cut changes no row.

    A command takes effect at the first tick whose timestamp is not before its own, commands of one tick in
    the order of their timestamps, equal ones as given; those after the last tick have no effect.
    Raises `UsageError`, before the first batch, for an entity, a time or a value outside the world.
    """
    schedule: dict[int, list[tuple[int, Command]]] = {}
    for command in sorted(commands, key=_aware_timestamp):
        schedule.setdefault(_tick_offset(settings, command), []).append((_entity(settings, command), command))
    return _batches(settings, schedule)


def after_the_end(settings: SimulationSettings, commands: Sequence[Command]) -> int:
    """How many commands come after the last tick, and so have no effect."""
    return sum(_tick_offset(settings, command) >= settings.ticks for command in commands)


def _batches(
    settings: SimulationSettings, schedule: Mapping[int, Sequence[tuple[int, Command]]]
) -> Iterator[TickBatch]:
    world = _World(settings)
    ticks_per_batch = max(1, _BATCH_ROWS // settings.entities)
    for first in range(0, settings.ticks, ticks_per_batch):
        offsets = range(first, min(first + ticks_per_batch, settings.ticks))
        uniforms = _uniforms(settings, offsets, _BLOCKS_PER_TICK)
        values = np.empty((4, len(offsets), settings.entities))
        for row, offset in enumerate(offsets):
            world.advance(offset, uniforms[:, row], schedule.get(offset, ()))
            values[:, row] = world.x, world.y, world.activity, world.jitter
        yield from _cut(settings, first, _published(settings, values))


def _cut(settings: SimulationSettings, first: int, values: Floats) -> Iterator[TickBatch]:
    """Flatten `values`, shape `(4, ticks, entities)`, and cut it where one tick alone is too long."""
    ticks, entities = values.shape[1:]
    flat = values.reshape(4, ticks * entities)
    name_type = f"U{len(str(entities)) + 1}"
    start_ms = (settings.start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    for begin in range(0, ticks * entities, _BATCH_ROWS):
        part = flat[:, begin : begin + _BATCH_ROWS]
        row = np.arange(begin, begin + part.shape[1], dtype=np.int64)
        offset, number = row // entities + first, row % entities
        lowest = int(number.min())
        names = np.char.add("E", np.arange(lowest, number.max() + 1).astype(np.str_)).astype(name_type)
        timestamp = (start_ms + offset * settings.tick_duration_ms).astype("datetime64[ms]")
        columns = (names[number - lowest], settings.first_tick + offset, *part, timestamp)
        yield dict(zip(COLUMNS, columns, strict=True))


class _World:
    """The state of all entities after a tick; every array has one element per entity."""

    def __init__(self, settings: SimulationSettings) -> None:
        self.settings = settings
        x, y, heading_x, heading_y, level, rank = _uniforms(settings, range(1), _BLOCKS_AT_START)[:, 0]
        self.x, self.y = x * settings.width, y * settings.height
        start = np.ones_like(x), np.zeros_like(x)
        self.heading_x, self.heading_y = _unit(heading_x - 0.5, heading_y - 0.5, start)
        self.base = settings.base_activity * (0.5 + level)
        decoupled = np.argsort(rank, kind="stable")[: round(settings.decoupled_share * settings.entities)]
        self.base[decoupled] = 0.0
        self.activity = np.minimum(self.base, ACTIVITY_MAX)
        self.jitter = np.zeros_like(x)
        self.led = np.zeros(settings.entities, dtype=np.bool_)  # whose activity follows a command
        self.ramp_from, self.ramp_to = np.zeros_like(x), np.zeros_like(x)
        self.ramp_start, self.ramp_ticks = np.zeros_like(x), np.zeros_like(x)

    def advance(self, offset: int, uniforms: Floats, commands: Sequence[tuple[int, Command]]) -> None:
        """Go on to the tick `offset` after the first one, with `uniforms` of shape `(8, entities)`."""
        for entity, command in commands:
            self.lead(entity, offset, command)
        self.move(*uniforms[:4])
        self.excite(*uniforms[4:])
        self.follow(offset)

    def move(self, turn_x: Floats, turn_y: Floats, length: Floats, length_too: Floats) -> None:
        heading_x = self.heading_x + _TURN * (2.0 * turn_x - 1.0)
        heading_y = self.heading_y + _TURN * (2.0 * turn_y - 1.0)
        heading_x, heading_y = _unit(heading_x, heading_y, (self.heading_x, self.heading_y))
        step = self.settings.step
        self.jitter = step * _LENGTH_SPREAD * (length + length_too - 1.0)
        distance = step + self.jitter
        self.x, self.heading_x = _reflect(self.x + distance * heading_x, heading_x, self.settings.width)
        self.y, self.heading_y = _reflect(self.y + distance * heading_y, heading_y, self.settings.height)

    def excite(self, noise: Floats, noise_too: Floats, chance: Floats, burst: Floats) -> None:
        pull = _REVERSION * (self.base - self.activity)
        shake = self.base * _NOISE * (noise + noise_too - 1.0)
        leap = np.where(chance < _BURST_CHANCE, self.base * _BURST_SIZE * burst, 0.0)
        activity = self.activity + pull + shake + leap
        free = np.minimum(np.maximum(activity, 0.0), ACTIVITY_MAX)
        self.activity = np.where(self.led, self.activity, free)

    def lead(self, entity: int, offset: int, command: Command) -> None:
        self.led[entity] = True
        self.ramp_from[entity], self.ramp_to[entity] = self.activity[entity], command.value
        self.ramp_start[entity], self.ramp_ticks[entity] = offset, command.ramp_ticks

    def follow(self, offset: int) -> None:
        led = np.flatnonzero(self.led)
        if led.size:
            source, target, ticks = self.ramp_from[led], self.ramp_to[led], self.ramp_ticks[led]
            passed = offset - self.ramp_start[led]
            between = source + (target - source) * (passed / np.maximum(ticks, 1.0))
            self.activity[led] = np.where(passed >= ticks, target, between)


def _published(settings: SimulationSettings, values: Floats) -> Floats:
    """Round `x, y, activity, jitter` to six places, the positions below the far borders."""
    rounded = _rounded(values)
    for column, size in enumerate((settings.width, settings.height)):
        np.minimum(rounded[column], (size * _UNITS - 1.0) / _UNITS, out=rounded[column])
    return rounded


def _uniforms(settings: SimulationSettings, offsets: range, blocks: range) -> Floats:
    """Numbers of [0, 1), two a block, shape `(2 * blocks, offsets, entities)`."""
    offset = np.arange(offsets.start, offsets.stop, dtype=np.uint64)[:, None]
    entity = np.arange(settings.entities, dtype=np.uint64)
    uniforms = np.empty((2 * len(blocks), len(offsets), settings.entities))
    for place, block in enumerate(blocks):
        words = philox4x32((entity, np.full_like(entity, block), offset & _LOW, offset >> _HALF), settings.seed)
        for half, (high, low) in enumerate((words[:2], words[2:])):
            top = (high >> np.uint64(5)) * np.uint64(2**26) + (low >> np.uint64(6))
            uniforms[2 * place + half] = top.astype(np.float64) * 2.0**-53
    return uniforms


def philox4x32(counter: Words, key: int) -> Words:
    """Philox4x32-10 (Salmon et al., 2011): four words of 32 bits, kept in uint64, for each counter.

    `key` has 64 bits, its lower half is the first word. The counter's arrays are broadcast.
    """
    first, second, third, fourth = counter
    keys = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        even, odd = _PHILOX_FACTORS[0] * first, _PHILOX_FACTORS[1] * third
        first, second = (odd >> _HALF) ^ second ^ np.uint64(keys[0]), odd & _LOW
        third, fourth = (even >> _HALF) ^ fourth ^ np.uint64(keys[1]), even & _LOW
        keys = [(word + step) & 0xFFFFFFFF for word, step in zip(keys, _PHILOX_WEYL, strict=True)]
    return first, second, third, fourth


def _rounded(values: Floats) -> Floats:
    """Nearest binary64 to the decimal of six places; a negative zero becomes zero."""
    return np.rint(values * _UNITS) / _UNITS + 0.0


def _unit(x: Floats, y: Floats, otherwise: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Scale vectors to length 1; those too short to have a direction become `otherwise`."""
    length = np.sqrt(x * x + y * y)
    short = length < 1e-9
    safe = np.where(short, 1.0, length)
    return np.where(short, otherwise[0], x / safe), np.where(short, otherwise[1], y / safe)


def _reflect(position: Floats, heading: Floats, size: float) -> tuple[Floats, Floats]:
    below, above = position < 0.0, position > size
    inside = np.where(below, -position, np.where(above, 2.0 * size - position, position))
    return inside, np.where(below | above, -heading, heading)


def _aware_timestamp(command: Command) -> datetime:
    if command.timestamp.tzinfo is None:
        raise UsageError(f"The command for {command.entity_id} has a timestamp without a zone: add UTC.")
    return command.timestamp


def _tick_offset(settings: SimulationSettings, command: Command) -> int:
    passed_us = (command.timestamp - settings.start) // timedelta(microseconds=1)
    if passed_us < 0:
        moments = f"{command.timestamp.isoformat()}, before the world starts ({settings.start.isoformat()})"
        raise UsageError(f"The command for {command.entity_id} is of {moments}: set a later timestamp.")
    return -(-passed_us // (settings.tick_duration_ms * 1_000))


def _entity(settings: SimulationSettings, command: Command) -> int:
    """Number of the command's entity, after a check of the command against the world."""
    digits = command.entity_id[1:]
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 10 else -1
    if command.entity_id != f"E{number}" or number >= settings.entities:
        raise UsageError(f"Unknown entity {command.entity_id}: give one of E0 to E{settings.entities - 1}.")
    _check_number("value", command.value, 0.0, ACTIVITY_MAX)
    _check_integer("rampTicks", command.ramp_ticks, 0, _TICK_END_MAX)
    return number


def _parse_timestamp(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(f'A command has the timestamp {text!r}: give RFC 3339, as "2026-01-01T00:00:00Z".')
    return moment


def _check_integer(name: str, value: object, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise UsageError(f"{name} is {value!r}: give an integer from {lowest} to {highest}.")
    return value


def _check_number(name: str, value: object, lowest: float, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise UsageError(f"{name} is {value!r}: give a number from {lowest} to {highest}.")
    return float(value)


def _check_size(name: str, value: object) -> None:
    size = _check_number(name, value, 1.0 / _UNITS, _SIZE_MAX)
    if math.floor(size * _UNITS + 0.5) / _UNITS != size:
        raise UsageError(f"{name} is {value!r}: give at most six decimal places.")


def _check_start(start: datetime, duration_ms: int) -> None:
    if start.tzinfo is None or start.microsecond % 1_000:
        raise UsageError(f"start is {start.isoformat()}: give a time zone and whole milliseconds.")
    if duration_ms > (_LAST_MOMENT - start) // timedelta(milliseconds=1):
        raise UsageError("The world would last beyond the year 9999: lower ticks or tick_duration_ms.")
