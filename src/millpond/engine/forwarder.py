"""Carries bytes through the two doors of an engine's own network.

The way in: a Unix socket that only the gateway reaches leads to the engine's port. The ways out: a port on the engine's
loopback leads to the Unix socket on which our own API answers, so that a user's function can load a model with its
user's token, another to the relay before the object store; nothing else of the network can be reached.

Runs as a small process of its own beside the engine, so that Python code in the engine cannot hold it up. Standard
library only; `splice` moves the bytes without copying them into this process.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
NO_WAY_IN = "-"
_OPEN_S = 10.0
_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE


class _Way:
    """One direction of a connection, through a pipe."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self._source, self._target = source.fileno(), target.fileno()
        self._out, self._in = os.pipe()
        with contextlib.suppress(OSError):  # over the user's quota for pipes the default size works too
            fcntl.fcntl(self._in, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._held = 0
        self._ended = False

    def carry(self) -> bool:
        """Move what can be moved now; False when this direction has ended."""
        moving = True
        while moving:
            moving = self._fill() | self._drain()
        return not (self._ended and self._held == 0)

    def _fill(self) -> bool:
        if self._ended or self._held >= _PIPE_BYTES // 2:
            return False
        try:
            count = os.splice(self._source, self._in, _PIPE_BYTES, flags=_FLAGS)
        except BlockingIOError:
            return False
        self._ended = count == 0
        self._held += count
        return count > 0

    def _drain(self) -> bool:
        if self._held == 0:
            return False
        try:
            count = os.splice(self._out, self._target, self._held, flags=_FLAGS)
        except BlockingIOError:
            return False
        self._held -= count
        return True

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)


class _Connection:
    def __init__(self, outside: socket.socket, inside: socket.socket) -> None:
        self.sockets = (outside, inside)
        self._ways = (_Way(outside, inside), _Way(inside, outside))

    def carry(self) -> bool:
        try:
            return all(way.carry() for way in self._ways)
        except OSError:
            return False

    def close(self) -> None:
        for item in (*self.sockets, *self._ways):
            item.close()


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where to accept, and how to connect what comes."""

    listener: socket.socket
    connect: Callable[[], socket.socket]


def serve(doors: Sequence[Door]) -> None:
    """Accept at each door and carry what comes, for ever."""
    by_descriptor = {door.listener.fileno(): door for door in doors}
    connections: dict[int, _Connection] = {}
    poll = select.epoll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in by_descriptor:
                _accept(by_descriptor[descriptor], poll, connections)
                continue
            connection = connections.get(descriptor)
            if connection is not None and not connection.carry():
                for end in connection.sockets:
                    connections.pop(end.fileno(), None)
                connection.close()


def _accept(door: Door, poll: select.epoll, connections: dict[int, _Connection]) -> None:
    outside, _ = door.listener.accept()
    try:
        inside = door.connect()
    except OSError:
        outside.close()
        return
    for end in (outside, inside):
        if end.family != socket.AF_UNIX:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = _Connection(outside, inside)
    for end in connection.sockets:
        end.setblocking(False)
        connections[end.fileno()] = connection
        poll.register(end, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)


def main() -> None:
    """`forwarder.py LISTENER_FD PARENT_PID [SOCKET PORT]...`; the engine's port comes on standard input.

    With `-` in the place of the listener there are only ways out.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_DUMPABLE, 0)  # what runs beside it cannot trace it, nor take its sockets
    if os.getppid() != int(sys.argv[2]):
        os._exit(1)
    if sys.argv[1] == NO_WAY_IN:
        serve(_ways_out(sys.argv[3:]))
    port = int(sys.stdin.readline())
    way_in = Door(
        listener=socket.socket(fileno=int(sys.argv[1])),
        connect=lambda: socket.create_connection(("127.0.0.1", port)),
    )
    serve([way_in, *_ways_out(sys.argv[3:])])


def open_ways_out(pairs: Sequence[str]) -> None:
    """Start a process that leads pairs of a socket and a port out of this one's network, and wait for its ports."""
    command = [sys.executable, "-I", "-S", __file__, NO_WAY_IN, str(os.getpid()), *pairs]
    subprocess.Popen(command, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + _OPEN_S
    for port in map(int, pairs[1::2]):
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break


def _ways_out(pairs: Sequence[str]) -> list[Door]:
    return [_way_out(path, int(port)) for path, port in zip(pairs[::2], pairs[1::2], strict=True)]


def _way_out(path: str, port: int) -> Door:
    directory, _, name = path.rpartition("/")
    # a path of a Unix socket has at most 107 bytes, that of a data directory may be longer
    address = f"/proc/self/fd/{os.open(directory, os.O_PATH)}/{name}"

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(address)
        except OSError:
            server.close()
            raise
        return server

    return Door(listener=socket.create_server(("127.0.0.1", port)), connect=connect)


if __name__ == "__main__":
    main()
