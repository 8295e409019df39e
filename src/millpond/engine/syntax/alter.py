"""Grammar of ALTER TABLE and ALTER VIEW."""

from typing import Any

from millpond.engine.errors import unsupported
from millpond.engine.syntax import tags
from millpond.engine.syntax.columns import (
    column_spec,
    column_type,
    constraint,
    mask,
    properties,
    property_key,
    row_filter,
    table_ref,
)
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import (
    AddColumns,
    AddConstraint,
    AlterAction,
    AlterColumn,
    AlterTable,
    ClusterBy,
    ColumnSpec,
    Command,
    DropColumns,
    DropConstraint,
    Name,
    RenameColumn,
    RenameTable,
    SetMask,
    SetOwner,
    SetProperties,
    SetRowFilter,
    UnsetProperties,
)
from millpond.engine.syntax.objects import owner_name
from millpond.engine.syntax.tables import cluster_columns


def alter_relation(cursor: Cursor, *, view: bool) -> Command | None:
    """The rest of ALTER TABLE or ALTER VIEW, after that word; None for `ALTER VIEW v AS query`."""
    ref = table_ref(cursor)
    if view and cursor.sees("AS"):
        return None
    if ref.path is None and (tagged := tags.relation_clause(cursor, ref.name)) is not None:
        return tagged
    return AlterTable(table=ref, action=_view_action(cursor) if view else _table_action(cursor), view=view)


def _view_action(cursor: Cursor) -> AlterAction:
    action = _common_action(cursor)
    if action is None:
        cursor.fail("this change of a view is not known")
    return action


def _common_action(cursor: Cursor) -> AlterAction | None:
    if cursor.accept("SET", "TBLPROPERTIES"):
        return SetProperties(properties=properties(cursor))
    if cursor.accept("UNSET", "TBLPROPERTIES"):
        if_exists = cursor.accept("IF", "EXISTS")
        return UnsetProperties(keys=cursor.in_parentheses(property_key), if_exists=if_exists)
    if cursor.accept("RENAME", "TO"):
        return RenameTable(new_name=cursor.name())
    if cursor.accept("SET", "OWNER", "TO") or cursor.accept("OWNER", "TO"):
        return SetOwner(owner=owner_name(cursor))
    return None


def _table_action(cursor: Cursor) -> AlterAction:
    action = _common_action(cursor)
    if action is not None:
        return action
    if cursor.accept("SET", "ROW", "FILTER"):
        return SetRowFilter(guard=row_filter(cursor))
    if cursor.accept("DROP", "ROW", "FILTER"):
        return SetRowFilter(guard=None)
    if cursor.sees("ADD") or cursor.sees("DROP"):
        return _add(cursor) if cursor.accept("ADD") else _drop(cursor)
    if cursor.accept("RENAME", "COLUMN"):
        path = cursor.name(at_most=64)
        cursor.expect("TO")
        return RenameColumn(path=path, new_name=cursor.identifier())
    if cursor.accept_any("ALTER", "CHANGE"):
        cursor.accept("COLUMN")
        return _alter_column(cursor)
    if cursor.accept("CLUSTER", "BY"):
        return ClusterBy(columns=cluster_columns(cursor))
    if cursor.sees("SET") or cursor.sees("REPLACE") or cursor.sees("RECOVER") or cursor.sees("SYNC"):
        raise unsupported(f"ALTER TABLE {cursor.take().text.upper()} {_rest(cursor)} is not supported.")
    raise cursor.error("this change of a table is not known")


def _rest(cursor: Cursor) -> str:
    word = cursor.word()
    return word.text.upper() if word is not None else ""


def _add(cursor: Cursor) -> AlterAction:
    if cursor.sees("CONSTRAINT"):
        return AddConstraint(constraint=constraint(cursor))
    if cursor.sees("CHECK", "(") or cursor.sees("PRIMARY", "KEY") or cursor.sees("FOREIGN", "KEY"):
        return AddConstraint(constraint=constraint(cursor))
    if cursor.sees("PARTITION"):
        raise unsupported("ADD PARTITION; a Delta table finds its partitions itself.")
    cursor.expect_any("COLUMNS", "COLUMN")
    if cursor.sees("("):
        return AddColumns(columns=cursor.in_parentheses(_new_column))
    return AddColumns(columns=cursor.comma_list(_new_column))


def _new_column(cursor: Cursor) -> ColumnSpec:
    spec, constraints = column_spec(cursor, nested=True)
    if constraints:
        cursor.fail("add the constraint with ADD CONSTRAINT")
    return spec


def _drop(cursor: Cursor) -> AlterAction:
    cursor.expect("DROP")
    if cursor.accept("CONSTRAINT"):
        if_exists = cursor.accept("IF", "EXISTS")
        name = cursor.identifier()
        cursor.accept_any("RESTRICT", "CASCADE")
        return DropConstraint(name=name, if_exists=if_exists)
    if cursor.sees("PARTITION"):
        raise unsupported("DROP PARTITION; use DELETE FROM ... WHERE.")
    if cursor.sees("PRIMARY") or cursor.sees("FOREIGN") or cursor.sees("FEATURE"):
        raise unsupported(f"ALTER TABLE DROP {cursor.take().text.upper()} is not supported.")
    cursor.expect_any("COLUMNS", "COLUMN")
    if_exists = cursor.accept("IF", "EXISTS")
    paths: tuple[Name, ...]
    if cursor.sees("("):
        paths = cursor.in_parentheses(lambda inner: inner.name(at_most=64))
    else:
        paths = cursor.comma_list(lambda inner: inner.name(at_most=64))
    return DropColumns(paths=paths, if_exists=if_exists)


def _alter_column(cursor: Cursor) -> AlterAction:
    path = cursor.name(at_most=64)
    if cursor.accept("SET", "MASK"):
        return SetMask(path=path, guard=mask(cursor))
    if cursor.accept("DROP", "MASK"):
        return SetMask(path=path, guard=None)
    change: dict[str, Any] = {}
    if cursor.accept("COMMENT"):
        change["comment"] = cursor.string()
    elif cursor.accept("TYPE"):
        change["type"], change["varchar"] = column_type(cursor)
    elif cursor.accept("SET", "NOT", "NULL"):
        change["set_not_null"] = True
    elif cursor.accept("DROP", "NOT", "NULL"):
        change["drop_not_null"] = True
    elif cursor.accept("SET", "DEFAULT"):
        change["default"] = cursor.text_until()
    elif cursor.accept("DROP", "DEFAULT"):
        change["drop_default"] = True
    elif cursor.accept("FIRST"):
        change["first"] = True
    elif cursor.accept("AFTER"):
        change["after"] = cursor.identifier()
    else:
        cursor.fail("expected COMMENT, TYPE, SET or DROP of NOT NULL, DEFAULT or MASK, FIRST or AFTER")
    return AlterColumn(path=path, **change)
