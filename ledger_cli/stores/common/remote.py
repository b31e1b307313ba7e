"""A folder of an object store, by fsspec: whole objects, made only if absent, and errors in the ledger's words."""

from __future__ import annotations

import errno
import inspect
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ledger_cli.errors import LedgerError, MissingExtra, NotFound, NotWritten, Unavailable, UsageError

_EXTRAS = {"s3": ("s3", "s3fs"), "s3a": ("s3", "s3fs")}
_TRIES = 4
_FIRST_WAIT = 0.2
_WAITED_FOR = frozenset({"409", "429", "503", "ConditionalRequestConflict", "OperationAborted", "SlowDown"})
"""What is said where the same request is taken a little later. Of broken connections the client itself takes care."""
_PRESENT = frozenset({"412", "PreconditionFailed"})
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_KEYS = frozenset(
    {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
    | {"AuthenticationFailed", "AuthorizationFailure", "InvalidAuthenticationInfo"}
)
"""What is said to a wrong key, by S3 and by Azure; so the others here."""
_UNKNOWN = frozenset({"501", "NotImplemented"})
_NO_KEY = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
_FULL = frozenset({"507", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})
_CHOICES = "a ledger is a directory, or a URL such as s3://bucket/world"
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
_TAGS = ("ETag", "etag", "md5Hash")
_PASSWORD = re.compile(r"(?<=://)[^/@]*@")
_PUT_MAX = 5 * 2**30
"""Bytes that S3 takes in one request."""
_CREATING = threading.Lock()
"""File systems in memory look first and write then: one at a time makes that one step."""

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Listed:
    """An object as listed. `tag` changes where its content does; `at`: when it was written, RFC 3339 UTC."""

    name: str
    tag: str
    size: int
    at: str
    folder: bool


class Remote:
    """The objects below a URL, by their names from there."""

    def __init__(self, url: str) -> None:
        """Nothing is asked of the store yet. UsageError for a URL that no ledger can be at, MissingExtra."""
        self.place = _PASSWORD.sub("", url).rstrip("/")
        """As told to people: without a password."""
        self._files, path = _opened(url, self.place)
        self._base = path.rstrip("/")
        # Of an object that is sent in parts a server may forget the condition: Ceph does, as of 16.
        self._in_one = {"chunksize": _PUT_MAX} if "chunksize" in _parameters(type(self._files)) else {}

    def read(self, name: str) -> bytes | None:
        """The content of an object, None where there is none."""
        with self._told():
            try:
                data: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None
            return data

    def fetch(self, name: str, path: Path) -> bool:
        """Copy an object into a local file; whether it is there."""
        with self._told():
            try:
                self._files.get_file(self._path(name), str(path))
            except FileNotFoundError as error:
                self._check_bucket(error)
                return False
        return True

    def create(self, name: str, content: bytes | Path) -> bool:
        """Make an object if it is absent, as one step and durably; False where it is there."""
        with self._told(), _CREATING if not self._files.async_impl else _nothing():
            return self._waited(lambda: self._created(name, content))

    def replace(self, name: str, path: Path) -> None:
        """Write an object whatever was there: readers see the old one or the new one."""
        with self._told():
            self._waited(lambda: self._files.put_file(str(path), self._path(name)))

    def list(self, folder: str) -> list[Listed]:
        """What lies directly in a folder, by name."""
        path = self._path(folder)
        with self._told():
            try:
                found = self._files.ls(path, detail=True)
            except FileNotFoundError as error:
                self._check_bucket(error)
                return []
        below = [each for each in found if each["name"].rstrip("/").rpartition("/")[0].lstrip("/") == path.lstrip("/")]
        return sorted(map(_listed, below), key=lambda each: each.name)

    def look(self, name: str) -> Listed | None:
        """An object as it is listed, None where there is none."""
        with self._told():
            try:
                return _listed(self._files.info(self._path(name)))
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None

    def remove(self, name: str) -> None:
        """Take an object, or all below a folder, away if it is there."""
        with self._told():
            try:
                self._files.rm(self._path(name), recursive=True)
            except FileNotFoundError as error:
                self._check_bucket(error)

    def probe(self) -> None:
        """UsageError where an object that is there can be made once more: of two writers both would win."""
        name = f".probe-{uuid.uuid4().hex}"
        try:
            if not self.create(name, b"1") or self.create(name, b"2") or self.read(name) != b"1":
                raise UsageError(
                    f"{self.place} overwrites what it was told to make only if absent (If-None-Match: *), so that two "
                    "writers could undo each other: choose a store that keeps to it, or a directory"
                )
        finally:
            self.remove(name)

    # -- how -----------------------------------------------------------------------------------------------

    def _created(self, name: str, content: bytes | Path) -> bool:
        try:
            if isinstance(content, bytes):
                self._files.pipe_file(self._path(name), content, mode="create", **self._in_one)
            else:
                self._files.put_file(str(content), self._path(name), mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if _code(error) in _PRESENT:
                return False
            raise
        return True

    @staticmethod
    def _waited(act: Callable[[], _Made]) -> _Made:
        for wait in (_FIRST_WAIT * 2**n for n in range(_TRIES - 1)):
            try:
                return act()
            except OSError as error:
                if _code(error) not in _WAITED_FOR:
                    raise
            time.sleep(wait)
        return act()

    @staticmethod
    def _check_bucket(error: FileNotFoundError) -> None:
        """That there is no such object is no error where its bucket is there."""
        if _code(error) in _NO_BUCKET:
            raise error

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except LedgerError:
            raise
        except Exception as error:  # each driver has errors of its own
            raise refusal(self.place, error) from error

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base


def refusal(place: str, error: Exception) -> LedgerError:
    """What is told about a failure of a driver. It names no key."""
    code, kind = _code(error), type(error).__name__
    text = " ".join((str(error).splitlines() or [kind])[0].split())
    if code in _NO_BUCKET:
        return NotFound(f"{place}: there is no such bucket: make it, or correct the URL")
    if kind in _NO_KEY or code in _KEYS:
        return UsageError(
            f"{place}: the store does not accept the key ({code or kind}): set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or what its driver takes, to one that it knows"
        )
    if isinstance(error, PermissionError):
        return UsageError(
            f"{place}: the store does not allow it ({code or text}): the key has to be allowed to list, read, write "
            "and delete there"
        )
    if code in _UNKNOWN:
        return UsageError(
            f"{place}: the store does not know all that a ledger asks of it ({text}); it has to make an object only if "
            "absent (If-None-Match: *): choose a store that does, or a directory"
        )
    if code in _FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return NotWritten(f"{place}: {text}")
    return Unavailable(
        f"{place} cannot be reached or does not answer as it should ({text}): check the network and the address "
        "(AWS_ENDPOINT_URL for a store of your own), then run the command again, which is safe"
    )


def _opened(url: str, place: str) -> tuple[Any, str]:
    import fsspec

    scheme = url.partition("://")[0]
    try:
        if not _can_create(fsspec.get_filesystem_class(scheme)):
            raise UsageError(
                f"no store for {scheme}://: it cannot make a file only if it is absent, so that two writers could "
                f"undo each other; {_CHOICES}"
            )
        # A listing that is remembered would hide what other processes write.
        files, path = fsspec.url_to_fs(url, use_listings_cache=False)
    except LedgerError:
        raise
    except ImportError as error:
        if scheme in _EXTRAS:
            raise MissingExtra(*_EXTRAS[scheme]) from error
        raise UsageError(f"{place}: {error}") from error
    except ValueError as error:
        raise UsageError(f"no store for {scheme}://: {_CHOICES}") from error
    except Exception as error:  # each driver has errors of its own
        raise refusal(place, error) from error
    return files, path


def _can_create(driver: Any) -> bool:
    """Whether a driver may have a way of its own to make a file only if absent: that of fsspec looks, then writes.

    One of a server that takes whatever options are given may pass this one over: `Remote.probe` finds that out.
    """
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    if _pipe(driver) in (AbstractFileSystem.pipe_file, AsyncFileSystem._pipe_file):
        return False
    parameters = _parameters(driver)
    return "mode" in parameters or (driver.async_impl and any(p.kind is p.VAR_KEYWORD for p in parameters.values()))


def _parameters(driver: Any) -> Mapping[str, inspect.Parameter]:
    """Of its method that makes an object."""
    return inspect.signature(_pipe(driver)).parameters


def _pipe(driver: Any) -> Any:
    return getattr(driver, "_pipe_file" if driver.async_impl else "pipe_file")


def _code(error: BaseException) -> str:
    """The code by which a store tells its error, empty where it is none of its."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        if told := getattr(each, "error_code", None):
            return str(getattr(told, "value", told))
    return ""


def _listed(entry: dict[str, Any]) -> Listed:
    at = next((entry[key] for key in _TIMES if key in entry), 0)
    if isinstance(at, (int, float)):
        at = datetime.fromtimestamp(at, UTC)
    elif isinstance(at, str):
        at = datetime.fromisoformat(at)
    at = at.astimezone(UTC)
    told = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    tag = str(next((entry[key] for key in _TAGS if entry.get(key)), at.timestamp())).strip('"')
    name = entry["name"].rstrip("/").rpartition("/")[2]
    return Listed(name, tag, int(entry.get("size") or 0), told, entry["type"] == "directory")


@contextmanager
def _nothing() -> Iterator[None]:
    yield
