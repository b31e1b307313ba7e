"""A RocksDB database by its client rocksdict: opened with patience, and its errors in the ledger's words."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ledger_cli.errors import Corrupt, LedgerError, MissingExtra, NotWritten, Unavailable, UsageError
from ledger_cli.stores.common.durable import make_directory

if TYPE_CHECKING:
    from rocksdict import ColumnFamily, Options, Rdict, WriteBatch

PATIENCE_SECONDS = 10.0
"""How long to wait for another process to let go of the database."""
_LOOK_SECONDS = 0.05
_NO_ROOM = ("No space left", "File too large", "Disk quota exceeded", "Read-only file system", "Input/output error")
_TORN = ("Corruption", "truncated", "checksum")


class Database:
    """An open database of column families, held by this process alone until `close`."""

    def __init__(self, url: str, path: Path, families: tuple[str, ...]) -> None:
        """Unavailable where another process keeps it, UsageError where it cannot be opened at all."""
        try:
            import rocksdict
        except ImportError as error:
            raise MissingExtra("rocksdb", "rocksdict") from error
        self._sdk = rocksdict
        self._url = url
        self._path = path
        with self._translated():
            make_directory(path)
            self._database = self._opened(families)
        self._families: dict[str, Rdict] = {}
        with self._translated():
            for name in families:
                self._families[name] = self._database.get_column_family(name)
        self._handles = {name: self._database.get_column_family_handle(name) for name in families}
        self._synced = rocksdict.WriteOptions()
        self._synced.sync = True
        self._unsynced = rocksdict.WriteOptions()

    def close(self) -> None:
        """Let go of it: the lock is held until the last family is closed."""
        self._handles.clear()
        for each in (*self._families.values(), self._database):
            # Closing flushes; on a full disk it fails, and lets go nevertheless. The log has what was acknowledged.
            with suppress(Exception):
                each.close()

    def get(self, family: str, key: bytes) -> bytes | None:
        """The value of a key."""
        try:
            found: bytes | None = self._families[family].get(key)
            return found
        except Exception:
            # To enter the context at each question would take as long as some of the answers.
            with self._translated():
                raise

    def get_many(self, family: str, keys: list[bytes]) -> list[bytes | None]:
        """The value of each key."""
        with self._translated():
            return list(self._families[family].get([*keys]) or ()) if keys else []

    def scan(self, family: str, start: bytes, past: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in order, from `start` to before `past`; None: those that begin with `start`."""
        with self._translated():
            rows = self._families[family].iter()
            rows.seek(start)
            while rows.valid():
                key = rows.key()
                if not key.startswith(start) if past is None else key >= past:
                    break
                yield key, rows.value()
                rows.next()
            rows.status()

    def key_from(self, family: str, start: bytes) -> bytes | None:
        """The first key that is not below `start`."""
        return self._key(family, start, "seek")

    def key_to(self, family: str, last: bytes) -> bytes | None:
        """The last key that is not above `last`."""
        return self._key(family, last, "seek_for_prev")

    def changes(self) -> Changes:
        """Changes that are made together, to be filled."""
        return Changes(self._sdk.WriteBatch(raw_mode=True), self._handles)

    def write(self, changes: Changes, sync: bool) -> None:
        """Make changes, all or none. `sync`: they, and all that was written before, survive the loss of power."""
        with self._translated():
            self._database.write(changes.batch, self._synced if sync else self._unsynced)

    def _key(self, family: str, at: bytes, seek: str) -> bytes | None:
        with self._translated():
            rows = self._families[family].iter()
            getattr(rows, seek)(at)
            rows.status()
            return rows.key() if rows.valid() else None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except LedgerError:
            raise
        except Exception as error:
            # The client raises plain exceptions: only their text tells them apart.
            if isinstance(error, OSError) or type(error) in (Exception, self._sdk.DbClosedError):
                raise self._worded(str(error)) from error
            raise

    def _worded(self, what: str) -> LedgerError:
        if "LOCK:" in what:
            return Unavailable(
                f"{self._url} is open in another process: nothing was changed, run the command again when it has ended"
            )
        if any(each in what for each in _NO_ROOM):
            return NotWritten(what)
        if any(each in what for each in _TORN):
            return Corrupt(f"{self._url} is damaged ({what}): restore {self._path} from a copy")
        if "closed" in what:
            return Unavailable(f"{self._url} was closed meanwhile: it is safe to run the command again")
        return UsageError(f"{self._url} cannot be used ({what}): check that {self._path} is a directory of your own")

    def _opened(self, families: tuple[str, ...]) -> Rdict:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with self._alone():
                    # A newer schema may have families that this one does not know; without them nothing opens.
                    names = dict.fromkeys([*self._there(), *families])
                    return self._sdk.Rdict(str(self._path), self._options(), {name: self._options() for name in names})
            except Exception as error:
                if "LOCK:" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(_LOOK_SECONDS)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While it is opened: what another process is just making of it would be listed by half."""
        with open(self._path / "opening.lock", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _there(self) -> list[str]:
        if not (self._path / "CURRENT").exists():
            return []
        there = self._sdk.Rdict.list_cf(str(self._path), self._options())
        if "meta" not in there and len(there) > 1:
            raise UsageError(f"{self._path} is a database of another program: choose another directory")
        return list(there)

    def _options(self) -> Options:
        options = self._sdk.Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_compression_type(self._sdk.DBCompressionType.lz4())
        options.set_bottommost_compression_type(self._sdk.DBCompressionType.zstd())
        # Each opening starts a new log of what the engine did.
        options.set_keep_log_file_num(4)
        table = self._sdk.BlockBasedOptions()
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        return options


class Changes:
    """Changes to several families that are made together."""

    def __init__(self, batch: WriteBatch, handles: dict[str, ColumnFamily]) -> None:
        self.batch = batch
        self._handles = handles

    def put(self, family: str, key: bytes, value: bytes) -> None:
        """Set the value of a key."""
        self.batch.put(key, value, self._handles[family])

    def put_all(self, family: str, keys: list[bytes], values: list[bytes]) -> None:
        """Set the values of many keys."""
        handle, put = self._handles[family], self.batch.put
        for key, value in zip(keys, values, strict=True):
            put(key, value, handle)

    def delete(self, family: str, key: bytes) -> None:
        """Take a key away."""
        self.batch.delete(key, self._handles[family])
