"""Wheels made on the spot, and a package index that has them."""

import base64
import hashlib
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Index:
    """A package index on this machine."""

    directory: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)
    """Paths, in the order in which they were asked for."""
    broken: bool = False
    held: threading.Event = field(default_factory=threading.Event)
    """Wheels are given once it is set, which it is."""

    def add(self, name: str, version: str = "1.0", files: Mapping[str, str] | None = None) -> Path:
        """A wheel with some files, by default a module of that name."""
        return make_wheel(self.directory, name, version, files or {f"{name}.py": f"VERSION = {version!r}\n"})


def make_wheel(directory: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """A pure wheel, as PEP 427 has it."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    tags = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    whole = {f"{info}/METADATA": metadata, f"{info}/WHEEL": tags, **files}
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in whole.items())
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for place, text in {**whole, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(place, text)
    return path


@contextmanager
def package_index(directory: Path) -> Iterator[Index]:
    """An index (PEP 503) of what lies in a directory, while the block runs."""
    directory.mkdir(exist_ok=True)
    index = Index(directory)
    index.held.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(index))
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        index.held.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(index: Index) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            name = self.path.rstrip("/").rpartition("/")[2]
            if index.broken:
                self._answer(400, b"", "text/plain")
            elif name.endswith(".whl"):
                index.held.wait()
                self._answer(200, (index.directory / name).read_bytes(), "application/octet-stream")
            else:
                wheels = sorted(index.directory.glob(f"{name.replace('-', '_')}-*.whl"))
                links = "".join(f'<a href="/files/{wheel.name}">{wheel.name}</a>' for wheel in wheels)
                self._answer(200 if wheels else 404, f"<!DOCTYPE html>{links}".encode(), "text/html")

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Not in the tests' output."""

    return Handler


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
