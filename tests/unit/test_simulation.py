"""The simulator: the same world everywhere, inside its borders, led by commands."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_cli.core import simulation
from ledger_cli.core.simulation import (
    ACTIVITY_MAX,
    COLUMNS,
    DEFAULT_START,
    Command,
    SimulationSettings,
    TickBatch,
    parse_command,
    philox4x32,
    simulate,
)
from ledger_cli.errors import UsageError

SMALL = SimulationSettings(entities=7, ticks=50, seed=42)


def table(world: SimulationSettings, commands: Sequence[Command] = ()) -> TickBatch:
    batches = list(simulate(world, commands))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in COLUMNS}


def activity(world: SimulationSettings, entity: int, *commands: Command) -> list[float]:
    values: list[float] = table(world, commands)["activity"].reshape(world.ticks, world.entities)[:, entity].tolist()
    return values


def digest(ticks: TickBatch) -> str:
    together = hashlib.sha256("\n".join(ticks["entity_id"].tolist()).encode())
    for name in COLUMNS[1:]:
        together.update(ticks[name].astype(ticks[name].dtype.newbyteorder("<")).tobytes())
    return together.hexdigest()


def at_tick(tick: int, **micro: int) -> datetime:
    return DEFAULT_START + timedelta(seconds=tick, **micro)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: tuple[int, ...], key: int, words: tuple[int, ...]) -> None:
    first, second, third, fourth = (np.array([word], dtype=np.uint64) for word in counter)
    assert tuple(int(word[0]) for word in philox4x32((first, second, third, fourth), key)) == words


def test_ticks_of_a_seed_never_change() -> None:
    assert digest(table(SMALL)) == "f787952fc6193e840a825e5f9f504aa7868c62cd2d4bb7f8745234138df7d82f"
    led = table(SMALL, [Command("E3", at_tick(10), 0.3, ramp_ticks=7)])
    assert digest(led) == "5092c88b9ca05c96b7e5c63516bec18ceb3644e569d77fecdbc575e3934eb5f0"
    assert digest(table(dataclasses.replace(SMALL, seed=43))) != digest(table(SMALL))


def test_columns_are_ordered_by_tick_and_entity() -> None:
    ticks = table(dataclasses.replace(SMALL, first_tick=1_000, tick_duration_ms=250))
    assert ticks["tick_id"].tolist() == [1_000 + row // 7 for row in range(350)]
    assert ticks["entity_id"].tolist() == [f"E{row % 7}" for row in range(350)]
    assert ticks["timestamp"][7:8].astype(str).tolist() == ["2026-01-01T00:00:00.250"]
    assert {name: column.dtype.kind for name, column in ticks.items()} == dict(zip(COLUMNS, "UiffffM", strict=True))


@given(
    entities=st.integers(1, 9),
    ticks=st.integers(1, 30),
    more=st.integers(1, 30),
    seed=st.integers(0, 2**64 - 1),
    command_tick=st.integers(0, 70),
)
@settings(max_examples=40)
def test_adding_ticks_changes_no_earlier_one(
    entities: int, ticks: int, more: int, seed: int, command_tick: int
) -> None:
    world = SimulationSettings(entities=entities, ticks=ticks, seed=seed)
    commands = [Command("E0", at_tick(command_tick), 3.0, ramp_ticks=5)]
    short, long = table(world, commands), table(dataclasses.replace(world, ticks=ticks + more), commands)
    for name in COLUMNS:
        assert short[name].tolist() == long[name][: len(short[name])].tolist()


@pytest.mark.parametrize("rows", [1, 3, 7, 20, 1_000])
def test_where_batches_are_cut_changes_no_row(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [Command("E3", at_tick(10), 0.3, ramp_ticks=7)]
    expected = digest(table(SMALL, commands))
    monkeypatch.setattr(simulation, "_BATCH_ROWS", rows)
    assert max(len(batch["x"]) for batch in simulate(SMALL, commands)) <= rows
    assert digest(table(SMALL, commands)) == expected


def test_a_world_larger_than_a_batch_stays_bounded() -> None:
    batches = list(simulate(SimulationSettings(entities=300_000, ticks=2)))
    assert max(len(batch["x"]) for batch in batches) == 131_072
    assert sum(len(batch["x"]) for batch in batches) == 600_000
    assert batches[2]["entity_id"][-1] == "E299999"


@given(
    seed=st.integers(0, 1_000),
    width=st.sampled_from([0.000002, 1.0, 12.345678, 1e6]),
    height=st.sampled_from([1.0, 33.3]),
    pace=st.floats(0.0, 0.5),
    base=st.sampled_from([0.0, 0.5, 900_000.0]),
)
@settings(max_examples=40)
def test_values_stay_in_their_bounds(seed: int, width: float, height: float, pace: float, base: float) -> None:
    step = min(width, height) * pace
    world = SimulationSettings(
        entities=20, ticks=200, seed=seed, width=width, height=height, step=step, base_activity=base
    )
    ticks = table(world)
    assert (ticks["x"] >= 0).all()
    assert (ticks["x"] < width).all()
    assert (ticks["y"] >= 0).all()
    assert (ticks["y"] < height).all()
    assert (ticks["activity"] >= 0).all()
    assert (ticks["activity"] <= ACTIVITY_MAX).all()
    for name in ("x", "y", "activity", "jitter"):
        assert not (np.signbit(ticks[name]) & (ticks[name] == 0)).any()
        assert ticks[name].tolist() == [float(f"{value:.6f}") for value in ticks[name].tolist()]


def test_entities_move_about_their_step_and_tell_the_deviation() -> None:
    world = SimulationSettings(entities=1, ticks=400, width=1e6, height=1e6, step=2.0)
    ticks = table(world)
    for row, (before, after) in enumerate(pairwise(zip(ticks["x"].tolist(), ticks["y"].tolist(), strict=True))):
        length = np.hypot(after[0] - before[0], after[1] - before[1])
        assert length == pytest.approx(2.0 + ticks["jitter"][row + 1], abs=1e-5)


def test_the_decoupled_share_is_exact_and_stays_at_zero() -> None:
    world = SimulationSettings(entities=40, ticks=100, decoupled_share=0.25)
    activities = table(world)["activity"].reshape(100, 40)
    assert int((activities == 0).all(axis=0).sum()) == 10
    assert (table(dataclasses.replace(world, decoupled_share=1.0))["activity"] == 0).all()


def test_activities_burst_and_come_back() -> None:
    ticks = table(SimulationSettings(entities=100, ticks=1_000, base_activity=1.0, decoupled_share=0.0))
    assert ticks["activity"].max() > 5.0
    assert 0.9 < np.median(ticks["activity"]) < 1.5


def test_a_command_leads_the_activity_in_a_straight_line_and_holds_it() -> None:
    free = activity(SMALL, 3)
    led = activity(SMALL, 3, Command("E3", at_tick(10), 0.3, ramp_ticks=4))
    assert led[:10] == free[:10]
    assert led[10] == free[9]
    assert led[10:15] == pytest.approx([free[9] + (0.3 - free[9]) * part / 4 for part in range(5)], abs=1e-6)
    assert led[14:] == [0.3] * 36


def test_a_command_without_ramp_acts_at_once_until_the_next_one() -> None:
    first, second = Command("E3", at_tick(0), 0.0), Command("E3", at_tick(20), 8.0, ramp_ticks=2)
    assert activity(SMALL, 3, second, first) == [0.0] * 21 + [4.0] + [8.0] * 28


def test_a_command_can_interrupt_a_ramp() -> None:
    first = Command("E3", at_tick(0), 0.0)
    ramp, stop = Command("E3", at_tick(1), 10.0, ramp_ticks=10), Command("E3", at_tick(6), 1.0, ramp_ticks=2)
    assert activity(SMALL, 3, first, ramp, stop)[:9] == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 4.0, 2.5, 1.0]


def test_a_command_between_two_ticks_acts_at_the_later_one() -> None:
    led = activity(SMALL, 3, Command("E3", at_tick(9, microseconds=1), 5.0))
    assert led.index(5.0) == 10


def test_the_latest_command_of_a_tick_wins() -> None:
    early, late = (
        Command("E3", at_tick(9, milliseconds=1), 5.0),
        Command("E3", at_tick(9, milliseconds=2), 6.0),
    )
    assert activity(SMALL, 3, late, early)[10] == 6.0
    same = dataclasses.replace(early, value=7.0)
    assert activity(SMALL, 3, early, same)[10] == 7.0


def test_a_command_changes_its_entity_alone() -> None:
    free, led = table(SMALL), table(SMALL, [Command("E3", at_tick(0), 5.0)])
    others = free["entity_id"] != "E3"
    assert free["x"].tolist() == led["x"].tolist()
    assert free["activity"][others].tolist() == led["activity"][others].tolist()


def test_a_command_after_the_last_tick_has_no_effect() -> None:
    assert digest(table(SMALL, [Command("E3", at_tick(50), 5.0)])) == digest(table(SMALL))


def event(**changes: Any) -> dict[str, Any]:
    whole = {
        "entityId": "E1",
        "cmd": "setActivity",
        "params": {"value": 2},
        "timestamp": "2026-01-01T01:00:03+01:00",
    }
    return whole | changes


def test_a_command_event_is_read() -> None:
    assert parse_command(event()) == Command("E1", at_tick(3), 2.0, 0)
    assert parse_command(event(params={"value": 0.5, "rampTicks": 100})) == Command("E1", at_tick(3), 0.5, 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cmd": "explode"}, 'Unknown command "explode" for E1: use setActivity'),
        ({"entityId": 7}, 'A command needs the texts "entityId" and "cmd"'),
        ({"params": None}, 'the object "params"'),
        ({"params": {}}, "takes value and optionally rampTicks, not: nothing"),
        ({"params": {"value": 1, "speed": 2}}, "not: value, speed"),
        ({"params": {"value": -1}}, "value is -1: give a number from 0.0 to 1000000.0"),
        ({"params": {"value": float("nan")}}, "value is nan"),
        ({"params": {"value": True}}, "value is True"),
        ({"params": {"value": 1, "rampTicks": 1.5}}, "rampTicks is 1.5: give an integer"),
        ({"timestamp": "yesterday"}, "'yesterday': give RFC 3339"),
        ({"timestamp": "2026-01-01T00:00:00"}, "give RFC 3339"),
        ({"timestamp": None}, "give RFC 3339"),
    ],
)
def test_a_bad_command_event_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_command(event(**changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (Command("E7", at_tick(0), 1.0), "Unknown entity E7: give one of E0 to E6"),
        (Command("E01", at_tick(0), 1.0), "Unknown entity E01"),
        (Command("", at_tick(0), 1.0), "Unknown entity"),
        (Command("E1", at_tick(-1), 1.0), "before the world starts"),
        (Command("E1", at_tick(0).replace(tzinfo=None), 1.0), "without a zone"),
        (Command("E1", at_tick(0), -1.0), "value is -1.0"),
        (Command("E1", at_tick(0), 1.0, ramp_ticks=-1), "rampTicks is -1"),
    ],
)
def test_a_command_outside_the_world_is_refused_before_the_first_batch(command: Command, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        simulate(SMALL, [command])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"entities": 0},
        {"ticks": -1},
        {"seed": -1},
        {"seed": 2**64},
        {"first_tick": 2**53},
        {"first_tick": 2**53 - 1, "ticks": 2},
        {"width": 0.0},
        {"width": 0.1234567},
        {"height": float("inf")},
        {"step": 51.0},
        {"step": -1.0},
        {"base_activity": -0.1},
        {"decoupled_share": 1.1},
        {"tick_duration_ms": 0},
        {"start": datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)},
        {"start": DEFAULT_START.replace(tzinfo=None)},
        {"start": datetime(9999, 12, 30, tzinfo=UTC), "ticks": 10**6},
    ],
)
def test_a_setting_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(SimulationSettings(), **changes)


def test_a_world_without_ticks_is_empty() -> None:
    assert list(simulate(SimulationSettings(ticks=0))) == []
