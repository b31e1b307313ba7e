"""Where archives are: a directory, or any URL that fsspec knows; and the key that they are encrypted with.

A file appears whole or not at all in a directory and in an object store; elsewhere what a killed upload leaves does
not have the digest of its name, and the next one puts the whole file in its place.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from ledger_cli.errors import LedgerError, MissingExtra, NotFound, NotWritten, Unavailable, UsageError
from ledger_cli.ports import Place
from ledger_cli.stores.common.durable import make_directory, sync_directory

_LEAST_KEY = 16


class DirectoryPlace:
    """See `ports.Place`. A directory on a local disk."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, path: Path, name: str) -> None:
        """See `ports.Place`."""
        draft = self._root / f".{uuid.uuid4().hex}"
        try:
            make_directory(self._root)
            with open(path, "rb") as source, open(draft, "xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            os.replace(draft, self._root / name)
            sync_directory(self._root)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise NotWritten(f"{self._root / name}: {error.strerror}") from error

    def get(self, name: str, target: Path) -> None:
        """See `ports.Place`."""
        try:
            shutil.copyfile(self._root / name, target)
        except FileNotFoundError as error:
            raise _missing(str(self._root / name)) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NotWritten(f"{target}: {error.strerror}") from error
            raise Unavailable(f"{self._root / name} cannot be read: {error.strerror}; then run this again") from error

    def names(self) -> list[str]:
        """See `ports.Place`."""
        try:
            return sorted(os.listdir(self._root))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise Unavailable(f"{self._root} cannot be listed: {error.strerror}; then run this again") from error


class UrlPlace:
    """See `ports.Place`. A folder of a file system that fsspec knows."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def put(self, path: Path, name: str) -> None:
        """See `ports.Place`."""
        try:
            files, folder = self._system
            files.makedirs(folder, exist_ok=True)
            files.put_file(str(path), f"{folder}/{name}")
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own
            self._refuse(name, error, "written")

    def get(self, name: str, target: Path) -> None:
        """See `ports.Place`."""
        try:
            files, folder = self._system
            files.get_file(f"{folder}/{name}", str(target))
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own
            self._refuse(name, error, "read")

    def names(self) -> list[str]:
        """See `ports.Place`."""
        try:
            files, folder = self._system
            files.invalidate_cache()
            return sorted(str(path).rsplit("/", 1)[-1] for path in files.ls(folder, detail=False))
        except FileNotFoundError:
            return []
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own
            self._refuse("", error, "listed")

    @cached_property
    def _system(self) -> tuple[Any, str]:
        import fsspec

        try:
            files, folder = fsspec.url_to_fs(self._url)
        except ImportError as error:
            raise UsageError(f"{self._url}: {error}") from error
        except ValueError as error:
            raise UsageError(f"{self._url}: {error}. Give a path or a URL that fsspec knows.") from error
        return files, str(folder).rstrip("/")

    def _refuse(self, name: str, error: Exception, what: str) -> NoReturn:
        if isinstance(error, LedgerError):
            raise error
        url = f"{self._url}/{name}".rstrip("/")
        if isinstance(error, FileNotFoundError) and what == "read":
            raise _missing(url) from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotWritten(f"{url}: {error.strerror}") from error
        text = " ".join(str(error).split()) or type(error).__name__
        raise Unavailable(f"{url} cannot be {what} ({text}): look after it, then run this again") from error


def _missing(url: str) -> NotFound:
    return NotFound(f"{url} is missing: bring it back from a copy of the archive, then run this again")


class PlacesVault:
    """See `ports.Vault`. Places by their URLs, and one key."""

    def __init__(self, location: str, key: str | None, environment: Mapping[str, str]) -> None:
        """`location`: of the ledger, a path or URL. `key`: `env:VARIABLE` or `file:PATH`, None for no encryption."""
        self._location = location
        self._where = key
        self._environment = environment

    def place(self, url: str) -> Place:
        """See `ports.Vault`."""
        if "://" not in url and not os.path.isabs(url) and "://" in self._location:
            url = f"{self._location.rstrip('/')}/{url}"
        scheme, separator, path = url.partition("://")
        if not separator:
            return DirectoryPlace(self._root / url)
        return DirectoryPlace(Path(path)) if scheme == "file" and path.startswith("/") else UrlPlace(url)

    def encryption(self) -> Any:
        """See `ports.Vault`. Every file has keys of its own, wrapped by the one that is given."""
        if self._where is None:
            return None
        import pyarrow.parquet.encryption as parquet

        settings = parquet.EncryptionConfiguration(
            footer_key="archive", uniform_encryption=True, data_key_length_bits=256
        )
        return self._factory.file_encryption_properties(parquet.KmsConnectionConfig(), settings)

    def decryption(self) -> Any:
        """See `ports.Vault`."""
        if self._where is None:
            raise UsageError("the archive is encrypted: set archive_key in ledger.toml to where its key is")
        import pyarrow.parquet.encryption as parquet

        return self._factory.file_decryption_properties(parquet.KmsConnectionConfig())

    @property
    def _root(self) -> Path:
        """What paths are taken from."""
        return Path() if "://" in self._location else Path(self._location)

    @cached_property
    def _key(self) -> bytes:
        kind, _, name = str(self._where).partition(":")
        if kind not in ("env", "file") or not name:
            raise UsageError(f"archive_key = {self._where!r}: write it as env:VARIABLE or file:PATH")
        try:
            path = self._root / Path(name).expanduser()
            key = self._environment.get(name, "").encode() if kind == "env" else path.read_bytes()
        except OSError as error:
            raise UsageError(f"archive_key: the key cannot be read from {name}: {error.strerror}") from error
        if len(key.strip()) < _LEAST_KEY:
            raise UsageError(
                f"archive_key: the key in {name} is missing, or shorter than {_LEAST_KEY} bytes: put it there"
            )
        return key.strip()

    @cached_property
    def _factory(self) -> Any:
        import pyarrow.parquet.encryption as parquet

        if find_spec("cryptography") is None:
            raise MissingExtra("encryption", "cryptography")
        key = self._key

        class Local(parquet.KmsClient):  # type: ignore[misc]
            def __init__(self, _: Any) -> None:
                super().__init__()

            def wrap_key(self, key_bytes: bytes, _: str) -> bytes:
                return wrapped(key, key_bytes)

            def unwrap_key(self, wrapped_key: bytes, _: str) -> bytes:
                return unwrapped(key, wrapped_key)

        return parquet.CryptoFactory(Local)


WRONG_KEY = "archive_key is not the key that the archive was encrypted with: name the right one in ledger.toml"


def wrapped(master: bytes, key: bytes) -> bytes:
    """A file's key, encrypted and authenticated under the master key (AES key wrap, RFC 3394): base64 text."""
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    return b64encode(aes_key_wrap(_wrapping(master), key))


def unwrapped(master: bytes, text: bytes | str) -> bytes:
    """Of `wrapped`. UsageError where it was another master key."""
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    try:
        return aes_key_unwrap(_wrapping(master), b64decode(text))
    except InvalidUnwrap as error:
        raise UsageError(WRONG_KEY) from error


def _wrapping(master: bytes) -> bytes:
    """The key for AES that a secret of any length stands for."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, salt=None, info=b"ledger archive: wrap").derive(master)
