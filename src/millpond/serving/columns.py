"""Columns of values between the server and a worker: JSON, with what JSON lacks as texts.

Standard library only, as a worker may run in an environment of its own. Times are in UTC and do not say so.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any


def encode(columns: Mapping[str, Sequence[Any]], **beside: Any) -> bytes:
    """The bytes of columns, and of what is said beside them. Raises TypeError, ValueError for what has no place."""
    told = [[name, *_encoded(values)] for name, values in columns.items()]
    return json.dumps({"columns": told, **beside}, separators=(",", ":")).encode()


def decode(body: bytes) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The columns, and what is beside them. Raises ValueError for what `encode` did not make."""
    try:
        beside = json.loads(body)
        columns = {
            str(name): values if kind == "" else [None if each is None else _READERS[kind](each) for each in values]
            for name, kind, values in beside.pop("columns")
        }
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
        raise ValueError("these are no columns") from error
    return columns, beside


def _encoded(values: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """A column is of the kind of its first value."""
    first = next((each for each in values if each is not None), None)
    for kind, (types, write) in _WRITERS.items():
        if isinstance(first, types):
            if any(each is not None and not isinstance(each, types) for each in values):
                raise ValueError(f"values of several kinds, as {type(first).__name__} and others")
            return kind, [None if each is None else write(each) for each in values]
    return "", values


def _time(value: datetime) -> str:
    return (value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value).isoformat()


_WRITERS: Mapping[str, tuple[type, Callable[[Any], str]]] = {
    "time": (datetime, _time),
    "date": (date, date.isoformat),
    "decimal": (Decimal, str),
    "binary": (bytes, lambda value: base64.b64encode(value).decode()),
}
_READERS: Mapping[str, Callable[[str], Any]] = {
    "time": datetime.fromisoformat,
    "date": date.fromisoformat,
    "decimal": Decimal,
    "binary": base64.b64decode,
}
