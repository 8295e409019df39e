"""Plans for schema changes: pure functions from a table's state and an ALTER action to its next state.

A plan whose `shape` is None touches the log only; otherwise each row is written anew in that shape, in one commit
(delta-rs has no column mapping; docs/decisions/0006-delta-commands.md says why).
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from millpond.engine.errors import AnalysisError, column_not_found, quoted
from millpond.engine.syntax.expressions import canonical, columns_in
from millpond.engine.syntax.model import (
    AddColumns,
    AlterColumn,
    ColumnSpec,
    DeltaType,
    DropColumns,
    Name,
    RenameColumn,
)
from millpond.engine.types import COMMENT, DEFAULT, GENERATED, SIZED_TEXT, Field, field_of, sql_text

CONSTRAINT_PREFIX = "delta.constraints."


@dataclass(frozen=True, kw_only=True)
class TableState:
    """What the Delta log says of a table, as far as schema changes need it."""

    fields: tuple[Field, ...]
    partition_columns: tuple[str, ...]
    configuration: Mapping[str, str]
    description: str | None
    has_rows: bool


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How one column of the rewritten table comes from the old one: by name, with its type and inner fields changed."""

    source: str
    field: Field
    cast: bool = False
    inner: "tuple[Shape, ...] | None" = None


@dataclass(frozen=True, kw_only=True)
class SchemaPlan:
    """The next state of the table, what the history calls the change, and what must be done to the rows."""

    operation: str
    parameters: Mapping[str, str]
    state: TableState
    shape: tuple[Shape, ...] | None = None
    must_hold: str | None = None
    """A condition that no row may violate when the plan is committed, in the stored form of a CHECK."""
    writer_version: int = 2
    """The least writer version that keeps the new state; 3 for CHECK constraints."""


# -- finding ------------------------------------------------------------------------------------------------------


def find(fields: Sequence[Field], name: str) -> Field | None:
    """The field of that name, case-insensitive like Spark."""
    return next((field for field in fields if field["name"].lower() == name.lower()), None)


def resolve(fields: Sequence[Field], path: Name) -> tuple[Field, ...]:
    """The fields from the column down to the inner field that `path` names.

    Raises: `AnalysisError` UNRESOLVED_COLUMN when a part does not exist or is not inside a struct.
    """
    found: list[Field] = []
    level: Sequence[Field] = fields
    for part in path:
        field = find(level, part)
        if field is None:
            raise column_not_found(".".join(path), tuple(one["name"] for one in level))
        found.append(field)
        level = _inner(field["type"])
    return tuple(found)


def _inner(kind: DeltaType) -> Sequence[Field]:
    inner: Sequence[Field] = kind["fields"] if isinstance(kind, dict) and kind["type"] == "struct" else ()
    return inner


# -- planning -----------------------------------------------------------------------------------------------------


def plan_add_columns(state: TableState, action: AddColumns) -> SchemaPlan:
    """ADD COLUMNS: the new columns read as NULL in the rows that are there."""
    fields = list(copy.deepcopy(state.fields))
    for spec in action.columns:
        _refuse_filled_column(spec, state)
        level = _level(fields, spec.path[:-1])
        if find(level, spec.path[-1]) is not None:
            raise _exists(spec.path)
        level.insert(_position(level, spec.first, spec.after), field_of(spec))
    shown = json.dumps([{"column": field_of(spec)} for spec in action.columns], ensure_ascii=False)
    return SchemaPlan(
        operation="ADD COLUMNS", parameters={"columns": shown}, state=replace(state, fields=tuple(fields))
    )


def _refuse_filled_column(spec: ColumnSpec, state: TableState) -> None:
    name = quoted(spec.path)
    if spec.default is not None or spec.generated is not None:
        raise AnalysisError(
            "WRONG_COLUMN_DEFAULTS_FOR_DELTA_ALTER_TABLE_ADD_COLUMN_NOT_SUPPORTED",
            f"Column {name}: a default or generated value cannot be given while adding a column to a Delta table, as "
            "the rows there would not have it. Add the column, then ALTER COLUMN ... SET DEFAULT for new rows.",
            sql_state="0AKDC",
        )
    if not spec.nullable and state.has_rows:
        raise AnalysisError(
            "DELTA_ADD_COLUMN_NOT_NULL",
            f"Column {name} cannot be added NOT NULL to a table with rows: they would be NULL. Add it, fill it, then "
            "ALTER COLUMN ... SET NOT NULL.",
            sql_state="0AKDC",
        )


def plan_rename_column(state: TableState, action: RenameColumn) -> SchemaPlan:
    """RENAME COLUMN: a rewrite that keeps partitioning and everything else."""
    fields = list(copy.deepcopy(state.fields))
    renamed = resolve(fields, action.path)[-1]
    level = _level(fields, action.path[:-1])
    twin = find(level, action.new_name)
    if twin is not None and twin is not renamed:
        raise _exists((*action.path[:-1], action.new_name))
    _refuse_used(state, action.path, "rename")
    old = renamed["name"]
    shape = _shapes(state.fields, action.path, lambda one: replace(one, field={**one.field, "name": action.new_name}))
    renamed["name"] = action.new_name
    partitions = [
        action.new_name if len(action.path) == 1 and column == old else column for column in state.partition_columns
    ]
    return SchemaPlan(
        operation="RENAME COLUMN",
        parameters={
            "oldColumnPath": ".".join(action.path),
            "newColumnPath": ".".join((*action.path[:-1], action.new_name)),
        },
        state=replace(state, fields=tuple(fields), partition_columns=tuple(partitions)),
        shape=shape,
    )


def plan_drop_columns(state: TableState, action: DropColumns) -> SchemaPlan | None:
    """DROP COLUMNS: a rewrite without them, so that the newest version holds no such values; None: nothing to do."""
    current, shape = state, _shapes(state.fields, (), lambda one: one)
    dropped = [path for path in action.paths if not (action.if_exists and not _exists_at(state.fields, path))]
    if not dropped:
        return None
    for path in dropped:
        field = resolve(current.fields, path)[-1]
        if field["name"] in state.partition_columns and len(path) == 1:
            raise AnalysisError(
                "DELTA_UNSUPPORTED_DROP_PARTITION_COLUMN",
                f"Dropping partition columns ({quoted(path)}) is not allowed.",
                sql_state="0AKDC",
            )
        _refuse_used(current, path, "drop")
        if len(_level(list(current.fields), path[:-1])) == 1:
            raise AnalysisError(
                "DELTA_DROP_COLUMN_ON_SINGLE_FIELD_SCHEMA",
                "Cannot drop column from a schema with a single column.",
                sql_state="0AKDC",
            )
        shape = _without(shape, path)
        current = replace(current, fields=tuple(one.field for one in shape))
    shown = json.dumps([".".join(path) for path in dropped], ensure_ascii=False)
    return SchemaPlan(operation="DROP COLUMNS", parameters={"columns": shown}, state=current, shape=shape)


def plan_alter_column(state: TableState, action: AlterColumn) -> SchemaPlan | None:
    """ALTER COLUMN: type changes are a rewrite, all else is in the log; None when the column is so already."""
    fields = list(copy.deepcopy(state.fields))
    field = resolve(fields, action.path)[-1]
    shape = None
    must_hold = None
    if action.type is not None:
        if field["type"] == action.type and field["metadata"].get(SIZED_TEXT) == action.varchar:
            return None
        shape = _retype(state, action, field)
    elif action.first or action.after is not None:
        level = _level(fields, action.path[:-1])
        level.remove(field)
        level.insert(_position(level, action.first, action.after), field)
    elif action.set_not_null:
        if len(action.path) > 1:
            raise _change_refused(action.path, "NOT NULL can be set on columns, not on fields inside them")
        must_hold = quoted((field["name"],)) + " IS NOT NULL"
        field["nullable"] = False
    elif action.drop_not_null:
        field["nullable"] = True
    else:
        _note(field, action)
    return SchemaPlan(
        operation="CHANGE COLUMN",
        parameters={"column": json.dumps(field, ensure_ascii=False)},
        state=replace(state, fields=tuple(fields)),
        shape=shape,
        must_hold=must_hold,
    )


def _note(field: Field, action: AlterColumn) -> None:
    metadata = field["metadata"]
    if action.comment is not None:
        metadata[COMMENT] = action.comment
    elif action.default is not None:
        if columns_in(action.default) != set():
            raise AnalysisError(
                "INVALID_DEFAULT_VALUE.NOT_CONSTANT",
                f"The DEFAULT of column {quoted(action.path)} must be a constant expression: {action.default}.",
                sql_state="42623",
            )
        metadata[DEFAULT] = action.default
    elif action.drop_default:
        metadata.pop(DEFAULT, None)


def plan_column_comment(state: TableState, path: Name, comment: str | None) -> SchemaPlan:
    """COMMENT ON COLUMN; None removes the comment."""
    fields = list(copy.deepcopy(state.fields))
    field = resolve(fields, path)[-1]
    field["metadata"].pop(COMMENT, None)
    if comment is not None:
        field["metadata"][COMMENT] = comment
    parameters = {"column": json.dumps(field, ensure_ascii=False)}
    return SchemaPlan(operation="CHANGE COLUMN", parameters=parameters, state=replace(state, fields=tuple(fields)))


def plan_add_check(state: TableState, name: str, expression: str) -> SchemaPlan:
    """ADD CONSTRAINT ... CHECK: every row must satisfy it when it is committed."""
    existing = constraint_key(state, name)
    if existing is not None:
        raise AnalysisError(
            "DELTA_CONSTRAINT_ALREADY_EXISTS",
            f"Constraint {name!r} already exists: {state.configuration[existing]}. Delete the old constraint first.",
            sql_state="42710",
            parameters={"constraintName": name, "oldConstraint": state.configuration[existing]},
        )
    stored = canonical(expression, [field["name"] for field in state.fields])
    return SchemaPlan(
        operation="ADD CONSTRAINT",
        parameters={"name": name, "expr": stored},
        state=replace(state, configuration={**state.configuration, CONSTRAINT_PREFIX + name: stored}),
        must_hold=stored,
        writer_version=3,
    )


def plan_drop_check(state: TableState, name: str) -> SchemaPlan | None:
    """DROP CONSTRAINT; None when there is none of that name."""
    key = constraint_key(state, name)
    if key is None:
        return None
    kept = {other: expression for other, expression in state.configuration.items() if other != key}
    parameters = {"name": name, "expr": state.configuration[key]}
    return SchemaPlan(operation="DROP CONSTRAINT", parameters=parameters, state=replace(state, configuration=kept))


def constraint_key(state: TableState, name: str) -> str | None:
    """The property that holds the constraint of that name, whatever its case."""
    wanted = (CONSTRAINT_PREFIX + name).lower()
    return next((key for key in state.configuration if key.lower() == wanted), None)


# -- types --------------------------------------------------------------------------------------------------------

_WIDER: dict[str, tuple[str, ...]] = {
    "byte": ("short", "integer", "long", "double"),
    "short": ("integer", "long", "double"),
    "integer": ("long", "double"),
    "float": ("double",),
    "date": ("timestamp_ntz",),
}
_DIGITS = {"byte": 3, "short": 5, "integer": 10, "long": 19}


def widens(old: DeltaType, new: DeltaType) -> bool:
    """Whether each value of `old` is exactly one of `new` (Delta protocol, "Type Widening")."""
    if not isinstance(old, str) or not isinstance(new, str):
        return False
    if new in _WIDER.get(old, ()) or old == new:
        return True
    if not new.startswith("decimal("):
        return False
    precision, scale = _decimal(new)
    if old in _DIGITS:
        return precision - scale >= _DIGITS[old]
    if not old.startswith("decimal("):
        return False
    old_precision, old_scale = _decimal(old)
    return scale >= old_scale and precision - scale >= old_precision - old_scale


def _decimal(kind: str) -> tuple[int, int]:
    precision, scale = kind[len("decimal(") : -1].split(",")
    return int(precision), int(scale)


def _retype(state: TableState, action: AlterColumn, field: Field) -> tuple[Shape, ...] | None:
    new = action.type
    if new is None or not widens(field["type"], new) or _narrows_text(field, action.varchar):
        raise _change_refused(
            action.path,
            f"its values of type {sql_text(field['type'])} may not fit {action.varchar or sql_text(new or '')}",
        )
    _refuse_used(state, action.path, "change the type of")
    same_bytes = field["type"] == new
    field["type"] = new
    field["metadata"].pop(SIZED_TEXT, None)
    if action.varchar is not None:
        field["metadata"][SIZED_TEXT] = action.varchar
    if same_bytes:
        return None
    return _shapes(state.fields, action.path, lambda one: replace(one, field={**one.field, "type": new}, cast=True))


def _narrows_text(field: Field, sized: str | None) -> bool:
    if sized is None:
        return False
    old = field["metadata"].get(SIZED_TEXT)
    return old is None or int(old.split("(")[1][:-1]) > int(sized.split("(")[1][:-1])


# -- shapes -------------------------------------------------------------------------------------------------------


def _shapes(fields: Sequence[Field], path: Name, change: Callable[[Shape], Shape]) -> tuple[Shape, ...]:
    """All columns as they are, but the one at `path` as `change` makes it."""
    made = []
    for field in fields:
        shape = Shape(source=field["name"], field=field)
        if path and field["name"].lower() == path[0].lower():
            if len(path) == 1:
                shape = change(shape)
            else:
                shape = _rebuilt(shape, _shapes(_inner(field["type"]), path[1:], change))
        made.append(shape)
    return tuple(made)


def _without(shapes: Sequence[Shape], path: Name) -> tuple[Shape, ...]:
    made = []
    for shape in shapes:
        if shape.field["name"].lower() != path[0].lower():
            made.append(shape)
        elif len(path) > 1:
            inner = shape.inner or _shapes(_inner(shape.field["type"]), (), lambda one: one)
            made.append(_rebuilt(shape, _without(inner, path[1:])))
    return tuple(made)


def _rebuilt(shape: Shape, inner: tuple[Shape, ...]) -> Shape:
    kind = {"type": "struct", "fields": [one.field for one in inner]}
    return replace(shape, field={**shape.field, "type": kind}, inner=inner)


# -- small parts --------------------------------------------------------------------------------------------------


def _level(fields: list[Field], path: Name) -> list[Field]:
    """The list of fields in which the path's last part stands, mutable."""
    if not path:
        return fields
    parent = resolve(fields, path)[-1]["type"]
    if not isinstance(parent, dict) or parent["type"] != "struct":
        raise column_not_found(".".join(path), tuple(field["name"] for field in fields))
    inner: list[Field] = parent["fields"]
    return inner


def _position(level: Sequence[Field], first: bool, after: str | None) -> int:
    if first:
        return 0
    if after is None:
        return len(level)
    before = find(level, after)
    if before is None:
        raise column_not_found(after, tuple(field["name"] for field in level))
    return [field["name"] for field in level].index(before["name"]) + 1


def _exists_at(fields: Sequence[Field], path: Name) -> bool:
    try:
        resolve(fields, path)
    except AnalysisError:
        return False
    return True


def _refuse_used(state: TableState, path: Name, verb: str) -> None:
    """CHECK constraints and generated columns that read the column forbid the change, as on Spark."""
    name = path[0].lower()
    for key, expression in state.configuration.items():
        if key.startswith(CONSTRAINT_PREFIX) and _reads(expression, name):
            constraint = key.removeprefix(CONSTRAINT_PREFIX)
            raise AnalysisError(
                "DELTA_CONSTRAINT_DEPENDENT_COLUMN_CHANGE",
                f"Cannot {verb} column {quoted(path)} because it is referenced by the check constraint "
                f"{constraint} -> {expression}. Drop the constraint first.",
                sql_state="42K09",
                parameters={"operation": verb, "columnName": ".".join(path)},
            )
    for field in state.fields:
        generated: Any = field["metadata"].get(GENERATED)
        if generated and (_reads(generated, name) or field["name"].lower() == name) and verb != "drop":
            raise _generated(verb, path, field["name"], generated)
        if generated and verb == "drop" and field["name"].lower() != name and _reads(generated, name):
            raise _generated(verb, path, field["name"], generated)


def _reads(expression: str, name: str) -> bool:
    columns = columns_in(expression)
    return columns is None or name in columns


def _generated(verb: str, path: Name, column: str, expression: str) -> AnalysisError:
    return AnalysisError(
        "DELTA_GENERATED_COLUMNS_DEPENDENT_COLUMN_CHANGE",
        f"Cannot {verb} column {quoted(path)} because of the generated column {column} -> {expression}.",
        sql_state="42K09",
        parameters={"operation": verb, "columnName": ".".join(path)},
    )


def _exists(path: Name) -> AnalysisError:
    return AnalysisError(
        "FIELD_ALREADY_EXISTS",
        f"Cannot add or rename the column, because {quoted(path)} already exists.",
        sql_state="42710",
        parameters={"fieldNames": quoted(path)},
    )


def _change_refused(path: Name, reason: str) -> AnalysisError:
    return AnalysisError(
        "DELTA_UNSUPPORTED_ALTER_TABLE_CHANGE_COL_OP",
        f"ALTER TABLE CHANGE COLUMN is not supported for column {quoted(path)}: {reason}.",
        sql_state="0AKDC",
        parameters={"fieldPath": ".".join(path)},
    )
