"""The format of segments: records one behind the other, each of which tells whether it is whole.

A record is a head (mark, the head's checksum, the body's, the parts' sizes) and its parts: a JSON object about the
request, then the request, the answer and the features that were looked up, as they were.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

import orjson

_MARK = b"MPL1"
_SIZES = struct.Struct("<IIIII")
"""Checksum of the parts, then how many bytes each of them has."""
_HEAD = struct.Struct("<4sI")
HEAD_BYTES = _HEAD.size + _SIZES.size


@dataclass(frozen=True, kw_only=True)
class Record:
    """One request and its answer, or one label."""

    about: dict[str, object]
    request: bytes = b""
    response: bytes = b""
    features: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Of what users sent and got."""
        return len(self.request) + len(self.response) + len(self.features)


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Bytes of a segment that are no whole record: the writer was cut off, or the disk lost them."""

    position: int
    size_bytes: int
    cut_off: bool
    """Whether a record merely ends too early, as it does when its writer was killed: nobody got its answer."""


def encoded(record: Record) -> tuple[bytes, ...]:
    """The pieces that one gathering write puts into a segment, none of them copied."""
    parts = (orjson.dumps(record.about), record.request, record.response, record.features)
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    sizes = _SIZES.pack(checksum, *map(len, parts))
    return (_HEAD.pack(_MARK, zlib.crc32(sizes)) + sizes, *parts)


def read_segment(path: Path) -> Iterator[Record | Damage]:
    """The records of a file in order, and what of it is none."""
    size = path.stat().st_size
    if size == 0:
        return
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        position = 0
        while position < size:
            sizes = _sizes(data, position)
            if sizes is None or position + HEAD_BYTES + sum(sizes[1:]) > size:
                cut_off = sizes is not None or size - position < HEAD_BYTES
                yield Damage(position=position, size_bytes=size - position, cut_off=cut_off)
                return
            end = position + HEAD_BYTES + sum(sizes[1:])
            yield _record(data, position, end, sizes)
            position = end


def _sizes(data: mmap, position: int) -> tuple[int, ...] | None:
    """What a head says; None for what is no head."""
    head = data[position : position + HEAD_BYTES]
    if len(head) < HEAD_BYTES:
        return None
    mark, checksum = _HEAD.unpack_from(head)
    told = head[_HEAD.size :]
    return _SIZES.unpack(told) if mark == _MARK and zlib.crc32(told) == checksum else None


def _record(data: mmap, position: int, end: int, sizes: tuple[int, ...]) -> Record | Damage:
    checksum, parts, start = 0, [], position + HEAD_BYTES
    for length in sizes[1:]:
        parts.append(data[start : start + length])
        checksum = zlib.crc32(parts[-1], checksum)
        start += length
    if checksum != sizes[0]:
        return Damage(position=position, size_bytes=end - position, cut_off=False)
    about, request, response, features = parts
    return Record(about=orjson.loads(about), request=request, response=response, features=features)
