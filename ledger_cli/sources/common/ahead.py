"""Reads one piece ahead of whoever consumes them."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import TypeVar

Piece = TypeVar("Piece")

_END = object()
_PATIENCE = 5.0
"""Seconds to wait for a reader told to stop; one that hangs in a pipe is left to the end of the process."""


def read_ahead(pieces: Iterator[Piece]) -> Generator[Piece, None, None]:
    """The same pieces, each made in a thread while the one before is being consumed: two at once in memory.

    What `pieces` raises is raised here. Closing this generator early ends the thread and closes `pieces`.
    """
    handed: SimpleQueue[tuple[object, BaseException | None]] = SimpleQueue()
    wanted = threading.Semaphore(1)
    stop = threading.Event()
    arguments = (pieces, handed, wanted, stop)
    reader = threading.Thread(target=_make, args=arguments, name="ledger-source", daemon=True)
    reader.start()
    try:
        yield from _handed_over(handed, wanted)
    finally:
        stop.set()
        wanted.release()
        reader.join(_PATIENCE)


def _handed_over(
    handed: SimpleQueue[tuple[object, BaseException | None]], wanted: threading.Semaphore
) -> Iterator[Piece]:
    while True:
        piece, error = handed.get()
        if error is not None:
            raise error
        if piece is _END:
            return
        wanted.release()
        yield piece  # type: ignore[misc]
        del piece  # else it would live on while the next but one is made


def _make(
    pieces: Iterator[Piece],
    handed: SimpleQueue[tuple[object, BaseException | None]],
    wanted: threading.Semaphore,
    stop: threading.Event,
) -> None:
    try:
        while True:
            wanted.acquire()
            if stop.is_set():
                break
            handed.put((next(pieces, _END), None))
    except BaseException as error:  # noqa: BLE001 - handed over to the consumer, whatever it is
        handed.put((None, error))
    finally:
        if isinstance(pieces, Generator):
            pieces.close()
