"""A small HTTP server on this machine that answers as an authority, or as none should."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.patience import PATIENCE_SECONDS

REPLY = "application/timestamp-reply"


@dataclass
class Exchange:
    """What the server was asked, and what it does."""

    answer: Callable[[bytes], bytes]
    status: int = 200
    kind: str = REPLY
    location: str | None = None
    silent: threading.Event | None = None
    asked: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def time_server(exchange: Exchange) -> Iterator[str]:
    """The server's address, for the length of a `with`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # how http.server finds it
            body = self.rfile.read(int(self.headers["Content-Length"]))
            exchange.asked.append(body)
            exchange.headers.append({name.lower(): value for name, value in self.headers.items()})
            if exchange.silent is not None:
                exchange.silent.wait(PATIENCE_SECONDS)
                return
            data = exchange.answer(body)
            self.send_response(exchange.status)
            self.send_header("Content-Type", exchange.kind)
            self.send_header("Content-Length", str(len(data)))
            if exchange.location is not None:
                self.send_header("Location", exchange.location)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(data)

        def do_GET(self) -> None:  # what a redirection would become
            exchange.asked.append(b"")
            self.send_error(405)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tsa"
    finally:
        if exchange.silent is not None:
            exchange.silent.set()
        server.shutdown()
        thread.join()
        server.server_close()
