"""An online store in Redis: one string for each row, and one for what was published.

Redis does what it is told in order and keeps its log in order, so a mark is not there before the rows it speaks of as
long as it is the same process: one that was started again, or took over, may have lost rows that were written already.
So a mark is only set by the process that took the rows. A store that was emptied has no mark, and is published anew.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.retry
from redis.backoff import NoBackoff

from millpond.kernel.errors import ResourceExhausted, Unavailable
from millpond.online.backends.port import Change
from millpond.online.backends.redis_lane import RedisLane
from millpond.online.domain import Published, decoded

_AT_ONCE = 5_000
_TIMEOUT_S = 5.0
_TIMEOUTS: Any = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
_MARK_IF_SAME_PROCESS = """
if not string.find(redis.call('INFO', 'server'), 'run_id:' .. ARGV[1], 1, true) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RedisBackend:
    """Online tables below a prefix of a Redis database; `url` as `redis://user:password@host:6379/0`."""

    def __init__(self, url: str, *, prefix: str = "millpond") -> None:
        self._prefix = prefix
        self._client = redis.Redis.from_url(
            url, retry=redis.retry.Retry(NoBackoff(), 1, (redis.exceptions.ConnectionError,)), **_TIMEOUTS
        )  # a connection that Redis has closed meanwhile is opened again
        self._url = url
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, RedisLane] = WeakKeyDictionary()
        self._generations: dict[str, int] = {}
        """Of each table the generation that was read last: a guess that the next answer confirms."""
        self._took_rows: dict[str, str] = {}
        """Of each table the process of Redis that took rows since the last mark."""

    def published(self, table: str) -> Published | None:
        """What was published last."""
        return self.read(table, [])[0]

    def write(self, table: str, generation: int, changes: Iterable[Change]) -> int:
        """Set and take away rows, many in each round trip."""
        prefix, rest, written = self._rows(table, generation), iter(changes), 0
        self._took_rows.setdefault(table, self._run_id())
        while portion := list(islice(rest, _AT_ONCE)):
            with _told(), self._client.pipeline(transaction=False) as pipe:
                if kept := {prefix + key: row for key, row in portion if row is not None}:
                    pipe.mset(kept)
                if gone := [prefix + key for key, row in portion if row is None]:
                    pipe.unlink(*gone)
                pipe.execute()
            written += len(portion)
        return written

    def publish(self, table: str, state: Published) -> None:
        """Set the mark. Raises Unavailable when Redis was started again since it took the rows."""
        run_id = self._took_rows.pop(table, None) or self._run_id()
        with _told():
            same = self._client.eval(_MARK_IF_SAME_PROCESS, 1, self._mark(table), run_id, state.encoded())
        if not same:
            raise Unavailable("Redis was started again while rows were published; they are published again.")

    def drop(self, table: str, generation: int | None = None) -> None:
        """Take away a generation's rows; without one the mark first, then all rows."""
        self._took_rows.pop(table, None)
        with _told():
            if generation is None:
                self._client.unlink(self._mark(table))
            pattern = self._of(table) if generation is None else self._rows(table, generation)
            found = self._client.scan_iter(match=pattern + b"*", count=_AT_ONCE)
            while portion := list(islice(found, _AT_ONCE)):
                self._client.unlink(*portion)

    def read(self, table: str, keys: Sequence[bytes]) -> tuple[Published | None, list[bytes | None]]:
        """Mark and rows by one command; again if the mark names another generation than was guessed."""
        while True:
            guess = self._generations.get(table, 0)
            with _told():
                found: list[Any] = self._client.mget(self._asked(table, guess, keys))
            if (answer := self._answer(table, guess, found)) is not None:
                return answer

    async def read_async(self, table: str, keys: Sequence[bytes]) -> tuple[Published | None, list[bytes | None]]:
        """The same on a connection of the event loop."""
        lane = self._lane()
        while True:
            guess = self._generations.get(table, 0)
            with _told():
                found: list[Any] = await lane.mget(self._asked(table, guess, keys))
            if (answer := self._answer(table, guess, found)) is not None:
                return answer

    async def aclose(self) -> None:
        """Close the connection of the event loop."""
        lane = self._lanes.pop(asyncio.get_running_loop(), None)
        if lane is not None:
            await lane.aclose()

    def close(self) -> None:
        """Close the other connections."""
        self._client.close()

    def _lane(self) -> RedisLane:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            lane = self._lanes[loop] = RedisLane(self._url, timeout_s=_TIMEOUT_S)
        return lane

    def _asked(self, table: str, generation: int, keys: Sequence[bytes]) -> list[bytes]:
        prefix = self._rows(table, generation)
        return [self._mark(table), *(prefix + key for key in keys)]

    def _answer(
        self, table: str, guess: int, found: Sequence[bytes | None]
    ) -> tuple[Published | None, list[bytes | None]] | None:
        """What Redis gave for `_asked`; None when the guess was wrong, and is better now."""
        mark, *rows = found
        if mark is None:
            return None, [None] * len(rows)
        state = decoded(mark)
        if state.generation == guess or not rows:
            return state, rows
        self._generations[table] = state.generation
        return None

    def _run_id(self) -> str:
        with _told():
            return str(self._client.info("server")["run_id"])

    def _mark(self, table: str) -> bytes:
        return self._of(table) + b"published"

    def _rows(self, table: str, generation: int) -> bytes:
        return self._of(table) + b"%d:" % generation

    def _of(self, table: str) -> bytes:
        return f"{self._prefix}:{{{table}}}:".encode()  # braces: a cluster keeps a table's keys together


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise ResourceExhausted("Redis has no memory left for the online table.") from error
    except (redis.exceptions.RedisError, OSError) as error:
        raise Unavailable(f"The online store in Redis does not answer: {type(error).__name__}.") from error
