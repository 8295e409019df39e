"""Carries bytes between a Unix socket and the engine's port: the only door into the engine's own network.

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
import sys

_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_PR_SET_PDEATHSIG = 1
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
            return all([way.carry() for way in self._ways])
        except OSError:
            return False

    def close(self) -> None:
        for item in (*self.sockets, *self._ways):
            item.close()


def serve(listener: socket.socket, port: int) -> None:
    """Accept on `listener` and connect each connection with 127.0.0.1:`port`, for ever."""
    connections: dict[int, _Connection] = {}
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                _accept(listener, port, poll, connections)
                continue
            connection = connections.get(descriptor)
            if connection is not None and not connection.carry():
                for end in connection.sockets:
                    connections.pop(end.fileno(), None)
                connection.close()


def _accept(listener: socket.socket, port: int, poll: select.epoll, connections: dict[int, _Connection]) -> None:
    outside, _ = listener.accept()
    try:
        inside = socket.create_connection(("127.0.0.1", port))
    except OSError:
        outside.close()
        return
    inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = _Connection(outside, inside)
    for end in connection.sockets:
        end.setblocking(False)
        connections[end.fileno()] = connection
        poll.register(end, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)


def main() -> None:
    """`forwarder.py LISTENER_FD PARENT_PID`; the port comes on standard input once the engine listens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[2]):
        os._exit(1)
    port = int(sys.stdin.readline())
    serve(socket.socket(fileno=int(sys.argv[1])), port)


if __name__ == "__main__":
    main()
