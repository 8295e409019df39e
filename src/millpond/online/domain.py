"""What an online store keeps of a table: one encoded row for each key, and where the table's log had got to."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any

import msgspec
import orjson

from millpond.kernel.column_values import base_of, typed
from millpond.kernel.errors import InvalidArgument

LONGEST_KEY = 400
"""Bytes. LMDB takes 511, of which a generation takes 8; longer keys are told apart by their hash."""

_to_bytes = msgspec.msgpack.Encoder(decimal_format="string").encode
_from_bytes = msgspec.msgpack.Decoder().decode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is published of a table."""

    keys: tuple[str, ...]
    time: str | None = None
    known: str | None = None
    """The column that says when a row was known; rows that never were are nobody's."""
    columns: tuple[str, ...] = ()
    """All but the keys and the time, when none is named."""
    ttl_s: float | None = None


class Field(msgspec.Struct, frozen=True):
    """A column: its name and its Delta type, as in the table's schema (`long`, `string`, `decimal(10,2)`)."""

    name: str
    type: str


class Shape(msgspec.Struct, frozen=True, dict=True):
    """How rows of a table are keyed and encoded. The values of a row are encoded in the order of `fields`."""

    keys: tuple[Field, ...]
    fields: tuple[Field, ...]
    time: str | None = None
    """The column by which a key's newest row is told, if the table keeps several."""
    ttl_s: float | None = None
    """How long after its time a row is still served."""
    known: str | None = None
    """The column by which of two rows of one time the newer is told, if the table has one."""

    @cached_property
    def _decoders(self) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
        found = ((number, _DECODERS.get(base_of(field.type))) for number, field in enumerate(self.fields))
        return tuple((number, decode) for number, decode in found if decode is not None)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def key(self, values: Mapping[str, Any]) -> bytes:
        """The key of a row or a request. Raises InvalidArgument that names what is missing, null or of another type."""
        return self.key_of([_key_value(field, values) for field in self.keys])

    def key_of(self, values: Sequence[Any]) -> bytes:
        """The key of values in the order of `keys`, as a table has them."""
        key = _to_bytes([plain(value) for value in values])
        return key if len(key) <= LONGEST_KEY else blake2b(key, digest_size=32).digest()

    @staticmethod
    def row(values: Sequence[Any], at: int | None) -> bytes:
        """A row of plain values in the order of `fields`, with its time in microseconds."""
        return _to_bytes((at, values))

    @staticmethod
    def time_of(row: bytes) -> int | None:
        """When a row's values were so, in microseconds."""
        at: int | None = _from_bytes(row)[0]
        return at

    def values(self, row: bytes, now: datetime) -> dict[str, Any] | None:
        """The row by column, or None when its time to live is over."""
        at, values = _from_bytes(row)
        if self.ttl_s is not None and at is not None and _micros(now) > at + self.ttl_s * 1e6:
            return None
        for number, decode in self._decoders:
            if values[number] is not None:
                values[number] = decode(values[number])
        return dict(zip(self._names, values, strict=True))


class Published(msgspec.Struct, frozen=True):
    """What an online store has of a table."""

    generation: int
    """Of the rows: a new one is written beside the old one, and takes its place at once."""
    version: int
    """Of the Delta table."""
    committed_ms: int
    """When that version was committed."""
    shape: Shape

    def encoded(self) -> bytes:
        """As backends keep it."""
        return _to_bytes(self)


@lru_cache(maxsize=128)
def decoded(data: bytes) -> Published:
    """What `Published.encoded` made; the same object for the same bytes, as each read has them."""
    return _PUBLISHED.decode(data)


_PUBLISHED = msgspec.msgpack.Decoder(Published)


def _key_value(field: Field, values: Mapping[str, Any]) -> Any:
    value = typed(values.get(field.name), field.type, field.name)
    if value is None:
        raise InvalidArgument(f"The key '{field.name}' ({field.type}) is missing or null.")
    return value


def to_json(body: Any) -> bytes:
    """Rows as JSON: decimals as texts, bytes in base64, times as RFC 3339; NaN and infinities, which JSON lacks, as
    null."""
    return orjson.dumps(body, default=_json_value, option=orjson.OPT_NON_STR_KEYS)


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)


def plain(value: Any) -> Any:
    """A value as msgpack keeps it: times as microseconds, days as texts, decimals without trailing zeros."""
    if isinstance(value, datetime):
        return _micros(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return value


def _micros(time: datetime) -> int:
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    elapsed = aware - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def _from_micros(micros: int) -> datetime:
    seconds, rest = divmod(micros, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "timestamp": _from_micros,
    "timestamp_ntz": lambda micros: _from_micros(micros).replace(tzinfo=None),
    "date": date.fromisoformat,
    "decimal": Decimal,
}
