"""Recipes are strict: what is wrong is named, with its place; what is right arrives as it is used."""

from __future__ import annotations

from typing import Any

import pytest

from ledger_cli.core.commit import commit_id_of
from ledger_cli.errors import UsageError
from ledger_cli.services.recipe import read_recipe
from ledger_cli.services.recipe_expect import Facts, differences

STEP = '[[steps]]\ndo = "commit"\n'
ID = commit_id_of("a" * 64)
OTHER = commit_id_of("b" * 64)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("about = ", "r.toml is not TOML"),
        ("", "has no [[steps]]"),
        ("steps = []", "has no [[steps]]"),
        ('abuot = "x"\n' + STEP, "unknown key 'abuot'; it may have about"),
        ("about = 1\n" + STEP, "about must be text"),
        ("parameters = 1\n" + STEP, "as a table [parameters.NAME]"),
        ("[parameters.a]\n" + STEP, "[parameters.a]: needs a help text"),
        ('[parameters."a b"]\nhelp = "x"\n' + STEP, "a name is made of letters"),
        ('[parameters.a]\nhelp = "x"\ndefualt = 1\n' + STEP, "unknown key 'defualt'"),
        ('[parameters.a]\nhelp = "x"\ndefault = []\n' + STEP, "default must be text, a number"),
        ('[parameters.a]\nhelp = "x"\npath = true\ndefault = 1\n' + STEP, "the default of a path is text"),
        ('[parameters.a]\nhelp = "A file"\nget = "Buy it."\n' + STEP, "needs --set a=…: A file. Buy it."),
        ("[settings]\nregoins = 1\n" + STEP, "[settings]: unknown key 'regoins'"),
        ("[settings]\nshards = 'two'\n" + STEP, "[settings]: shards = 'two' must be a whole number"),
        ("[settings]\nregions = 'hexagon:1'\n" + STEP, "[settings]: regions 'hexagon:1'"),
        ("[settings]\nregions = '${cell}'\n" + STEP, "[settings]: ${cell} is no parameter of the recipe; it has none"),
        ("[[steps]]\nsay = 'x'", "step 1: do must be one of ingest, commit"),
        ("[[steps]]\ndo = 'push'", "step 1: do must be one of ingest, commit"),
        (STEP + "finla = true", "step 1 (commit): unknown key 'finla'; it may have do, say, final"),
        (STEP + "final = 'yes'", "step 1 (commit): final = 'yes' must be true or false"),
        (STEP + "policy = { intervall = 1 }", "must be a table of layer, regions"),
        (STEP + "say = 1", "say must be text"),
        (STEP + "[[steps]]\ndo = 'ingest'", "step 2 (ingest): sources is missing"),
        ("[[steps]]\ndo = 'ingest'\nsources = []", "sources = [] must be text, or a list of texts"),
        ("[[steps]]\ndo = 'ingest'\nsources = 'a'\nmap = { tick = 'x' }", "a table of SQL by field (entityId"),
        ("[[steps]]\ndo = 'ingest'\nsources = 'a'\nmap = { x = 'x' }\nsql = 'y'", "map and sql exclude each other"),
        ("[[steps]]\ndo = 'replay'\nfork = 'f'\nto = 3", "to goes with a replay that verifies"),
        ("[[steps]]\ndo = 'replay'\npolicy = { shards = 2 }", "policy goes with a replay that makes a branch"),
        ("[[steps]]\ndo = 'replay'\nfrom = 'baseline'", "must be a tick where a replay verifies"),
        ("[[steps]]\ndo = 'gamma'\nout = '../x.png'", "must be the name of a file that ends in .csv"),
        ("[[steps]]\ndo = 'gamma'\nout = 'x.gif'", "must be the name of a file that ends in .csv"),
        (STEP + "[expect]\nmain = 1", "[expect.main]: must be a table"),
        (STEP + "[expect.main]\nrow = 1", "[expect.main]: unknown key 'row'"),
        (STEP + "[expect.main]\nrows = '1'", "rows must be a whole number"),
        (STEP + "[expect.main]\nheads = { 0 = 'abc' }", "heads are whole commit ids by shard, not 0 = 'abc'"),
        (STEP + "[expect.main]\nheads = { x = '" + ID + "' }", "heads are whole commit ids by shard"),
        (STEP + "[expect.main]\nquarantined = { bad = 1 }", "counts rows by reason code, not bad = 1"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_recipe(text, "r.toml")
    assert told in str(raised.value)
    assert str(raised.value).startswith("r.toml")


PARAMETERS = """
[parameters.cell]
help = "size"
default = 10
[parameters.share]
help = "share"
default = 0.5
[parameters.last]
help = "whether"
default = true
[parameters.name]
help = "of a branch"
default = "trial"
[settings]
regions = "grid:${cell}"
interval = "${cell}"
[[steps]]
do = "commit"
final = "${last}"
branch = "${name}-${cell}"
policy = { max_mean = "${share}" }
"""


def test_parameters_stand_for_their_values_and_keep_their_types() -> None:
    recipe = read_recipe(PARAMETERS, "r.toml")
    assert recipe.settings == {"regions": "grid:10", "interval": 10}
    assert recipe.steps[0].arguments == {"final": True, "branch": "trial-10", "policy": {"max_mean": 0.5}}
    given = {"cell": "25", "share": "2", "last": "False", "name": "x"}
    changed = read_recipe(PARAMETERS, "r.toml", given)
    assert changed.settings == {"regions": "grid:25", "interval": 25}
    assert changed.steps[0].arguments == {"final": False, "branch": "x-25", "policy": {"max_mean": 2.0}}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sell": "1"}, "--set sell=…: r.toml has no such parameter; it has cell, share, last, name"),
        ({"cell": "1.5"}, "--set cell=1.5: must be like 10"),
        ({"last": "perhaps"}, "--set last=perhaps: must be like True"),
    ],
)
def test_a_wrong_value_is_named(given: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_recipe(PARAMETERS, "r.toml", given)
    assert str(raised.value) == told


PATHS = """
[parameters.source]
help = "rows"
path = true
default = "data/rows.csv"
[[steps]]
do = "ingest"
sources = ["${source}", "more.csv", "s3://bucket/rows.csv", "-", "/data/rows.csv"]
"""


def test_paths_are_those_of_the_recipe_and_given_ones_of_the_caller() -> None:
    recipe = read_recipe(PATHS, "r.toml", directory="jobs/daily", here="/home/ann")
    rest = ["jobs/daily/more.csv", "s3://bucket/rows.csv", "-", "/data/rows.csv"]
    assert recipe.steps[0].arguments["sources"] == ["jobs/daily/data/rows.csv", *rest]
    assert [path for _, path in recipe.files] == ["jobs/daily/data/rows.csv"]
    given = read_recipe(PATHS, "r.toml", {"source": "../x.csv"}, "jobs/daily", "/home/ann")
    assert given.steps[0].arguments["sources"] == ["/home/x.csv", *rest]
    assert [path for _, path in given.files] == ["/home/x.csv"]
    remote = read_recipe(PATHS, "r.toml", {"source": "https://example.org/x.csv"}, "jobs", "/home/ann")
    assert remote.steps[0].arguments["sources"][0] == "https://example.org/x.csv"
    assert not remote.files


def test_a_place_may_be_a_tick_and_text_is_text() -> None:
    text = "[[steps]]\ndo = 'fork'\nname = 'f'\nfrom = 30\n[[steps]]\ndo = 'ingest'\nsources = 'a.csv'\ncolumns = 'x'"
    fork, ingest = read_recipe(text, "r.toml").steps
    assert fork.arguments["from"] == "30"
    assert ingest.arguments["columns"] == ["x"]
    assert (fork.number, ingest.number) == (1, 2)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Facts(), []),
        (Facts(rows=5, commits=2, quarantined={"broken_json": 1}, heads={"0": ID, "10": ID}), []),
        (Facts(rows=6, commits=1), ["main, commits: expected 1, found 2", "main, rows: expected 6, found 5"]),
        (Facts(quarantined={}), ["main, quarantined as broken_json: expected 0, found 1"]),
        (Facts(heads={"0": ID}), [f"main, head of shard 10: expected none, found {ID}"]),
        (
            Facts(heads={"0": OTHER, "2": ID, "10": ID}),
            [
                f"main, head of shard 0: expected {OTHER}, found {ID}",
                f"main, head of shard 2: expected {ID}, found none",
            ],
        ),
    ],
)
def test_differences_are_one_line_each_and_silence_is_not_compared(said: Facts, told: list[str]) -> None:
    found = {"main": Facts(5, 2, {"broken_json": 1}, {"0": ID, "10": ID}), "other": Facts(1, 1, {}, {})}
    assert [str(each) for each in differences({"main": said}, found)] == told


def test_a_missing_branch_is_a_difference() -> None:
    made = differences({"trial": Facts(rows=1)}, {})
    as_json: list[dict[str, Any]] = [each.to_json() for each in made]
    assert as_json == [{"branch": "trial", "what": "branch", "expected": "there", "found": None}]
