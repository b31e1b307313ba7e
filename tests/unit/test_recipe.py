"""Recipes are strict: what is wrong is named, with its place; what is right arrives as it is used."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.config.file import load, template
from ledger_cli.config.types import CONSISTENCIES, TypeSettings
from ledger_cli.core.commit import commit_id_of
from ledger_cli.errors import UsageError
from ledger_cli.services.recipe import read_recipe
from ledger_cli.services.recipe_expect import Facts, differences

STEP = '[[steps]]\ndo = "commit"\n'
REGISTER = "[[steps]]\ndo = 'schema register'\ntype = 'shop.lamp.v1'\n"
RECONCILE = "[[steps]]\ndo = 'reconcile'\na = 'main'\nb = 'other'\n"
LAMP = '[types."shop.lamp.v1"]\n'
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
        ("[[steps]]\ndo = 'world'", "do must be one of ingest, commit"),
        ("[[steps]]\ndo = 'comit'", "not 'comit' (did you mean commit?)"),
        ("[[steps]]\ndo = 'gamma'\nout = 'g.html'\ntop = 3", "step 1 (gamma): what out writes has all regions"),
        ("[[steps]]\ndo = 'world apply'", "step 1 (world apply): source is missing: the name of a file"),
        ("[[steps]]\ndo = 'world find'\nmodule = 'x'", "may have do, say, where, limit, at, branch"),
        ("[[steps]]\ndo = 'schema register'", "step 1 (schema register): type is missing"),
        (REGISTER + "field = { n = 'total' }", "must be a table of rules by field (lww, max"),
        (REGISTER + "field = {}", "must be a table of rules by field"),
        ("[[steps]]\ndo = 'reconcile'\na = 'main'", "step 1 (reconcile): b is missing: the name of a branch"),
        ("[[steps]]\ndo = 'reconcile'\na = 'main'\nb = '../other'", "b = '../other' must be the name of a branch"),
        (RECONCILE + "out = 'x.csv'", "out = 'x.csv' must be the name of a file that ends in .svg, .png"),
        (RECONCILE + "out = 'a/x.svg'", "must be the name of a file that ends in .svg, .png"),
        ("types = 1\n" + STEP, "takes schema, reducer, fields"),
        ("[types.shop.lamp.v1]\n" + STEP, "and its name stands in quotes"),
        ("[types.lamp]\n" + STEP, "[types.\"lamp\"]: 'lamp' is no type of events"),
        (LAMP + "fields = { n = 'total' }\n" + STEP, "cannot have the rule 'total'"),
        (LAMP + "constraints = 'n < 1'\n" + STEP, "must be a list of SQL in quotes"),
        (LAMP + "constraints = ['n < ${most}']\n" + STEP, "${most} is no parameter of the recipe"),
        (LAMP + "schema = 'lamp.json'\n" + STEP, 'give its schema in a step: do = "schema register"'),
        (STEP + "[expect.main]\nworld = 'abc'", "world is the digest of a state, 64 digits, not 'abc'"),
        (STEP + "[expect]\nmain = 1", "[expect.main]: must be a table"),
        (STEP + "[expect.main]\nrow = 1", "[expect.main]: unknown key 'row'"),
        (STEP + "[expect.main]\nrows = '1'", "rows must be a whole number"),
        (STEP + "[expect.main]\nheads = { 0 = 'abc' }", "heads are whole commit ids by shard, not 0 = 'abc'"),
        (STEP + "[expect.main]\nheads = { x = '" + ID + "' }", "heads are whole commit ids by shard"),
        (STEP + "[expect.main]\nquarantined = { bad = 1 }", "counts rows by reason code, not bad = 1"),
        (STEP + "[expect.main]\nquarantined = { causal_gap = 1, bad = 1 }", "counts rows by reason code, not bad = 1"),
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


def test_files_of_a_world_are_those_of_the_recipe() -> None:
    text = REGISTER + "schema = 'lamp.json'\nupcast = 'up.json'\n" + RECONCILE + "resolutions = 'chosen.json'\n"
    steps = read_recipe(text + "[[steps]]\ndo = 'world apply'\nsource = '-'", "r.toml", directory="jobs").steps
    assert [steps[0].arguments[name] for name in ("schema", "upcast")] == ["jobs/lamp.json", "jobs/up.json"]
    assert steps[1].arguments["resolutions"] == "jobs/chosen.json"
    assert steps[2].arguments["source"] == "-"


def test_parameters_stand_in_types_too() -> None:
    text = (
        PARAMETERS + LAMP + "constraints = ['cell < ${cell}']\nupcast = { default = { wide = true, n = ['${name}'] } }"
    )
    (settings,) = read_recipe(text, "r.toml").types.values()
    assert settings.constraints == ("cell < 10",)
    assert settings.upcast == {"default": {"wide": True, "n": ["trial"]}}


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.recursive(
    TEXTS | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(
    fields=st.none() | st.dictionaries(TEXTS, st.sampled_from(["sum", "lww"]), max_size=3),
    upcast=st.none() | st.dictionaries(st.sampled_from(["rename", "default"]), VALUES, max_size=2),
    constraints=st.lists(TEXTS, max_size=3).map(tuple),
    consistency=st.sampled_from(CONSISTENCIES),
)
def test_types_are_written_into_ledger_toml_as_they_are(
    fields: Any, upcast: Any, constraints: Any, consistency: str
) -> None:
    settings = TypeSettings(None, "replace", fields, upcast, constraints, consistency)
    assert load(template({"interval": 7}, {"shop.lamp.v1": settings}), {}).types == {"shop.lamp.v1": settings}


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
        (Facts(world="0" * 64), [f"main, world: expected {'0' * 64}, found {'1' * 64}"]),
        (Facts(world="1" * 64), []),
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
    found = {"main": Facts(5, 2, {"broken_json": 1}, {"0": ID, "10": ID}, "1" * 64), "other": Facts(1, 1, {}, {})}
    assert [str(each) for each in differences({"main": said}, found)] == told


def test_a_missing_branch_is_a_difference() -> None:
    made = differences({"trial": Facts(rows=1)}, {})
    as_json: list[dict[str, Any]] = [each.to_json() for each in made]
    assert as_json == [{"branch": "trial", "what": "branch", "expected": "there", "found": None}]
