"""Grammar of DESCRIBE and SHOW."""

from millpond.engine.syntax import governed_tags, policies
from millpond.engine.syntax.columns import table_ref
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.grants import show_grants
from millpond.engine.syntax.model import (
    Command,
    DescribeDetail,
    DescribeFunction,
    DescribeHistory,
    DescribeObject,
    DescribeTable,
    Name,
    Show,
    ShowAcross,
    ShowColumns,
    ShowCreateTable,
    ShowCurrentSchema,
    ShowDropped,
    ShowPartitions,
    ShowTableProperties,
    TableRef,
)

_QUERIES = ("QUERY", "SELECT", "WITH", "VALUES", "FROM", "INSERT")
_LISTS = {
    "CATALOGS": "CATALOGS",
    "SCHEMAS": "SCHEMAS",
    "DATABASES": "SCHEMAS",
    "NAMESPACES": "SCHEMAS",
    "TABLES": "TABLES",
    "VIEWS": "VIEWS",
    "VOLUMES": "VOLUMES",
    "FUNCTIONS": "FUNCTIONS",
}
_SCOPE_PARTS = {"SCHEMAS": 1, "TABLES": 2, "VIEWS": 2, "VOLUMES": 2, "FUNCTIONS": 2}


def describe(cursor: Cursor) -> Command | None:
    """`DESCRIBE ...`; None where it describes a query, which is the engine's."""
    cursor.expect_any("DESCRIBE", "DESC")
    if (found := policies.describe(cursor) or governed_tags.describe(cursor)) is not None:
        return found
    if cursor.sees("HISTORY") and cursor.names_follow():
        cursor.take()
        ref = table_ref(cursor)
        return DescribeHistory(table=ref, limit=cursor.integer() if cursor.accept("LIMIT") else None)
    if cursor.sees("DETAIL") and cursor.names_follow():
        cursor.take()
        return DescribeDetail(table=table_ref(cursor))
    for word, kind in (("CATALOG", "CATALOG"), ("SCHEMA", "SCHEMA"), ("DATABASE", "SCHEMA"), ("VOLUME", "VOLUME")):
        if cursor.sees(word) and cursor.names_follow():
            cursor.take()
            return _object(cursor, kind)
    if cursor.sees("FUNCTION") and cursor.names_follow():
        cursor.take()
        extended = cursor.sees("EXTENDED") and cursor.names_follow() and cursor.accept("EXTENDED")
        return DescribeFunction(name=cursor.name(), extended=extended)
    if cursor.sees_any(*_QUERIES) and cursor.names_follow():
        return None
    return _table(cursor)


def _object(cursor: Cursor, kind: str) -> Command:
    extended = cursor.sees("EXTENDED") and cursor.names_follow() and cursor.accept("EXTENDED")
    name = cursor.name(at_most={"CATALOG": 1, "SCHEMA": 2, "VOLUME": 3}[kind])
    return DescribeObject(kind=kind, name=name, extended=extended)


def _table(cursor: Cursor) -> Command:
    if cursor.sees("TABLE") and cursor.names_follow():
        cursor.take()
    extended = False
    if cursor.sees_any("EXTENDED", "FORMATTED") and cursor.names_follow():
        cursor.take()
        extended = True
    ref = table_ref(cursor)
    as_json = cursor.accept("AS", "JSON")
    if as_json or cursor.at_end():
        return DescribeTable(table=ref, extended=extended, as_json=as_json)
    column: Name = cursor.name(at_most=64)
    return DescribeTable(table=ref, extended=extended, column=column)


def show(cursor: Cursor) -> Command | None:
    """`SHOW ...`; None for what is not the catalog's."""
    cursor.expect("SHOW")
    if (found := policies.show(cursor) or governed_tags.show(cursor)) is not None:
        return found
    for word, what in _LISTS.items():
        if cursor.accept(word):
            return _listing(cursor, what)
    if cursor.accept("TABLE", "EXTENDED"):
        return _extended(cursor)
    if cursor.sees("ALL", "FUNCTIONS") or cursor.sees("USER", "FUNCTIONS"):
        cursor.take()
        cursor.take()
        return _listing(cursor, "FUNCTIONS")
    if cursor.accept_any("GRANTS", "GRANT"):
        return show_grants(cursor)
    if cursor.accept("COLUMNS"):
        return _columns(cursor)
    if cursor.accept("TBLPROPERTIES"):
        ref = table_ref(cursor)
        return ShowTableProperties(table=ref, key=_property_key(cursor))
    if cursor.accept("PARTITIONS"):
        ref = table_ref(cursor)
        return ShowPartitions(table=ref, where=_partition_spec(cursor))
    if cursor.accept("CREATE", "TABLE") or cursor.accept("CREATE", "VIEW"):
        return ShowCreateTable(table=table_ref(cursor))
    if cursor.accept("CURRENT"):
        cursor.expect_any("SCHEMA", "DATABASE", "NAMESPACE")
        return ShowCurrentSchema()
    return None


def _listing(cursor: Cursor, what: str) -> Command:
    if what == "TABLES" and cursor.accept("DROPPED"):
        return _dropped(cursor)
    if what == "TABLES" and (found := _across(cursor, what)) is not None:
        return found
    scope: Name = ()
    parts = _SCOPE_PARTS.get(what)
    if parts is not None and cursor.accept_any("FROM", "IN"):
        cursor.accept_any("SCHEMA", "DATABASE", "CATALOG") if cursor.names_follow() else None
        scope = cursor.name(at_most=parts)
    liked = cursor.accept("LIKE")
    pattern = cursor.string() if liked or cursor.sees_string() else None
    if what == "FUNCTIONS" and pattern is None and not cursor.at_end():
        pattern = cursor.name()[-1]
    return Show(what=what, scope=scope, pattern=pattern)


def _extended(cursor: Cursor) -> Command:
    """The rest of `SHOW TABLE EXTENDED [IN schema] LIKE pattern`."""
    scope = cursor.name(at_most=2) if cursor.accept_any("FROM", "IN") else ()
    cursor.expect("LIKE")
    return Show(what="TABLE EXTENDED", scope=scope, pattern=cursor.string())


def _dropped(cursor: Cursor) -> Command:
    """The rest of `SHOW TABLES DROPPED [IN schema] [LIMIT n]`."""
    scope: Name = ()
    if cursor.accept_any("FROM", "IN"):
        scope = cursor.name(at_most=2)
    return ShowDropped(scope=scope, limit=cursor.integer() if cursor.accept("LIMIT") else None)


def _across(cursor: Cursor, what: str) -> Command | None:
    """The rest of `SHOW TABLES IN ALL CATALOGS` and `SHOW ... IN CATALOG name`, in the order that drivers use."""
    began = cursor.position
    if not cursor.accept_any("FROM", "IN"):
        return None
    catalog = None
    if not cursor.accept("ALL", "CATALOGS"):
        if not (cursor.sees("CATALOG") and cursor.names_follow()):
            cursor.rewind(began)
            return None
        cursor.take()
        catalog = cursor.name(at_most=1)[0]
    schema = cursor.string() if cursor.accept("SCHEMA", "LIKE") else None
    table = cursor.string() if cursor.accept("TABLE", "LIKE") else None
    pattern = cursor.string() if cursor.accept("LIKE") else None
    return ShowAcross(what=what, catalog=catalog, schema_pattern=schema, table_pattern=table, pattern=pattern)


def _columns(cursor: Cursor) -> Command:
    if (found := _across(cursor, "COLUMNS")) is not None:
        return found
    cursor.expect_any("IN", "FROM")
    ref = table_ref(cursor)
    if cursor.accept_any("IN", "FROM"):
        schema = cursor.name(at_most=2)
        ref = TableRef(name=(*schema, ref.name[-1])) if ref.name else cursor.fail("a path has no schema")
    return ShowColumns(table=ref)


def _property_key(cursor: Cursor) -> str | None:
    if not cursor.accept("("):
        return None
    key = cursor.string() if cursor.sees_string() else ".".join(cursor.name(at_most=64))
    cursor.expect(")")
    return key


def _partition_spec(cursor: Cursor) -> dict[str, str | None]:
    if not cursor.accept("PARTITION"):
        return {}
    return dict(cursor.in_parentheses(_partition_value))


def _partition_value(cursor: Cursor) -> tuple[str, str | None]:
    column = cursor.identifier()
    cursor.expect("=")
    if cursor.accept("NULL"):
        return column, None
    for literal in ("DATE", "TIMESTAMP"):
        cursor.accept(literal)
    if cursor.sees_string():
        return column, cursor.string()
    sign = "-" if cursor.accept("-") else ""
    return column, sign + cursor.take().text
