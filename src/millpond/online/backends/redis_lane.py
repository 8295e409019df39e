"""A connection to Redis that all readers of an event loop share.

Commands go out as they come and answers come in their order, so a reader waits for nobody's connection, and several
commands share a system call. The library's client has a connection for each command and costs five times as much.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
import redis.asyncio
from redis.exceptions import ConnectionError, InvalidResponse, ResponseError, TimeoutError

Reply = list[bytes | None]
_MORE = object()
"""What there is of an answer of which more is to come."""


class RedisLane:
    """Asks one Redis for values. Belongs to the event loop in which it is used."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._pool = redis.asyncio.ConnectionPool.from_url(
            url, socket_timeout=None, socket_connect_timeout=timeout_s, health_check_interval=0
        )  # it only makes them
        self._timeout_s = timeout_s
        self._opening: asyncio.Task[_Open] | None = None
        self._open: _Open | None = None

    async def mget(self, keys: Sequence[bytes]) -> Reply:
        """The values of some keys, of one moment; None of those that are not there.

        A connection that Redis has closed is opened again, once. Raises redis.exceptions.RedisError and OSError.
        """
        command = hiredis.pack_command(("MGET", *keys))  # type: ignore[arg-type]  # of any length
        lane = self._open
        if lane is not None and not lane.is_lost:
            try:
                return await lane.ask(command)
            except ConnectionError:
                pass
        return await (await self._opened(lane)).ask(command)

    async def aclose(self) -> None:
        """Close the connection; whoever waits is told so."""
        if self._opening is not None:
            self._opening.cancel()
        if self._open is not None:
            self._open.lose(ConnectionError("The connection to Redis is closed."))
            self._open = None

    async def _opened(self, before: "_Open | None") -> "_Open":
        """A connection that is another than the one before. All who wait for one share the attempt, and its failure."""
        if self._open is not None and self._open is not before and not self._open.is_lost:
            return self._open
        if self._opening is None:
            self._opening = asyncio.create_task(self._connect())
            self._opening.add_done_callback(self._attempted)
        return await asyncio.shield(self._opening)

    async def _connect(self) -> "_Open":
        if self._open is not None:
            self._open.lose(ConnectionError("The connection to Redis was closed."))
            self._open = None
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        async with asyncio.timeout(self._timeout_s):  # with the handshake
            await connection.connect()
        self._open = _Open(connection, self._timeout_s)
        return self._open

    def _attempted(self, attempt: "asyncio.Task[_Open]") -> None:
        self._opening = None
        if not attempt.cancelled():
            attempt.exception()  # seen, though nobody may wait any more


class _Open(asyncio.Protocol):
    """A connection that is open, until it is lost."""

    def __init__(self, connection: redis.asyncio.Connection, timeout_s: float) -> None:
        """Takes over the connection's transport: what the library does on top of it takes as long as Redis itself."""
        assert connection._writer is not None
        self._connection = connection
        self._transport = connection._writer.transport
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[asyncio.Future[Reply], float]] = deque()
        """Who waits for an answer, in their order, and until when."""
        self._watch: asyncio.TimerHandle | None = None
        self._replies = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError, notEnoughData=_MORE)
        self.is_lost = False
        self._transport.set_protocol(self)

    async def ask(self, command: bytes) -> Reply:
        """The answer to a packed command."""
        if self.is_lost:
            raise ConnectionError("Redis has closed the connection.")
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append((answer, self._loop.time() + self._timeout_s))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        self._transport.write(command)
        return await answer

    def data_received(self, data: bytes) -> None:
        """Hand out the answers that are complete."""
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not _MORE:
                if not isinstance(reply, hiredis.PushNotification):
                    self._answered(reply)
        except (InvalidResponse, IndexError) as error:  # no Redis answers like that, or what nobody asked
            self.lose(ConnectionError(f"What Redis answers is not understood: {error}."))

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody is there any more."""
        self.lose(ConnectionError("The connection to Redis was closed."))

    def lose(self, error: Exception) -> None:
        """End it; whoever waits is told why."""
        self.is_lost = True
        self._transport.abort()
        self._connection._writer = None  # closed: the library has nothing left to close
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for answer, _ in self._waiting:
            if not answer.done():
                answer.set_exception(error)
        self._waiting.clear()

    def _answered(self, reply: Any) -> None:
        answer, _ = self._waiting.popleft()
        if answer.done():
            return  # nobody waits any more
        if isinstance(reply, Exception):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)

    def _look(self) -> None:
        """Whether somebody has waited too long."""
        self._watch = None
        if not self._waiting:
            return
        left = self._waiting[0][1] - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self.lose(TimeoutError(f"Redis has not answered for {self._timeout_s:g} s."))
