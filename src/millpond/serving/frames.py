"""What the server and a worker say to each other: frames on a socket pair.

A frame is a fixed head (kind, request number, lengths), a small JSON header and a body of any bytes, so that many
requests share one connection and a body is never parsed on its way. Standard library only: a worker may run in an
environment of its own.
"""

import json
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

_HEAD = struct.Struct("!BIIQ")
HEAD_BYTES = _HEAD.size
MAX_HEADER_BYTES = 1 << 20


class Kind(IntEnum):
    """What a frame means. Server to worker: LOAD, PREDICT, READ, CALL. Worker to server: READY, FAILED, ANSWER."""

    LOAD = 1
    """Header: model_dir (null without a model), environment, secrets (of the environment), threads, max_answer_bytes.

    The first frame."""
    READY = 2
    """The model is loaded. Header: build_log, notes."""
    FAILED = 3
    """The model cannot be loaded. Header: message, build_log. The worker ends."""
    PREDICT = 4
    """Header: content_type, and the body is the request's; or without one, and the body is `columns` with `types` (of
    SQL, by column) and `params`."""
    READ = 6
    """Header: content_type. Body: the request's. The answer's body is its `columns`."""
    CALL = 7
    """Body: `calls` (name, parameters and body of a function, number of rows) with `columns` for their arguments, named
    CALL.PARAMETER by number. The answer's body is the `columns` of the results, named by the call's number."""
    ANSWER = 5
    """Header: status, content_type, and error_code where status is not 200. Body: the response's."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The fixed part of a frame."""

    kind: Kind
    request_id: int
    header_bytes: int
    body_bytes: int


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One message."""

    kind: Kind
    request_id: int = 0
    header: dict[str, Any]
    body: bytes = b""


class BrokenFrame(Exception):
    """The other side does not speak this protocol."""


def encode(frame: Frame) -> bytes:
    """The bytes of a frame up to its body, which is sent after them as it is."""
    header = json.dumps(frame.header, separators=(",", ":")).encode()
    return _HEAD.pack(frame.kind, frame.request_id, len(header), len(frame.body)) + header


def decode_head(data: bytes, *, max_body_bytes: int) -> Head:
    """The fixed part of a frame. Raises BrokenFrame for what is no frame or too large."""
    kind, request_id, header_bytes, body_bytes = _HEAD.unpack(data)
    if kind not in Kind.__members__.values() or header_bytes > MAX_HEADER_BYTES or body_bytes > max_body_bytes:
        raise BrokenFrame(f"kind {kind}, header of {header_bytes} bytes, body of {body_bytes} bytes")
    return Head(kind=Kind(kind), request_id=request_id, header_bytes=header_bytes, body_bytes=body_bytes)


def decode_header(data: bytes) -> dict[str, Any]:
    """The JSON header of a frame. Raises BrokenFrame."""
    try:
        header = json.loads(data)
    except ValueError as error:
        raise BrokenFrame("the header is not JSON") from error
    if not isinstance(header, dict):
        raise BrokenFrame("the header is not an object")
    return header


def read_frame(connection: socket.socket, *, max_body_bytes: int) -> Frame | None:
    """The next frame of a blocking socket; None at its end."""
    data = _read_exactly(connection, HEAD_BYTES)
    if data is None:
        return None
    head = decode_head(data, max_body_bytes=max_body_bytes)
    header, body = _read_exactly(connection, head.header_bytes), _read_exactly(connection, head.body_bytes)
    if header is None or body is None:
        return None
    return Frame(kind=head.kind, request_id=head.request_id, header=decode_header(header), body=body)


def _read_exactly(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        received = connection.recv_into(view[at:])
        if received == 0:
            return None
        at += received
    return bytes(data)
