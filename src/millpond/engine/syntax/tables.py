"""Grammar of tables: CREATE TABLE without a query, clones, TRUNCATE, CONVERT, OPTIMIZE, VACUUM, RESTORE."""

from typing import Any

from millpond.engine.errors import unsupported
from millpond.engine.syntax.columns import as_of, column_spec, constraint, properties, row_filter, table_ref
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import (
    CloneTable,
    ColumnSpec,
    Command,
    Constraint,
    ConvertToDelta,
    CreateTable,
    Optimize,
    RestoreTable,
    TruncateTable,
    Vacuum,
)

_QUERY_STARTS = ("AS", "SELECT", "WITH", "FROM", "VALUES", "TABLE", "(")


def create_table(cursor: Cursor, *, or_replace: bool = False, external: bool = False) -> Command | None:
    """The rest of `CREATE [OR REPLACE] [EXTERNAL] TABLE`, after that word; None when a query makes the table."""
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    ref = table_ref(cursor)
    if ref.path is not None:
        raise unsupported("A table needs a name: CREATE TABLE name (...) LOCATION 'path'.")
    made: dict[str, Any] = {"name": ref.name, "or_replace": or_replace, "if_not_exists": if_not_exists}
    if cursor.sees("LIKE"):
        return _like(cursor, made)
    if cursor.sees_any("SHALLOW", "DEEP", "CLONE"):
        return _clone(cursor, made)
    if cursor.sees("(", "SELECT") or cursor.sees("(", "WITH"):
        return None
    if cursor.accept("("):
        made["columns"], made["constraints"] = _columns(cursor)
        cursor.expect(")")
    specs: list[ColumnSpec] = []
    while _table_option(cursor, made, specs):
        pass
    if cursor.sees_any(*_QUERY_STARTS):
        return None
    made["columns"] = (*made.get("columns", ()), *specs)
    return CreateTable(external=external, **made)


def _columns(cursor: Cursor) -> tuple[tuple[ColumnSpec, ...], tuple[Constraint, ...]]:
    columns: list[ColumnSpec] = []
    constraints: list[Constraint] = []
    if cursor.sees(")"):
        return (), ()
    while True:
        if _constraint_starts(cursor):
            constraints.append(constraint(cursor))
        else:
            spec, own = column_spec(cursor, masks=True)
            columns.append(spec)
            constraints.extend(own)
        if not cursor.accept(","):
            return tuple(columns), tuple(constraints)


def _constraint_starts(cursor: Cursor) -> bool:
    return (
        cursor.sees("CHECK", "(")
        or cursor.sees("PRIMARY", "KEY")
        or cursor.sees("FOREIGN", "KEY")
        or (
            cursor.sees("CONSTRAINT")
            and (after := cursor.word(2)) is not None
            and after.text.upper() in ("CHECK", "PRIMARY", "FOREIGN")
        )
    )


def _table_option(cursor: Cursor, made: dict[str, Any], specs: list[ColumnSpec]) -> bool:
    value: Any
    if cursor.accept("USING"):
        key, value = "using", ".".join(cursor.name(at_most=8))
    elif cursor.accept("PARTITIONED", "BY"):
        key, value = "partitioned_by", cursor.in_parentheses(lambda inner: _partition_column(inner, specs))
    elif cursor.accept("CLUSTER", "BY"):
        key, value = "cluster_by", cluster_columns(cursor)
    elif cursor.accept("TBLPROPERTIES"):
        key, value = "properties", properties(cursor)
    elif cursor.accept("OPTIONS"):
        key, value = "options", properties(cursor)
    elif cursor.accept("COMMENT"):
        key, value = "comment", cursor.string()
    elif cursor.accept("LOCATION"):
        key, value = "location", cursor.string()
    elif cursor.accept("WITH", "ROW", "FILTER"):
        key, value = "row_filter", row_filter(cursor)
    elif cursor.sees_any("CLUSTERED", "STORED", "ROW", "SKEWED"):
        raise unsupported(f"{cursor.take().text.upper()} has no meaning for a Delta table.")
    else:
        return False
    if key in made:
        cursor.fail("the same clause is given twice")
    made[key] = value
    return True


def _partition_column(cursor: Cursor, specs: list[ColumnSpec]) -> str:
    """A column's name, or in Hive's style a new column with its type."""
    following = cursor.word(1)
    if following is not None and not following.is_name and following.text == "(":
        raise unsupported("Partition transforms; partition by a (generated) column instead.")
    if following is not None and following.is_name:
        spec, _ = column_spec(cursor)
        specs.append(spec)
        return spec.path[0]
    return cursor.identifier()


def cluster_columns(cursor: Cursor) -> tuple[str, ...]:
    """`(a, b)`, `NONE` or `AUTO`; the latter two name no column."""
    if cursor.accept_any("NONE", "AUTO"):
        return ()
    return cursor.in_parentheses(lambda inner: ".".join(inner.name(at_most=64)))


def _like(cursor: Cursor, made: dict[str, Any]) -> Command:
    cursor.expect("LIKE")
    made["like"] = table_ref(cursor)
    while _table_option(cursor, made, []):
        pass
    return CreateTable(**made)


def _clone(cursor: Cursor, made: dict[str, Any]) -> Command:
    shallow = cursor.accept_any("SHALLOW", "DEEP") == "SHALLOW"
    cursor.expect("CLONE")
    made["source"] = table_ref(cursor)
    if cursor.sees_any("FOR", "VERSION", "TIMESTAMP"):
        made["as_of"] = as_of(cursor)
    if cursor.accept("TBLPROPERTIES"):
        made["properties"] = properties(cursor)
    if cursor.accept("LOCATION"):
        made["location"] = cursor.string()
    return CloneTable(shallow=shallow, **made)


def truncate(cursor: Cursor) -> Command:
    cursor.expect("TRUNCATE", "TABLE")
    ref = table_ref(cursor)
    if cursor.sees("PARTITION"):
        raise unsupported("TRUNCATE of one partition; use DELETE FROM ... WHERE.")
    return TruncateTable(table=ref)


def convert(cursor: Cursor) -> Command:
    cursor.expect("CONVERT", "TO", "DELTA")
    ref = table_ref(cursor)
    cursor.accept("NO", "STATISTICS")
    partitions: tuple[ColumnSpec, ...] = ()
    if cursor.accept("PARTITIONED", "BY"):
        partitions = cursor.in_parentheses(lambda inner: column_spec(inner)[0])
    return ConvertToDelta(source=ref, partitioned_by=partitions)


def optimize(cursor: Cursor) -> Command:
    """`OPTIMIZE table [FULL] [WHERE e] [ZORDER BY (a, b)]`."""
    cursor.expect("OPTIMIZE")
    ref = table_ref(cursor)
    full = cursor.accept("FULL")
    where = cursor.text_until("ZORDER") if cursor.accept("WHERE") else None
    zorder: tuple[str, ...] = ()
    if cursor.accept("ZORDER", "BY"):
        bracketed = cursor.accept("(")
        zorder = cursor.comma_list(lambda inner: ".".join(inner.name(at_most=64)))
        if bracketed:
            cursor.expect(")")
    return Optimize(table=ref, where=where, zorder_by=zorder, full=full)


def vacuum(cursor: Cursor) -> Command:
    """`VACUUM table [FULL | LITE] [RETAIN n HOURS] [DRY RUN]`; the options in any order."""
    cursor.expect("VACUUM")
    ref = table_ref(cursor)
    made: dict[str, Any] = {}
    while True:
        if cursor.accept("RETAIN"):
            key, value = "retain_hours", cursor.number()
            cursor.expect_any("HOURS", "HOUR")
        elif cursor.accept("DRY", "RUN"):
            key, value = "dry_run", True
        elif (mode := cursor.accept_any("LITE", "FULL")) is not None:
            key, value = "lite", mode == "LITE"
        else:
            return Vacuum(table=ref, **made)
        if key in made:
            cursor.fail("the same option is given twice")
        made[key] = value


def restore(cursor: Cursor) -> Command:
    cursor.expect("RESTORE")
    cursor.accept("TABLE")
    ref = table_ref(cursor)
    cursor.accept("TO")
    return RestoreTable(table=ref, as_of=as_of(cursor))
