"""Opening: what a pattern finds, what comes out of a stream, and one clear line where nothing can."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import sys
from pathlib import Path

import fsspec
import pytest
import zstandard

from ledger_cli.errors import LedgerError, MissingExtra, NotFound, SourceError, UsageError
from ledger_cli.sources.opening import expand, open_stream

TEXT = random.Random(3).randbytes(5000) + b"plain" * 500


def pack(kind: str, data: bytes) -> bytes:
    return gzip.compress(data) if kind == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress(data)


def read_all(name: str, size: int = 700) -> bytes:
    stream = open_stream(name)
    parts = []
    while part := stream.read(size):
        parts.append(part)
    stream.close()
    return b"".join(parts)


def put(path: Path, data: bytes = b"") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def error_of(name: str) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        read_all(name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or isinstance(caught.value, MissingExtra)
    return caught.value


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


class TestExpand:
    def test_what_a_ledger_keeps_is_no_source(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = put(tmp_path / "more" / "ticks.parquet")
        put(tmp_path / "world" / "ledger.toml")
        segment = put(tmp_path / "world" / "segments" / "ticks-0-1.parquet")
        put(tmp_path / "world" / "refs" / "main" / "00000000000000000000.json")
        beside = put(tmp_path / "world" / "input" / "a.csv")
        like_one = put(tmp_path / "more" / "segments" / "b.csv")
        found = sorted([mine, beside, like_one])
        assert sorted(expand([str(tmp_path)], None)) == found
        assert sorted(expand([str(tmp_path / "**" / "*.*")], None)) == [*found, str(tmp_path / "world" / "ledger.toml")]
        monkeypatch.chdir(tmp_path)
        assert sorted(expand(["**/*.parquet"], None)) == ["more/ticks.parquet"]
        # Whoever names them means them.
        for named in ("world/segments", "world/segments/*", segment):
            assert [os.path.realpath(each) for each in expand([named], None)] == [segment]
        monkeypatch.chdir(tmp_path / "world")
        assert expand(["."], None) == ["./input/a.csv"]

    def test_directory_holds_data_files_sorted_without_hidden_ones_and_markers(self, tmp_path: Path) -> None:
        wanted = ["a/x.jsonl.gz", "b.csv", "c/d/e.PARQUET", "z.ndjson.zst"]
        others = ["README.md", "_SUCCESS", ".hidden.jsonl", "_temporary/t.jsonl", ".git/x.json", "plain.txt"]
        for name in wanted + others:
            put(tmp_path / name)
        assert expand([str(tmp_path)], None) == [str(tmp_path / name) for name in wanted]
        assert str(tmp_path / "plain.txt") in expand([str(tmp_path)], "tsv")

    def test_globs(self, tmp_path: Path) -> None:
        names = [put(tmp_path / name) for name in ("1.jsonl", "2.jsonl", "deep/3.jsonl", "deep/_SUCCESS")]
        assert expand([f"{tmp_path}/*.jsonl"], None) == names[:2]
        assert expand([f"{tmp_path}/**/*"], None) == names[:3]
        assert expand([f"{tmp_path}/*"], None) == names[:3]

    def test_one_file_is_taken_once(self, tmp_path: Path) -> None:
        name = put(tmp_path / "a.jsonl")
        (tmp_path / "link.jsonl").symlink_to(name)
        assert expand([name, f"{tmp_path}/*.jsonl", str(tmp_path), "-", "-"], None) == [name, "-"]

    def test_a_file_named_like_a_glob_is_a_file(self, tmp_path: Path) -> None:
        assert expand([put(tmp_path / "a[1].jsonl")], None) == [str(tmp_path / "a[1].jsonl")]

    def test_urls(self) -> None:
        memory = fsspec.filesystem("memory")
        for name in ("w/1.jsonl", "w/d/2.csv", "w/_SUCCESS", "w/.h/3.csv"):
            memory.pipe(f"/{name}", b"")
        assert expand(["memory://w/*.jsonl"], None) == ["memory:///w/1.jsonl"]
        assert len(expand(["memory://w"], None)) == 2
        for name in ("w/1.jsonl", "w/d/2.csv"):
            assert any(found.endswith(name) for found in expand(["memory://w"], None))
        assert expand(["https://host/a.csv?b=*"], None) == ["https://host/a.csv?b=*"]
        with pytest.raises(NotFound, match="matches no file"):
            expand(["memory://w/*.parquet"], None)

    @pytest.mark.parametrize("pattern", ["missing.jsonl", "*.jsonl", "."])
    def test_nothing_found_is_a_usage_error(
        self, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        put(tmp_path / "notes.md")
        with pytest.raises(NotFound) as caught:
            expand([pattern], None)
        assert caught.value.exit_code == 2
        assert str(caught.value).startswith(f"{pattern}: ")

    def test_unknown_protocol(self) -> None:
        with pytest.raises(UsageError, match="nosuch"):
            expand(["nosuch://a/b.csv"], None)


class TestStream:
    @pytest.mark.parametrize("kind", ["gz", "zst", "plain"])
    def test_unpacks_digests_and_counts(self, kind: str, tmp_path: Path) -> None:
        stored = TEXT if kind == "plain" else pack(kind, TEXT[:100]) + pack(kind, b"") + pack(kind, TEXT[100:])
        stream = open_stream(put(tmp_path / f"a.jsonl.{kind}", stored))
        assert stream.position == (0, len(stored))
        assert stream.head() == TEXT
        assert b"".join(iter(lambda: stream.read(611), b"")) == TEXT
        assert stream.digest() == hashlib.sha256(stored).hexdigest()
        assert stream.position == (len(stored), len(stored))
        stream.close()
        stream.close()

    @pytest.mark.parametrize("kind", ["gz", "zst"])
    def test_standard_input_is_unpacked_by_its_first_bytes(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        stored = pack(kind, TEXT)
        stdin(monkeypatch, stored)
        stream = open_stream("-")
        assert stream.head() == TEXT
        assert stream.read(10) + stream.read(100_000) == TEXT
        assert stream.read(1) == b""
        assert stream.digest() == hashlib.sha256(stored).hexdigest()
        stdin(monkeypatch, b"x")
        assert read_all("-") == b"x"

    def test_a_pipe_is_read_once_and_whole(self, tmp_path: Path) -> None:
        read, write = os.pipe()
        os.write(write, b"one")
        os.write(write, b"two")
        os.close(write)
        stream = open_stream(f"/dev/fd/{read}")
        assert stream.head() == b"onetwo"
        assert stream.read(5) + stream.read(5) == b"onetwo"
        stream.close()
        os.close(read)

    def test_reads_urls(self) -> None:
        fsspec.filesystem("memory").pipe("/s/a.jsonl.zst", pack("zst", TEXT))
        assert read_all("memory://s/a.jsonl.zst") == TEXT

    def test_digest_before_the_end_is_refused(self, tmp_path: Path) -> None:
        stream = open_stream(put(tmp_path / "a.csv", TEXT))
        stream.read(10)
        with pytest.raises(ValueError, match="not read to its end"):
            stream.digest()
        stream.close()


class TestDamage:
    @pytest.mark.parametrize("kind", ["gz", "zst"])
    def test_truncated_anywhere_never_looks_like_a_shorter_file(self, kind: str, tmp_path: Path) -> None:
        first, second = pack(kind, TEXT), pack(kind, TEXT[:700])
        both = first + second
        places = random.Random(1)
        cuts = {len(both) - 1, len(first) + 1, len(first) - 1, 1, 5, *places.sample(range(1, len(both)), 60)}
        for cut in cuts - {len(first)}:
            error = error_of(put(tmp_path / f"a.jsonl.{kind}", both[:cut]))
            assert isinstance(error, SourceError)
            assert f"ends early, after {cut:,} bytes: fetch the file again" in str(error)

    @pytest.mark.parametrize("kind", ["gz", "zst"])
    def test_a_flipped_bit_is_found(self, kind: str, tmp_path: Path) -> None:
        stored = bytearray(pack(kind, TEXT))
        stored[2000] ^= 4
        assert "is damaged" in str(error_of(put(tmp_path / f"a.{kind}", bytes(stored))))

    @pytest.mark.parametrize("kind", ["gz", "zst"])
    def test_not_compressed_at_all(self, kind: str, tmp_path: Path) -> None:
        message = str(error_of(put(tmp_path / f"a.jsonl.{kind}", b'{"a":1}\n' * 9)))
        assert "-compressed, as its name says" in message

    @pytest.mark.parametrize("kind", ["gz", "zst"])
    def test_an_empty_file_is_fine(self, kind: str, tmp_path: Path) -> None:
        assert read_all(put(tmp_path / f"a.{kind}")) == b""

    def test_what_cannot_be_opened(self, tmp_path: Path) -> None:
        assert isinstance(error_of(str(tmp_path / "missing")), NotFound)
        assert "is a directory" in str(error_of(str(tmp_path)))
        assert isinstance(error_of("memory://nowhere/a.csv"), NotFound)
        assert isinstance(error_of("nosuch://a/b.csv"), UsageError)

    def test_missing_backend_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "s3fs", None)
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)  # if it was used before
        assert "ledger-cli[s3]" in str(error_of("s3://bucket/a.csv"))

    def test_a_server_that_does_not_answer_is_no_missing_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: object, **__: object) -> None:
            raise FileNotFoundError("memory://s/a.csv") from ConnectionRefusedError(111, "Connection refused")

        monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "open", refused)
        error = error_of("memory://s/a.csv")
        assert isinstance(error, SourceError)
        assert "Connection refused" in str(error)

    def test_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        name = put(tmp_path / "a.csv", b"x")

        def refused(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", name)

        monkeypatch.setattr(Path, "open", refused)
        assert "not allowed to read it" in str(error_of(name))
