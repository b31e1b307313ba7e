"""Chooses the source for a name: the one place that knows which class reads which format."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from ledger_cli.errors import UsageError
from ledger_cli.ports import Source
from ledger_cli.sources.common.names import FORMATS, STDIN, check_format, format_of
from ledger_cli.sources.common.streams import ByteStream, open_stream
from ledger_cli.sources.common.text import BOM

_ADAPTERS = {
    "jsonl": "lines:LineSource",
    "kcat": "lines:LineSource",
    "kafka-console": "lines:LineSource",
    "json": "json_array:JsonArraySource",
    "csv": "csv:CsvSource",
    "tsv": "csv:CsvSource",
    "parquet": "tabular:ParquetSource",
    "arrow": "tabular:ArrowSource",
}
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_KCAT_KEYS = tuple(re.compile(rb'"' + key + rb'"\s*:') for key in (b"topic", b"partition", b"offset", b"payload"))


@dataclass(frozen=True)
class SourceOptions:
    """What the user says about the sources. The last three are for CSV and TSV alone."""

    format: str | None = None
    delimiter: str | None = None
    comment: str | None = None
    columns: tuple[str, ...] | None = None


def source_of(name: str, options: SourceOptions) -> Source:
    """The source that reads `name`; its first bytes are looked at where the name leaves the format open.

    UsageError where the format cannot be told, and what opening raises where the beginning is looked at.
    """
    stream = open_stream(name)
    return _adapted(_format_of(stream, options.format), stream, options)


def _format_of(stream: ByteStream, given: str | None) -> str:
    named = check_format(given) if given is not None else format_of(stream.name)
    if named is None and stream.name != STDIN:
        raise UsageError(f"{stream.name}: its name does not tell the format: give --format {'|'.join(FORMATS)}.")
    if named == "json" or (given is None and named in (None, "jsonl")):
        return _format_seen(stream.head(), named)
    return cast(str, named)


def _format_seen(head: bytes, named: str | None) -> str:
    """JSON Lines may be called `.json`, an array or a kcat dump `.jsonl`; standard input says nothing."""
    first = head.removeprefix(BOM).lstrip()
    if first[:1] == b"{":
        line = first.split(b"\n", 1)[0]
        return "kcat" if all(key.search(line) for key in _KCAT_KEYS) else "jsonl"
    if named is None and first and first[:1] != b"[":
        known = "|".join(FORMATS)
        raise UsageError(f"standard input begins with neither {{ nor [, so it is no JSON: give --format {known}.")
    if named == "jsonl" and _is_array_of_objects(first):
        return "json"
    return named or ("json" if first else "jsonl")


def _is_array_of_objects(first: bytes) -> bool:
    """Whether text is the beginning of an array of objects, and not a broken line before others."""
    line, _, more = first.partition(b"\n")
    elements = first[1:].lstrip()
    if first[:1] != b"[" or elements[:1] != b"{" or (line.rstrip().endswith(b"]") and more.strip()):
        return False
    text = elements.decode(errors="replace")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):  # longer than what is looked at, or refused as an element
        return True
    return text[end:].lstrip()[:1] in ("", ",", "]")


def _adapted(chosen: str, stream: ByteStream, options: SourceOptions) -> Source:
    module, _, class_name = _ADAPTERS[chosen].partition(":")
    adapter = getattr(import_module(f"ledger_cli.sources.{module}"), class_name)
    settings: dict[str, Any] = {}
    if chosen in ("kcat", "kafka-console"):
        settings = {"envelope": chosen}
    elif chosen in _DELIMITERS:
        delimiter = options.delimiter or _DELIMITERS[chosen]
        settings = {"delimiter": delimiter, "comment": options.comment, "columns": options.columns}
    return cast(Source, adapter(stream, **settings))
