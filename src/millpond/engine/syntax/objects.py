"""Grammar of catalogs, schemas, volumes and the session: CREATE, DROP, ALTER, COMMENT ON, USE."""

from typing import Any

from millpond.engine.syntax.columns import properties, property_key
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import (
    AlterObject,
    Command,
    CommentOn,
    CreateCatalog,
    CreateSchema,
    CreateVolume,
    Drop,
    Name,
    UndropTable,
    Use,
    UseCatalog,
    UseSchema,
)

_PROPERTY_WORDS = (("WITH", "DBPROPERTIES"), ("WITH", "PROPERTIES"), ("OPTIONS",))
PARTS = {"CATALOG": 1, "SCHEMA": 2, "VOLUME": 3, "TABLE": 3, "VIEW": 3, "FUNCTION": 3, "COLUMN": 4, "MODEL": 3}
"""How many parts the name of a kind of object has at most."""


def object_kind(cursor: Cursor) -> str | None:
    """Take the word for a kind of object, as one word per kind: DATABASE and NAMESPACE are SCHEMA."""
    kind = cursor.accept_any("CATALOG", "SCHEMA", "DATABASE", "NAMESPACE", "VOLUME", "TABLE", "VIEW", "FUNCTION")
    return "SCHEMA" if kind in ("DATABASE", "NAMESPACE") else kind


def use(cursor: Cursor) -> Command:
    """`USE [CATALOG | SCHEMA | DATABASE] name`, `SET CATALOG name`."""
    cursor.expect("USE")
    if cursor.sees("CATALOG") and cursor.names_follow():
        cursor.take()
        return UseCatalog(catalog=_catalog_name(cursor))
    for word in ("SCHEMA", "DATABASE", "NAMESPACE"):
        if cursor.sees(word) and cursor.names_follow():
            cursor.take()
            return UseSchema(name=cursor.name(at_most=2))
    return Use(name=cursor.name(at_most=2))


def set_catalog(cursor: Cursor) -> Command:
    cursor.expect("SET", "CATALOG")
    return UseCatalog(catalog=_catalog_name(cursor))


def _catalog_name(cursor: Cursor) -> str:
    return cursor.string() if cursor.sees_string() else cursor.name(at_most=1)[0]


def create(cursor: Cursor, kind: str, *, external: bool = False) -> Command:
    """The rest of `CREATE CATALOG | SCHEMA | VOLUME`, after that word."""
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = cursor.name(at_most=PARTS[kind])
    options: dict[str, Any] = {}
    while _option(cursor, kind, options):
        pass
    if kind == "CATALOG":
        return CreateCatalog(catalog=name[0], if_not_exists=if_not_exists, **options)
    if kind == "SCHEMA":
        return CreateSchema(name=name, if_not_exists=if_not_exists, **options)
    if external and "location" not in options:
        cursor.fail("an external volume needs LOCATION")
    return CreateVolume(name=name, external=external, if_not_exists=if_not_exists, **options)


def _option(cursor: Cursor, kind: str, options: dict[str, Any]) -> bool:
    if cursor.accept("COMMENT"):
        key, value = "comment", cursor.string()
    elif kind != "VOLUME" and cursor.accept("MANAGED", "LOCATION"):
        key, value = "managed_location", cursor.string()
    elif kind != "CATALOG" and cursor.accept("LOCATION"):
        key, value = ("location" if kind == "VOLUME" else "managed_location"), cursor.string()
    elif kind != "VOLUME" and any(cursor.accept(*words) for words in _PROPERTY_WORDS):
        options["properties"] = properties(cursor)
        return True
    else:
        return False
    if key in options:
        cursor.fail(f"{key} is given twice")
    options[key] = value
    return True


def drop(cursor: Cursor) -> Command | None:
    """`DROP kind [IF EXISTS] name [RESTRICT | CASCADE] [PURGE]`; None for kinds that are the engine's."""
    cursor.expect("DROP")
    materialized = cursor.accept("MATERIALIZED")
    kind = object_kind(cursor)
    if kind is None or (materialized and kind != "VIEW"):
        return None
    if_exists = cursor.accept("IF", "EXISTS")
    name = cursor.name(at_most=PARTS[kind])
    cascade = False
    if kind in ("CATALOG", "SCHEMA"):
        cascade = cursor.accept_any("RESTRICT", "CASCADE") == "CASCADE"
    elif kind == "TABLE":
        cursor.accept("PURGE")
    return Drop(kind=kind, name=name, if_exists=if_exists, cascade=cascade)


def undrop(cursor: Cursor) -> Command:
    """`UNDROP TABLE name | WITH ID 'id'`."""
    cursor.expect("UNDROP", "TABLE")
    if cursor.sees("WITH", "ID"):
        cursor.expect("WITH", "ID")
        return UndropTable(table_id=cursor.string())
    return UndropTable(name=cursor.name())


def comment_on(cursor: Cursor) -> Command:
    """`COMMENT ON kind name IS 'text' | NULL`."""
    cursor.expect("COMMENT", "ON")
    kind = "COLUMN" if cursor.accept("COLUMN") else object_kind(cursor)
    if kind is None:
        cursor.fail("expected CATALOG, SCHEMA, TABLE, VIEW, COLUMN, VOLUME or FUNCTION")
    name = cursor.name(at_most=PARTS[kind])
    if kind == "COLUMN" and len(name) < 2:
        cursor.fail("a column is named with its table: table.column")
    cursor.expect("IS")
    return CommentOn(kind=kind, name=name, comment=None if cursor.accept("NULL") else cursor.string())


def alter(cursor: Cursor, kind: str) -> Command:
    """The rest of `ALTER CATALOG | SCHEMA | VOLUME | FUNCTION | MODEL`, after that word."""
    name: Name = cursor.name(at_most=PARTS[kind])
    if cursor.accept("SET", "OWNER", "TO") or cursor.accept("OWNER", "TO"):
        return AlterObject(kind=kind, name=name, owner=owner_name(cursor))
    if kind == "SCHEMA" and (cursor.accept("SET", "DBPROPERTIES") or cursor.accept("SET", "PROPERTIES")):
        return AlterObject(kind=kind, name=name, set_properties=properties(cursor))
    if kind == "SCHEMA" and (cursor.accept("UNSET", "DBPROPERTIES") or cursor.accept("UNSET", "PROPERTIES")):
        return AlterObject(kind=kind, name=name, unset_properties=cursor.in_parentheses(property_key))
    if kind in ("CATALOG", "VOLUME") and cursor.accept("RENAME", "TO"):
        return AlterObject(kind=kind, name=name, rename_to=cursor.name(at_most=PARTS[kind]))
    raise cursor.error("this change is not known")


def owner_name(cursor: Cursor) -> str:
    """A principal: `ann@example.com` in backticks, a bare name, or a string."""
    return cursor.string() if cursor.sees_string() else cursor.identifier()
