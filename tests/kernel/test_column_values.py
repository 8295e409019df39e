"""JSON's values as columns have them, the same for a key that is looked up and for a value that is computed with."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from millpond.kernel.column_values import typed
from millpond.kernel.errors import InvalidArgument
from millpond.online.domain import Field, Shape

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
TAKEN: list[tuple[str, Any, Any]] = [
    ("long", 5, 5), ("BIGINT", 5.0, 5), ("int", "9007199254740993", 9007199254740993), ("int", math.nan, None),
    ("double", 5, 5.0), ("float", Decimal("0.5"), 0.5), ("string", "5", "5"), ("boolean", True, True),
    ("timestamp", "2026-06-01T14:00:00+02:00", NOON), ("timestamp", "2026-06-01T12:00:00", NOON),
    ("timestamp", date(2026, 6, 1), NOON.replace(hour=0)), ("timestamp_ntz", NOON, NOON.replace(tzinfo=None)),
    ("date", "2026-06-01", date(2026, 6, 1)), ("date", NOON, date(2026, 6, 1)),
    ("decimal(10,2)", 0.1, Decimal("0.1")), ("decimal(10,2)", "1.50", Decimal("1.50")), ("binary", "AQ==", b"\1"),
    ("array<int>", [1, "x"], [1, "x"]), ("long", None, None),
]  # fmt: skip
REFUSED: list[tuple[str, Any]] = [
    ("long", True), ("long", 1.5), ("long", "1_0"), ("long", " 1"), ("long", 1 << 63), ("long", math.inf),
    ("double", "5"), ("double", True), ("string", 5), ("string", "\ud800"), ("boolean", 1), ("timestamp", 3),
    ("date", "June"), ("decimal(10,2)", True), ("decimal(10,2)", "much"), ("binary", "?"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "expected"), TAKEN)
def test_a_value_becomes_what_a_column_of_the_type_has(kind: str, given: Any, expected: Any) -> None:
    found = typed(given, kind, "c")
    assert (found, type(found)) == (expected, type(expected))
    if expected is not None:
        shape = Shape(keys=(Field("k", kind),), fields=())
        assert shape.key({"k": given}) == shape.key_of([expected])


@pytest.mark.parametrize(("kind", "given"), REFUSED)
def test_a_value_of_another_type_is_refused_by_name(kind: str, given: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"Column 'c' is .*, which is no"):
        typed(given, kind, "c")
    with pytest.raises(InvalidArgument, match=r"'k' is .*, which is no"):
        Shape(keys=(Field("k", kind),), fields=()).key({"k": given})


def test_a_key_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"The key 'k' \(long\) is missing or null"):
        Shape(keys=(Field("k", "long"),), fields=()).key({})
