"""Directory filters and sort keys as SQL over `principals`."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, false, not_, or_, true

from millpond.identity.domain import PrincipalKind, name_key
from millpond.identity.filters import Both, Compare, Comparison, Either, Filter, InvalidFilter, Not, SortKey
from millpond.identity.store.tables import principals, row_id

_NAME_OF_KIND: Mapping[PrincipalKind, str] = {
    PrincipalKind.USER: "username",
    PrincipalKind.SERVICE_PRINCIPAL: "applicationid",
    PrincipalKind.GROUP: "displayname",
}


def condition(wanted: Filter, kind: PrincipalKind) -> ColumnElement[bool]:
    """The WHERE clause of a filter.

    Raises InvalidFilter for an attribute that accounts of this kind cannot be filtered by.
    """
    match wanted:
        case Not(inner=inner):
            return not_(condition(inner, kind))
        case Both(left=left, right=right):
            return and_(condition(left, kind), condition(right, kind))
        case Either(left=left, right=right):
            return or_(condition(left, kind), condition(right, kind))
        case Compare():
            return _compare(wanted, kind)


def order(sort: SortKey | None, kind: PrincipalKind) -> list[ColumnElement[Any]]:
    """The ORDER BY of a sort key."""
    if sort is None:
        return []
    column = _column(sort.attribute, kind)
    return [column.desc() if sort.descending else column.asc()]


def _column(attribute: str, kind: PrincipalKind) -> ColumnElement[Any]:
    columns: dict[str, ColumnElement[Any]] = {
        "id": principals.c.id,
        "externalid": principals.c.external_id,
        "displayname": principals.c.display_key,
        "active": principals.c.active,
        _NAME_OF_KIND[kind]: principals.c.name_key,
    }
    if attribute not in columns:
        raise InvalidFilter(f"A list of {kind.words}s knows the attributes {', '.join(columns)}, not '{attribute}'.")
    return columns[attribute]


def _compare(wanted: Compare, kind: PrincipalKind) -> ColumnElement[bool]:
    column = _column(wanted.attribute, kind)
    if wanted.comparison is Comparison.PRESENT:
        return column.is_not(None)
    if wanted.attribute == "id":
        return _compare_id(wanted)
    if wanted.attribute == "active":
        return _compare_active(wanted)
    if not isinstance(wanted.value, str):
        raise InvalidFilter(f"'{wanted.attribute}' is compared with a text in double quotes, not {wanted.value!r}.")
    value = wanted.value if wanted.attribute == "externalid" else name_key(wanted.value)
    match wanted.comparison:
        case Comparison.EQUAL:
            return column == value
        case Comparison.NOT_EQUAL:
            return column.is_distinct_from(value)
        case Comparison.CONTAINS:
            return column.contains(value, autoescape=True)
        case Comparison.STARTS_WITH:
            return column.startswith(value, autoescape=True)
        case _:
            return column.endswith(value, autoescape=True)


def _compare_id(wanted: Compare) -> ColumnElement[bool]:
    number = row_id(str(wanted.value))
    match wanted.comparison:
        case Comparison.EQUAL:
            return false() if number is None else principals.c.id == number
        case Comparison.NOT_EQUAL:
            return true() if number is None else principals.c.id != number
        case _:
            raise InvalidFilter("'id' is compared with eq or ne.")


def _compare_active(wanted: Compare) -> ColumnElement[bool]:
    value = {"true": True, "false": False}.get(str(wanted.value).casefold())
    if value is None or wanted.comparison not in {Comparison.EQUAL, Comparison.NOT_EQUAL}:
        raise InvalidFilter("'active' is compared with eq or ne, and true or false.")
    return principals.c.active.is_(value if wanted.comparison is Comparison.EQUAL else not value)
