"""A ledger on an object store, or on whatever else fsspec reaches: the layout of the directory, an object a file.

Invariants: an object appears whole or not at all; a move of a ref is an object that is made only if absent, which is
the compare-and-set (S3: `If-None-Match: *`, tried out when the ledger is made); what has its digest in its name is
read once and checked against it. Batches of commits keep their name where entries are archived: their copies are
told apart by the tag that the store gives to each content.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ledger_cli.errors import Conflict, Corrupt, Unavailable
from ledger_cli.ports import Capabilities, Published, Reading, Written
from ledger_cli.stores.common.cache import FileCache
from ledger_cli.stores.common.moves import first_missing, name_of, numbers_of
from ledger_cli.stores.common.parquet_commits import ParquetCommits
from ledger_cli.stores.common.plain import PlainFiles
from ledger_cli.stores.common.remote import Listed, Remote
from ledger_cli.stores.common.rows import digest_of, missing

CACHE_LIMIT = 20 * 2**30
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_AT_ONCE = 16
"""Requests under way at once."""
_MOVES_KEPT = 256
_TO_SECONDS = len("2026-01-31T00:00:00")
_LISTING_SECONDS = 2.0
"""So long a listing of commits is good for: each query looks, its files do not each."""
_NEW_SECONDS = 600.0


class ObjectStore(PlainFiles, ParquetCommits):
    """A ledger below a URL. Safe with many processes at once, wherever they are."""

    capabilities = Capabilities(
        engine="objects of S3 or another store, by fsspec",
        extra="s3",
        refs=True,
        processes="many, on many machines",
        durable="what the store promises for an acknowledged write",
        atomic="a batch",
        exact="decimal text",
    )

    def __init__(self, url: str, cache: Path, limit: int = CACHE_LIMIT) -> None:
        """`cache`: the directory of local copies, of all ledgers together at most `limit` bytes."""
        super().__init__(self)
        self._remote = Remote(url)
        self._cache = FileCache(self._remote.place, cache, limit)
        self._workers = ThreadPoolExecutor(_AT_ONCE, "objects")
        self._moves: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._asked: dict[str, int] = {}
        """By ref, the move that was read last."""
        self._ends: dict[str, int] = {}
        """By ref, the last move that is known to have none missing before it."""
        self._listings: dict[str, tuple[float, dict[str, Listed]]] = {}

    def create(self) -> None:
        """See `ports.CommitStore`. UsageError where the store has no compare-and-set."""
        self._remote.probe()

    def close(self) -> None:
        """See `ports.CommitStore`."""
        super().close()
        self._workers.shutdown()
        self._cache.close()

    @property
    def commits(self) -> ObjectStore:
        """See `ports.Store`."""
        return self

    def get(self, file: str) -> bytes | None:
        """The content of a small file, None where there is none."""
        return self._remote.read(file)

    def put_new(self, file: str, content: bytes) -> bool:
        """Write a small file if it is absent; False where it is there."""
        return self._remote.create(file, content)

    # -- refs ---------------------------------------------------------------------------------------------

    def branches(self) -> list[str]:
        """See `ports.Store`."""
        return [each.name for each in self._remote.list("refs") if each.folder]

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        """See `ports.Store`. Logs are read one move after the other: those that come next are brought along."""
        kept = self._moves.get((branch, seq))
        step = seq - self._asked.get(branch, seq)
        self._asked[branch] = seq
        if kept is not None:
            return kept
        ahead = range(seq, seq + step * _AT_ONCE, step) if abs(step) == 1 else (seq,)
        return self._read_moves(branch, [each for each in ahead if each >= 0])[0]

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        """See `ports.Store`. Moves are numbered without gaps, so a few rounds of looks at many of them find the end."""
        low = at_least
        if self._read_moves(branch, [low + 1])[0] is None:
            return low
        asked = [low + 2**n for n in range(_AT_ONCE)]
        while True:
            found = [move is not None for move in self._read_moves(branch, asked)]
            reached = found.index(False) if False in found else len(found)
            low = asked[reached - 1] if reached else low
            if reached == len(asked):
                asked = [low + 2**n for n in range(_AT_ONCE)]
            elif asked[reached] == low + 1:
                return low
            else:
                between = asked[reached] - low
                asked = sorted({low + max(1, between * n // _AT_ONCE) for n in range(1, _AT_ONCE)} | {asked[reached]})

    def move_numbers(self, branch: str) -> list[int]:
        """See `ports.Store`."""
        return numbers_of(each.name for each in self._remote.list(f"refs/{branch}"))

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        """See `ports.Store`. A connection that is cut, or tried again, may hide that the move was written."""
        if seq and self._read_moves(branch, [seq - 1])[0] is None:
            raise Conflict(f"branch {branch} has no move {seq - 1}: run the command again")
        self._refuse_holes(branch, seq)
        name = _move(branch, seq)
        try:
            written = self._remote.create(name, move)
        except Unavailable:
            if self._remote.read(name) != move:
                raise
            written = True
        if not written and self._remote.read(name) != move:
            raise Conflict(f"branch {branch} was moved by another process: run the command again")
        self._ends[branch] = seq

    def _refuse_holes(self, branch: str, seq: int) -> None:
        """Corrupt where a move is missing before the last. Behind a move of its own a process asks for no listing."""
        if self._ends.get(branch) == seq - 1 and self._read_moves(branch, [seq + 1])[0] is None:
            return
        lost = first_missing(self.move_numbers(branch))
        if lost is not None:
            raise Corrupt(
                f"move {lost} of {branch} is missing, later ones are there: restore refs/{branch} from a copy"
            )

    def _read_moves(self, branch: str, numbers: Sequence[int]) -> list[bytes | None]:
        absent = [seq for seq in numbers if (branch, seq) not in self._moves]
        names = [_move(branch, seq) for seq in absent]
        read = [self._remote.read(names[0])] if len(names) == 1 else list(self._workers.map(self._remote.read, names))
        found = dict(zip(absent, read, strict=True))
        moves = [found.get(seq) or self._moves.get((branch, seq)) for seq in numbers]
        self._moves.update({(branch, seq): move for seq, move in found.items() if move is not None})
        while len(self._moves) > _MOVES_KEPT:
            with suppress(KeyError):  # another thread was first
                self._moves.popitem(last=False)
        return moves

    # -- files --------------------------------------------------------------------------------------------

    def publish(self, path: Path, file: str) -> Published:
        """See `ports.Store`."""
        digest, size = digest_of(path)
        name = file.format(sha256=digest)
        if not self._remote.create(name, path):
            if self.digest_of_file(name) != digest:
                self._remote.replace(name, path)
            else:
                self.touch(name)
        self._listings.pop(_folder(name), None)
        if _is_fixed(name):
            self._cache.add(_key(name, None), path)
        return Published(name, digest, size)

    def read_file(self, file: str) -> bytes:
        """See `ports.Store`."""
        if _is_fixed(file):
            try:
                return Path(self.location(file)).read_bytes()
            except FileNotFoundError as error:
                raise missing(file) from error
        data = self._remote.read(file)
        if data is None:
            raise missing(file)
        return data

    def digest_of_file(self, file: str) -> str:
        """See `ports.Store`. A copy is as good where the store says that it holds the same bytes, by their MD5."""
        listed = self._remote.look(file)
        if listed is None:
            raise missing(file)
        key = _key(file, listed)
        copy = self._cache.get(key)
        if copy is not None and _is_copy(copy, listed):
            return digest_of(copy)[0]
        with self._cache.draft() as draft:
            if not self._remote.fetch(file, draft):
                raise missing(file)
            digest = digest_of(draft)[0]
            if digest in file:
                self._cache.drop(key)
                self._cache.add(key, draft)
            return digest

    def location(self, file: str) -> str:
        """See `ports.Store`. A local copy, which stays until the ledger is closed; nothing where there is no file."""
        if _is_fixed(file):
            listed = None
        else:
            listed = self._listing(_folder(file)).get(file.rpartition("/")[2])
            if listed is None:
                return str(self._cache.nowhere / file)
        found = self._cache.get(_key(file, listed)) or self._brought(file, listed)
        return str(found or self._cache.nowhere / file)

    def reading(self, files: Sequence[str], headers: bool = False) -> Reading:
        """See `ports.Store`."""
        list(self._workers.map(self.location, files))
        return Reading(files)

    def look_again(self) -> None:
        """See `ports.Store`."""
        self._listings.clear()

    def folders(self, folder: str) -> list[str]:
        """See `ports.Store`."""
        return [each.name for each in self._remote.list(folder)]

    def written(self, folder: str) -> dict[str, Written]:
        """See `ports.Store`."""
        return {each.name: Written(each.at, each.size) for each in self._remote.list(folder) if not each.folder}

    def touch(self, file: str) -> None:
        """See `ports.Store`. An object is written anew to be new: one of the last minutes is new enough."""
        listed = self._remote.look(file)
        if listed is not None and _seconds_ago(listed.at) > _NEW_SECONDS:
            with self._cache.draft() as draft:
                if self._remote.fetch(file, draft):
                    self._remote.replace(file, draft)

    def discard(self, file: str, before: str) -> bool:
        """See `ports.Store`."""
        listed = self._remote.look(file)
        # Of one object servers tell whole seconds, in a listing parts of them.
        if listed is None or listed.at[:_TO_SECONDS] >= before[:_TO_SECONDS]:
            return False
        self.remove(file)
        return True

    def remove(self, folder: str) -> None:
        """See `ports.Store`."""
        self._remote.remove(folder)
        self._listings.pop(_folder(folder), None)
        if _is_fixed(folder):
            self._cache.drop(_key(folder, None))

    def scratch(self) -> AbstractContextManager[Path]:
        """See `ports.Store`."""
        return self._cache.scratch()

    def _listing(self, folder: str) -> dict[str, Listed]:
        """What is in a folder by name, as it was at most some seconds ago."""
        at, found = self._listings.get(folder, (0.0, {}))
        if not found or time.monotonic() - at > _LISTING_SECONDS:
            at, found = time.monotonic(), {each.name: each for each in self._remote.list(folder)}
            self._listings[folder] = at, found
        return found

    def _brought(self, file: str, listed: Listed | None) -> Path | None:
        """A copy, made now; None where there is no file. Corrupt where it is not as named, or as listed, twice."""
        for _ in range(2):
            with self._cache.draft() as draft:
                if not self._remote.fetch(file, draft):
                    return None
                if digest_of(draft)[0] in file if listed is None else draft.stat().st_size == listed.size:
                    return self._cache.add(_key(file, listed), draft)
        raise Corrupt(f"{file} is not what its digest says: restore it from a copy of the ledger, then `ledger verify`")


def _move(branch: str, seq: int) -> str:
    return f"refs/{branch}/{name_of(seq)}"


def _seconds_ago(at: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def _is_fixed(file: str) -> bool:
    """Whether the name of a file holds the digest of its content, and always will."""
    return not file.startswith("commits/") and _DIGEST.search(file.rpartition("/")[2]) is not None


def _key(file: str, listed: Listed | None) -> str:
    """What the copy of a file is kept as: where its content may change, apart for each."""
    if listed is None or _is_fixed(file):
        return f"fixed/{file}"
    return f"{hashlib.sha256(f'{listed.tag} {listed.size}'.encode()).hexdigest()[:32]}/{file}"


def _is_copy(path: Path, listed: Listed) -> bool:
    if _MD5.fullmatch(listed.tag) is None or path.stat().st_size != listed.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == listed.tag
