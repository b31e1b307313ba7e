"""What is read from outside: sources of ticks, tails, small files; and what is written beside a ledger."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger_cli.errors import LedgerError, NotFound, UsageError
from ledger_cli.ports import Source, Tail, Taken
from ledger_cli.wiring.ledgers import is_directory
from ledger_cli.wiring.resolving import resolve

if TYPE_CHECKING:
    from ledger_cli.core.history import Reached
    from ledger_cli.core.simulation import TickBatch

SOURCE = "ledger_cli.sources.catalog:source_of"
SOURCE_OPTIONS = "ledger_cli.sources.catalog:SourceOptions"
OPEN = "ledger_cli.sources.opening:open_stream"
_BLOCK = 1 << 18
TAIL = "ledger_cli.sources.tail:tail_of"
TAKEN_SOURCE = "ledger_cli.sources.tail:TakenSource"
EXPAND = "ledger_cli.sources.opening:expand"
WRITE_TICKS = "ledger_cli.sources.writers:write_ticks"


def expand(patterns: Sequence[str], format_name: str | None) -> list[str]:
    """The sources that files, globs, directories and URLs name."""
    names: list[str] = resolve(EXPAND)(patterns, format_name)
    return names


def make_source(name: str, **options: Any) -> Source:
    """The source of a name; options as in `sources.catalog.SourceOptions`."""
    source: Source = resolve(SOURCE)(name, resolve(SOURCE_OPTIONS)(**options))
    return source


def make_tail(name: str, reached: Reached | None) -> Tail:
    """What follows a file that grows, a FIFO or `-`. `reached`: how far it was read already."""
    tail: Tail = resolve(TAIL)(name, reached)
    return tail


def taken_source(name: str, taken: Taken) -> Source:
    """Lines that a tail gave, as a source of ticks."""
    source: Source = resolve(TAKEN_SOURCE)(name, taken)
    return source


def open_lines(name: str) -> Iterator[bytes]:
    """The lines of a file, URL or `-`, unpacked. SourceError where it cannot be read."""
    with closing(resolve(OPEN)(name)) as stream:
        rest = b""
        while block := stream.read(_BLOCK):
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
        if rest:
            yield rest


def read_json_file(path: str) -> Any:
    """The value of a small JSON file. NotFound where there is none, UsageError where it is no JSON."""
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deeply: hundreds of levels can be read, not thousands") from error


def read_json_object(path: str) -> dict[str, Any]:
    """The same of a JSON object."""
    value = read_json_file(path)
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object, written as {{…}}: correct it")
    return value


def read_lines(path: str) -> list[str]:
    """The lines of a small text file or URL. NotFound where there is none."""
    return _text(path).splitlines()


def _text(path: str) -> str:
    try:
        if not is_directory(path):
            return b"\n".join(open_lines(path)).decode()
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file. Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from error


def write_new_json(name: str, value: Any) -> str:
    """Write JSON into a file that is not there yet, numbered where one is; its name. LedgerError where it cannot be."""
    path, number = Path(name), 1
    while True:
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
            return str(path)
        except FileExistsError:
            number += 1
            path = Path(name).with_suffix(f".{number}.json")
        except OSError as error:
            raise LedgerError(f"{path} cannot be written ({error.strerror}): go to another directory") from error


def write_ticks(batches: Iterable[TickBatch], target: str, format_name: str | None) -> int:
    """Write batches of ticks in any format that can be ingested; the number of rows."""
    rows: int = resolve(WRITE_TICKS)(batches, target, format_name)
    return rows
