"""`ledger archive` and `ledger restore`."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_cli.api import Ledger
from ledger_cli.core.world import PROTOCOL
from ledger_cli.errors import UsageError
from ledger_cli.services import archive_files
from ledger_cli.stores.places import unwrapped, wrapped
from tests.cli.conftest import Run

READS = (
    ("log", "--json"),
    ("log", "--region", "1:0", "--json"),
    ("log", "--limit", "2"),
    ("show", "main", "--json"),
    ("gamma", "--json"),
    ("gamma", "--at", "20", "--json"),
    ("diff", "10", "40", "--json"),
    ("replay", "--verify"),
    ("sql", "SELECT * FROM commits ORDER BY ALL", "--json"),
    ("sql", "SELECT * FROM commit_entries ORDER BY ALL", "--json"),
    ("sql", "SELECT * FROM ticks ORDER BY ALL", "--json"),
)


def reads(ledger: Run) -> list[str]:
    """All that a user sees of the commits."""
    firsts = [each["commitId"] for each in ledger("log", "--json").json]
    shown = [ledger("show", each, "--json").out for each in firsts]
    return [*(ledger(*each).out for each in READS), *shown]


def nulls(world: Path) -> list[str]:
    """The batches whose files lack entries."""
    return [path.name for path in (world / "commits").iterdir() if "entries" not in pq.read_schema(path).names]


def hidden(world: Path) -> Callable[[], None]:
    """Take archives and copies away; gives what brings the archives back."""
    shutil.rmtree(world / "cache", ignore_errors=True)
    (world / "archive").rename(world / "elsewhere")
    return lambda: (world / "elsewhere").rename(world / "archive") and None


def test_everything_reads_as_before(world: Path, ledger: Run) -> None:
    before = reads(ledger)
    told = ledger("archive", "--before", "30")
    assert told.out.startswith("archive 0: 7 entries of 3 commits (ticks 0…30), "), told.out
    assert len(nulls(world)) == 1
    assert reads(ledger) == before
    assert ledger("verify", "--json").json["ok"]
    assert ledger("archive", "--before", "30").out == "nothing to archive\n"
    listed = ledger("archive", "--list", "--json").json
    assert [(each["id"], each["state"], each["commits"], each["entries"]) for each in listed] == [(0, "archived", 3, 7)]


def test_copies_are_bounded(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = reads(ledger)
    ledger("archive", "--before", "30", "--ticks")
    assert reads(ledger) == before
    assert [*(world / "cache").rglob("*.parquet")]
    shutil.rmtree(world / "cache")
    monkeypatch.setenv("LEDGER_CACHE_SIZE", "1B")
    assert reads(ledger) == before
    assert not [path for path in (world / "cache").rglob("*") if path.is_file() and path.name != "lock"]
    with Ledger.open(world) as opened:
        shutil.rmtree(world / "cache")
        assert opened.to_arrow("commit_entries").num_rows == 9
        shutil.rmtree(world / "cache")
        assert opened.gamma() is not None


def test_headers_are_read_without_the_archive(world: Path, ledger: Run) -> None:
    log = ledger("log", "--json").out
    first = ledger("log", "--json").json[-1]["commitId"]
    ledger("archive", "--before", "30")
    back = hidden(world)
    assert ledger("log", "--json").out == log
    assert ledger("verify").out
    assert ledger("sql", "SELECT sum(regions) AS n FROM commits", "--json").json == [{"n": 9}]
    assert ledger("fork", "other", "--from", "20").out
    assert not [*(world / "cache").rglob("*.parquet")]
    refused = ledger("show", first, code=2)
    assert "/archive/" in refused.err
    assert "is missing: bring it back from a copy of the archive" in refused.err
    back()
    assert ledger("show", first, "--json").json["commitId"] == first


def test_restored_is_as_it_was(world: Path, ledger: Run) -> None:
    before = reads(ledger)
    pointer = ledger("archive", "--before", "30", "--json").json["archive"]["pointer"]
    assert ledger("restore", pointer).out == "restored from archive 0: entries of 3 commits\n"
    assert nulls(world) == []
    hidden(world)
    assert reads(ledger) == before
    assert ledger("verify", "--json").json["ok"]
    assert ledger("archive", "--list", "--json").json[0]["state"] == "restored"


def stored(world: Path) -> dict[str, str]:
    """Every file of the ledger but the caches, with its digest."""
    paths = [path for path in world.rglob("*") if path.is_file() and not {"cache", "scratch"} & set(path.parts)]
    return {str(path.relative_to(world)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_dry_run_tells_and_changes_nothing(world: Path, ledger: Run) -> None:
    before = stored(world)
    told = ledger("archive", "--before", "20", "--dry-run")
    assert told.out.startswith("would archive 5 entries of 2 commits (ticks 0…20), ")
    planned = ledger("archive", "--before", "20", "--dry-run", "--json").json["archive"]
    assert (planned["id"], planned["state"], planned["pointer"]) == (None, "planned", None)
    assert stored(world) == before
    made = ledger("archive", "--before", "20", "--json").json["archive"]
    files = sum(path.stat().st_size for path in (world / "archive").iterdir())
    pointer = world / made["pointer"]
    assert made["bytes"] == files
    assert planned["bytes"] == files - pointer.stat().st_size


def test_quiet_commits_go_alone(world: Path, ledger: Run) -> None:
    """Commits whose highest mean activity (of region 1:0) is above 2.2 stay: those that end at 30 and 40."""
    before = reads(ledger)
    assert "of 2 commits (ticks 0…20)" in ledger("archive", "--max-activity", "2.2").out
    assert "of 1 commit (ticks 20…30)" in ledger("archive", "--max-activity", "2.25").out
    assert reads(ledger) == before
    assert [each["id"] for each in ledger("archive", "--list", "--json").json] == [2, 0]


def settings(world: Path, **given: Any) -> None:
    path = world / "ledger.toml"
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items())
    text = path.read_text()
    for name in given:
        text = text.replace(f"\n{name} =", f"\n# {name} =")
    path.write_text(text.replace("[retention]\n", f"[retention]\n{lines}"))


def test_rules_of_the_file(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ledger("archive", code=2)
    assert "set archive_after and the like in ledger.toml" in refused.err
    settings(world, archive_quiet_after="10h", archive_quiet_activity=2.2, archive_after="30d")
    assert ledger("archive").out == "nothing to archive\n"
    monkeypatch.setattr("ledger_cli.wiring.machine.now", lambda: "2026-01-02T00:00:00.000Z")
    assert "of 2 commits" in ledger("archive").out
    monkeypatch.setattr("ledger_cli.wiring.machine.now", lambda: "2026-03-02T00:00:00.000Z")
    settings(world, archive_keep=1)
    assert "of 1 commit (ticks 20…30)" in ledger("archive").out
    settings(world, archive_after="soon")
    assert "archive_after in ledger.toml: 'soon' is no length of time" in ledger("archive", code=2).err


@pytest.mark.parametrize("name", ["archive_keep", "archive_ticks_keep", "archive_world_keep"])
@pytest.mark.parametrize("value", ["-1", "99999999999999999999"])
def test_counts_that_make_no_rule(
    world: Path, ledger: Run, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rule in ("ARCHIVE_AFTER", "ARCHIVE_TICKS_AFTER", "ARCHIVE_WORLD_AFTER"):
        monkeypatch.setenv(f"LEDGER_{rule}", "1s")
    monkeypatch.setenv(f"LEDGER_{name.upper()}", value)
    assert f"{name} in ledger.toml must be a number from 0" in ledger("archive", "--dry-run", code=2).err


def test_rules_keep_the_newest_files(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger("schema", "register", "a.b.v1")
    row = {"entityId": "E", "x": 1, "y": 1, "activity": 1}
    event = {"entityId": "E", "type": "a.b.v1", "payload": {"n": 1}, "handshake": {"protocol": PROTOCOL}}
    for number in range(3):
        (segments := world / "more.jsonl").write_text(json.dumps({**row, "tickId": 50 + number}) + "\n")
        ledger("ingest", segments)
        ledger("world", "apply", "-", stdin=json.dumps({**event, "eventId": f"e{number}"}) + "\n")
    before, state = reads(ledger), ledger("world", "find", "--json").out
    monkeypatch.setattr("ledger_cli.wiring.machine.now", lambda: "2026-03-02T00:00:00.000Z")
    settings(world, archive_ticks_after="1d", archive_ticks_keep=2, archive_world_after="1d", archive_world_keep=1)
    would = ledger("archive", "--dry-run", "--json").json["archive"]
    assert (would["segments"], would["worldFiles"]) == (2, 2)
    made = ledger("archive", "--json").json["archive"]
    assert (made["segments"], made["worldFiles"]) == (2, 2)
    kept = [pq.read_table(path).to_pylist() for path in (world / "segments").iterdir()]
    assert sorted(str(row.get("event_id", row.get("tick_id"))) for rows in kept for row in rows) == ["51", "52", "e2"]
    assert (reads(ledger), ledger("world", "find", "--json").out) == (before, state)
    assert ledger("archive").out == "nothing to archive\n"
    ledger("restore", str(made["id"]))
    settings(world, archive_ticks_keep=4, archive_world_keep=9)
    assert ledger("archive").out == "nothing to archive\n"
    settings(world, archive_ticks_keep=0, archive_world_keep=0)
    made = ledger("archive", "--json").json["archive"]
    assert (made["segments"], made["worldFiles"]) == (4, 3)
    assert (reads(ledger), ledger("world", "find", "--json").out) == (before, state)
    for name in ("archive_ticks_keep", "archive_world_keep"):
        settings(world, **{name: -1})
        assert f"{name} in ledger.toml must be a number from 0" in ledger("archive", code=2).err
        settings(world, **{name: 0})


def test_a_fork_shares_what_is_archived(forked: Path, ledger: Run) -> None:
    both = {name: ledger("gamma", "--branch", name, "--json").out for name in ("main", "hybrid")}
    ledger("archive", "--before", "30", "--branch", "hybrid")
    for name, gamma in both.items():
        assert ledger("gamma", "--branch", name, "--json").out == gamma
        assert ledger("replay", "--verify", "--branch", name).out
    assert ledger("verify").out
    ledger("archive", "--before", "40")
    assert {name: ledger("gamma", "--branch", name, "--json").out for name in both} == both
    ledger("fork", "same", "--from", "20")
    assert ledger("reconcile", "main", "same", "--into", "both").out
    ledger("verify")


def test_another_ledger_fetches_what_is_archived(world: Path, ledger: Run, tmp_path: Path) -> None:
    gamma = ledger("gamma", "--json").json["regions"]
    ledger("archive", "--before", "30")
    other = tmp_path / "other"
    ledger("init", other, "--regions", "grid:10", "--interval", "10")
    ledger("reconcile", "main", f"{world}#main", "--ledger", other)
    assert ledger("gamma", "--ledger", other, "--json").json["regions"] == gamma
    assert ledger("verify", "--ledger", other).out


def test_ticks_and_world_events_go_as_whole_files(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    event = {
        "eventId": "e1",
        "entityId": "E",
        "type": "a.b.v1",
        "payload": {"n": 1},
        "handshake": {"protocol": PROTOCOL},
    }
    ledger("schema", "register", "a.b.v1", code=0)
    ledger("world", "apply", "-", stdin=json.dumps(event) + "\n")
    before, state = reads(ledger), ledger("world", "find", "--json").out
    monkeypatch.setattr("ledger_cli.wiring.machine.now", lambda: "2026-03-02T00:00:00.000Z")
    told = ledger("archive", "--before", "1d", "--ticks", "--world")
    assert "1 segment, 1 file of world events" in told.out
    assert not [*(world / "segments").iterdir()]
    assert ledger("verify").out
    assert ledger("verify", "--archives").out
    assert reads(ledger) == before
    assert ledger("world", "find", "--json").out == state
    assert ledger("restore", "1").out == "restored from archive 1: entries of 4 commits, 2 files\n"
    shutil.rmtree(world / "archive")
    shutil.rmtree(world / "cache")
    assert reads(ledger) == before
    assert ledger("verify").out


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "tampered": lambda path: path.write_bytes(bytes([*path.read_bytes()[:99], 7, *path.read_bytes()[100:]])),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_refused_by_name(world: Path, ledger: Run, damage: str) -> None:
    first = ledger("log", "--json").json[-1]["commitId"]
    pointer = ledger("archive", "--before", "30", "--json").json["archive"]["pointer"]
    files = sorted((world / "archive").iterdir())
    assert len(files) == 3
    for file in files:
        whole = file.read_bytes()
        DAMAGES[damage](file)
        before = stored(world)
        refused = ledger("restore", pointer, code=2 if damage == "missing" else 1)
        assert file.name in refused.err
        assert stored(world) == before
        findings = ledger("verify", "--archives", "--json", code=4).json["findings"]
        assert [each["file"] for each in findings] == [f"archive/{file.name}"]
        assert ledger("verify").out
        file.write_bytes(whole)
        shutil.rmtree(world / "cache", ignore_errors=True)
    assert ledger("restore", pointer).out
    assert ledger("show", first).out


def test_what_was_copied_before_vouches_for_no_archive(world: Path, ledger: Run) -> None:
    pointer = ledger("archive", "--before", "30", "--json").json["archive"]["pointer"]
    ledger("gamma")
    assert [*(world / "cache").rglob("archives/*")], "a copy of the file is there"
    rows = next(path for path in (world / "archive").glob("*.parquet") if "entries" in pq.read_schema(path).names)
    DAMAGES["tampered"](rows)
    before = stored(world)
    assert f"{rows.name} is not what its digest says" in ledger("restore", pointer, code=1).err
    assert stored(world) == before


def test_an_archive_of_another_ledger_is_refused(world: Path, ledger: Run, tmp_path: Path) -> None:
    pointer = world / ledger("archive", "--before", "30", "--json").json["archive"]["pointer"]
    other = tmp_path / "other"
    ledger("init", other)
    refused = ledger("restore", pointer, "--ledger", other, code=2)
    assert "is of another ledger" in refused.err
    unknown = ledger("restore", "archive/no.json", "--ledger", other, code=2)
    assert "archive/no.json is missing" in unknown.err
    assert "no archive '7'" in ledger("restore", "7", code=2).err


def test_a_range_comes_back(world: Path, ledger: Run) -> None:
    before = reads(ledger)
    ledger("archive", "--before", "40")
    assert ledger("restore", "--range", "10..20").out == "restored from archive 0: entries of 1 commit\n"
    assert reads(ledger) == before
    assert ledger("verify").out
    assert ledger("archive", "--before", "40").out.startswith("archive 2: 2 entries of 1 commit (ticks 10…20)")
    assert ledger("restore", "--range", "0..40").out
    hidden(world)
    assert reads(ledger) == before
    for wrong in ("10", "..", "20..10", "a..b"):
        assert "--range" in ledger("restore", "--range", wrong, code=2).err
    assert "name an archive by its POINTER" in ledger("restore", code=2).err
    assert ledger("restore", "--range", "0..9").out.startswith("nothing to restore")
    assert ledger("restore", "--range", "0..9", "--json").json == {"restored": []}
    assert "nothing of these ticks is archived" in ledger("restore", "--range", "900..", code=2).err


def test_a_large_batch_goes_and_comes_back_to_the_byte(
    world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_files, "LARGE", 0)
    before, files = reads(ledger), stored(world)
    ((batch, digest),) = [each for each in files.items() if each[0].startswith("commits/")]
    copy = batch.replace("commits/", "archive/")
    assert ledger("archive", "--before", "40").out.startswith("archive 0: 9 entries of 4 commits (ticks 0…40), ")
    assert stored(world)[copy] == digest != stored(world)[batch]
    assert reads(ledger) == before
    assert ledger("verify", "--archives").out
    assert ledger("restore", "--range", "10..20").out == "restored from archive 0: entries of 1 commit\n"
    assert reads(ledger) == before
    assert ledger("archive", "--before", "40").out.startswith("archive 2: 2 entries of 1 commit (ticks 10…20)")
    assert reads(ledger) == before
    assert ledger("restore", "0").out == "restored from archive 0: entries of 4 commits\n"
    hidden(world)
    assert stored(world)[batch] == digest
    assert reads(ledger) == before
    assert ledger("verify").out


def test_a_range_may_end_behind_all_ticks(world: Path, ledger: Run) -> None:
    ledger("archive", "--before", "40")
    assert ledger("restore", "--range", f"10..{10**30}").out == "restored from archive 0: entries of 3 commits\n"
    with Ledger.open(world) as opened:
        assert [each.commits for each in opened.restore(since=-(10**30), until=10)] == [1]


def test_of_a_branch_goes_what_it_reads(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger("fork", "other", "--from", "10")
    shared = {path.name for path in (world / "segments").iterdir()}
    (world.parent / "more.jsonl").write_text('{"entityId": "E", "tickId": 90, "x": 1, "y": 1, "activity": 1}\n')
    ledger("ingest", world.parent / "more.jsonl")
    monkeypatch.setattr("ledger_cli.wiring.machine.now", lambda: "2026-03-02T00:00:00.000Z")
    ledger("archive", "--before", "1d", "--ticks", "--branch", "other")
    left = {path.name for path in (world / "segments").iterdir()}
    assert len(left) == 1
    assert not left & shared


def test_what_was_restored_is_not_looked_for_where_it_was(
    world: Path, ledger: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once all of it is back its archive may go: what is archived again is read from where it is now."""
    monkeypatch.setattr(archive_files, "LARGE", 0)
    monkeypatch.setattr("ledger_cli.wiring.machine.now", lambda: "2026-03-02T00:00:00.000Z")
    monkeypatch.setenv("SECRET", "correct horse battery staple")
    before = reads(ledger)
    ledger("archive", "--before", "1d", "--ticks", "--to", tmp_path / "one")
    ledger("restore", "0")
    settings(world, archive_key="env:SECRET")
    ledger("archive", "--before", "1d", "--ticks", "--to", tmp_path / "two")
    shutil.rmtree(tmp_path / "one")
    shutil.rmtree(world / "cache", ignore_errors=True)
    assert reads(ledger) == before


def test_a_large_batch_that_is_not_what_the_log_says_is_refused(
    world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_files, "LARGE", 0)
    (batch,) = (world / "commits").iterdir()
    table = pq.read_table(batch)
    entries = pa.concat_arrays([table["entries"].combine_chunks()[1:], table["entries"].combine_chunks()[:1]])
    changed = table.set_column(table.schema.get_field_index("entries"), table.schema.field("entries"), entries)
    batch.chmod(0o644)
    pq.write_table(changed, batch)
    assert "has entries that do not give its digest" in ledger("archive", "--before", "40", code=1).err
    assert nulls(world) == []


def test_encrypted(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = reads(ledger)
    settings(world, archive_key="env:SECRET")
    assert (
        "archive_key: the key in SECRET is missing, or shorter than 16 bytes"
        in ledger("archive", "--before", "30", code=2).err
    )
    monkeypatch.setenv("SECRET", "correct horse battery staple")
    monkeypatch.setattr("ledger_cli.wiring.machine.now", lambda: "2026-03-02T00:00:00.000Z")
    monkeypatch.setattr(archive_files, "LARGE", 0)
    ledger("archive", "--before", "30", "--ticks")
    ledger("archive", "--before", "1d", "--ticks")
    for path in (world / "archive").glob("*.parquet"):
        assert path.read_bytes()[:4] == b"PARE"
    assert ledger("verify", "--archives").out
    assert reads(ledger) == before
    shutil.rmtree(world / "cache")
    monkeypatch.setenv("SECRET", "another key that is long")
    refused = ledger("gamma", code=2).err
    assert "archive_key is not the key that the archive was encrypted with" in refused, refused
    settings(world, archive_key="file:key")
    assert "the key cannot be read from key" in ledger("gamma", code=2).err
    (world / "key").write_text("correct horse battery staple\n")
    assert reads(ledger) == before
    for each in ledger("archive", "--list", "--json").json:
        ledger("restore", str(each["id"]))
    assert ledger("verify").out
    assert reads(ledger) == before


def test_encryption_that_is_not_installed(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(world, archive_key="env:SECRET")
    monkeypatch.setenv("SECRET", "correct horse battery staple")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    refused = ledger("archive", "--before", "30", code=1).err
    assert "cryptography is not installed: pip install 'ledger-cli[encryption]'" in refused
    assert not (world / "archive").exists()
    assert nulls(world) == []


@pytest.mark.parametrize("size", [16, 24, 32])
def test_wrapped_keys(size: int) -> None:
    key, master = bytes(range(size)), b"correct horse battery staple"
    hidden = wrapped(master, key)
    assert key not in b64decode(hidden)
    assert unwrapped(master, hidden) == key
    for torn in (b64encode(b64decode(hidden)[::-1]), b64encode(b64decode(hidden)[:-1]), b""):
        with pytest.raises(UsageError, match="archive_key is not the key"):
            unwrapped(master, torn)
    with pytest.raises(UsageError, match="archive_key is not the key"):
        unwrapped(b"another key that is long", hidden)


def test_status_and_doctor_tell(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "archived" not in ledger("status").out
    ledger("archive", "--before", "30")
    assert "entries of 3 commits in 1 archive (of the whole ledger)" in ledger("status").out
    assert [each["id"] for each in ledger("status", "--json").json["archives"]] == [0]
    ledger("gamma", "--at", "20")
    (world / "archive" / "left.parquet").write_text("by a killed run")
    (batch,) = (world / "commits").iterdir()
    left = world / "commits" / f"{'0' * 64}.parquet"
    shutil.copy(batch, left)
    told = {each["name"]: each["found"] for each in ledger("doctor", "--json").json["checks"]}
    assert "1 files are of no archive of this ledger, left.parquet among them" in told["archives in archive"]
    assert left.exists()
    monkeypatch.setattr("ledger_cli.wiring.machine.now", lambda: "2099-01-01T00:00:00.000Z")
    told = {each["name"]: each["found"] for each in ledger("doctor", "--json").json["checks"]}
    assert told["batches of commits"] == "1 that no move names removed"
    assert "removed from the cache" in told["local copies"]
    assert not left.exists()
    assert ledger("gamma", "--at", "20").out
    next(path for path in (world / "archive").glob("*.parquet") if len(path.stem) == 64).unlink()
    assert "are missing" in ledger("doctor", code=4).out
    (manifest,) = (world / "archives").iterdir()
    manifest.chmod(0o644)
    manifest.write_text("{}")
    assert f"archives/{manifest.name} is not what its digest says" in ledger("doctor", code=4).out
    settings(world, archive_to="x" * 300)
    assert "cannot be listed: File name too long" in ledger("doctor", code=4).out


def test_another_place(world: Path, ledger: Run, tmp_path: Path) -> None:
    before = reads(ledger)
    made = ledger("archive", "--before", "30", "--to", "memory://bucket/world", "--json").json["archive"]
    assert made["pointer"].startswith("memory://bucket/world/")
    assert reads(ledger) == before
    ledger("restore", made["pointer"])
    made = ledger("archive", "--before", "30", "--to", tmp_path / "else", "--json").json["archive"]
    assert made["pointer"].startswith(str(tmp_path / "else"))
    assert reads(ledger) == before
    (tmp_path / "file").write_text("")
    assert "cannot be written" in ledger("archive", "--before", "40", "--to", tmp_path / "file" / "x", code=1).err
    assert "nonsense" in ledger("archive", "--before", "40", "--to", "nonsense://x", code=2).err
