"""The README and its pages show what the program does: sessions are run, tables made anew, links followed.

`LEDGER_UPDATE_SNAPSHOTS=1 pytest tests/docs` writes new output, tables and the picture into place.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger_cli.api import Ledger
from ledger_cli.cli.main import COMMANDS
from ledger_cli.core.world import PROTOCOL
from tests.docs import readme
from tests.docs.readme import PAGES, README, ROOT

UPDATE = os.environ.get("LEDGER_UPDATE_SNAPSHOTS") == "1"
PICTURE = ROOT / "docs" / "gamma.svg"
PICTURE_BYTES_MAX = 150_000
DOCUMENTS = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")


@dataclass(frozen=True)
class Played:
    """The folder where all console blocks of the pages were run, and what they printed."""

    folder: Path
    made: list[list[readme.Call]]


def whole() -> str:
    """The text of all pages."""
    return "".join(page.read_text() for page in PAGES)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("readme")
    for name in ("recipes", "fixtures"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    made = readme.rerun(readme.blocks(whole()), folder, readme.command_environment(folder, os.environ))
    if UPDATE:
        left = iter(made)
        for page in PAGES:
            page.write_text(readme.with_outputs(page.read_text(), left))
        shutil.copy(folder / PICTURE.name, PICTURE)
    return Played(folder, made)


def test_every_command_prints_what_is_shown(played: Played) -> None:
    shown = readme.blocks(whole())
    assert sum(map(len, shown)) > 20
    for calls, made in zip(shown, played.made, strict=True):
        for call, again in zip(calls, made, strict=True):
            assert readme.comparable(again.text) == readme.comparable(call.text)


def test_the_python_sessions_run(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(played.folder)
    monkeypatch.delenv("LEDGER_URL", raising=False)
    sessions = readme.python_blocks(whole())
    assert sessions
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for number, session in enumerate(sessions):
        told: list[str] = []
        runner.run(parser.get_doctest(session, {}, f"session {number}", "README.md", 0), out=told.append)
        assert not told, "".join(told)


def test_tables(tmp_path: Path) -> None:
    made = {name: make() for name, make in readme.TABLES.items()}
    with Ledger.create(tmp_path / "world") as ledger:
        made["views"] = readme.views(ledger)
    if UPDATE:
        for page in PAGES:
            page.write_text(readme.with_tables(page.read_text(), made))
    shown = readme.tables(whole())
    assert shown.keys() == made.keys()
    for name, text in made.items():
        assert shown[name] == text, f"table {name}: LEDGER_UPDATE_SNAPSHOTS=1 pytest tests/docs"


def test_the_picture_is_what_the_session_makes(played: Played) -> None:
    """Cells with their numbers, outlines and colours. The rest is text, and where it stands depends on fonts."""
    shown = PICTURE.read_text(encoding="utf-8")
    assert PICTURE.stat().st_size < PICTURE_BYTES_MAX
    assert _cells(shown) == _cells((played.folder / PICTURE.name).read_text(encoding="utf-8"))
    assert f"docs/{PICTURE.name}" in README.read_text()


def _cells(svg: str) -> list[tuple[str, str, str]]:
    found = re.findall(r'<path aria-label="([^"]*)"[^>]* d="([^"]*)"[^>]* fill="([^"]*)"', svg)
    assert found
    return found


def test_every_command_is_mentioned() -> None:
    text = whole()
    assert [name for name in COMMANDS if not re.search(rf"ledger {name}\b", text)] == []


def test_the_layout_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_ENTITY_REFS", "1")
    with Ledger.create(tmp_path, interval=1) as ledger:
        ledger.ingest(ROOT / "fixtures" / "bad.jsonl", ROOT / "fixtures" / "ticks.parquet", max_tick_jump=1000)
        ledger.commit(final=True)
        ledger.world.register("building.opened.v1")
        event = {"entityId": "door-7", "type": "building.opened.v1", "payload": {}, "handshake": {"protocol": PROTOCOL}}
        ledger.world.apply([json.dumps(event)])
        ledger.world.apply([json.dumps({**event, "payload": {"open": True}})])
        ledger.compact()
        ledger.snapshots.create()
        ledger.archive(10)
        ledger.to_arrow("commit_entries")
    tree = re.search(r"^```\nworld/\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert tree is not None
    shown = {line.split()[1].split("/")[0] for line in tree[1].splitlines()}
    assert shown == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_anchors(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        assert not path or (document.parent / path).exists(), target
        if anchor:
            headings = (document.parent / path if path else document).read_text()
            assert anchor in {_anchor(heading) for heading in re.findall(r"^#+ (.*)$", headings, re.MULTILINE)}, target


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)`|^make (\w+)", document.read_text(), re.MULTILINE)) <= {
        pair for target in targets for pair in ((target, ""), ("", target))
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_nothing_of_one_machine(document: Path) -> None:
    text = document.read_text()
    assert not re.search(r"(?<![\w.$])/(home|root|tmp|work|Users|var)/", text)
    assert set(re.findall(r"\b\w+@\w+", text)) <= {"you@host"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_documents_exist(document: Path) -> None:
    named = re.findall(r"`((?:tests|recipes|fixtures|ledger_cli|docs)/[\w./-]*)`", document.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_suffixes_without_a_format() -> None:
    text = README.read_text()
    assert all(f"`{suffix}`" in text for suffix in readme.UNNAMED)
