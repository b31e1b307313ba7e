"""A bus behind a URL: events are posted as JSON Lines. Any status of 200 to 299 says that they are there to stay."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from http.client import HTTPException
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ledger_cli.errors import Unavailable, UsageError
from ledger_cli.ports import BusEvent

POST_EVENTS = 1000
"""Events of one request."""
SECONDS = 10
"""So long a server may let each part wait: being connected to, taking some of the request, some of the answer."""
SECONDS_IN_ALL = 30
"""So long all of it may take: who sends a byte now and then lets no part wait for long."""
_LATER = (408, 425, 429)
"""Refusals that the same request may not meet another time, beside those from 500 on."""


class _NoRedirects(HTTPRedirectHandler):
    """A client would follow with GET, without the events, and take the answer for success."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Post something, within `SECONDS_IN_ALL`. What `urlopen` raises where it is not taken by a status of 200 to 299.

    It is done aside, for neither finding an address nor agreeing on keys can be ended from here. What takes too long is
    left to itself.
    """
    done: Future[None] = Future()

    def ask() -> None:
        try:
            # The status says all: a body, which may have no end, is not read.
            build_opener(_NoRedirects).open(Request(url, body, dict(headers)), timeout=SECONDS).close()
        except Exception as error:  # noqa: BLE001 - it is raised by who waits for it
            done.set_exception(error)
        else:
            done.set_result(None)

    Thread(target=ask, name="ledger-post", daemon=True).start()
    try:
        done.result(SECONDS_IN_ALL)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {SECONDS_IN_ALL} s") from error


class HttpBus:
    """A server that takes POST. See `ports.Bus`."""

    def __init__(self, url: str) -> None:
        """A user and password in the URL are sent as basic authorization, and shown nowhere; nor is its query."""
        try:
            parts = urlsplit(url)
            if not parts.hostname or parts.port == 0:
                raise ValueError("it names no host, or no port")
        except ValueError as error:
            raise UsageError(f"bus is no URL to post to ({error}): correct it, like https://host/events") from error
        login, _, host = parts.netloc.rpartition("@")
        self.name = urlunsplit((parts.scheme, host, parts.path, "", ""))
        self._url = urlunsplit(parts._replace(netloc=host, fragment=""))
        self._headers = {"Content-Type": "application/x-ndjson"}
        if login:
            self._headers["Authorization"] = "Basic " + b64encode(unquote(login).encode()).decode()

    def publish(self, events: Sequence[BusEvent]) -> None:
        """Post them in order, some at a time: those of a request that was answered are there."""
        for first in range(0, len(events), POST_EVENTS):
            self._post(b"".join([each.value + b"\n" for each in events[first : first + POST_EVENTS]]))

    def _post(self, lines: bytes) -> None:
        try:
            post(self._url, lines, self._headers)
        except HTTPError as error:
            error.close()
            if error.code >= 500 or error.code in _LATER:
                raise Unavailable(f"{self.name} answered {error.code} {error.reason}") from error
            raise UsageError(f"{self.name} answered {error.code} {error.reason}: correct the setting bus") from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise Unavailable(f"{self.name} cannot be reached: {reason}") from error
        except ValueError as error:
            raise UsageError(f"{self.name} is no URL to post to ({error}): correct the setting bus") from error
