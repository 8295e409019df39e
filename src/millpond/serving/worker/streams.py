"""Answers that are sent as they are made: as fast as they are wanted, and for as long as somebody listens."""

import threading
from collections.abc import Callable, Sequence

from millpond.serving.frames import CHUNKS_AHEAD, Frame, Kind
from millpond.serving.worker.answers import Answer

Send = Callable[[bytes], bool]
"""Takes a chunk; False when nobody listens any more."""


class _Listener:
    """Who wants one answer, as the thread sees it that makes the answer."""

    def __init__(self) -> None:
        self._room = CHUNKS_AHEAD
        self._gone = False
        self._changed = threading.Condition()

    def change(self, *, more: int = 0, gone: bool = False) -> None:
        """More is wanted, or nothing any more."""
        with self._changed:
            self._room += more
            self._gone |= gone
            self._changed.notify()

    def wants_another(self) -> bool:
        """Wait until another chunk may be sent; False when nobody wants it."""
        with self._changed:
            self._changed.wait_for(lambda: self._gone or self._room > 0)
            self._room -= 1
            return not self._gone


class Streams:
    """The streamed answers that are being made, by their request."""

    def __init__(self, send: Callable[[Sequence[Frame]], None]) -> None:
        self._send = send
        self._listeners: dict[int, _Listener] = {}

    def told(self, frame: Frame) -> bool:
        """Take what is said about a stream, by the thread that reads; False for a frame that is to be answered."""
        if frame.kind is Kind.STREAM:
            self._listeners[frame.request_id] = _Listener()
            return False
        listener = self._listeners.get(frame.request_id)  # none: it has ended just now
        if frame.kind is Kind.MORE and listener is not None:
            listener.change(more=frame.header["chunks"])
        if frame.kind is Kind.LEAVE and listener is not None:
            listener.change(gone=True)
        return frame.kind in {Kind.MORE, Kind.LEAVE}

    def answer(self, number: int, make: Callable[[Send], Answer]) -> Answer:
        """Answer the request with a number by what makes chunks; how it ended."""
        listener = self._listeners[number]

        def send(chunk: bytes) -> bool:
            if not listener.wants_another():
                return False
            self._send([Frame(kind=Kind.CHUNK, request_id=number, header={}, body=chunk)])
            return True

        try:
            return make(send)
        finally:
            del self._listeners[number]
