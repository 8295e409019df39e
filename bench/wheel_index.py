"""A package index (PEP 503) of some wheels that lie in a directory, which sends whoever asks for another to PyPI."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_PYPI = "https://pypi.org/simple"


@contextmanager
def wheel_index(directory: Path) -> Iterator[str]:
    """Its address, while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(directory))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(directory: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rstrip("/").rpartition("/")[2].replace("%2B", "+")
            wheels = sorted(directory.glob(f"{name.replace('-', '_')}-*.whl"))
            if name.endswith(".whl"):
                self._answer(200, (directory / name).read_bytes(), {"Content-Type": "application/octet-stream"})
            elif wheels:
                links = "".join(f'<a href="/files/{wheel.name}">{wheel.name}</a>' for wheel in wheels)
                self._answer(200, f"<!DOCTYPE html>{links}".encode(), {"Content-Type": "text/html"})
            else:
                self._answer(302, b"", {"Location": f"{_PYPI}/{name}/"})

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Not among the figures."""

    return Handler
