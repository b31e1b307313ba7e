"""The default store: a directory on a local disk.

Invariants: a file appears whole or not at all (temporary file, fsync, link, fsync of the directory); a move of
a ref is a link that fails where the name exists, which is the compare-and-set; nothing is ever overwritten.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG

from ledger_cli.errors import Conflict, Corrupt
from ledger_cli.ports import Capabilities, Published, Written
from ledger_cli.stores.common.durable import make_directory, sync_directory
from ledger_cli.stores.common.moves import first_missing, name_of, numbers_of
from ledger_cli.stores.common.parquet_commits import ParquetCommits
from ledger_cli.stores.common.plain import PlainFiles
from ledger_cli.stores.common.rows import digest_of, missing
from ledger_cli.stores.common.scratch import alone_in, disk_errors, scratch_in


class DirectoryStore(PlainFiles, ParquetCommits):
    """A ledger in a directory. Safe with many processes at once."""

    capabilities = Capabilities(
        engine="Parquet files in a directory",
        extra=None,
        refs=True,
        processes="many",
        durable="the loss of power: files and their directories are synced",
        atomic="a batch",
        exact="decimal text",
    )

    def __init__(self, root: Path) -> None:
        super().__init__(self)
        self.root = root
        self._ends: dict[str, int] = {}
        """By ref, the last move that is known to have none missing before it."""

    def create(self) -> None:
        """See `ports.CommitStore`. Directories are made when something is put into them."""

    @property
    def commits(self) -> DirectoryStore:
        """See `ports.Store`."""
        return self

    def branches(self) -> list[str]:
        """See `ports.Store`."""
        try:
            return sorted(entry.name for entry in os.scandir(self.root / "refs") if entry.is_dir())
        except FileNotFoundError:
            return []

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        """See `ports.Store`."""
        try:
            return self._move(branch, seq).read_bytes()
        except FileNotFoundError:
            return None

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        """See `ports.Store`. Moves are numbered without gaps, so a gallop finds the end in O(log n) looks."""
        low, step = at_least, 1
        while self._move(branch, low + step).exists():
            low, step = low + step, step * 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if self._move(branch, middle).exists():
                low = middle
            else:
                high = middle
        return low

    def move_numbers(self, branch: str) -> list[int]:
        """See `ports.Store`. Drafts that a killed process left are no moves."""
        numbers = numbers_of(self._listed(branch))
        if first_missing(numbers) is None:
            return numbers
        # A listing may show a move made meanwhile without the one before it; the next listing shows that one too.
        return [seq for seq in numbers_of(self._listed(branch)) if seq <= numbers[-1]]

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        """See `ports.Store`."""
        with disk_errors():
            if seq and not self._move(branch, seq - 1).exists():
                raise Conflict(f"branch {branch} has no move {seq - 1}: run the command again")
            self._refuse_holes(branch, seq)
            if not self.put_new(f"refs/{branch}/{name_of(seq)}", move):
                raise Conflict(f"branch {branch} was moved by another process: run the command again")
        self._ends[branch] = seq

    def put_new(self, file: str, content: bytes) -> bool:
        """Make a small file, whole and for good; False where it is there."""
        target = self.root / file
        make_directory(target.parent)
        draft = target.with_name(f".{uuid.uuid4().hex}")
        try:
            _write(draft, content)
            os.link(draft, target)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        sync_directory(target.parent)
        return True

    def publish(self, path: Path, file: str) -> Published:
        """See `ports.Store`."""
        with disk_errors():
            digest, size = digest_of(path)
            name = file.format(sha256=digest)
            target = self.root / name
            make_directory(target.parent)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.utime(descriptor)  # it may have waited for long until all else was ready
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if not self._linked(path, target) and digest_of(target)[0] != digest:
                # It was torn or has rotted, so that nobody could have used it: put a whole one in its place.
                fresh = target.with_name(f".{uuid.uuid4().hex}")
                os.link(path, fresh)
                os.replace(fresh, target)
            sync_directory(target.parent)
            return Published(name, digest, size)

    def _linked(self, path: Path, target: Path) -> bool:
        """Whether the file was not there; one that was is touched."""
        with suppress(FileExistsError):
            os.link(path, target)
            return True
        with self._undiscarded():
            try:
                os.link(path, target)
                return True
            except FileExistsError:
                os.utime(target)
                return False

    def _undiscarded(self) -> AbstractContextManager[None]:
        """While nobody discards a file: it is touched before it is looked how old it is, or gone for good."""
        return alone_in(self.root / "scratch")

    def touch(self, file: str) -> None:
        """See `ports.Store`."""
        with disk_errors(), self._undiscarded(), suppress(FileNotFoundError):
            os.utime(self.root / file)

    def discard(self, file: str, before: str) -> bool:
        """See `ports.Store`."""
        path = self.root / file
        with disk_errors(), self._undiscarded(), suppress(FileNotFoundError):
            if _time_of(path.stat()) < before:
                path.unlink()
                return True
        return False

    def read_file(self, file: str) -> bytes:
        """See `ports.Store`."""
        try:
            return (self.root / file).read_bytes()
        except FileNotFoundError as error:
            raise missing(file) from error

    def digest_of_file(self, file: str) -> str:
        """See `ports.Store`."""
        try:
            return digest_of(self.root / file)[0]
        except FileNotFoundError as error:
            raise missing(file) from error

    def location(self, file: str) -> str:
        """See `ports.Store`."""
        return str(self.root / file)

    def folders(self, folder: str) -> list[str]:
        """See `ports.Store`."""
        try:
            return sorted(os.listdir(self.root / folder))
        except FileNotFoundError:
            return []

    def written(self, folder: str) -> dict[str, Written]:
        """See `ports.Store`."""
        found = {}
        for name in self.folders(folder):
            with suppress(FileNotFoundError):
                about = (self.root / folder / name).stat()
                if S_ISREG(about.st_mode):
                    found[name] = Written(_time_of(about), about.st_size)
        return found

    def remove(self, folder: str) -> None:
        """See `ports.Store`."""
        path = self.root / folder
        with disk_errors(), suppress(FileNotFoundError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def scratch(self) -> AbstractContextManager[Path]:
        """See `ports.Store`."""
        return scratch_in(self.root / "scratch")

    def _refuse_holes(self, branch: str, seq: int) -> None:
        """Corrupt where a move is missing before the last.

        Only a listing tells, which takes a while in a long log: behind a move of its own this process asks for none.
        """
        if self._ends.get(branch) == seq - 1 and not self._move(branch, seq + 1).exists():
            return
        names = self._listed(branch)
        if not names or max(names) == name_of(len(names) - 1):
            return
        lost = first_missing(self.move_numbers(branch))
        if lost is not None:
            raise Corrupt(
                f"move {lost} of {branch} is missing, later ones are there: restore refs/{branch} from a copy"
            )

    def _listed(self, branch: str) -> list[str]:
        try:
            return os.listdir(self.root / "refs" / branch)
        except FileNotFoundError:
            return []

    def _move(self, branch: str, seq: int) -> Path:
        # Whatever is asked of a ledger looks for the latest move: a path made in one piece takes a third of the time.
        return Path(os.path.join(self.root, "refs", branch, name_of(seq)))


def _time_of(about: os.stat_result) -> str:
    at = datetime.fromtimestamp(about.st_mtime, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
