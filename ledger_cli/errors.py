"""The errors of the ledger: one root, one exit code per class, a message that says what to do next.

LedgerError                1
├── UsageError             2
│   ├── NotFound           2
│   └── PolicyChange       2
├── MissingExtra           1
├── SourceError            1
├── NotWritten             1
├── Unavailable            1   what is elsewhere cannot be reached: an engine, a bus, the canonical ledger
├── Conflict               1   another process moved the ref first: safe to run again
├── Corrupt                1   a stored file is not what its digest says
├── MomentOverflow         1   a sum does not fit into 128 bits
├── CausalGap              1   a branch has not taken in what was seen, or a cause of what it has
├── ClockError             1   a clock is too far ahead, or its counter used up
├── QuarantinedRows        3
├── Difference             4
└── NeedsDecision          5
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class LedgerError(Exception):
    """Anything the ledger refuses or cannot do. The message names the next step."""

    exit_code = 1
    ledger: str | None = None
    """Where the ledger is that the message names as the one concerned; None: it names none."""


class UsageError(LedgerError):
    """The command line or a setting is wrong."""

    exit_code = 2


class NotFound(UsageError):
    """A ledger, branch, commit, tag or file that was named does not exist."""


class PolicyChange(UsageError):
    """The policy of a branch with commits cannot change: fork."""


class MissingExtra(LedgerError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, module: str) -> None:
        super().__init__(
            f"{module} is not installed: pip install 'ledger-cli[{extra}]' (in a clone: pip install '.[{extra}]')"
        )
        self.extra = extra
        self.module = module


class SourceError(LedgerError):
    """A source cannot be read as what it claims to be. Nothing of the command was stored."""


class NotWritten(LedgerError):
    """The disk of the ledger is full, fails or may not be written to. Nothing of the command was stored."""

    def __init__(self, what: str, remedy: str = "free space") -> None:
        super().__init__(f"the ledger cannot be written: {what}; nothing was stored, {remedy} and retry")
        self.what = what
        self.remedy = remedy


class Unavailable(LedgerError):
    """What is elsewhere (an engine, a bus, the canonical ledger) cannot be reached, or went away.

    The message says whether to run it again.
    """


class Conflict(LedgerError):
    """Another process moved the ref first. Nothing was changed; the command can be run again."""


class Corrupt(LedgerError):
    """A stored file is missing, torn or changed: its digest does not match."""


class MomentOverflow(LedgerError):
    """A sum does not fit into 128 bits."""

    def __init__(self) -> None:
        super().__init__(
            "a sum of weights or activities exceeds 128 bits: use a smaller base weight, alpha, beta or epsilon"
        )


class CausalGap(LedgerError):
    """A branch has not taken in all that a reader has seen elsewhere, or has an effect without its cause."""


class ClockError(LedgerError):
    """A hybrid clock cannot give a reading: another clock is too far ahead, or its counter is used up."""


class QuarantinedRows(LedgerError):
    """The command finished, but rows went to quarantine."""

    exit_code = 3


class Difference(LedgerError):
    """A verification or check found a difference."""

    exit_code = 4


class NeedsDecision(LedgerError):
    """A conflict that a person has to resolve. `asked`: the questions, as JSON."""

    exit_code = 5

    def __init__(self, message: str, asked: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.asked = asked or {}


@contextmanager
def told_of(ledger: str) -> Iterator[None]:
    """Let errors name the ledger that they are about, where a command works on several."""
    try:
        yield
    except LedgerError as error:
        if error.ledger is None:
            error.ledger = ledger
            error.args = (f"{ledger}: {error}",)
        raise
