"""OPTIMIZE's WHERE: comparisons of partition columns joined by AND, as delta-rs' partition filters."""

from typing import Any

import sqlglot
from deltalake import DeltaTable
from sqlglot import exp
from sqlglot.errors import SqlglotError

from millpond.engine.delta.table import partition_columns
from millpond.engine.errors import AnalysisError, SparkError, column_not_found, unsupported

Filter = tuple[str, str, Any]

_COMPARISONS: dict[type[exp.Expr], tuple[str, str]] = {
    exp.EQ: ("=", "="),
    exp.NEQ: ("!=", "!="),
    exp.GT: (">", "<"),
    exp.GTE: (">=", "<="),
    exp.LT: ("<", ">"),
    exp.LTE: ("<=", ">="),
}


def partition_filters(where: str, table: DeltaTable) -> list[Filter]:
    """Raises: `AnalysisError` for a column that is no partition column; `UnsupportedError` for other conditions."""
    try:
        tree = sqlglot.parse_one(where, dialect="databricks")
    except SqlglotError as error:
        raise AnalysisError("PARSE_SYNTAX_ERROR", f"Syntax error in WHERE {where}.", sql_state="42601") from error
    partitions = {column.lower(): column for column in partition_columns(table)}
    names = tuple(field.name for field in table.schema().fields)
    filters: list[Filter] = []
    for condition in tree.flatten() if isinstance(tree, exp.And) else [tree]:
        filters.extend(_filters(condition.unnest(), partitions, names, where))
    return filters


def _filters(condition: exp.Expr, partitions: dict[str, str], names: tuple[str, ...], where: str) -> list[Filter]:
    negated = isinstance(condition, exp.Not)
    inner = condition.this.unnest() if negated else condition
    if isinstance(inner, exp.In) and not inner.args.get("query"):
        column = _column(inner.this, partitions, names)
        values = [_text(value, where) for value in inner.expressions]
        return [(column, "not in" if negated else "in", values)]
    if isinstance(inner, exp.Between) and not negated:
        column = _column(inner.this, partitions, names)
        return [(column, ">=", _text(inner.args["low"], where)), (column, "<=", _text(inner.args["high"], where))]
    operators = _COMPARISONS.get(type(inner))
    if operators is None or negated:
        raise _not_supported(where)
    left, right = inner.this.unnest(), inner.expression.unnest()
    if isinstance(left, exp.Column):
        return [(_column(left, partitions, names), operators[0], _text(right, where))]
    return [(_column(right, partitions, names), operators[1], _text(left, where))]


def _column(node: exp.Expr, partitions: dict[str, str], names: tuple[str, ...]) -> str:
    if not isinstance(node, exp.Column):
        raise _not_supported(node.sql())
    name = node.name
    if name.lower() not in {one.lower() for one in names}:
        raise column_not_found(name, names)
    if name.lower() not in partitions:
        raise AnalysisError(
            "DELTA_NON_PARTITION_COLUMN_REFERENCE",
            f"Predicate references non-partition column {name!r}. Only the partition columns may be referenced: "
            f"[{', '.join(partitions.values())}].",
            sql_state="42P10",
            parameters={"columnName": name},
        )
    return partitions[name.lower()]


def _text(node: exp.Expr, where: str) -> str:
    """A literal as partition values are written; `DATE '...'` and casts of literals count as literals."""
    inner = node.unnest()
    if isinstance(inner, exp.Cast):
        inner = inner.this
    if isinstance(inner, exp.Neg) and isinstance(inner.this, exp.Literal):
        return f"-{inner.this.this}"
    if isinstance(inner, exp.Boolean):
        return str(inner.this).lower()
    if isinstance(inner, exp.Literal):
        return str(inner.this)
    raise _not_supported(where)


def _not_supported(where: str) -> SparkError:
    return unsupported(
        f"OPTIMIZE ... WHERE {where}: only comparisons of partition columns with literals, IN and BETWEEN, joined by "
        "AND, are supported."
    )
