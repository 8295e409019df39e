"""A running execution and the part of its answer that the client has not released yet."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from millpond.engine.errors import ExecutionError

_ID_IS_WITHIN = 256
"""Bytes at the end of a serialised response in which its id stands: ids follow the payload."""


@dataclass
class Operation:
    """One execution. Its messages are numbered from 0; those before `first` have been released."""

    id: str
    tags: tuple[str, ...] = ()
    reattachable: bool = True
    is_query: bool = False
    """Whether it changes nothing, so that it may be stopped when nobody waits for it."""
    spent_ms: int | None = None
    """Processor time of the engine, once it has ended and that is known."""
    abandoned: bool = False
    """Whether the client has said that it wants no more: nothing is kept."""
    task: asyncio.Task[None] | None = None
    failure: BaseException | None = None
    done: bool = False
    first: int = 0
    position: int = 0
    """Number of the next message that the client is given."""
    _kept: deque[bytes] = field(default_factory=deque)
    _kept_bytes: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def add(self, message: bytes, limit_bytes: int) -> None:
        """One more message; waits while more than `limit_bytes` lie unread."""
        if self.abandoned:
            return
        self._kept.append(message)
        self._kept_bytes += len(message)
        self._changed.set()
        while self._kept_bytes > limit_bytes and not self.abandoned:
            self._changed.clear()
            await self._changed.wait()

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Around the work: note how it ended, and wake who waits for more."""
        try:
            yield
        except asyncio.CancelledError:
            self.failure = ExecutionError("OPERATION_CANCELED", "The operation was interrupted.", sql_state="HY008")
        except Exception as error:  # it is the client's to see, and raised where the client listens
            self.failure = error
        finally:
            self.done = True
            self._changed.set()

    async def messages(self, position: int) -> AsyncIterator[bytes]:
        """All messages from a position on, until the work is done."""
        self.position = position
        while True:
            while self.position < self.first + len(self._kept):
                message = self._kept[max(0, self.position - self.first)]
                self.position += 1
                yield message
                if not self.reattachable:
                    self._drop(self.position)
            if self.done:
                return
            self._changed.clear()
            await self._changed.wait()

    def after(self, response_id: str) -> int:
        """The position behind a response; the first kept one when that was released."""
        needle = response_id.encode()
        for offset, message in enumerate(self._kept):
            if needle in message[-_ID_IS_WITHIN:]:
                return self.first + offset + 1
        return self.first

    def release(self, response_id: str) -> None:
        """Forget messages up to and including a response."""
        needle = response_id.encode()
        if any(needle in message[-_ID_IS_WITHIN:] for message in self._kept):
            self._drop(self.after(response_id))

    def _drop(self, until: int) -> None:
        while self._kept and self.first < until:
            self._kept_bytes -= len(self._kept.popleft())
            self.first += 1
        self._changed.set()
