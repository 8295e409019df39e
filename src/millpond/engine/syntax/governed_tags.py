"""Grammar of governed tags: CREATE, ALTER, DROP, DESCRIBE and SHOW."""

from dataclasses import dataclass

from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import Command


@dataclass(frozen=True, kw_only=True)
class CreateGovernedTag(Command):
    key: str
    description: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AlterGovernedTag(Command):
    """One of the two is given."""

    key: str
    description: str | None = None
    values: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class DropGovernedTag(Command):
    key: str


@dataclass(frozen=True, kw_only=True)
class DescribeGovernedTag(Command):
    key: str
    as_json: bool = False


@dataclass(frozen=True, kw_only=True)
class ShowGovernedTags(Command):
    pattern: str | None = None


def create(cursor: Cursor) -> Command:
    """The rest of `CREATE GOVERNED TAG`, after these words."""
    key = _key(cursor)
    description = cursor.string() if cursor.accept("DESCRIPTION") else ""
    return CreateGovernedTag(
        key=key, description=description, values=_values(cursor) if cursor.accept("VALUES") else ()
    )


def alter(cursor: Cursor) -> Command:
    """The rest of `ALTER GOVERNED TAG`, after these words."""
    key = _key(cursor)
    cursor.expect("SET")
    if cursor.expect_any("DESCRIPTION", "VALUES") == "DESCRIPTION":
        return AlterGovernedTag(key=key, description=cursor.string())
    return AlterGovernedTag(key=key, values=_values(cursor))


def drop(cursor: Cursor) -> Command:
    """`DROP GOVERNED TAG key`."""
    cursor.expect("DROP", "GOVERNED", "TAG")
    return DropGovernedTag(key=_key(cursor))


def describe(cursor: Cursor) -> Command | None:
    """The rest of `DESCRIBE GOVERNED TAG key [AS JSON]`, if that comes next."""
    if cursor.word(2) is None or not cursor.accept("GOVERNED", "TAG"):
        return None
    return DescribeGovernedTag(key=_key(cursor), as_json=cursor.accept("AS", "JSON"))


def show(cursor: Cursor) -> Command | None:
    """The rest of `SHOW GOVERNED TAGS [[LIKE] pattern]`, if that comes next."""
    if not cursor.accept("GOVERNED", "TAGS"):
        return None
    liked = cursor.accept("LIKE")
    return ShowGovernedTags(pattern=cursor.string() if liked or cursor.sees_string() else None)


def _key(cursor: Cursor) -> str:
    return cursor.string() if cursor.sees_string() else ".".join(cursor.name(at_most=64))


def _values(cursor: Cursor) -> tuple[str, ...]:
    return () if cursor.accept("(", ")") else cursor.in_parentheses(lambda inner: inner.string())
