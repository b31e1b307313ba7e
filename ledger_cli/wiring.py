"""The only place that names concrete adapters: URL scheme or format -> import path."""

from __future__ import annotations

import getpass
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ledger_cli.config.file import Config, load
from ledger_cli.config.settings import FILE_NAME
from ledger_cli.errors import LedgerError, MissingExtra, NotFound, UsageError
from ledger_cli.ports import Bus, Capabilities, CommitStore, Engine, Importer, Source, Store, Tail, Taken, Vault
from ledger_cli.services.repository import Author, Repository

if TYPE_CHECKING:
    from threading import Event

    import polars
    import pyarrow as pa

    from ledger_cli.core.history import Reached
    from ledger_cli.core.simulation import TickBatch
    from ledger_cli.services.archived_store import ArchivedStore

_Found = TypeVar("_Found")

STORES = {
    "": "ledger_cli.stores.directory:DirectoryStore",
    "file": "ledger_cli.stores.directory:DirectoryStore",
    "local": "ledger_cli.stores.directory:DirectoryStore",
}
"""What keeps a ledger's files in a directory, by URL scheme; a plain path has none."""
OBJECTS = "ledger_cli.stores.objects:ObjectStore"
"""What keeps them at any other URL."""
COMMIT_STORES: dict[str, str] = {
    "cassandra": "ledger_cli.stores.cassandra:CassandraStore",
    "clickhouse": "ledger_cli.stores.clickhouse:ClickhouseStore",
    "clickhouse+chdb": "ledger_cli.stores.clickhouse:ClickhouseStore",
    "duckdb": "ledger_cli.stores.duckdb:DuckdbStore",
    "postgresql": "ledger_cli.stores.postgresql:PostgresqlStore",
    "rocksdb": "ledger_cli.stores.rocksdb:RocksStore",
    "sqlite": "ledger_cli.stores.sqlite:SqliteStore",
}
"""What else can keep a ledger's commits and refs, by URL scheme."""

BUSES = {
    "": "ledger_cli.buses.file:FileBus",
    "file": "ledger_cli.buses.file:FileBus",
    "http": "ledger_cli.buses.http:HttpBus",
    "https": "ledger_cli.buses.http:HttpBus",
}
"""What takes the events of a world, by URL scheme; a plain path has none."""

CACHE = "cache"
"""The directory of copies, in that of the ledger: of batches of engines, of what is in packs, of what is archived."""
FILE_CACHE = "ledger_cli.stores.common.cache:FileCache"
ARCHIVED_STORE = "ledger_cli.services.archived_store:ArchivedStore"
JOINED = "ledger_cli.stores.joined:JoinedStore"
PACKED = "ledger_cli.services.packs:PackedStore"
PARQUET_COMMITS = "ledger_cli.stores.common.parquet_commits:ParquetCommits"
VAULT = "ledger_cli.stores.places:PlacesVault"
ENGINE = "ledger_cli.engines.duck:DuckEngine"
SOURCE = "ledger_cli.sources.catalog:source_of"
SOURCE_OPTIONS = "ledger_cli.sources.catalog:SourceOptions"
OPEN = "ledger_cli.sources.opening:open_stream"
TAIL = "ledger_cli.sources.tail:tail_of"
TAKEN_SOURCE = "ledger_cli.sources.tail:TakenSource"
_BLOCK = 1 << 18
_POLL_SECONDS = 0.05
_LOOK_SECONDS = 0.2
EXPAND = "ledger_cli.sources.opening:expand"
WRITE_TICKS = "ledger_cli.sources.writers:write_ticks"
PAGE = ".html"
GAMMA_FILES = {
    ".csv": "ledger_cli.render.files:write_csv",
    ".parquet": "ledger_cli.render.files:write_parquet",
    ".png": "ledger_cli.render.gamma:write_png",
    ".svg": "ledger_cli.render.gamma:write_svg",
    PAGE: "ledger_cli.render.gamma:write_html",
}
"""What writes gamma, by the suffix of the file."""
PICTURES = (".png", ".svg", PAGE)
CHECK_DRAWING = "ledger_cli.render.gamma.spec:check_installed"

GRAPH_FORMATS = "ledger_cli.render.relations:FORMATS"
WRITE_GRAPH = "ledger_cli.render.relations:write"
PLAN_FILES = {
    ".png": "ledger_cli.render.conflicts:write_png",
    ".svg": "ledger_cli.render.conflicts:write_svg",
}
"""What draws the conflicts of a reconciliation, by the suffix of the file."""

GUARDIAN_SECONDS = 10
WHOLE_FILE = "ledger_cli.render.files:whole_file"
CHECK_DIRECTORY = "ledger_cli.render.files:check_directory"
IMPORTER = "ledger_cli.engines.importer:DuckImporter"


def resolve(path: str) -> Any:
    """The object that `module:name` stands for, imported now."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def locate(location: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Where the ledger is: as given, else `LEDGER_URL`, else the nearest parent with a `ledger.toml`."""
    given = location or environment.get("LEDGER_URL")
    if given:
        return given
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / FILE_NAME).is_file():
            return str(directory)
    raise NotFound(f"no {FILE_NAME} here or above: make a ledger with `ledger init DIR`, or name one with --ledger")


def location_of(given: str) -> str:
    """Where a ledger is: the path of a directory, or the URL of a folder elsewhere. UsageError for a store of commits.

    Whether a ledger can be there is found out when it is opened.
    """
    scheme, separator, rest = given.partition("://")
    if not separator:
        return str(Path(given))
    if scheme in STORES:
        return str(Path(rest))
    if scheme in COMMIT_STORES:
        raise UsageError(f"{scheme}:// keeps the commits of a ledger, not its files: give a directory, or s3://…")
    return given.rstrip("/")


def is_directory(location: str) -> bool:
    """Whether a location is a directory of this machine, and no URL."""
    return "://" not in location


def absolute(location: str) -> str:
    """The one name of a place: two locations are the same ledger where these are."""
    return str(Path(location).resolve()) if is_directory(location) else location.rstrip("/")


def beside(named: str, location: str) -> str:
    """Where something is that a ledger names: a path is taken from where the ledger is."""
    if "://" in named or os.path.isabs(named):
        return named
    scheme, separator, rest = location.rpartition("://")
    return scheme + separator + os.path.normpath(f"{rest}/{named}")


def read_config(location: str, environment: Mapping[str, str] = os.environ) -> Config:
    """The settings of a ledger. NotFound where there is none."""
    try:
        text = _read_beside(location, FILE_NAME).decode()
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = NotFound(f"{location} is no ledger (no {FILE_NAME}): make one with `ledger init {location}`")
        missing.ledger = location
        raise missing from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{beside(FILE_NAME, location)} cannot be read: {error}") from error
    return load(text, environment)


def make_commit_store(url: str, directory: Path) -> CommitStore:
    """What keeps commits and refs. `url`: "" for files of the ledger; a relative path in it is from `directory`.

    UsageError for a scheme that has no store, MissingExtra where its client is not installed.
    """
    scheme = url.partition("://")[0]
    if not url:
        here: CommitStore = resolve(STORES[""])(directory)
        return here
    if scheme not in COMMIT_STORES:
        raise UsageError(f"no store for {scheme}://: choose one of {', '.join(COMMIT_STORES)} (see `ledger stores`)")
    made: CommitStore = resolve(COMMIT_STORES[scheme])(url, directory)
    return made


def make_store(location: str, url: str, open_files: ExitStack, config: Config | None = None) -> ArchivedStore:
    """The store of a ledger, with its archives. `url`: of the engine that keeps its commits and refs, "" for none."""
    known = config or load("", os.environ)
    here = is_directory(location)
    files: Store = resolve(STORES[""])(Path(location)) if here else _objects(location, open_files, known)
    # A directory may be moved, and have several names.
    name, root = ("", Path(location) / CACHE) if here else (location, _cache_directory(known))
    cache = resolve(FILE_CACHE)(name, root, known.cache_size)
    open_files.callback(cache.close)
    if url:
        engine = make_commit_store(url, Path(location) if here else Path())
        open_files.callback(engine.close)
        engine.create()
        packed: Store = resolve(PACKED)(resolve(JOINED)(files, engine, cache, now), cache)
    else:
        packed = resolve(PACKED)(files, cache, resolve(PARQUET_COMMITS))
        open_files.callback(packed.commits.close)
    vault: Vault = resolve(VAULT)(location, known["archive_key"], os.environ)
    made: ArchivedStore = resolve(ARCHIVED_STORE)(packed, vault, cache)
    return made


def archives_of(repository: Repository) -> ArchivedStore:
    """The store of a ledger that `make_repository` made, as one that knows of archives."""
    return cast("ArchivedStore", repository.store)


def _objects(location: str, open_files: ExitStack, config: Config | None = None) -> Any:
    """The objects of a ledger at a URL. `config`: None before it is read, where nothing is copied yet."""
    known = config or load("", os.environ)
    store = resolve(OBJECTS)(location, _cache_directory(known), known.cache_size)
    open_files.callback(store.close)
    return store


def _cache_directory(config: Config) -> Path:
    """Where the local copies of files are that a ledger has elsewhere."""
    if config["cache"] is not None:
        return Path(config["cache"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ledger"


def _read_beside(location: str, file: str) -> bytes:
    """A small file beside those of the store. FileNotFoundError where there is none."""
    if is_directory(location):
        return Path(location, file).read_bytes()
    with ExitStack() as open_files:
        content: bytes | None = _objects(location, open_files).get(file)
    if content is None:
        raise FileNotFoundError(file)
    return content


def _write_beside(location: str, file: str, content: bytes) -> None:
    """Write a small file beside those of the store. FileExistsError where it is there."""
    with ExitStack() as open_files:
        store = resolve(STORES[""])(Path(location)) if is_directory(location) else _objects(location, open_files)
        if file == FILE_NAME:
            store.create()
        if not store.put_new(file, content):
            raise FileExistsError(file)


def check_empty(location: str, url: str | None) -> None:
    """UsageError where an engine keeps a ledger already, before another one is made on it.

    One that keeps no refs is known by its commits: each of two ledgers would take the other's for waste.
    """
    if not url:
        return
    with ExitStack() as open_files:
        store = make_store(location, url, open_files)
        found = [f"ref {ref}" for ref in store.branches()] or list(store.commits.batches())
    if found:
        raise UsageError(
            f"that store keeps a ledger already ({', '.join(found[:3])}): open it where its ledger.toml is, or "
            "name another database, schema or file"
        )


def make_copy(source: str, target: str, url: str | None) -> None:
    """Give a copy the settings of its source, with a store of its own; where it has settings, they stay."""
    with suppress(FileNotFoundError, NotADirectoryError):
        _read_beside(target, FILE_NAME)
        return
    import tomlkit

    document = tomlkit.parse(_read_beside(source, FILE_NAME).decode())
    settings = document.setdefault("store", {})
    settings.pop("store", None)
    if url:
        settings["store"] = url
    check_empty(target, url)
    make_ledger(target, tomlkit.dumps(document))
    for each in load(tomlkit.dumps(document), {}).types.values():
        if each.schema is not None and "://" not in each.schema and not os.path.isabs(each.schema):
            with suppress(FileNotFoundError, FileExistsError):
                _write_beside(target, each.schema, _read_beside(source, each.schema))


def capabilities() -> dict[str, Capabilities]:
    """What each kind of store promises, by the beginning of its URL."""
    kinds = {"PATH": STORES[""], "s3://": OBJECTS, **{f"{name}://": path for name, path in COMMIT_STORES.items()}}
    return {start: resolve(path).capabilities for start, path in kinds.items()}


def make_repository(location: str, config: Config, open_files: ExitStack) -> Repository:
    """The repository of a ledger; its engine is made when first needed. What it holds open goes to `open_files`."""
    store = make_store(location, config.store, open_files, config)

    def engine() -> Engine:
        made: Engine = resolve(ENGINE)(store, config.threads, config.memory, spill(store, open_files))
        return made

    return Repository(store, engine, Author(author(), now), tuple(config["half_lives"]), config["entity_refs"])


def make_ledger(location: str, text: str) -> None:
    """Write the `ledger.toml` of a new ledger. UsageError where there is one already, or none can be."""
    if is_directory(location) and Path(location).exists() and not Path(location).is_dir():
        raise UsageError(f"{location} is a file: choose another directory for the ledger")
    try:
        _write_beside(location, FILE_NAME, text.encode())
    except FileExistsError as error:
        raise UsageError(f"{location} is a ledger already: use it, or choose another directory") from error
    except OSError as error:
        path = beside(FILE_NAME, location)
        raise LedgerError(f"{path} cannot be written ({error.strerror}): choose another directory") from error


def make_importer(store: Store, config: Config, open_files: ExitStack) -> Importer:
    """The importer of a ledger."""
    importer: Importer = resolve(IMPORTER)(store, config.threads, config.memory, spill(store, open_files))
    return importer


def spill(store: Store, open_files: ExitStack) -> Path | None:
    """Where an engine puts what does not fit into memory; None where the ledger cannot be written."""
    try:
        return open_files.enter_context(store.scratch())
    except LedgerError:
        return None


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
    stream = resolve(OPEN)(name)
    rest = b""
    while block := stream.read(_BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    if rest:
        yield rest
    stream.close()


def read_json_file(path: str) -> Any:
    """The value of a small JSON file. NotFound where there is none, UsageError where it is no JSON."""
    try:
        return json.loads("\n".join(read_lines(path)))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error


def read_json_object(path: str) -> dict[str, Any]:
    """The same of a JSON object."""
    value = read_json_file(path)
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object, written as {{…}}: correct it")
    return value


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


def read_lines(path: str) -> list[str]:
    """The lines of a small text file or URL. NotFound where there is none."""
    try:
        if not is_directory(path):
            return b"\n".join(open_lines(path)).decode().splitlines()
        return Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file. Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from error


def write_ticks(batches: Iterable[TickBatch], target: str, format_name: str | None) -> int:
    """Write batches of ticks in any format that can be ingested; the number of rows."""
    rows: int = resolve(WRITE_TICKS)(batches, target, format_name)
    return rows


def check_picture(target: str) -> bool:
    """Whether gamma is written there over time. Before any work: UsageError, MissingExtra where it cannot be."""
    suffix = Path(target).suffix.lower()
    if suffix not in GAMMA_FILES:
        raise UsageError(f"{target}: gamma is written to a file that ends with one of {', '.join(GAMMA_FILES)}")
    resolve(CHECK_DIRECTORY)(target)
    if is_picture(target):
        check_drawing()
    return suffix == PAGE


def is_picture(target: str) -> bool:
    """Whether gamma is drawn there, and not written as a table."""
    return Path(target).suffix.lower() in PICTURES


def check_drawing() -> None:
    """MissingExtra where gamma cannot be drawn."""
    resolve(CHECK_DRAWING)()


def write_picture(target: str, subject: Any) -> None:
    """Write gamma in the format of the suffix: a table of it, a frame, or for a page a view."""
    with resolve(WHOLE_FILE)(target) as path:
        resolve(GAMMA_FILES[Path(target).suffix.lower()])(path, subject)


def check_graph(target: str) -> str:
    """The format of a graph's file by its suffix. UsageError, before any work, where it cannot be written."""
    formats, format = resolve(GRAPH_FORMATS), Path(target).suffix.lower().removeprefix(".")
    if format not in formats:
        raise UsageError(f"{target}: a graph is written to a file that ends with one of .{', .'.join(formats)}")
    resolve(CHECK_DIRECTORY)(target)
    return format


def write_graph(target: str, graph: Any, format: str) -> None:
    """Write a graph of relations to a file."""
    with resolve(WHOLE_FILE)(target) as path:
        resolve(WRITE_GRAPH)(path, graph, format)


def check_plan_picture(target: str) -> None:
    """UsageError, before any work, where the conflicts of a reconciliation cannot be drawn there."""
    if Path(target).suffix.lower() not in PLAN_FILES:
        raise UsageError(f"{target}: conflicts are drawn into a file that ends with {' or '.join(PLAN_FILES)}")
    resolve(CHECK_DIRECTORY)(target)


def draw_plan(target: str, plan: Any) -> None:
    """Draw the conflicts of a reconciliation into a file."""
    with resolve(WHOLE_FILE)(target) as path:
        resolve(PLAN_FILES[Path(target).suffix.lower()])(path, plan)


def polars_frame(table: pa.Table) -> polars.DataFrame:
    """An Arrow table as a Polars frame. MissingExtra without the extra `polars`."""
    try:
        import polars
    except ImportError as error:
        raise MissingExtra("polars", "polars") from error
    return polars.DataFrame(table)


def clock() -> int:
    """The wall clock of this machine, in µs since 1970."""
    return time.time_ns() // 1000


def patience(seconds: float) -> Iterator[None]:
    """Something to look at what others do by: at once, then a few times a second, until the time is up."""
    end = time.monotonic() + seconds
    yield
    while time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        yield


def until(stop: Event, every: float, idle: float | None, look: Callable[[], Iterator[_Found]]) -> Iterator[_Found]:
    """What `look` finds, again and again, until `stop` is set or it found nothing for so many seconds."""
    last = time.monotonic()
    while True:
        for each in look():
            yield each
            last = time.monotonic()
        left = every if idle is None else min(every, last + idle - time.monotonic())
        if stop.is_set() or left <= 0:
            return
        stop.wait(left)


def transaction_name() -> str:
    """A name that no other transaction has."""
    return uuid.uuid4().hex[:16]


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds, at most so long; whether it does."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= end:
            return False
        time.sleep(min(_POLL_SECONDS, max(0.0, end - time.monotonic())))
    return True


def node(name: str | None) -> str:
    """The name of this node in clock readings; None: this machine's. UsageError where it cannot be one."""
    from ledger_cli.core.hlc import node_name

    if name is None:
        return re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename)[:64] or "node"
    try:
        return node_name(name)
    except ValueError as error:
        raise UsageError(f"node in {FILE_NAME}: {error}") from error


def module_keys(places: Sequence[str], environment: Mapping[str, str] = os.environ) -> dict[str, bytes]:
    """The keys that modules sign with, from `MODULE=env:VARIABLE` or `MODULE=file:PATH`. UsageError without one."""
    keys = {}
    for place in places:
        module, _, where = place.partition("=")
        kind, _, name = where.partition(":")
        if not module or kind not in ("env", "file") or not name:
            raise UsageError(f"keys in {FILE_NAME}: write {place!r} as MODULE=env:VARIABLE or MODULE=file:PATH")
        try:
            key = environment.get(name, "").encode() if kind == "env" else Path(name).read_bytes().strip()
        except OSError as error:
            raise UsageError(f"the key of module {module} cannot be read from {name}: {error.strerror}") from error
        if not key:
            raise UsageError(f"the key of module {module} is empty: put it into {name}, or take it out of {FILE_NAME}")
        keys[module] = key
    return keys


def tell_guardian(guardian: str | None, refused: list[dict[str, Any]]) -> str | None:
    """Tell a command or a URL of events that were refused; what went wrong in that, None where nothing did."""
    if guardian is None or not refused:
        return None
    import shlex
    import subprocess
    from urllib.request import Request, urlopen

    report = json.dumps(refused).encode()
    try:
        if guardian.startswith(("http://", "https://")):
            request = Request(guardian, report, {"Content-Type": "application/json"})
            with urlopen(request, timeout=GUARDIAN_SECONDS):
                return None
        done = subprocess.run(
            shlex.split(guardian), input=report, capture_output=True, timeout=GUARDIAN_SECONDS, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"the guardian {guardian!r} could not be told: {error}"
    return None if done.returncode == 0 else f"the guardian {guardian!r} ended with {done.returncode}"


def make_bus(named: str | None, location: str) -> Bus | None:
    """The bus that the setting names; a path is from the ledger. UsageError where there is none of that kind."""
    if named is None:
        return None
    url = beside(named, location)
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in BUSES:
        choices = ", ".join(f"{each}://" for each in BUSES if each)
        raise UsageError(f"no bus for {scheme}://: give bus in {FILE_NAME} a path or one of {choices}")
    made: Bus = resolve(BUSES[scheme])(url)
    return made


def author() -> str:
    """Who moves refs: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def time_before(seconds: int) -> str:
    """The time so long ago, as `now` writes it."""
    then = datetime.fromisoformat(now()) - timedelta(seconds=seconds)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """The time of a move, RFC 3339 UTC in milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
