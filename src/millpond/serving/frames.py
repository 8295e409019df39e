"""What the server and a worker say to each other: frames on a socket pair.

A frame is a fixed head (kind, request number, lengths), a small JSON header and a body of any bytes, so that many
requests share one connection and a body is never parsed on its way. Standard library only: a worker may run in an
environment of its own.
"""

import json
import socket
import struct
from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

_HEAD = struct.Struct("!BIIQ")
HEAD_BYTES = _HEAD.size
MAX_HEADER_BYTES = 1 << 20
ARROW = "application/vnd.apache.arrow.stream"
"""The media type of Arrow's stream format."""
_AT_A_TIME = 1 << 18
SMALL_BYTES = 1 << 16
"""A larger request is not answered together with others, as it would keep them waiting: it has a thread of its own."""
CHUNKS_AHEAD = 16
"""So many chunks of an answer a worker sends before it waits to be told that more are wanted."""
MAX_CHUNK_BYTES = 1 << 20


class Kind(IntEnum):
    """What a frame means. Server to worker: LOAD, PREDICT, READ, CALL, STREAM, MORE, LEAVE. Worker to server: READY,
    FAILED, CHUNK, ANSWER."""

    LOAD = 1
    """Header: model_dir (null without a model), environment, secrets (of the environment), threads, max_answer_bytes,
    network (whether it may have one).

    The first frame."""
    READY = 2
    """The model is loaded. Header: build_log, notes, at_once (how many requests it takes at once; 0: one a thread)."""
    FAILED = 3
    """The model cannot be loaded. Header: message, build_log. The worker ends."""
    PREDICT = 4
    """Header: content_type, and accept where the answer is not to be JSON; the body is the request's. Or without a
    content_type, and the body is `columns` with `types` (of SQL, by column) and `params`."""
    READ = 6
    """Header: content_type. Body: the request's. The answer's body is its `columns`."""
    CALL = 7
    """Body: `calls` (name, parameters and body of a function, number of rows) with `columns` for their arguments, named
    CALL.PARAMETER by number. The answer's body is the `columns` of the results, named by the call's number."""
    STREAM = 8
    """As PREDICT, of JSON or of columns; answered by CHUNKs, and an ANSWER without a body that says how it ended."""
    MORE = 9
    """Header: chunks, how many more of a streamed answer are wanted."""
    LEAVE = 10
    """Nobody listens to a streamed answer any more."""
    CHUNK = 11
    """Body: the next part of a streamed answer, as JSON in one line."""
    ANSWER = 5
    """Header: status, content_type, and error_code where status is not 200. Body: the response's."""


_KINDS = {int(kind): kind for kind in Kind}
_SHORT_BYTES = 256


class Frame(NamedTuple):
    """One message."""

    kind: Kind
    header: Mapping[str, Any]
    body: bytes = b""
    request_id: int = 0


class BrokenFrame(Exception):
    """The other side does not speak this protocol."""


def encode(frame: Frame) -> bytes:
    """The bytes of a frame up to its body, which is sent after them as it is."""
    try:
        header = _header_bytes(*frame.header.items())
    except TypeError:  # it has lists
        header = _json(frame.header)
    return _HEAD.pack(frame.kind, frame.request_id, len(header), len(frame.body)) + header


def _json(header: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(header), separators=(",", ":")).encode()


@lru_cache(maxsize=256)
def _header_bytes(*items: tuple[str, Any]) -> bytes:
    return _json(dict(items))


@lru_cache(maxsize=256)
def _short_header(data: bytes) -> Mapping[str, Any]:
    """Almost all requests have the same few."""
    return MappingProxyType(_header(data))


def _header(data: bytes) -> dict[str, Any]:
    """The JSON header of a frame. Raises BrokenFrame."""
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BrokenFrame("the header is not JSON") from error
    if not isinstance(header, dict):
        raise BrokenFrame("the header is not an object")
    return header


class FrameReader:
    """Frames from a blocking socket: as many as have come, with one call of the system for all of them."""

    def __init__(self, connection: socket.socket, *, max_body_bytes: int) -> None:
        self._connection = connection
        self._received = FrameBuffer(max_body_bytes=max_body_bytes)

    def read(self) -> list[Frame]:
        """At least one frame; none at the end of the socket. Raises BrokenFrame."""
        while data := self._connection.recv(_AT_A_TIME):
            if frames := self._received.take(data):
                return frames
        return []


class FrameBuffer:
    """Frames out of bytes that come in pieces."""

    def __init__(self, *, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._received = bytearray()

    def take(self, data: bytes) -> list[Frame]:
        """The frames that are there in full with this piece. Raises BrokenFrame."""
        if not self._received:  # as a rule it brings whole frames
            frames, at = self._frames(data)
            self._received += data[at:]
            return frames
        self._received += data
        frames, at = self._frames(self._received)
        del self._received[:at]
        return frames

    def _frames(self, received: bytes | bytearray) -> tuple[list[Frame], int]:
        """The frames, and where what follows them begins."""
        frames, at, end = [], 0, len(received)
        while end - at >= HEAD_BYTES:
            kind, request_id, header_bytes, body_bytes = _HEAD.unpack_from(received, at)
            if kind not in _KINDS or header_bytes > MAX_HEADER_BYTES or body_bytes > self._max_body_bytes:
                raise BrokenFrame(f"kind {kind}, header of {header_bytes} bytes, body of {body_bytes} bytes")
            body_at = at + HEAD_BYTES + header_bytes
            if body_at + body_bytes > end:
                break
            text = bytes(received[at + HEAD_BYTES : body_at])
            header = _short_header(text) if header_bytes <= _SHORT_BYTES else _header(text)
            at = body_at + body_bytes
            frames.append(Frame(_KINDS[kind], header, bytes(received[body_at:at]), request_id))
        return frames, at
