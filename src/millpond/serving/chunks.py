"""The parts of an answer that comes as it is made, between a worker and who listens."""

import asyncio
from collections import deque

from millpond.serving.frames import CHUNKS_AHEAD, MAX_CHUNK_BYTES, BrokenFrame


class Chunks:
    """Holds what has come and was not taken: at most CHUNKS_AHEAD, as a worker sends no more than was asked for."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._room = CHUNKS_AHEAD
        self._taken = 0
        self._changed = asyncio.Event()
        self._ended = False

    @property
    def is_awaited(self) -> bool:
        """Whether it is for the worker to go on: more was asked for."""
        return self._room > 0

    def put(self, chunk: bytes) -> None:
        """Another one has come. Raises BrokenFrame for one that was not asked for, or is not one line."""
        if not self._room or len(chunk) > MAX_CHUNK_BYTES or b"\n" in chunk or b"\r" in chunk:
            raise BrokenFrame(f"a chunk of {len(chunk)} bytes, with room for {self._room}")
        self._room -= 1
        self._waiting.append(chunk)
        self._changed.set()

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._changed.set()

    async def next(self) -> bytes | None:
        """The next one; None when there is no other."""
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if not self._waiting:
            return None
        self._taken += 1
        return self._waiting.popleft()

    def more(self) -> int:
        """How many others to ask for now; 0 while enough are on their way."""
        if self._taken < CHUNKS_AHEAD // 2:
            return 0
        asked, self._taken = self._taken, 0
        self._room += asked
        return asked
