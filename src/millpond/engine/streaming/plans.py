"""Which plans can be streamed: those in which each new row is answered by itself. All others are refused by name.

Source of which joins can be: Spark's Structured Streaming guide, "Support matrix for joins in streaming queries".
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from sqlglot import exp

from millpond.engine import proto
from millpond.engine.errors import AnalysisError

SOURCE_OPTION = "__millpond_source"
"""Set on each streaming read of a query's plan, whatever its user set: the number of its source."""
_ROW_BY_ROW = frozenset({
    "project", "filter", "subquery_alias", "with_columns", "with_columns_renamed", "drop", "to_df", "to_schema", "hint",
    "fill_na", "drop_na", "replace", "unpivot", "repartition", "repartition_by_expression", "map_partitions", "sample",
})  # fmt: skip
_INSTEAD = {
    "aggregate": "Aggregations (groupBy, agg, count): stream the rows into a table and aggregate that.",
    "deduplicate": "distinct and dropDuplicates: write with DataFrame.mergeInto, or to a feature table by its key.",
    "sort": "Sorting: sort when the table is read.",
    "limit": "limit and head: filter instead.",
    "tail": "tail: filter instead.",
    "offset": "offset: filter instead.",
    "sql": "SQL over a stream: use DataFrame operations; selectExpr, filter and expr take SQL expressions.",
    "with_relations": "SQL over a stream, and subqueries beside one: use DataFrame operations, and joins.",
    "collect_metrics": "observe: look at the query's lastProgress.",
    "group_map": "applyInPandas: stream the rows into a table and group that.",
    "co_group_map": "applyInPandas of two groups: stream the rows into tables and group these.",
    "apply_in_pandas_with_state": "Streaming state.",
    "with_watermark": "Watermarks: they are for aggregations and joins of streams, which are not supported.",
    "as_of_join": "As-of joins: join a table by its key.",
    "lateral_join": "Lateral joins: use a table-generating function in select.",
}
_JOINS = proto.relations.Join
_STREAM_LEFT = frozenset({
    _JOINS.JOIN_TYPE_INNER, _JOINS.JOIN_TYPE_LEFT_OUTER, _JOINS.JOIN_TYPE_LEFT_SEMI, _JOINS.JOIN_TYPE_LEFT_ANTI,
    _JOINS.JOIN_TYPE_CROSS,
})  # fmt: skip
_STREAM_RIGHT = frozenset({_JOINS.JOIN_TYPE_INNER, _JOINS.JOIN_TYPE_RIGHT_OUTER, _JOINS.JOIN_TYPE_CROSS})
_ROW_FUNCTIONS = frozenset({100, 101, 200, 204, 250, 251})
"""Evaluation types of Python functions that go from row to row. Source: PySpark, `PythonEvalType`."""
_CALLED = re.compile(r"(\w+)\s*\(")
_STRINGS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_MORE_AGGREGATES = frozenset({
    "any", "some", "every", "bool_and", "bool_or", "count_distinct", "count_if", "first", "first_value", "last",
    "last_value", "any_value", "mean", "sum_distinct", "collect_list", "collect_set", "listagg", "string_agg",
    "grouping", "grouping_id", "try_sum", "try_avg", "mode", "median", "product", "regr_count", "regr_slope",
    "regr_intercept", "regr_r2", "regr_avgx", "regr_avgy", "regr_sxx", "regr_sxy", "regr_syy", "kurtosis", "skewness",
    "histogram_numeric", "bitmap_construct_agg", "bitmap_or_agg", "bit_and", "bit_or", "bit_xor", "count_min_sketch",
    "hll_sketch_agg", "hll_union_agg", "percentile", "percentile_approx", "approx_percentile", "std", "stddev_samp",
    "stddev_pop", "var_samp", "var_pop", "variance", "corr", "covar_pop", "covar_samp", "max_by", "min_by",
})  # fmt: skip


def reads(message: Any) -> Iterator[Any]:
    """The streaming reads in a plan, in order."""
    if message.DESCRIPTOR.full_name == "spark.connect.Read":
        if message.is_streaming:
            yield message
        return
    for inner in _inner(message):
        yield from reads(inner)


def is_streaming(message: Any) -> bool:
    """Whether a plan reads a stream."""
    return next(reads(message), None) is not None


def number_sources(relation: Any) -> list[Any]:
    """The streaming reads of a query's plan, each numbered, so that a copy of the plan has them again."""
    found = list(reads(relation))
    for number, read in enumerate(found):
        read.named_table.options[SOURCE_OPTION] = str(number)
    return found


def source_number(read: Any) -> int:
    """The number of the source that a numbered read is."""
    return int(read.named_table.options[SOURCE_OPTION])


def check_streamable(relation: Any) -> None:
    """Pass for a plan that can be streamed. Raises AnalysisError, which says what to do instead."""
    if not is_streaming(relation):
        raise AnalysisError(
            "WRITE_STREAM_NOT_ALLOWED",
            "`writeStream` can be called only on streaming Dataset/DataFrame.",
            sql_state="42601",
        )
    _check(relation)


def _check(relation: Any) -> None:
    """Check a relation that reads a stream, down to where the stream is read."""
    kind = relation.WhichOneof("rel_type")
    if kind == "read":
        return
    node = getattr(relation, kind)
    if kind == "join":
        _check_join(node)
    elif kind == "set_op":
        _check_union(node)
    elif kind in _ROW_BY_ROW:
        _check_expressions(node)
        _check(node.input)
    else:
        raise _refused(_INSTEAD.get(kind, f"Operations of kind {kind} on a stream."))


def _check_join(join: Any) -> None:
    left, right = is_streaming(join.left), is_streaming(join.right)
    if left and right:
        raise _refused("Joins of two streams: write one of them to a table and join that.")
    if join.join_type not in (_STREAM_LEFT if left else _STREAM_RIGHT):
        name = _JOINS.JoinType.Name(join.join_type).removeprefix("JOIN_TYPE_").lower()
        side = "left" if left else "right"
        raise _refused(f"A {name} join with a stream on the {side}: rows that match nothing are never known for sure.")
    if join.HasField("join_condition"):
        _check_message(join.join_condition)
    _check(join.left if left else join.right)


def _check_union(operation: Any) -> None:
    kinds = proto.relations.SetOperation
    if operation.set_op_type != kinds.SET_OP_TYPE_UNION or not operation.is_all:
        raise _refused("except, intersect and a union without doubles: use union, or unionByName.")
    sides = (operation.left_input, operation.right_input)
    if not all(map(is_streaming, sides)):
        raise _refused("A union of a stream and a table: read both as streams.")
    for side in sides:
        _check(side)


def _check_expressions(node: Any) -> None:
    for field, value in node.ListFields():
        if field.name == "input" or field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            continue
        for item in value if field.is_repeated else (value,):
            _check_message(item)


def _check_message(message: Any) -> None:
    """Refuse what looks at more than one row."""
    name = message.DESCRIPTOR.full_name
    if name == "spark.connect.Expression":
        _check_expression(message)
    for inner in _inner(message):
        _check_message(inner)


def _check_expression(expression: Any) -> None:
    which = expression.WhichOneof("expr_type")
    if which == "unresolved_function" and expression.unresolved_function.function_name.lower() in aggregates():
        raise _aggregate(expression.unresolved_function.function_name)
    if which == "call_function" and expression.call_function.function_name.lower() in aggregates():
        raise _aggregate(expression.call_function.function_name)
    if which == "window":
        raise _refused("Window functions (over): stream the rows into a table and rank these.")
    if which == "subquery_expression" and is_streaming(expression):
        raise _refused("Subqueries that read a stream: join instead.")
    if which == "common_inline_user_defined_function":
        _check_user_function(expression.common_inline_user_defined_function)
    if which == "expression_string":
        _check_text(expression.expression_string.expression)


def _check_user_function(function: Any) -> None:
    if function.WhichOneof("function") == "python_udf" and function.python_udf.eval_type not in _ROW_FUNCTIONS:
        raise _aggregate(function.function_name)


def _check_text(text: str) -> None:
    bare = _STRINGS.sub("''", text)
    for name in _CALLED.findall(bare):
        if name.lower() in aggregates():
            raise _aggregate(name)
        if name.lower() == "over":
            raise _refused("Window functions (OVER): stream the rows into a table and rank these.")


@cache
def aggregates() -> frozenset[str]:
    """Names of functions that make one value of many rows."""
    known: set[str] = set()
    waiting = [exp.AggFunc]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if kind is not exp.AggFunc:
            known.update(name.lower() for name in kind.sql_names())
    return frozenset(known | _MORE_AGGREGATES)


def _aggregate(name: str) -> AnalysisError:
    return _refused(f"The aggregate function {name}: stream the rows into a table and aggregate that.")


def _refused(what: str) -> AnalysisError:
    return AnalysisError("UNSUPPORTED_STREAMING_OPERATOR", f"Not supported on a stream: {what}", sql_state="0A000")


def _inner(message: Any) -> Iterator[Any]:
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                yield from value.values()
        elif field.is_repeated:
            yield from value
        else:
            yield value
