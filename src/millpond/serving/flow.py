"""The router's end of the socket to a worker: frames as they come, and how it ended."""

import asyncio
from collections.abc import Callable
from typing import cast

from millpond.serving.frames import BrokenFrame, Frame, FrameBuffer

MAX_ANSWER_BYTES = 64 << 20


class Flow(asyncio.Protocol):
    """Reads frames for `deliver`; the first says whether the model has loaded."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.first: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        """What it says when it has loaded; an EOFError or a BrokenFrame."""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why it does not keep to the protocol, once nothing more comes; empty where it does."""
        self.deliver: Callable[[Frame], None] = self._load
        self._received = FrameBuffer(max_body_bytes=MAX_ANSWER_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        """Hand out what is complete; the first that is not understood ends it."""
        try:
            for frame in self._received.take(data):
                self.deliver(frame)
        except (BrokenFrame, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            self._end(error if isinstance(error, BrokenFrame) else BrokenFrame(str(error)))

    def connection_lost(self, error: Exception | None) -> None:
        self._end(EOFError())

    @property
    def closed(self) -> bool:
        """Whether nothing more comes."""
        return self.lost.done()

    def _load(self, frame: Frame) -> None:
        if self.first.done():
            raise BrokenFrame(f"unexpected {frame.kind.name}")
        self.first.set_result(frame)

    def _end(self, error: EOFError | BrokenFrame) -> None:
        if not self.first.done():
            self.first.set_exception(error)
            self.first.exception()  # whoever waits for it may have left
        if not self.lost.done():
            broken = isinstance(error, BrokenFrame)
            self.lost.set_result(f"it did not keep to the protocol ({error})" if broken else "")
        self.transport.close()
