"""Local copies of what a ledger has elsewhere or in another form, shared by all processes, and bounded.

A copy is whole or not there (written apart, synced, renamed). What a process was given it holds by a link of its own,
so that another one may throw the copy out at any time: the least recently used go first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from ledger_cli.stores.common.scratch import disk_errors, scratch_in

_FILES = "files"
_LOOKS = 20
"""The cache is measured each time that so much of its limit, one part in so many, was added."""


class FileCache:
    """See `ports.Cache`. Copies of the files below a URL."""

    def __init__(self, url: str, root: Path, limit: int) -> None:
        """`root`: what the caches of all ledgers are in, or of the one; `limit`: their bytes."""
        self._root = root
        self._folder = root / _FILES / hashlib.sha256(url.encode()).hexdigest()[:32]
        self._limit = limit
        self._added = limit
        self._open = ExitStack()
        self._held: Path | None = None
        self._lock = threading.Lock()
        self._given: set[str] = set()

    @property
    def nowhere(self) -> Path:
        """A directory that is not there: where a file would be that is missing."""
        return self._root / "missing"

    def scratch(self) -> AbstractContextManager[Path]:
        """A directory for unfinished files, on the same disk."""
        return scratch_in(self._root / "scratch")

    def close(self) -> None:
        """Let go of what this process was given."""
        self._open.close()
        self._given.clear()
        self._held = None

    def get(self, key: str) -> Path | None:
        """See `ports.Cache`. It stays there until `close` or `drop`."""
        copy = self._folder / key
        if key not in self._given and not copy.exists():
            return None
        mine = self._mine() / key
        if key in self._given:
            if mine.exists():
                return mine
            self._given.discard(key)  # somebody removed the whole directory
        with disk_errors():
            mine.parent.mkdir(parents=True, exist_ok=True)
            try:
                with suppress(FileExistsError):  # another thread was first
                    os.link(copy, mine)
            except FileNotFoundError:
                return None
            os.utime(mine)
        self._given.add(key)
        return mine

    def add(self, key: str, path: Path, shared: bool = True) -> Path:
        """See `ports.Cache`."""
        target, mine = self._folder / key, self._mine() / key
        with disk_errors(), self.draft() as draft:
            _link(path, draft)
            if shared:
                with open(draft, "rb") as file:
                    os.fsync(file.fileno())
            mine.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.link(draft, mine)
            self._given.add(key)
            if not shared:
                return mine
            target.parent.mkdir(parents=True, exist_ok=True)
            size = draft.stat().st_size
            os.replace(draft, target)
        self._grown(size)
        return mine

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """See `ports.Cache`."""
        with disk_errors():
            path = self._mine() / uuid.uuid4().hex
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    def drop(self, key: str) -> None:
        """See `ports.Cache`."""
        if key in self._given:
            self._given.discard(key)
            (self._mine() / key).unlink(missing_ok=True)
        (self._folder / key).unlink(missing_ok=True)

    def sweep(self, before: str) -> int:
        """See `ports.Cache`."""
        limit = datetime.fromisoformat(before).timestamp() * 1e9
        old = [path for at, _, path in _copies(self._folder) if at < limit]
        for path in old:
            with suppress(FileNotFoundError):
                os.unlink(path)
        return len(old)

    def _mine(self) -> Path:
        with self._lock:
            if self._held is None:
                self._held = self._open.enter_context(self.scratch())
            return self._held

    def _grown(self, size: int) -> None:
        self._added += size
        if self._added * _LOOKS < self._limit:
            return
        self._added = 0
        copies = _copies(self._root / _FILES)
        total = sum(size for _, size, _ in copies)
        for _, size, path in sorted(copies):
            if total <= self._limit:
                break
            with suppress(FileNotFoundError):
                os.unlink(path)
            total -= size


def _copies(root: Path) -> list[tuple[int, int, str]]:
    """When each copy below a directory was used last (ns), its bytes and its path."""
    copies = []
    for folder, _, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in names):
            with suppress(FileNotFoundError):
                status = os.stat(path)
                copies.append((status.st_mtime_ns, status.st_size, path))
    return copies


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(path, target)
