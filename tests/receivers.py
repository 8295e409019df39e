"""Somebody on this machine who takes HTTP requests, to see what a server sends."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What was sent, and what is answered: the next of `answers`, then 200."""

    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def about(self, wanted: Callable[[dict[str, Any]], bool]) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """The messages that are wanted."""
        return [(headers, body) for headers, raw in self.got if wanted(body := json.loads(raw))]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver while the block runs."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            state.got.append((dict(self.headers), raw))
            self.send_response(state.answers.pop(0) if state.answers else 200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"seen")

        def log_message(self, *_args: Any) -> None:
            pass

    with listening(Handler) as url:
        state.url = url
        yield state


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server with a handler, while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    server.server_close()
    thread.join()
