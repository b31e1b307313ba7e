"""`ledger run`: plain, --check, --update, and what it says when something is missing."""

from __future__ import annotations

import json
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

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
    assert "there already" in again


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
    assert set(result["branches"]["trial"]) == {"rows", "commits", "quarantined", "heads"}
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
