"""Values as columns of SQL or Delta types have them, made of what JSON brings: keys to look up and features alike."""

import base64
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from millpond.kernel.errors import InvalidArgument


def typed(value: Any, kind: str, column: str) -> Any:
    """The value as a column of a type has it; times are in UTC where they do not say otherwise.

    Raises InvalidArgument, which names the column, for one of another type. Nested values are taken as they are.
    """
    base = base_of(kind)
    if value is None or (base not in _FRACTIONS and isinstance(value, float) and math.isnan(value)):
        return None
    convert = _CONVERSIONS.get(base)
    if convert is None:
        return value
    try:
        return convert(value)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InvalidArgument(f"Column '{column}' is {value!r:.100}, which is no {kind.upper()}.") from error


def base_of(kind: str) -> str:
    """The name of a type without what is in its parentheses."""
    return kind.lower().partition("(")[0].partition("<")[0].strip()


def moment(value: date) -> datetime:
    """When something was: a date is its midnight, a time without a zone is in UTC."""
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _whole(value: Any) -> int:
    if isinstance(value, str):  # as clients write what is too great for their own numbers
        if not _DIGITS.fullmatch(value):
            raise ValueError(value)
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal) or value != int(value):
        raise ValueError(value)
    found = int(value)
    if not -(1 << 63) <= found < 1 << 63:
        raise ValueError(value)
    return found


def _fraction(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(value)
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    value.encode()  # half a character pair is no text
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _time(value: Any) -> datetime:
    return moment(value if isinstance(value, date) else datetime.fromisoformat(value))


def _local_time(value: Any) -> datetime:
    return _time(value).replace(tzinfo=None)


def _day(value: Any) -> date:
    if isinstance(value, datetime):
        return moment(value).date()
    return value if isinstance(value, date) else date.fromisoformat(value)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool):
        raise TypeError(value)
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _binary(value: Any) -> bytes:
    return value if isinstance(value, bytes) else base64.b64decode(value, validate=True)


_DIGITS = re.compile("-?[0-9]{1,19}")
_FRACTIONS = frozenset({"double", "float"})
_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("bigint", "long", "int", "integer", "smallint", "short", "tinyint", "byte"), _whole),
    **dict.fromkeys(_FRACTIONS, _fraction),
    **dict.fromkeys(("string", "varchar", "char"), _text),
    "boolean": _truth, "timestamp": _time, "timestamp_ntz": _local_time, "date": _day, "decimal": _decimal,
    "binary": _binary,
}  # fmt: skip
