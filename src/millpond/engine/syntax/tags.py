"""Grammar of tags: SET TAG ON, UNSET TAG ON, and the clauses SET TAGS and UNSET TAGS of ALTER."""

from millpond.engine.errors import AnalysisError, unsupported
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import Command, Name, SetTags, UnsetTags
from millpond.engine.syntax.objects import PARTS

_KINDS = {
    "CATALOG": "CATALOG", "SCHEMA": "SCHEMA", "DATABASE": "SCHEMA", "TABLE": "TABLE", "VIEW": "TABLE",
    "COLUMN": "COLUMN", "VOLUME": "VOLUME", "FUNCTION": "FUNCTION", "MODEL": "MODEL",
}  # fmt: skip


def set_tag(cursor: Cursor) -> Command:
    """`SET TAG ON kind name key [= value]`."""
    cursor.expect("SET", "TAG", "ON")
    kind, name = _target(cursor)
    key, value = _tag(cursor)
    return SetTags(kind=kind, name=name, tags={key: value})


def unset_tag(cursor: Cursor) -> Command:
    """`UNSET TAG ON kind name key`."""
    cursor.expect("UNSET", "TAG", "ON")
    kind, name = _target(cursor)
    return UnsetTags(kind=kind, name=name, keys=(_text(cursor),))


def clause(cursor: Cursor, kind: str, name: Name) -> Command | None:
    """`SET TAGS (key = value, ...)` or `UNSET TAGS (key, ...)` of an ALTER, if that comes next."""
    if cursor.accept("SET", "TAGS"):
        return SetTags(kind=kind, name=name, tags=_once(cursor.in_parentheses(_tag)))
    if cursor.accept("UNSET", "TAGS"):
        return UnsetTags(kind=kind, name=name, keys=cursor.in_parentheses(_text))
    return None


def relation_clause(cursor: Cursor, table: Name) -> Command | None:
    """The same for a table or view, or after `ALTER [COLUMN] name` for a column of it."""
    began = cursor.position
    if (found := clause(cursor, "TABLE", table)) is not None:
        return found
    if cursor.accept_any("ALTER", "CHANGE"):
        cursor.accept("COLUMN")
        path = cursor.name(at_most=64)
        found = clause(cursor, "COLUMN", (*table, path[0]))
        if found is not None and len(path) > 1:
            raise unsupported("Tags on a field of a struct; tag the whole column.")
        if found is not None:
            return found
    cursor.rewind(began)
    return None


def _target(cursor: Cursor) -> tuple[str, Name]:
    cursor.accept("REGISTERED") if cursor.sees("REGISTERED", "MODEL") else None
    kind = _KINDS[cursor.expect_any(*_KINDS)]
    name = cursor.name(at_most=PARTS[kind])
    if kind == "COLUMN" and len(name) < 2:
        cursor.fail("a column is named with its table: table.column")
    return kind, name


def _tag(cursor: Cursor) -> tuple[str, str]:
    key = _text(cursor)
    return key, _text(cursor) if cursor.accept("=") else ""


def _text(cursor: Cursor) -> str:
    return cursor.string() if cursor.sees_string() else cursor.identifier()


def _once(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in pairs:
        if key in found:
            raise AnalysisError(
                "DUPLICATE_KEY", f"Found duplicate keys `{key}`.", sql_state="23505", parameters={"keyColumn": key}
            )
        found[key] = value
    return found
