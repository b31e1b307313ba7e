"""Tells how far the reading of sources has come, also while a large piece of one is on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ledger_cli.ports import Source

Watch = Callable[[int, int | None], None]
"""Takes the bytes read, and in all where known."""

_PERIOD = 0.1
"""Seconds between two looks."""


@contextmanager
def telling(sources: Sequence[Source], watch: Watch | None) -> Iterator[Callable[[], None]]:
    """Call `watch` ten times a second, from a thread of its own, and when what is given here is called.

    Never twice at once. What `watch` raises is raised by the next such call.
    """
    if watch is None:
        yield lambda: None
        return
    teller = _Teller(sources, watch)
    ended = threading.Event()
    thread = threading.Thread(target=teller.tell_until, args=(ended,), name="ledger-progress", daemon=True)
    thread.start()
    try:
        yield teller.tell
    finally:
        ended.set()
        thread.join()


class _Teller:
    def __init__(self, sources: Sequence[Source], watch: Watch) -> None:
        self._sources = sources
        self._watch = watch
        self._turn = threading.Lock()
        self._error: Exception | None = None

    def tell(self) -> None:
        with self._turn:
            if self._error is not None:
                raise self._error
            positions = [source.position for source in self._sources]
            known = [total for _, total in positions if total is not None]
            self._watch(sum(read for read, _ in positions), sum(known) if len(known) == len(positions) else None)

    def tell_until(self, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                self.tell()
            except Exception as error:  # noqa: BLE001 - the caller's own, kept for it
                self._error = error
                return
            ended.wait(_PERIOD)
