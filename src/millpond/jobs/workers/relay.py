"""A worker's doors: sockets on its machine that lead to its server, for tasks that have no network of their own."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from millpond.home import socket_address
from millpond.kernel.doors import Doors

_BLOCK_BYTES = 256 << 10
_CONNECT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """A port of the server."""

    host: str
    port: int
    trust: ssl.SSLContext | None
    """For TLS; None without."""


@contextmanager
def open_doors(directory: Path, *, api: Target, spark: Target) -> Iterator[Doors]:
    """Doors while the block runs; on this machine's loopback too, where a task cannot have a network of its own."""
    sockets = [directory / "api.sock", directory / "spark.sock"]
    ports = [socket.create_server(("127.0.0.1", 0)) for _ in sockets]
    doors = [(target, _unix(path), port) for target, path, port in zip((api, spark), sockets, ports, strict=True)]
    loop, stopped = asyncio.new_event_loop(), asyncio.Event()

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(_serve(doors, stopped))

    thread = threading.Thread(target=serve, name="doors", daemon=True)
    thread.start()
    api_port, spark_port = (int(each.getsockname()[1]) for each in ports)
    try:
        yield Doors(api_socket=sockets[0], api_port=api_port, spark_socket=sockets[1], spark_port=spark_port)
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


async def _serve(doors: Sequence[tuple[Target, socket.socket, socket.socket]], stopped: asyncio.Event) -> None:
    for target, *listeners in doors:
        for listener in listeners:
            await asyncio.start_server(partial(_carry, target), sock=listener)
    await stopped.wait()


def _unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with socket_address(path) as address:
        listener.bind(address)
    listener.listen(256)
    return listener


async def _carry(target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes on one connection, both ways, until both have ended."""
    try:
        async with asyncio.timeout(_CONNECT_S):
            out = await asyncio.open_connection(target.host, target.port, ssl=target.trust)
    except OSError:
        writer.close()
        return
    with suppress(OSError):
        await asyncio.gather(_pass_on(reader, out[1]), _pass_on(out[0], writer))
    for each in (writer, out[1]):
        each.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(_BLOCK_BYTES):
            writer.write(block)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:  # TLS has no half of a connection
            writer.close()
    except OSError:
        writer.close()
        raise
