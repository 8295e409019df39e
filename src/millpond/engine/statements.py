"""SQL text to a command, or to nothing: `parse_command` is the whole entry point.

The verbs below belong to Millpond; a statement that starts with one of them is either a `Command`, or a `ParseError`,
or (CREATE TABLE AS, CREATE VIEW, DESCRIBE SELECT, ...) None, which means that the engine answers it.
"""

from collections.abc import Callable

from millpond.engine.errors import unsupported
from millpond.engine.syntax import alter, governed_tags, grants, inspect, objects, policies, tables, tags
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import Command

__all__ = ["Command", "parse_command"]


def parse_command(sql: str) -> Command | None:
    """The command that `sql` is, or None if the engine should answer it.

    Raises: `ParseError` for a statement that starts as one of ours and goes on as none, or has trailing input;
    `UnsupportedError` for a known statement that Delta tables here do not have.
    """
    if not _may_be_ours(sql):
        return None
    cursor = Cursor(sql)
    first = cursor.word()
    reader = _VERBS.get(first.text.upper()) if first is not None and first.is_bare else None
    if reader is None:
        return None
    command = reader(cursor)
    if command is not None:
        cursor.expect_end()
    return command


def _may_be_ours(sql: str) -> bool:
    """Cheap look at the first word, so that queries are not tokenised twice; a leading comment says "maybe"."""
    start = sql.lstrip()
    if not start[:1].isalpha():
        return start[:2] in ("--", "/*")
    end = next((at for at, character in enumerate(start) if not character.isalpha()), len(start))
    return start[:end].upper() in _VERBS


def _create(cursor: Cursor) -> Command | None:
    cursor.expect("CREATE")
    or_replace = cursor.accept("OR", "REPLACE")
    external = cursor.accept("EXTERNAL")
    if cursor.accept("TABLE"):
        return tables.create_table(cursor, or_replace=or_replace, external=external)
    if not external and cursor.accept("POLICY"):
        return policies.create(cursor, or_replace=or_replace)
    if not (or_replace or external) and cursor.accept("GOVERNED", "TAG"):
        return governed_tags.create(cursor)
    kind = None if or_replace else objects.object_kind(cursor)
    if kind == "VOLUME" or (kind in ("CATALOG", "SCHEMA") and not external):
        return objects.create(cursor, kind, external=external)
    return None


def _replace(cursor: Cursor) -> Command | None:
    cursor.expect("REPLACE", "TABLE")
    return tables.create_table(cursor, or_replace=True)


def _alter(cursor: Cursor) -> Command | None:
    cursor.expect("ALTER")
    if cursor.accept("GOVERNED", "TAG"):
        return governed_tags.alter(cursor)
    kind = "MODEL" if cursor.accept("MODEL") else objects.object_kind(cursor)
    if kind in ("TABLE", "VIEW"):
        return alter.alter_relation(cursor, view=kind == "VIEW")
    if kind is not None:
        return _alter_object(cursor, kind)
    raise cursor.error("expected TABLE, VIEW, CATALOG, SCHEMA, VOLUME, FUNCTION or MODEL")


def _alter_object(cursor: Cursor, kind: str) -> Command:
    began = cursor.position
    tagged = tags.clause(cursor, kind, cursor.name(at_most=objects.PARTS[kind]))
    if tagged is not None:
        return tagged
    cursor.rewind(began)
    return objects.alter(cursor, kind)


def _drop(cursor: Cursor) -> Command | None:
    if cursor.sees("DROP", "POLICY"):
        return policies.drop(cursor)
    return governed_tags.drop(cursor) if cursor.sees("DROP", "GOVERNED", "TAG") else objects.drop(cursor)


def _set(cursor: Cursor) -> Command | None:
    if cursor.sees("SET", "TAG", "ON"):
        return tags.set_tag(cursor)
    return objects.set_catalog(cursor) if cursor.sees("SET", "CATALOG") else None


def _msck(cursor: Cursor) -> Command | None:
    raise unsupported("MSCK REPAIR TABLE; a Delta table finds its partitions itself.")


_VERBS: dict[str, Callable[[Cursor], Command | None]] = {
    "ALTER": _alter,
    "COMMENT": objects.comment_on,
    "CONVERT": tables.convert,
    "CREATE": _create,
    "DESC": inspect.describe,
    "DESCRIBE": inspect.describe,
    "DROP": _drop,
    "GRANT": grants.grant,
    "MSCK": _msck,
    "OPTIMIZE": tables.optimize,
    "REPLACE": _replace,
    "RESTORE": tables.restore,
    "REVOKE": grants.revoke,
    "SET": _set,
    "SHOW": inspect.show,
    "TRUNCATE": tables.truncate,
    "UNDROP": objects.undrop,
    "UNSET": tags.unset_tag,
    "USE": objects.use,
    "VACUUM": tables.vacuum,
}
