"""Events read in a process of its own: of a large input, one core reads what the other judges.

Nothing depends on that process. It ends with its input, however this one ends; what it does not answer is read here.
"""

from __future__ import annotations

import gc
import marshal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import IO, Any, cast

import pyarrow as pa

from ledger_cli.core.world import Refused, WorldEvent
from ledger_cli.core.world_batch import Events, read_events

ALONE_EVENTS = 10_000
"""So many are read sooner than a process is started."""
_SIZE_BYTES = 8
# The same modules from the same places; before that, what comes with Python alone is imported.
_START = """
import marshal, sys
sys.path = marshal.load(sys.stdin.buffer)
from ledger_cli.services.world_reader import serve
serve(sys.stdin.buffer, sys.stdout.buffer)
"""

_event = cast(Callable[[Any], WorldEvent], partial(tuple.__new__, WorldEvent))


class EventReader:
    """Reads batches, one after the other, beside what else is done."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys`: as of `read_events`."""
        self._keys = dict(keys)
        self._read = 0
        self._process: subprocess.Popen[bytes] | None = None
        # The executable of a frozen application is no Python.
        self._failed = bool(getattr(sys, "frozen", False))
        self._thread = ThreadPoolExecutor(1, "ledger-reader")

    def read(self, texts: Sequence[bytes]) -> Future[Events]:
        """The events of texts, to come."""
        if self._read >= ALONE_EVENTS and self._process is None and not self._failed:
            self._start()
        self._read += len(texts)
        return self._thread.submit(self._answered if self._sent(texts) else self._here, texts)

    @property
    def working(self) -> bool:
        """Whether a process reads."""
        return self._process is not None and not self._failed

    def __enter__(self) -> EventReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._give_up()
        self._thread.shutdown()
        if self._process is not None:
            self._process.communicate()

    def _start(self) -> None:
        try:
            # In a session of its own, so that Ctrl-C does not reach it.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert self._process.stdin is not None
            marshal.dump(list(map(str, sys.path)), self._process.stdin)
            _send(self._process.stdin, self._keys)
        except (OSError, ValueError):
            self._give_up()

    def _sent(self, texts: Sequence[bytes]) -> bool:
        if self._process is not None and not self._failed:
            assert self._process.stdin is not None
            try:
                _send(self._process.stdin, list(texts))
            except (OSError, ValueError):
                self._give_up()
        return self.working

    def _answered(self, texts: Sequence[bytes]) -> Events:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            if not self._failed:
                return _unpacked(*_received(self._process.stdout))
        except (OSError, EOFError, ValueError, TypeError, pa.ArrowException):
            self._give_up()
        return self._here(texts)

    def _here(self, texts: Sequence[bytes]) -> Events:
        return read_events(texts, self._keys)

    def _give_up(self) -> None:
        # Killed, so that nobody waits for it.
        self._failed = True
        if self._process is not None:
            self._process.kill()


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Answer batches with their events until there are no more: the other side of `EventReader`."""
    gc.disable()
    with suppress(EOFError, BrokenPipeError):
        keys = _received(source)
        while True:
            _send(target, _packed(read_events(_received(source), keys)))


def _packed(events: Events) -> tuple[list[tuple[Any, ...]], bytes]:
    """What `marshal` takes: tuples, two long where an event is refused, and an Arrow stream."""
    found = [(each.reason, each.detail) if isinstance(each, Refused) else tuple(each) for each in events.found]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, events.rows.schema) as stream:
        stream.write_table(events.rows)
    return found, sink.getvalue().to_pybytes()


def _unpacked(found: Sequence[tuple[Any, ...]], rows: bytes) -> Events:
    events = [_event(each) if len(each) > 2 else Refused(*each) for each in found]
    with pa.ipc.open_stream(rows) as stream:
        return Events(events, stream.read_all())


def _send(stream: IO[bytes], value: Any) -> None:
    data = marshal.dumps(value)
    stream.write(len(data).to_bytes(_SIZE_BYTES, "big"))
    stream.write(data)
    stream.flush()


def _received(stream: IO[bytes]) -> Any:
    """EOFError where it broke off."""
    size = stream.read(_SIZE_BYTES)
    data = stream.read(int.from_bytes(size, "big"))
    if not data:
        raise EOFError
    return marshal.loads(data)
