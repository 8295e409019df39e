"""Writes as values: what DataFrame.write and DataFrame.writeTo ask for, in one form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from millpond.catalog.names import quote, split_name, text_literal
from millpond.engine import sources
from millpond.engine.errors import AnalysisError, unsupported

if TYPE_CHECKING:
    from millpond.engine.delta.table import Once

_MODES_V1 = {0: "error", 1: "append", 2: "overwrite", 3: "error", 4: "ignore"}
_MODES_V2 = {
    1: "create",
    2: "overwrite_where",
    3: "overwrite_partitions",
    4: "append",
    5: "replace",
    6: "create_or_replace",
}


@dataclass(frozen=True, kw_only=True)
class MergeInto:
    """Rows take the place of those with the same key, in one commit."""

    keys: tuple[str, ...]
    deletes: str | None
    """A column of the rows, true where the row of the key goes; it is not written."""


@dataclass(frozen=True, kw_only=True)
class Write:
    """A write that was asked for, whichever way."""

    relation: Any
    """Bound by the planner in place before the write starts."""
    name: tuple[str, ...] = ()
    path: str | None = None
    mode: str
    """error, ignore, append, overwrite (V1); create, replace, create_or_replace, overwrite_partitions and
    overwrite_where (V2)."""
    must_exist: bool = False
    by_position: bool = False
    columns: tuple[str, ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    provider: str = ""
    partitioned_by: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    comment: str | None = None
    once: "Once | None" = None
    """What the table shall have once, however often the write is carried out."""
    merge: "MergeInto | None" = None

    def option(self, name: str) -> str | None:
        """An option, whatever its case."""
        return next((value for key, value in self.options.items() if key.lower() == name.lower()), None)


def write_of_v1(operation: Any) -> Write:
    """What DataFrame.write asks for."""
    if operation.HasField("bucket_by"):
        raise unsupported("bucketBy; partition the table, or OPTIMIZE it with ZORDER BY.")
    options = dict(operation.options)
    path = operation.path if operation.WhichOneof("save_type") == "path" else None
    path = next((options.pop(key) for key in list(options) if key.lower() == "path"), None) or path
    sources.check_options(options)
    once, merge = once_of(options), merge_of(options)
    name: tuple[str, ...] = ()
    by_position = False
    if operation.WhichOneof("save_type") == "table":
        name = split_name(operation.table.table_name)
        by_position = operation.table.save_method == operation.table.TABLE_SAVE_METHOD_INSERT_INTO
    elif not path:
        raise AnalysisError("INVALID_SAVE_PATH", "Give a path to save to, or use saveAsTable(name).", sql_state="42000")
    return Write(
        relation=operation.input,
        name=name,
        path=path,
        mode=_MODES_V1.get(operation.mode, "error") if not (by_position and operation.mode == 0) else "append",
        must_exist=by_position,
        by_position=by_position,
        provider=operation.source,
        partitioned_by=tuple(operation.partitioning_columns),
        options=options,
        once=once,
        merge=merge,
    )


def once_of(options: dict[str, str]) -> "Once | None":
    """What `txnAppId` and `txnVersion` say, taken out. Source: Delta Lake, "Idempotent table writes".

    With `millpond.txnAfter` the number before it is the one that is given, or there is `none`. With `millpond.txnHeld`,
    as `3 application`, that of another application is, too. Raises AnalysisError for one without the other.
    """
    names = {"txnappid", "txnversion", "millpond.txnafter", "millpond.txnheld"}
    found = {key.lower(): options.pop(key) for key in list(options) if key.lower() in names}
    if not found:
        return None
    version, after = found.get("txnversion", ""), found.get("millpond.txnafter")
    held, _, other = found.get("millpond.txnheld", "0 ").partition(" ")
    numbers = [version, held, *([] if after in {None, "none"} else [str(after)])]
    if not found.get("txnappid") or not all(each.isdecimal() for each in numbers):
        raise AnalysisError(
            "DELTA_INVALID_IDEMPOTENT_WRITES_OPTIONS",
            "Invalid options for idempotent Dataframe writes: txnAppId is a text and txnVersion a number, and so is "
            "millpond.txnAfter, or 'none'; millpond.txnHeld is a number and a text.",
            sql_state="42616",
        )
    from millpond.engine.delta.table import NOTHING, Once

    before = None if after is None else NOTHING if after == "none" else int(after)
    return Once(
        application=found["txnappid"], version=int(version), operation=None, after=before,
        held=(other, int(held)) if other else None,
    )  # fmt: skip


def merge_of(options: dict[str, str]) -> "MergeInto | None":
    """What `millpond.mergeOn` and `millpond.deleteWhen` say, taken out."""
    found = {key.lower(): options.pop(key) for key in list(options) if key.lower().startswith("millpond.")}
    keys = tuple(split_name(found["millpond.mergeon"])) if "millpond.mergeon" in found else ()
    if set(found) - {"millpond.mergeon", "millpond.deletewhen"} or bool(found) is not bool(keys):
        raise unsupported(f"The options {', '.join(found)}; there are millpond.mergeOn and millpond.deleteWhen.")
    return MergeInto(keys=keys, deletes=found.get("millpond.deletewhen")) if keys else None


def write_of_v2(operation: Any) -> Write:
    """What DataFrame.writeTo asks for."""
    mode = _MODES_V2.get(operation.mode)
    if mode is None:
        raise unsupported(f"Write mode {operation.mode}.")
    sources.check_options(operation.options)
    options = dict(operation.options)
    if mode == "overwrite_where":
        options["replaceWhere"] = _condition_text(operation.overwrite_condition)
    if mode in {"replace", "create_or_replace"}:
        options["overwriteSchema"] = "true"
    return Write(
        relation=operation.input,
        name=split_name(operation.table_name),
        mode=mode,
        must_exist=mode in {"append", "overwrite_where", "overwrite_partitions", "replace"},
        provider=operation.provider,
        partitioned_by=tuple(_partition_column(expression) for expression in operation.partitioning_columns),
        options=options,
        properties=dict(operation.table_properties),
    )


def _partition_column(expression: Any) -> str:
    if expression.WhichOneof("expr_type") != "unresolved_attribute":
        raise unsupported("Partition transforms; partition by a column of the data.")
    return split_name(expression.unresolved_attribute.unparsed_identifier)[-1]


def _condition_text(expression: Any) -> str:
    """A simple condition as SQL: comparisons of columns with literals, joined by AND and OR."""
    kind = expression.WhichOneof("expr_type")
    if kind == "expression_string":
        return str(expression.expression_string.expression)
    if kind == "unresolved_attribute":
        return ".".join(map(quote, split_name(expression.unresolved_attribute.unparsed_identifier)))
    if kind == "literal":
        value = getattr(expression.literal, expression.literal.WhichOneof("literal_type"))
        if isinstance(value, str):
            return text_literal(value)
        if isinstance(value, bool | int | float):
            return str(value).lower()
    if kind == "unresolved_function" and len(expression.unresolved_function.arguments) == 2:
        name = expression.unresolved_function.function_name
        if name in {"==", "=", "!=", "<", "<=", ">", ">=", "<=>", "and", "or"}:
            left, right = map(_condition_text, expression.unresolved_function.arguments)
            return f"({left} {'=' if name == '==' else name} {right})"
    raise unsupported(
        "This condition of writeTo().overwrite; use comparisons of columns with constants, or F.expr('...')."
    )
