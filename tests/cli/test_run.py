"""`ledger run`: plain, --check, --update, and what it says when something is missing."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.api.recipes import load_recipe, open_ledger
from ledger_cli.errors import NeedsDecision
from ledger_cli.render.gamma import spec

from .conftest import Run

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
# A comment at the top.
about = "A small job."

[parameters.source]
help = "tick events"
get = "Make them with `ledger simulate`."
path = true
default = "ticks.jsonl"

[settings]
regions = "grid:10"   # metres
interval = 10

[[steps]]
do = "ingest"
say = "Read."
sources = "${source}"

[[steps]]
do = "commit"
final = true
policy = { weight = "linear" }

[[steps]]
do = "fork"
name = "trial"
from = 20
policy = { interval = 5 }

[[steps]]
do = "commit"
branch = "trial"
final = true
message = "a trial"

[[steps]]
do = "show"
commit = "trial"

[[steps]]
do = "status"

[[steps]]
do = "gamma"
out = "gamma.csv"
"""


@pytest.fixture
def job(tmp_path: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present directory holds `job.toml` and its ticks."""
    monkeypatch.chdir(tmp_path)
    ledger("simulate", "ticks.jsonl", "--entities", "5", "--ticks", "40")
    path = tmp_path / "job.toml"
    path.write_text(RECIPE)
    return path


def test_quickstart_shows_each_step_and_where_the_ledger_is(
    ledger: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "fixtures", "fixtures")
    shutil.copytree(ROOT / "recipes", "recipes")
    shown = ledger("run", "recipes/quickstart.toml").out
    assert "$ ledger init out/quickstart --regions grid:10 --shards 2" in shown
    assert "[1/11] Read the events.\n$ ledger ingest fixtures/ticks.jsonl --ledger out/quickstart\n" in shown
    assert "$ ledger replay --verify --ledger out/quickstart\n" in shown
    assert "recipes/quickstart.toml ends as it says: main\nThe ledger is out/quickstart. Try next:\n" in shown
    assert ledger("status", "--ledger", "out/quickstart", "--json").json["rows"] == 808
    again = ledger("run", "recipes/quickstart.toml").out
    assert "ends as it says" in again
    assert "$ ledger init" not in again
    assert "out/quickstart is there already: the steps find what they did before" in again
    assert "first-run names" not in again


def test_the_commands_shown_can_be_pasted(ledger: Run, job: Path) -> None:
    lines = ledger("run", "job.toml").out.splitlines()
    made = ledger("branch", "list", "--json", "--ledger", "out/job").json
    shutil.rmtree("out")
    pasted = [shlex.split(line) for line in lines if line.startswith("$ ledger ")]
    for _, _, *words in pasted:
        ledger(*words)
    again = ledger("branch", "list", "--json", "--ledger", "out/job").json
    assert [each["digest"] for each in again] == [each["digest"] for each in made]
    assert Path("out/job/gamma.csv").is_file()


def test_update_then_check_then_a_difference(ledger: Run, job: Path) -> None:
    refused = ledger("run", "job.toml", "--check", code=2).err
    assert "job.toml expects nothing yet: `ledger run job.toml --update`" in refused
    assert ledger("run", "job.toml", "--update").out == "wrote into job.toml how its branches end\n"
    text = job.read_text()
    assert text.startswith(RECIPE), "comments and layout stay"
    expect = tomllib.loads(text)["expect"]
    assert expect["main"]["rows"] == 200
    assert set(expect) == {"main", "trial"}
    assert ledger("run", "job.toml", "--check").out == "job.toml ends as it says: main, trial\n"
    assert not Path("out").exists(), "nothing is left behind"
    ledger("run", "job.toml", "--update")
    assert job.read_text() == text, "a second update changes nothing"

    other = expect["main"]["heads"]["0"]
    wrong = "0" * 8 + other[8:]
    job.write_text(text.replace(other, wrong).replace("rows = 200", "rows = 201"))
    told = ledger("run", "job.toml", "--check", code=4)
    assert told.out.splitlines() == [
        f"main, head of shard 0: expected {wrong}, found {other}",
        "main, rows: expected 201, found 200",
        "trial, rows: expected 201, found 200",
    ]
    assert told.err.startswith("ledger: job.toml does not end as it says (3 differences): if that is meant, ")
    shown = ledger("run", "job.toml")
    assert "warning: job.toml does not end as it says" in shown.err
    result = ledger("run", "job.toml", "--check", "--json", code=4).json
    assert {"branch": "main", "what": "rows", "expected": 201, "found": 200} in result["differences"]


def test_json_has_steps_and_branches(ledger: Run, job: Path) -> None:
    result = ledger("run", "job.toml", "--ledger", "here", "--json").json
    assert [each["do"] for each in result["steps"]] == [
        *("ingest", "commit", "fork", "commit", "show", "status", "gamma"),
    ]
    assert result["ledger"] == "here"
    assert result["steps"][0]["result"]["stored"] == 200
    assert set(result["branches"]["trial"]) == {"rows", "commits", "quarantined", "heads", "world"}
    assert result["branches"]["trial"]["world"] is None
    assert result["differences"] == []
    assert Path("here/gamma.csv").read_text().startswith('"region"')
    again = ledger("run", "job.toml", "--ledger", "here", "--json").json
    assert again["branches"] == result["branches"]
    assert again["steps"][2]["result"] is None, "the branch is there already"


def test_what_is_missing_says_where_to_get_it(ledger: Run, job: Path) -> None:
    job.write_text(RECIPE.replace('default = "ticks.jsonl"\n', ""))
    told = ledger("run", "job.toml", code=2).err
    assert told == "ledger: job.toml needs --set source=…: tick events. Make them with `ledger simulate`.\n"
    told = ledger("run", "job.toml", "--set", "source=no.jsonl", code=2).err
    assert "no.jsonl: no such file, needed as source: tick events. Make them with `ledger simulate`." in told
    assert not Path("out").exists()
    assert "write it as NAME=VALUE" in ledger("run", "job.toml", "--set", "source", code=2).err
    assert "no.toml: no such recipe" in ledger("run", "no.toml", code=2).err
    ledger("run", "job.toml", "--set", "source=ticks.jsonl")


def test_a_ledger_with_other_settings_is_refused(ledger: Run, job: Path) -> None:
    ledger("run", "job.toml")
    job.write_text(RECIPE.replace("interval = 10", "interval = 20"))
    told = ledger("run", "job.toml", code=2).err
    assert "out/job: its setting interval is 10, the recipe has 20: give another --ledger, or remove out/job" in told


def test_rows_in_quarantine_end_with_3_unless_they_may(ledger: Run, job: Path) -> None:
    with Path("ticks.jsonl").open("a") as file:
        file.write("not JSON\n")
    told = ledger("run", "job.toml", code=3)
    assert "1 row went to quarantine" in told.err
    assert "The ledger is out/job" in told.out, "the job is finished all the same"
    job.write_text(RECIPE.replace('sources = "${source}"', 'sources = "${source}"\nallow_quarantine = true'))
    ledger("run", "job.toml")
    ledger("run", "job.toml", "--update")
    assert tomllib.loads(job.read_text())["expect"]["main"]["quarantined"] == {"broken_json": 1}


def test_a_failed_verification_ends_with_4(ledger: Run, job: Path) -> None:
    job.write_text(RECIPE + '[[steps]]\ndo = "verify"\n')
    ledger("run", "job.toml")
    segment = next(Path("out/job/segments").iterdir())
    data = bytearray(segment.read_bytes())
    data[-20] ^= 1
    segment.chmod(0o644)
    segment.write_bytes(bytes(data))
    job.write_text('[settings]\nregions = "grid:10"\ninterval = 10\n[[steps]]\ndo = "verify"\n')
    told = ledger("run", "job.toml", code=4).err
    assert told.startswith("ledger: job.toml, step 1 (verify) found a difference: ")
    assert segment.name in told


def test_what_a_picture_needs_is_asked_for_before_the_first_step(
    ledger: Run, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.write_text(RECIPE + '[[steps]]\ndo = "gamma"\nout = "gamma.html"\n')
    monkeypatch.setattr(spec, "find_spec", lambda module: None)
    told = ledger("run", "job.toml", code=1).err
    assert told.startswith("ledger: altair is not installed: pip install 'ledger-cli[render]'")
    assert not Path("out").exists()
    ledger("run", "job.toml", "--update")
    assert ledger("run", "job.toml", "--check").out == "job.toml ends as it says: main, trial\n"


def test_json_of_a_check_names_no_ledger(ledger: Run, job: Path) -> None:
    ledger("run", "job.toml", "--update")
    result = json.loads(ledger("run", "job.toml", "--check", "--json").out)
    assert result["ledger"] is None


LAMPS = """\
[types."shop.lamp.v1"]
fields = { hours = "sum", note = "manual" }
constraints = ["hours < 10 OR coalesce(note, '') = 'it''s \\"old\\"'"]

[[steps]]
do = "schema register"
type = "shop.door.v1"
schema = "door.json"
field = { opened = "sum", seen = "max" }

[[steps]]
do = "world apply"
source = "events.jsonl"
allow_quarantine = true

[[steps]]
do = "fork"
name = "other"

[[steps]]
do = "world apply"
source = "main.jsonl"

[[steps]]
do = "world apply"
source = "other.jsonl"
branch = "other"

[[steps]]
do = "reconcile"
a = "main"
b = "other"
into = "both"
out = "conflicts.svg"

[[steps]]
do = "world find"
where = "entity_kind = 'entity'"
limit = 1
branch = "both"
"""


def _event(entity: str, kind: str, second: int, node: str, **payload: Any) -> str:
    reading = f"2026-01-01T00:00:{second:02d}.000000Z-0000-{node}"
    event = {"entityId": entity, "type": f"shop.{kind}.v1", "payload": payload, "hlc": reading}
    return json.dumps({**event, "handshake": {"protocol": "55-45-17"}}) + "\n"


@pytest.fixture
def lamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`jobs/lamps.toml` and its files; the present directory is the one above."""
    monkeypatch.chdir(tmp_path)
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "door.json").write_text('{"properties": {"opened": {"type": "integer"}}}')
    first = [_event("a", "lamp", 1, "here", hours=4), _event("b", "lamp", 2, "here", hours=40)]
    first += [_event("d", "door", 3, "here", opened="often"), _event("d", "door", 4, "here", opened=1, seen=5)]
    (jobs / "events.jsonl").write_text("".join(first))
    (jobs / "main.jsonl").write_text(_event("d", "door", 5, "here", opened=3))
    (jobs / "other.jsonl").write_text(_event("d", "door", 6, "there", opened=2))
    (jobs / "lamps.toml").write_text(LAMPS)
    return jobs / "lamps.toml"


def test_a_recipe_of_a_world_runs_twice_and_can_be_pasted(ledger: Run, lamps: Path) -> None:
    shown = ledger("run", "jobs/lamps.toml").out
    assert "$ ledger world apply jobs/events.jsonl --allow-quarantine --ledger out/lamps\n" in shown
    assert "$ ledger schema register shop.door.v1 --schema jobs/door.json --field opened=sum --field seen=max" in shown
    assert "--into both --out out/lamps/conflicts.svg --ledger out/lamps\nboth " in shown
    assert "refused: constraint_violation       2" in shown
    assert "… and 1 more row" in shown
    picture = Path("out/lamps/conflicts.svg").read_bytes()
    once = ledger("branch", "list", "--json", "--ledger", "out/lamps").json
    result = ledger("run", "jobs/lamps.toml", "--json").json
    assert [each["result"] for each in result["steps"] if each["do"] in ("fork", "reconcile")] == [None, None]
    assert [each["entityId"] for each in result["steps"][-1]["result"]] == ["a"]
    assert isinstance(result["steps"][-1]["result"][0]["state"], dict)
    assert result["branches"]["both"]["quarantined"] == {"constraint_violation": 2}
    assert result["branches"]["both"]["world"] != result["branches"]["main"]["world"]
    assert ledger("branch", "list", "--json", "--ledger", "out/lamps").json == once
    assert Path("out/lamps/conflicts.svg").read_bytes() == picture

    shutil.rmtree("out")
    script = shown.replace("\\\n", "").splitlines()
    for line in (line.removeprefix("$ ") for line in script if line.startswith("$ ")):
        if line.startswith("ledger "):
            ledger(*shlex.split(line)[1:])
        else:
            subprocess.run(line, shell=True, check=True)
    again = ledger("run", "jobs/lamps.toml", "--json").json
    assert again["branches"] == result["branches"]
    assert Path("out/lamps/conflicts.svg").read_bytes() == picture


def test_digests_of_worlds_are_written_and_compared(ledger: Run, lamps: Path) -> None:
    ledger("run", "jobs/lamps.toml", "--update")
    expect = tomllib.loads(lamps.read_text())["expect"]
    assert expect["both"]["quarantined"] == {"constraint_violation": 2}
    assert len({each["world"] for each in expect.values()}) == 3
    ledger("run", "jobs/lamps.toml", "--check")
    events = lamps.parent / "other.jsonl"
    events.write_text(events.read_text().replace('"opened": 2', '"opened": 3'))
    told = ledger("run", "jobs/lamps.toml", "--check", code=4).out.splitlines()
    assert [line.split(":")[0] for line in told] == ["both, world", "other, world"]
    assert f"expected {expect['both']['world']}, found " in told[0]


def test_refused_events_end_with_3_unless_they_may(ledger: Run, lamps: Path) -> None:
    lamps.write_text(LAMPS.replace("allow_quarantine = true\n", ""))
    assert "2 rows went to quarantine" in ledger("run", "jobs/lamps.toml", code=3).err
    assert "2 rows went to quarantine" in ledger("run", "jobs/lamps.toml", code=3).err, "they are still refused"


def test_a_ledger_with_other_types_is_refused(ledger: Run, lamps: Path) -> None:
    ledger("run", "jobs/lamps.toml")
    lamps.write_text(LAMPS.replace("hours < 10", "hours < 11"))
    told = ledger("run", "jobs/lamps.toml", code=2).err
    assert 'out/lamps: its ledger.toml does not have [types."shop.lamp.v1"] as the recipe does' in told
    assert "give another --ledger, or remove out/lamps" in told
    shutil.rmtree("out")
    ledger("init", "out/lamps")
    assert "does not have" in ledger("run", "jobs/lamps.toml", code=2).err


def test_what_a_person_has_to_decide_stops_a_recipe(ledger: Run, lamps: Path) -> None:
    for name, node, second in (("main", "here", 30), ("other", "there", 31)):
        with (lamps.parent / f"{name}.jsonl").open("a") as file:
            file.write(_event("a", "lamp", second, node, note=node))
    told = ledger("run", "jobs/lamps.toml", "--json", code=5).err
    assert "jobs/lamps.toml, step 6 (reconcile): 1 field needs a person's decision: fill in the choices in " in told
    assert told.endswith("reconcile-main-other.json, and name it in the step as resolutions\n")
    asked = json.loads(Path("reconcile-main-other.json").read_text())
    assert (asked["a"], asked["b"], asked["into"]) == ("main", "other", "both")
    asked["conflicts"][0]["choice"] = "a"
    (lamps.parent / "chosen.json").write_text(json.dumps(asked))
    lamps.write_text(LAMPS.replace('into = "both"', 'into = "both"\nresolutions = "chosen.json"'))
    ledger("run", "jobs/lamps.toml")
    found = ledger("world", "get", "a", "--branch", "both", "--ledger", "out/lamps", "--json").json
    assert found["state"]["persistent"]["shop"]["note"] == "here"


def test_without_pictures_a_reconciliation_is_still_made(ledger: Run, lamps: Path, tmp_path: Path) -> None:
    plan = '[[steps]]\ndo = "reconcile"\na = "main"\nb = "other"\ninto = "both"\nplan = true\n'
    lamps.write_text(LAMPS + plan)
    made = load_recipe(str(lamps), {})
    with open_ledger(str(tmp_path / "made"), made) as opened:
        first = opened.run(lamps, pictures=False)
        assert not (tmp_path / "made" / "conflicts.svg").exists()
        assert "both" in first.branches
        again = opened.run(lamps)
        assert (tmp_path / "made" / "conflicts.svg").exists()
    planned = [run.steps[-1].result.to_json() for run in (first, again)]
    assert planned[0] == planned[1]
    assert (planned[0]["into"], planned[0]["outcome"]) == ("both", "merge")


def test_a_program_is_given_the_questions_and_no_file_is_written(lamps: Path, tmp_path: Path) -> None:
    for name, node, second in (("main", "here", 30), ("other", "there", 31)):
        with (lamps.parent / f"{name}.jsonl").open("a") as file:
            file.write(_event("a", "lamp", second, node, note=node))
    where = r"lamps.toml, step 6 \(reconcile\): fields are to be decided"
    with (
        open_ledger(str(tmp_path / "made"), load_recipe(str(lamps), {})) as opened,
        pytest.raises(NeedsDecision, match=where) as told,
    ):
        opened.run(lamps)
    assert [each["field"] for each in told.value.asked["conflicts"]] == ["note"]
    assert not list(tmp_path.glob("reconcile-*.json"))


@pytest.mark.parametrize(("suffix", "code"), [("png", 1), ("svg", 0)])
def test_only_an_svg_of_conflicts_is_drawn_without_the_extra(
    suffix: str, code: int, ledger: Run, lamps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lamps.write_text(LAMPS.replace("conflicts.svg", f"conflicts.{suffix}"))
    monkeypatch.setattr(spec, "find_spec", lambda module: None)
    ledger("run", "jobs/lamps.toml", code=code)
    assert Path("out").exists() == (code == 0)
