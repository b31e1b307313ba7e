"""What a name says about its content: format and compression."""

from __future__ import annotations

from ledger_cli.errors import UsageError

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "arrow", "kcat", "kafka-console")
STDIN = "-"
TEXT_SUFFIXES = (".txt", ".log", ".dat")
"""Names that say nothing of their format: taken from a directory only where a format is given."""

_FORMAT_OF = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_COMPRESSION_OF = {".gz": "gzip", ".zst": "zstd"}
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PAR1": "Parquet",
    b"PARE": "Parquet",
    b"ARROW1": "Arrow",
    b"PK\x03\x04": "zip",
    b"SQLite format 3": "SQLite",
}

DATA_SUFFIXES = tuple(_FORMAT_OF)


def is_url(name: str) -> bool:
    """Whether a name is for fsspec: `protocol://…`, also chained with `::`."""
    return "://" in name


def compression_of(name: str) -> str | None:
    """`gzip` or `zstd` where the name says so."""
    return _COMPRESSION_OF.get(suffix_of(name))


def suffix_of(name: str) -> str:
    """The last suffix of a name, in lower case, without a URL's query."""
    base = _path_of(name).rsplit("/", 1)[-1].lower()
    dot = base.rfind(".")
    return base[dot:] if dot >= 0 else ""


def data_suffix_of(name: str) -> str:
    """The suffix before `.gz` or `.zst`."""
    suffix = suffix_of(name)
    if suffix not in _COMPRESSION_OF:
        return suffix
    return suffix_of(_path_of(name)[: -len(suffix)])


def format_of(name: str) -> str | None:
    """The format a name stands for, if it says one."""
    return _FORMAT_OF.get(data_suffix_of(name))


def check_format(format_name: str) -> str:
    """The format itself. UsageError where there is no such format."""
    if format_name not in FORMATS:
        raise UsageError(f'Unknown format "{format_name}": use one of {", ".join(FORMATS)}.')
    return format_name


def magic_of(head: bytes) -> str | None:
    """Which binary format begins like this."""
    return next((found for magic, found in _MAGIC.items() if head.startswith(magic)), None)


def _path_of(name: str) -> str:
    """A URL's path: of a chain its first link, without query and fragment (web addresses alone have them)."""
    first = name.split("::", 1)[0] if is_url(name) else name
    if first.startswith(("http://", "https://")):
        return first.split("#", 1)[0].split("?", 1)[0]
    return first
