"""A small web server on this machine, for what is posted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Posted:
    """What came, request by request, and what is answered."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.requests: list[list[Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def events(self) -> list[Any]:
        """The events of all requests that were answered with 200."""
        return [each for request in self.requests for each in request]


@contextmanager
def server() -> Iterator[Posted]:
    """It takes JSON Lines by POST, at a free port."""
    posted = Posted()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if posted.status == 200:
                posted.requests.append([json.loads(line) for line in body.splitlines()])
                posted.headers.append(dict(self.headers))
            self.send_response(posted.status)
            if posted.status == 302:
                self.send_header("Location", posted.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        posted.url = f"http://127.0.0.1:{running.server_port}/events"
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield posted
        finally:
            running.shutdown()
            thread.join()
