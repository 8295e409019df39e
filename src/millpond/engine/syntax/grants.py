"""Grammar of GRANT, REVOKE and SHOW GRANTS."""

from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import Command, Grant, Name, ShowGrants
from millpond.engine.syntax.objects import PARTS, owner_name

_KINDS = {
    "METASTORE": "METASTORE", "CATALOG": "CATALOG", "SCHEMA": "SCHEMA", "DATABASE": "SCHEMA", "TABLE": "TABLE",
    "VIEW": "TABLE", "VOLUME": "VOLUME", "FUNCTION": "FUNCTION", "MODEL": "MODEL",
}  # fmt: skip


def grant(cursor: Cursor) -> Command:
    """`GRANT privilege [, ...] ON [kind] name TO principal`."""
    cursor.expect("GRANT")
    return _change(cursor, "TO", revoke=False)


def revoke(cursor: Cursor) -> Command:
    """`REVOKE privilege [, ...] ON [kind] name FROM principal`."""
    cursor.expect("REVOKE")
    return _change(cursor, "FROM", revoke=True)


def show_grants(cursor: Cursor) -> Command:
    """The rest of `SHOW GRANTS [principal] ON [kind] name`, after those words."""
    principal = None if cursor.sees("ON") and cursor.names_follow() else owner_name(cursor)
    cursor.expect("ON")
    kind, name = _securable(cursor)
    return ShowGrants(kind=kind, name=name, principal=principal)


def _change(cursor: Cursor, preposition: str, *, revoke: bool) -> Command:
    privileges = cursor.comma_list(_privilege)
    cursor.expect("ON")
    kind, name = _securable(cursor)
    cursor.expect(preposition)
    return Grant(privileges=privileges, kind=kind, name=name, principal=owner_name(cursor), revoke=revoke)


def _privilege(cursor: Cursor) -> str:
    words = []
    while (word := cursor.word()) is not None and word.is_bare and not cursor.sees("ON"):
        words.append(cursor.take().text)
    if not words:
        cursor.fail("expected a privilege, such as SELECT or USE SCHEMA")
    return " ".join(words)


def _securable(cursor: Cursor) -> tuple[str, Name]:
    """A kind and a name; without a kind a table, as on Databricks."""
    if cursor.accept("METASTORE"):
        return "METASTORE", ()
    if cursor.sees("REGISTERED", "MODEL"):
        cursor.take()
    kind = "TABLE"
    for word, meant in _KINDS.items():
        if cursor.sees(word) and cursor.names_follow():
            cursor.take()
            kind = meant
            break
    return kind, cursor.name(at_most=PARTS[kind])
