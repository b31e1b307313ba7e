"""Where ledgers are, and what keeps them: URL scheme -> import path of a store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ledger_cli.config.file import Config, load
from ledger_cli.config.settings import FILE_NAME
from ledger_cli.errors import LedgerError, NotFound, UsageError
from ledger_cli.ports import Capabilities, CommitStore, Engine, Importer, Store, Vault
from ledger_cli.services.repository import Author, Repository
from ledger_cli.wiring import machine
from ledger_cli.wiring.resolving import resolve

if TYPE_CHECKING:
    from ledger_cli.services.archived_store import ArchivedStore

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
CACHE = "cache"
"""The directory of copies, in that of the ledger: of batches of engines, of what is in packs, of what is archived."""
FILE_CACHE = "ledger_cli.stores.common.cache:FileCache"
ARCHIVED_STORE = "ledger_cli.services.archived_store:ArchivedStore"
JOINED = "ledger_cli.stores.joined:JoinedStore"
PACKED = "ledger_cli.services.packs:PackedStore"
PARQUET_COMMITS = "ledger_cli.stores.common.parquet_commits:ParquetCommits"
VAULT = "ledger_cli.stores.places:PlacesVault"
ENGINE = "ledger_cli.engines.duck:DuckEngine"
IMPORTER = "ledger_cli.engines.importer:DuckImporter"


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
        packed: Store = resolve(PACKED)(resolve(JOINED)(files, engine, cache, machine.now), cache)
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

    return Repository(
        store, engine, Author(machine.author(), machine.now), tuple(config["half_lives"]), config["entity_refs"]
    )


def make_ledger(location: str, text: str) -> None:
    """Write the `ledger.toml` of a new ledger. UsageError where there is another one already, or none can be.

    The same may be there: a call that was killed afterwards left it.
    """
    if is_directory(location) and Path(location).exists() and not Path(location).is_dir():
        raise UsageError(f"{location} is a file: choose another directory for the ledger")
    try:
        _write_beside(location, FILE_NAME, text.encode())
    except FileExistsError as error:
        with suppress(OSError):
            if _read_beside(location, FILE_NAME) == text.encode():
                return
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
