"""A DuckDB file as the stores of a process share it: they take turns, and a reader keeps what it attached for a moment.

To attach a file and to let go of it takes longer than to look a commit up. So a reader keeps the file, with DuckDB's
shared lock on it: nobody else writes meanwhile, and what is read is never stale. It lets go

- when it has not been asked for `KEPT_SECONDS`, which a thread looks after that lives no longer than that;
- after a question during which a writer of another process asked for its turn, and comes back behind that writer;
- before a write of this process and before a fork, when a store is closed, and when the process ends.

A writer asks for its turn by an exclusive `flock` on the directory of the file: it leaves nothing behind, ends with its
process, and is no lock on the file itself, which POSIX would take away from DuckDB as soon as any copy of it is closed.
Where a directory cannot be locked so, nothing is kept.

A file that was put in its place is told by its inode, size and time, and attached anew.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import duckdb

PATIENCE_SECONDS = 30.0
"""How long to wait until other processes let go of the file."""
KEPT_SECONDS = 0.1
_PAUSE_SECONDS = 0.02
_COURTESY_SECONDS = 5 * _PAUSE_SECONDS
"""How long to stay away where a writer asks for its turn, which looks every pause."""
_CONFIG: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "preserve_insertion_order": False,
}


class File:
    """A DuckDB file, attached as `store` to an engine of its own. Safe with many threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.RLock()
        """Threads take turns too, as DuckDB refuses one process to open a file in two ways."""
        self._engine: duckdb.DuckDBPyConnection | None = None
        """To attach a file to it takes a tenth of the time that starting one takes."""
        self._attached: tuple[Any, ...] | None = None
        """What the file was like when it was attached."""
        self._used_at = 0.0
        self._keeper: threading.Event | None = None
        """Ends the thread that lets go; None where there is none."""

    @contextmanager
    def held(self, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """The engine with the file; raises duckdb.Error. After an error nothing is held, and nothing was changed."""
        with self._turn:
            try:
                if not (read_only and self._attached == self._looks()):
                    self._detach()
                connection = self._engine = self._engine or duckdb.connect(config=_CONFIG)
                if self._attached is None:
                    self._attach(connection, read_only)
                yield connection
                if not (read_only and self._kept()):
                    self._detach()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let go of the file at once, and of the engine."""
        with self._turn:
            self._forget()
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def before_fork(self) -> None:
        """Let go of the file, and let nobody have it."""
        self._turn.acquire()
        self._detach_anyway()

    def after_fork(self, child: bool) -> None:
        """Go on. To close an engine of its parent would end a process."""
        if child and self._engine is not None:
            _inherited.append(self._engine)
            self._engine = None
        self._turn.release()

    def _attach(self, connection: duckdb.DuckDBPyConnection, read_only: bool) -> None:
        directory = self._path.parent
        with suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
        if read_only:
            end = time.monotonic() + _COURTESY_SECONDS
            while _is_asked_for(directory) and time.monotonic() < end:
                time.sleep(_PAUSE_SECONDS / 4)
        path, options = str(self._path).replace("'", "''"), "TYPE duckdb, READ_ONLY" if read_only else "TYPE duckdb"
        end, asks = time.monotonic() + PATIENCE_SECONDS, False
        with ExitStack() as asking:
            while True:
                try:
                    connection.execute(f"ATTACH '{path}' AS store ({options})")
                    break
                except duckdb.IOException as error:
                    if not is_held(error) or time.monotonic() > end:
                        raise
                    if not (read_only or asks):
                        with suppress(OSError):
                            asking.enter_context(_locked(directory))
                            asks = True
                    time.sleep(_PAUSE_SECONDS)
        connection.execute("USE store")
        self._attached = self._looks()

    def _detach(self) -> None:
        if self._forget() and self._engine is not None:
            self._engine.execute("USE memory")
            self._engine.execute("DETACH store")

    def _detach_anyway(self) -> None:
        try:
            self._detach()
        except duckdb.Error:
            self.close()

    def _forget(self) -> bool:
        """Whether something was attached."""
        was, self._attached = self._attached is not None, None
        if self._keeper is not None:
            self._keeper.set()
            self._keeper = None
        return was

    def _kept(self) -> bool:
        """Whether the file is kept for the next question."""
        if _is_asked_for(self._path.parent) is not False:
            return False
        self._used_at = time.monotonic()
        if self._keeper is None:
            ended = threading.Event()
            try:
                threading.Thread(target=self._let_go, args=(ended,), name="ledger-duckdb").start()
            except RuntimeError:  # no more threads
                return False
            self._keeper = ended
        return True

    def _let_go(self, ended: threading.Event) -> None:
        """What a thread does until the file is let go of."""
        while not ended.wait(self._used_at + KEPT_SECONDS - time.monotonic()):
            with self._turn:
                if not ended.is_set() and time.monotonic() >= self._used_at + KEPT_SECONDS:
                    self._detach_anyway()

    def _looks(self) -> tuple[Any, ...]:
        return _looks(self._path), _looks(f"{self._path}.wal")


_files: WeakValueDictionary[str, File] = WeakValueDictionary()
_sharing = threading.Lock()
_inherited: list[duckdb.DuckDBPyConnection] = []
_forked: list[File] = []


def shared(path: Path) -> File:
    """The file, the same for all stores of this process."""
    name = os.path.realpath(path)
    with _sharing:
        file = _files.get(name)
        if file is None:
            file = _files[name] = File(path)
        return file


def _before_fork() -> None:
    _sharing.acquire()
    _forked.extend(_files.values())
    for file in _forked:
        file.before_fork()


def _after_fork(child: bool) -> None:
    while _forked:
        _forked.pop().after_fork(child)
    _sharing.release()


os.register_at_fork(
    before=_before_fork, after_in_parent=partial(_after_fork, False), after_in_child=partial(_after_fork, True)
)


def is_held(error: duckdb.Error) -> bool:
    """Whether another process holds the file."""
    return "Could not set lock on file" in str(error)


def _is_asked_for(directory: Path) -> bool | None:
    """Whether a writer of another process asks for its turn; None where it cannot."""
    try:
        with _locked(directory):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """The lock on a directory; raises OSError, BlockingIOError where another one has it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            # A process that was forked meanwhile has a copy of the descriptor, which would keep the lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _looks(path: Path | str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
