"""A connection to Redis that all readers of an event loop share.

Commands go out as they come and answers come in their order, so a reader waits for nobody's connection, and several
commands share a system call. The library's client has a connection for each command and costs five times as much.
"""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
import redis.asyncio
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

Reply = list[bytes | None]


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
            await self._open.close()
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
            await self._open.close()
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


class _Open:
    """A connection that is open, until it is lost."""

    def __init__(self, connection: redis.asyncio.Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        """Who waits for an answer, in their order, and until when."""
        self._watch: asyncio.TimerHandle | None = None
        self.is_lost = False
        self._reading = asyncio.create_task(self._read())

    async def ask(self, command: bytes) -> Reply:
        """The answer to a packed command."""
        if self.is_lost:
            raise ConnectionError("Redis has closed the connection.")
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append((answer, self._loop.time() + self._timeout_s))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        try:
            await self._connection.send_packed_command(command, check_health=False)
        except BaseException:
            answer.cancel()  # it stays in its place, should there be an answer
            raise
        return await answer

    async def close(self) -> None:
        """End it."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        lost: Exception = ConnectionError("The connection to Redis was closed.")
        try:
            while True:
                try:
                    self._answered(await self._connection.read_response(disable_decoding=True, timeout=math.inf))
                except ResponseError as error:
                    self._answered(error)
        except (ConnectionError, OSError) as error:
            lost = error
        finally:
            self._lose(lost)
            await self._connection.disconnect(nowait=True)

    def _answered(self, reply: Any) -> None:
        answer, _ = self._waiting.popleft()
        if answer.done():
            return  # nobody waits any more
        if isinstance(reply, Exception):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)

    def _lose(self, error: Exception) -> None:
        self.is_lost = True
        if self._connection._writer is not None:
            self._connection._writer.transport.abort()  # whoever waits to write does not wait for what is not read
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for answer, _ in self._waiting:
            if not answer.done():
                answer.set_exception(error)
        self._waiting.clear()

    def _look(self) -> None:
        """Whether somebody has waited too long."""
        self._watch = None
        if not self._waiting:
            return
        left = self._waiting[0][1] - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self._lose(TimeoutError(f"Redis has not answered for {self._timeout_s:g} s."))
            self._reading.cancel()
