"""`ledger snapshot` and `ledger doctor`."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ledger_cli.wiring import machine
from tests.cli.conftest import Run
from tests.cli.test_subscribe import MOVED, event, home, lines

__all__ = ["home"]


def files(home: Path) -> list[str]:
    """What is there of snapshots."""
    return sorted(str(path.relative_to(home)) for path in (home / "snapshots").rglob("*") if path.is_file())


def more(ledger: Run, *numbers: int) -> None:
    ledger("world", "apply", "-", stdin=lines(*map(event, numbers)))


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(raw)


def test_create_list_show(home: Path, ledger: Run) -> None:
    assert "no snapshots yet" in ledger("snapshot", "list").out
    made = ledger("snapshot", "create", "-m", "before the flood")
    assert made.out == "snapshot 2 of main: 5 entities by 5 events, at 2026-01-01T00:00:00.000000Z-0004-here\n"
    assert ledger("snapshot", "create").out.startswith("snapshot 2 of main is there already: ")
    more(ledger, 6)
    assert ledger("snapshot", "create", "--json").json["events"] == 6
    listed = ledger("snapshot", "list", "--json").json
    assert [(each["id"], each["events"], each["entities"]) for each in listed] == [(4, 6, 6), (2, 5, 5)]
    shown = ledger("snapshot", "show", "2", "--json").json
    assert (shown["move"], shown["why"], shown["createdBy"]) == (1, "before the flood", "tester@host")
    assert [(each["file"], each["module"], each["rows"]) for each in shown["files"]] == [
        ("entities.parquet", None, 5),
        ("module-building.parquet", "building", 3),
        ("module-physics.parquet", "physics", 2),
    ]
    assert "module-physics.parquet   physics" in ledger("snapshot", "show", "2").out
    assert ledger("snapshot", "list").out.splitlines()[2].startswith("4")
    told = ledger("verify", "--json").json
    stored = [*home.rglob("*.parquet"), *home.rglob("manifest.json")]
    assert (told["files"], told["bytes"]) == (len(stored), sum(path.stat().st_size for path in stored))


def test_others_can_read_it_and_check_its_digests(home: Path, ledger: Run) -> None:
    odd = event(6, payload={"ü": 1.0, "deep": {"z": [1, None], "a": 'a "quote"\n'}})
    ledger("world", "apply", "-", stdin=lines(odd))
    ledger("snapshot", "create")
    (folder,) = (home / "snapshots").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    digests: dict[str, Any] = {"modules": {}}
    for each in manifest["files"]:
        assert hashlib.sha256((folder / each["file"]).read_bytes()).hexdigest() == each["sha256"]
        rows = duckdb.sql(f"FROM '{folder / each['file']}'").fetchall()
        if each["module"] is None:
            text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
            digests["entities"] = each["digest"]
        else:
            heads = (json.dumps(row[:-1], ensure_ascii=False, separators=(",", ":")) for row in rows)
            text = "".join(f"{head[:-1]},{row[-1]}]\n" for head, row in zip(heads, rows, strict=True))
            digests["modules"][each["module"]] = each["digest"]
        assert hashlib.sha256(text.encode()).hexdigest() == each["digest"]
    whole = json.dumps(digests, separators=(",", ":"), sort_keys=True)
    assert hashlib.sha256(whole.encode()).hexdigest() == manifest["digest"]


def test_a_snapshot_waits_for_the_modules(home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "engine", "--types", MOVED)
    ledger("world", "subscribe", "doors", "--types", "building.*")
    ledger("world", "ack", "doors", "5")
    late = ledger("snapshot", "create", "--wait", "1", code=1).err
    assert "no snapshot was made: engine did not acknowledge event 5 of main in time" in late
    assert (files(home), ledger("snapshot", "list", "--json").json) == ([], [])
    # Event 4 is the last that it listens to.
    ledger("world", "ack", "engine", "4")
    assert ledger("snapshot", "create", "--wait", "1", "--json").json["events"] == 5
    more(ledger, 6)
    assert ledger("snapshot", "create", "--no-wait", "--json").json["events"] == 6


def test_modules_may_come_along_while_it_waits(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut is that of the announcement, whatever comes meanwhile."""
    ledger("world", "subscribe", "doors")
    from ledger_cli import Ledger

    looks = []

    def patience(seconds: float) -> Any:
        for look in range(3):
            looks.append(look)
            with Ledger.open(home) as other:
                if look == 1:
                    other.world.apply([json.dumps(event(6))])
                    other.world.ack("doors", 5)
            yield

    monkeypatch.setattr(machine, "patience", patience)
    assert ledger("snapshot", "create", "--json").json["events"] == 5
    assert looks == [0, 1]


def test_of_two_makers_the_first_gives_way(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger("world", "subscribe", "doors")
    from ledger_cli import Ledger

    def patience(seconds: float) -> Any:
        yield
        with Ledger.open(home) as other:
            other.snapshots.create(wait=0)
        yield

    monkeypatch.setattr(machine, "patience", patience)
    assert "another snapshot of main was announced meanwhile" in ledger("snapshot", "create", code=1).err
    (left,) = ledger("snapshot", "list", "--json").json
    assert ledger("snapshot", "verify", str(left["id"])).code == 0
    assert {file.split("/")[1] for file in files(home)} == {str(left["id"])}


def test_it_gives_way_too_when_its_folder_is_collected_under_it(
    home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger_cli import Ledger

    really = os.link

    def link(source: Path, target: Path) -> None:
        if "snapshots" in Path(target).parts:
            monkeypatch.setattr(os, "link", really)
            with Ledger.open(home) as other:
                other.snapshots.create(wait=0)
        really(source, target)

    monkeypatch.setattr(os, "link", link)
    assert "another snapshot of main was announced meanwhile" in ledger("snapshot", "create", code=1).err
    (left,) = ledger("snapshot", "list", "--json").json
    assert ledger("snapshot", "verify", str(left["id"])).code == 0
    assert {file.split("/")[1] for file in files(home)} == {str(left["id"])}


def test_it_gives_way_too_when_all_its_files_are_written(
    home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger_cli import Ledger
    from ledger_cli.services.repository import Repository

    really = Repository.administer

    def administer(self: Repository, kind: str, *given: Any) -> None:
        if kind == "snapshot":
            monkeypatch.setattr(Repository, "administer", really)
            with Ledger.open(home) as other:
                other.snapshots.create(wait=0)
        really(self, kind, *given)

    monkeypatch.setattr(Repository, "administer", administer)
    assert "another snapshot of main was announced meanwhile" in ledger("snapshot", "create", code=1).err
    (left,) = ledger("snapshot", "list", "--json").json
    assert ledger("snapshot", "verify", str(left["id"])).code == 0


def test_every_so_often(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ledger("snapshot", "create", "--every", "1h", "--json").json["id"]
    more(ledger, 6)
    monkeypatch.setattr(machine, "now", lambda: "2026-01-01T00:59:59.000Z")
    assert ledger("snapshot", "create", "--every", "1h", "--json").json["id"] == first
    monkeypatch.setattr(machine, "now", lambda: "2026-01-01T01:00:00.000Z")
    assert ledger("snapshot", "create", "--every", "1h", "--json").json["id"] != first
    assert "no length of time" in ledger("snapshot", "create", "--every", "hourly", code=2).err


def test_the_newest_are_kept(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_KEEP_SNAPSHOTS", "2")
    ledger("fork", "alt")
    ledger("snapshot", "create", "--branch", "alt")
    for number in range(6, 10):
        more(ledger, number)
        ledger("snapshot", "create")
    kept = ledger("snapshot", "list", "--json").json
    assert [each["events"] for each in kept] == [9, 8]
    (other,) = ledger("snapshot", "list", "--branch", "alt", "--json").json
    assert {int(file.split("/")[1]) for file in files(home)} == {other["id"], *(each["id"] for each in kept)}
    assert ledger("snapshot", "prune", "--keep", "1", "--json").json == {"pruned": [kept[1]["id"]]}
    assert ledger("snapshot", "prune").out == "pruned 0 snapshots\n"
    assert f"there is no snapshot {kept[1]['id']}" in ledger("snapshot", "show", str(kept[1]["id"]), code=2).err
    assert ledger("verify").code == 0


def test_old_ones_go_but_for_the_newest(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    days = ["2020-01-01", "2020-02-01", "2020-03-01"]
    for number, day in enumerate(days, 6):
        more(ledger, number)
        monkeypatch.setattr(machine, "now", lambda day=day: f"{day}T00:00:00.000Z")
        ledger("snapshot", "create")
    old = [each["id"] for each in ledger("snapshot", "list", "--json").json]
    monkeypatch.setattr(machine, "time_before", lambda seconds: f"2020-02-{30 - seconds // 86_400:02}T00:00:00.000Z")
    assert ledger("snapshot", "prune", "--before", "29d", "--json").json == {"pruned": [old[2]]}
    assert "no length of time" in ledger("snapshot", "prune", "--before", "old", code=2).err
    monkeypatch.setenv("LEDGER_KEEP_SNAPSHOTS_FOR", "soon")
    assert "keep_snapshots_for in ledger.toml: " in ledger("snapshot", "prune", code=2).err
    monkeypatch.setattr(machine, "time_before", lambda seconds: "2030-01-01T00:00:00.000Z")
    monkeypatch.setenv("LEDGER_KEEP_SNAPSHOTS_FOR", "1d")
    more(ledger, 9)
    ledger("snapshot", "create")
    (left,) = ledger("snapshot", "list", "--json").json
    assert left["events"] == 9
    assert ledger("snapshot", "prune", "--json").json == {"pruned": []}
    assert ledger("verify").code == 0


def test_restore(home: Path, ledger: Run) -> None:
    ledger("snapshot", "create")
    more(ledger, 1, 6, 7)
    now = ledger("world", "find", "--json").json
    brought = ledger("snapshot", "restore", "--json").json
    assert (brought["branch"], brought["events"], brought["tail"], brought["verified"]) == ("main", 7, 2, True)
    assert ledger("world", "find", "--json").json == now
    ledger("snapshot", "restore", "2", "--to", "then", "--no-verify")
    found = ledger("world", "find", "--branch", "then", "--json").json
    assert found == now[:5]
    ledger("world", "apply", "-", "--branch", "then", stdin=lines(event(8)))
    assert len(ledger("world", "find", "--branch", "then", "--json").json) == 6
    assert ledger("world", "find", "--json").json == now
    assert "branch 'then' exists" in ledger("snapshot", "restore", "--to", "then", code=2).err
    assert ledger("verify").code == 0


def test_ticks_and_commits_go_back_too(home: Path, ledger: Run) -> None:
    ticks = [{"entityId": "E", "tickId": tick, "x": 1, "y": 1, "activity": 0.5} for tick in range(0, 600, 20)]
    for place, part in enumerate((ticks[:12], ticks[12:])):
        ledger("ingest", "-", "--format", "jsonl", stdin=lines(*part))
        ledger("commit")
        if place == 0:
            then = ledger("status", "--json").json
            ledger("snapshot", "create")
            more(ledger, 6)
    ledger("snapshot", "restore", "--to", "then")
    found = ledger("status", "--branch", "then", "--json").json
    for name in ("rows", "commits", "watermark", "shards", "digest", "highestTick"):
        assert found[name] == then[name]
    assert ledger("replay", "--verify", "--branch", "then").code == 0
    ledger("ingest", "-", "--format", "jsonl", "--branch", "then", stdin=lines(*ticks[12:]))
    ledger("commit", "--branch", "then")
    assert ledger("status", "--branch", "then", "--json").json["digest"] == ledger("status", "--json").json["digest"]
    assert ledger("verify").code == 0


def test_restore_mends_a_damaged_checkpoint(home: Path, ledger: Run) -> None:
    ledger("snapshot", "create")
    ledger("snapshot", "restore")
    now = ledger("world", "find", "--json").json
    (checkpoint,) = (home / "tiles").glob("world-*.parquet")
    flip(checkpoint)
    ledger("verify", code=4)
    ledger("snapshot", "restore")
    assert ledger("world", "find", "--json").json == now
    assert ledger("verify").code == 0


def test_a_deleted_branch_comes_back(home: Path, ledger: Run) -> None:
    ledger("fork", "alt")
    ledger("snapshot", "create", "--branch", "alt")
    found = ledger("world", "find", "--branch", "alt", "--json").json
    ledger("branch", "delete", "alt")
    assert "there is no branch 'alt'" in ledger("snapshot", "restore", "--branch", "alt", code=2).err
    ledger("snapshot", "restore", "--branch", "alt", "--to", "back")
    assert ledger("world", "find", "--branch", "back", "--json").json == found
    more(ledger, 6)
    ledger("fork", "alt")
    assert ledger("snapshot", "restore", "--branch", "alt", "--json").json["tail"] == 1
    ledger("snapshot", "create", "--branch", "alt")
    assert len(ledger("snapshot", "list", "--branch", "alt", "--json").json) == 2


def test_after_a_reconciliation(home: Path, ledger: Run) -> None:
    """Its events stand in another order, so that an older snapshot leads to a branch of its own alone."""
    ledger("fork", "alt")
    more(ledger, 6)
    ledger("world", "apply", "-", "--branch", "alt", stdin=lines(event(7)))
    first = ledger("snapshot", "create", "--json").json
    then = ledger("world", "find", "--json").json
    ledger("reconcile", "main", "alt")
    assert len(ledger("world", "find", "--json").json) == 7
    assert "restore into a new branch by --to NAME" in ledger("snapshot", "restore", code=2).err
    ledger("snapshot", "restore", "--to", "then")
    assert ledger("world", "find", "--branch", "then", "--json").json == then
    assert ledger("snapshot", "create", "--json").json["events"] == 7
    assert ledger("snapshot", "verify", str(first["id"])).code == 0
    assert ledger("snapshot", "restore", "--json").json["verified"]
    assert ledger("doctor").code == 0


@pytest.mark.parametrize(
    "name", ["entities.parquet", "module-building.parquet", "module-physics.parquet", "manifest.json"]
)
@pytest.mark.parametrize("gone", [False, True], ids=["flipped", "gone"])
def test_what_was_changed_is_found_by_its_name(name: str, gone: bool, home: Path, ledger: Run) -> None:
    ledger("snapshot", "create")
    named = f"snapshots/2/{name}"
    if gone:
        (home / named).unlink()
    else:
        flip(home / named)
    for command in (["snapshot", "verify"], ["verify"]):
        ran = ledger(*command, "--json", code=4)
        assert [each["file"] for each in ran.json["findings"]] == [named]
    for options in ([], ["--no-verify"], ["--to", "other"]):
        assert named in ledger("snapshot", "restore", *options, code=1).err
    drilled = {each["name"]: each for each in ledger("doctor", "--json", code=4).json["checks"]}
    assert named in drilled["newest snapshot"]["found"]
    assert [name for name, each in drilled.items() if not each["ok"]] == ["newest snapshot"]
    more(ledger, 6)
    ledger("snapshot", "create")
    ledger("snapshot", "prune", "--keep", "1")
    assert ledger("verify").code == 0


def test_a_state_that_is_not_that_of_the_events_is_found(
    home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All digests right, and still not what the events make."""
    from ledger_cli.services import world_types

    with monkeypatch.context() as patch:
        patch.setitem(world_types.REDUCERS, "merge", lambda before, payload: {"n": -1})
        ledger("snapshot", "create")
    found = ledger("snapshot", "verify", "--json", code=4).json
    assert [each["what"] for each in found["findings"]] == ["a replay of the 5 events from nothing gives another state"]
    moves = ledger("status", "--json").json["moves"]
    assert "another state than a replay from nothing" in ledger("snapshot", "restore", code=4).err
    assert ledger("status", "--json").json["moves"] == moves


def test_a_recipe_makes_one_every_so_often(home: Path, ledger: Run) -> None:
    recipe = home / "nightly.toml"
    recipe.write_text('[[steps]]\ndo = "snapshot"\nevery = "1h"\nwait = 0\n')
    shown = ledger("run", recipe, "--ledger", home).out
    assert "ledger snapshot create --every 1h --wait 0 " in shown
    assert "snapshot 2 of main: 5 entities" in shown
    assert "snapshot 2 of main is there already" in ledger("run", recipe, "--ledger", home).out
    recipe.write_text('[[steps]]\ndo = "snapshot"\nevery = "often"\n')
    assert "every = 'often' must be a length of time like 30m" in ledger("run", recipe, "--ledger", home, code=2).err


def test_doctor(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger("world", "subscribe", "doors")
    checks = {each["name"]: each for each in ledger("doctor", "--json").json["checks"]}
    assert list(checks) == ["clock of here", "module doors", "newest snapshot", "snapshot drill"]
    assert checks["snapshot drill"]["found"].startswith("5 entities by 5 events: snapshot in 0.0 s, ")
    assert (files(home), list((home / "scratch").glob("*/"))) == ([], [])
    monkeypatch.setenv("LEDGER_MAX_LAG", "4")
    shown = ledger("doctor", code=4)
    assert "module doors     no    5 events behind; 4 are allowed\n" in shown.out
    assert "not all is well (module doors)" in shown.err
    ledger("init", home / "empty")
    assert "nothing to look at" in ledger("doctor", "--ledger", home / "empty").out


def test_errors(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no snapshot of main yet" in ledger("snapshot", "restore", code=2).err
    assert "there is no snapshot 7" in ledger("snapshot", "show", "7", code=2).err
    assert "not a whole number" in ledger("snapshot", "show", "newest", code=2).err
    assert "there is no branch 'nope'" in ledger("snapshot", "create", "--branch", "nope", code=2).err
    monkeypatch.setenv("LEDGER_KEEP_SNAPSHOTS", "0")
    assert "set keep_snapshots" in ledger("snapshot", "create", code=2).err
    monkeypatch.delenv("LEDGER_KEEP_SNAPSHOTS")
    ledger("init", home / "empty")
    assert "has no world event yet" in ledger("snapshot", "create", "--ledger", home / "empty", code=2).err
