"""Columns through a bound Spark Connect plan: each relation's columns from those of its inputs."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from millpond.catalog.names import split_name
from millpond.engine import proto
from millpond.engine.lineage.columns import (
    Column,
    Found,
    Rows,
    find_column,
    joined,
    opaque_rows,
    open_rows,
    renamed_columns,
    source_rows,
    united,
)
from millpond.engine.lineage.text import expression_columns, parse, query_rows

_JOIN_SIDES = {3: "left", 4: "right", 2: "full", 5: "anti", 6: "semi"}
"""Of `Join.JoinType`; the others are inner and cross."""
_UNION = 2
_SAME = frozenset({
    "limit", "offset", "tail", "sample", "repartition", "hint", "collect_metrics", "fill_na", "replace", "sort",
    "filter", "repartition_by_expression", "deduplicate", "drop_na", "sample_by",
})  # fmt: skip
"""Relations that give the columns that they get; what they look at besides is in their expressions and names."""
_SUMMARIES = frozenset({"summary", "describe", "crosstab", "cov", "corr", "approx_quantile", "freq_items"})


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the gateway knew of a plan's sources."""

    columns: Mapping[str, Sequence[str] | None]
    """Names of columns by location; None where they are not known."""
    views: Mapping[int, tuple[str, Sequence[str]]] = field(default_factory=dict)
    """Key and columns of each view of the catalog, by the id of the relation in its place."""
    checkpoints: Mapping[str, bytes] = field(default_factory=dict)
    """Relations that the session has in its engine, by id."""

    def source(self, locations: Sequence[str]) -> Rows:
        """What is read from these places."""
        if len(locations) == 1:
            names = self.columns.get(locations[0])
            return open_rows(locations[0]) if names is None else source_rows(locations[0], names)
        sources = frozenset((location, "") for location in locations)
        return Rows(columns=(Column(name="*", sources=sources, is_open=True),))


def plan_rows(relation: Any, known: Known) -> Rows:
    """The result of a bound relation."""
    return Plans(known).rows(relation)


def sources_of(message: Any, known: Known) -> set[str]:
    """Keys of all sources below a message: what is certain, whatever becomes of the columns."""
    found: set[str] = set()
    _collect(message, known, found)
    return found


def _collect(message: Any, known: Known, found: set[str]) -> None:
    if message.DESCRIPTOR.full_name == "spark.connect.Relation":
        view = known.views.get(message.common.plan_id)
        if view is not None:
            found.add(view[0])
            return
        stored = known.checkpoints.get(message.cached_remote_relation.relation_id)
        if message.WhichOneof("rel_type") == "cached_remote_relation" and stored is not None:
            _collect(proto.relations.Relation.FromString(stored), known, found)
    if message.DESCRIPTOR.full_name == "spark.connect.Read.DataSource":
        found.update(message.paths)
    if message.DESCRIPTOR.full_name == "spark.connect.Expression.ExpressionString":
        found.update(location for location in known.columns if f"`{location}`" in message.expression)
    for each, value in message.ListFields():
        if each.message_type is None:
            continue
        if each.message_type.GetOptions().map_entry:
            continue  # settings and parameters, which are literals
        for item in value if each.is_repeated else (value,):
            _collect(item, known, found)


class Plans:
    """Walks one plan."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._references: dict[int, Rows] = {}
        """What subqueries in expressions may refer to."""

    def rows(self, relation: Any) -> Rows:
        """The result of a relation."""
        found = self._known.views.get(relation.common.plan_id)
        rows = source_rows(*found) if found is not None else self._kind(relation)
        if not relation.common.HasField("plan_id"):
            return rows
        plan = relation.common.plan_id
        return replace(rows, columns=tuple(replace(c, plans=c.plans | {plan}) for c in rows.columns))

    def _kind(self, relation: Any) -> Rows:
        kind = relation.WhichOneof("rel_type")
        message = getattr(relation, kind)
        if kind in _SAME:
            return self._same(message)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            return handler(self, message)
        if kind in _SUMMARIES:
            return self._opaque(message)
        return opaque_rows()

    def _same(self, message: Any) -> Rows:
        rows = self.rows(message.input)
        found = self._found(_expressions_in(message), rows)
        names = [*getattr(message, "column_names", ()), *(getattr(message, "cols", ()) if _filters(message) else ())]
        for name in names:
            found.add(find_column(rows.columns, [name]))
        return rows.using(found.sources | found.uses)

    def _opaque(self, message: Any) -> Rows:
        """A function over whole rows: anything may be in anything, and which columns it takes is not known."""
        uses: set[Any] = set()
        for each in ("input", "other"):
            if each in message.DESCRIPTOR.fields_by_name and message.HasField(each):
                uses |= self.rows(getattr(message, each)).uses
        return opaque_rows(uses)

    # -- sources ------------------------------------------------------------------------------------------------

    def _read(self, read: Any) -> Rows:
        return self._known.source(list(read.data_source.paths))

    def _local(self, local: Any) -> Rows:
        return Rows(columns=tuple(Column(name=name) for name in _local_names(local)))

    def _nothing(self, _message: Any) -> Rows:
        """Rows of the client's own, whose columns' names are not told."""
        return Rows(columns=(Column(name="*", is_open=True),))

    def _range(self, _message: Any) -> Rows:
        return Rows(columns=(Column(name="id"),))

    def _checkpoint(self, cached: Any) -> Rows:
        stored = self._known.checkpoints.get(cached.relation_id)
        return opaque_rows() if stored is None else self.rows(proto.relations.Relation.FromString(stored))

    def _function(self, function: Any) -> Rows:
        found = self._found(function.arguments, Rows())
        return Rows(columns=(replace(found.column("*"), is_open=True),), uses=frozenset(found.uses))

    # -- SQL ----------------------------------------------------------------------------------------------------

    def _with_relations(self, message: Any) -> Rows:
        named = self._named(message.references)
        if message.root.WhichOneof("rel_type") == "sql":
            return self._text(message.root.sql.query, named)
        return self.rows(message.root)

    def _sql(self, message: Any) -> Rows:
        return self._text(message.query, {})

    def _text(self, text: str, named: Mapping[str, Rows]) -> Rows:
        rows = query_rows(parse(text), self.tables(named))
        return replace(rows, columns=tuple(replace(column, qualifier="") for column in rows.columns))

    def _named(self, references: Any) -> dict[str, Rows]:
        named: dict[str, Rows] = {}
        for reference in references:
            rows = self._references[reference.common.plan_id] = self.rows(reference)
            if reference.WhichOneof("rel_type") == "subquery_alias":
                named[reference.subquery_alias.alias.lower()] = rows
        return named

    def tables(self, named: Mapping[str, Rows]) -> Callable[[tuple[str, ...]], Rows]:
        """What names in a text mean: its references, or a place (`delta.`file:///...``)."""

        def find(parts: tuple[str, ...]) -> Rows:
            if len(parts) == 1:
                return named.get(parts[0].lower(), opaque_rows())
            return self._known.source([parts[-1]]) if len(parts) == 2 else opaque_rows()

        return find

    def named(self, references: Any) -> dict[str, Rows]:
        """The rows of a command's references by name."""
        return self._named(references)

    # -- relations ----------------------------------------------------------------------------------------------

    def _project(self, project: Any) -> Rows:
        rows = self.rows(project.input) if project.HasField("input") else Rows()
        found = Found()
        columns = [c for expression in project.expressions for c in self._results(expression, rows, found)]
        return Rows(columns=tuple(columns), uses=rows.uses | found.uses)

    def _join(self, join: Any) -> Rows:
        left, right = self.rows(join.left), self.rows(join.right)
        side = _JOIN_SIDES.get(join.join_type, "")
        both = Rows(columns=(*left.columns, *right.columns))
        found = self._found([join.join_condition] if join.HasField("join_condition") else [], both)
        rows = joined(left, right, side=side, using=list(join.using_columns))
        return rows.using(found.sources | found.uses)

    def _as_of_join(self, join: Any) -> Rows:
        left, right = self.rows(join.left), self.rows(join.right)
        found = self._found(_expressions_in(join), Rows(columns=(*left.columns, *right.columns)))
        rows = joined(left, right, side="left" if "left" in join.join_type else "", using=list(join.using_columns))
        return rows.using(found.sources | found.uses)

    def _set_op(self, message: Any) -> Rows:
        left, right = self.rows(message.left_input), self.rows(message.right_input)
        if message.set_op_type == _UNION:
            return united(left, right, by_name=message.by_name)
        return left.using(right.everything)

    def _aggregate(self, aggregate: Any) -> Rows:
        rows = self.rows(aggregate.input)
        found = Found()
        keys = [c for each in aggregate.grouping_expressions for c in self._results(each, rows, found)]
        values = [c for each in aggregate.aggregate_expressions for c in self._results(each, rows, found)]
        uses = rows.uses.union(found.uses, *(key.sources for key in keys))
        if not aggregate.HasField("pivot"):
            return Rows(columns=(*keys, *values), uses=uses)
        by = self._found([aggregate.pivot.col], rows)
        sources = frozenset(by.sources).union(*(value.sources for value in values))
        return Rows(columns=(*keys, Column(name="*", sources=_fixed(sources), is_open=True)), uses=uses | by.uses)

    def _alias(self, message: Any) -> Rows:
        return self.rows(message.input).aliased(message.alias)

    def _to_df(self, message: Any) -> Rows:
        rows = self.rows(message.input)
        return Rows(columns=renamed_columns(rows.shown, list(message.column_names)), uses=rows.uses)

    def _renamed(self, message: Any) -> Rows:
        rows = self.rows(message.input)
        names = {each.col_name.lower(): each.new_col_name for each in message.renames}
        names |= {old.lower(): new for old, new in message.rename_columns_map.items()}
        columns = [c.named(names[c.name.lower()]) if c.name.lower() in names else c for c in rows.shown]
        missing = [c for old, new in names.items() if (c := _from_open(rows, old, new))]
        return replace(rows, columns=(*missing, *columns))

    def _with_columns(self, message: Any) -> Rows:
        rows = self.rows(message.input)
        found = Found()
        made = {}
        for alias in message.aliases:
            value = self._found([alias.expr], rows)
            found.uses |= value.uses
            made[alias.name[0].lower()] = value.column(alias.name[0])
        kept = [made.pop(column.name.lower(), column) for column in rows.shown]
        return Rows(columns=(*made.values(), *kept) if _is_open(rows) else (*kept, *made.values()),
                    uses=rows.uses | found.uses)  # fmt: skip

    def _drop(self, message: Any) -> Rows:
        rows = self.rows(message.input)
        gone = {name.lower() for name in message.column_names}
        attributes = [each.unresolved_attribute for each in message.columns]
        by_plan = [_attribute(each, rows.columns) for each in attributes]
        columns = [c for c in rows.columns if c.name.lower() not in gone and not any(c is each for each in by_plan)]
        return replace(rows, columns=tuple(columns))

    def _unpivot(self, message: Any) -> Rows:
        rows = self.rows(message.input)
        found = Found()
        ids = [c for each in message.ids for c in self._results(each, rows, found)]
        values = Found()
        names = {c.name.lower() for c in ids}
        given = message.values.values if message.HasField("values") else ()
        for column in [c for each in given for c in self._results(each, rows, found)] or [
            c for c in rows.shown if c.name.lower() not in names
        ]:
            values.add(column)
        made = (Column(name=message.variable_column_name), values.column(message.value_column_name))
        return Rows(columns=(*ids, *made), uses=rows.uses | found.uses)

    def _to_schema(self, message: Any) -> Rows:
        rows = self.rows(message.input)
        names = [each.name for each in message.schema.struct.fields]
        columns = [(name, find_column(rows.columns, [name])) for name in names]
        made = tuple(column.named(name) if column else Column(name=name) for name, column in columns)
        return Rows(columns=made, uses=rows.uses)

    def _parse(self, message: Any) -> Rows:
        rows = self.rows(message.input)
        sources = frozenset().union(*(column.sources for column in rows.shown))
        return Rows(columns=(Column(name="*", sources=sources, is_open=True),), uses=rows.uses)

    # -- expressions --------------------------------------------------------------------------------------------

    def _results(self, expression: Any, rows: Rows, found: Found) -> list[Column]:
        """The columns that an expression makes; what else it looks at is added to `found`."""
        kind = expression.WhichOneof("expr_type")
        if kind == "unresolved_star":
            return _star(expression.unresolved_star, rows)
        if kind == "unresolved_regex":
            pattern = re.compile(expression.unresolved_regex.col_name.strip("`"), re.IGNORECASE)
            return [column for column in rows.shown if column.is_open or pattern.fullmatch(column.name)]
        if kind == "expression_string":
            made = expression_columns(expression.expression_string.expression, rows.columns, self.tables({}))
            found.uses |= made.uses
            return list(made.columns)
        if kind == "unresolved_attribute":
            parts = split_name(expression.unresolved_attribute.unparsed_identifier)
            column = _attribute(expression.unresolved_attribute, rows.columns)
            return [column.named(parts[-1]) if column else Column(name=parts[-1], exact=False)]
        value = self._found([expression], rows)
        found.uses |= value.uses
        names = list(expression.alias.name) if kind == "alias" else [_name_of(expression)]
        return [value.column(name) for name in names]

    def _found(self, expressions: Iterable[Any], rows: Rows) -> Found:
        found = Found()
        for expression in expressions:
            self._walk(expression, rows, found)
        return found

    def _walk(self, expression: Any, rows: Rows, found: Found) -> None:
        kind = expression.WhichOneof("expr_type")
        if kind == "unresolved_attribute":
            found.add(_attribute(expression.unresolved_attribute, rows.columns))
        elif kind in {"unresolved_star", "unresolved_regex", "expression_string"}:
            for column in self._results(expression, rows, found):
                found.add(column)
        elif kind == "unresolved_function" and _counts_rows(expression.unresolved_function):
            return
        elif kind == "subquery_expression":
            self._subquery(expression.subquery_expression, rows, found)
        elif kind is not None:
            for child in _expressions_in(getattr(expression, kind)):
                self._walk(child, rows, found)

    def _subquery(self, subquery: Any, rows: Rows, found: Found) -> None:
        inner = self._references.get(subquery.plan_id, opaque_rows())
        if subquery.SubqueryType.Name(subquery.subquery_type).endswith("EXISTS"):
            found.uses |= inner.everything
            return
        for value in subquery.in_subquery_values:
            self._walk(value, rows, found)
        for column in inner.shown:
            found.add(column)
        found.uses |= inner.uses


_HANDLERS: dict[str, Callable[[Plans, Any], Rows]] = {
    "read": Plans._read,
    "local_relation": Plans._local,
    "cached_local_relation": Plans._nothing,
    "chunked_cached_local_relation": Plans._nothing,
    "range": Plans._range,
    "cached_remote_relation": Plans._checkpoint,
    "unresolved_table_valued_function": Plans._function,
    "common_inline_user_defined_table_function": Plans._function,
    "with_relations": Plans._with_relations,
    "sql": Plans._sql,
    "project": Plans._project,
    "join": Plans._join,
    "lateral_join": Plans._join,
    "as_of_join": Plans._as_of_join,
    "set_op": Plans._set_op,
    "aggregate": Plans._aggregate,
    "subquery_alias": Plans._alias,
    "to_df": Plans._to_df,
    "with_columns_renamed": Plans._renamed,
    "with_columns": Plans._with_columns,
    "drop": Plans._drop,
    "unpivot": Plans._unpivot,
    "to_schema": Plans._to_schema,
    "parse": Plans._parse,
    "map_partitions": Plans._opaque,
    "group_map": Plans._opaque,
    "co_group_map": Plans._opaque,
    "transpose": Plans._opaque,
}


def _attribute(attribute: Any, columns: Sequence[Column]) -> Column | None:
    plan = attribute.plan_id if attribute.HasField("plan_id") else None
    return find_column(columns, split_name(attribute.unparsed_identifier), plan)


def _star(star: Any, rows: Rows) -> list[Column]:
    columns = list(rows.shown)
    if star.HasField("plan_id"):
        columns = [column for column in columns if star.plan_id in column.plans]
    if not star.unparsed_target:
        return columns
    parts = split_name(star.unparsed_target.removesuffix(".*"))
    own = [column for column in rows.columns if column.qualifier == parts[-1].lower()]
    column = find_column(rows.columns, parts)
    return own or [replace(column or Column(name="*", exact=False), name="*", is_open=True)]


def _expressions_in(message: Any) -> list[Any]:
    """The expressions right below a message, those in messages that are neither relations nor expressions included."""
    if message.DESCRIPTOR.full_name in _LEAVES:
        return []
    found = []
    for each, value in message.ListFields():
        if each.message_type is None or each.message_type.GetOptions().map_entry:
            continue
        for item in value if each.is_repeated else (value,):
            if item.DESCRIPTOR.full_name == "spark.connect.Expression":
                found.append(item)
            elif item.DESCRIPTOR.full_name != "spark.connect.Relation":
                found += _expressions_in(item)
    return found


_LEAVES = frozenset({
    "spark.connect.Expression.Literal", "spark.connect.DataType", "spark.connect.PythonUDF",
    "spark.connect.Expression.UnresolvedNamedLambdaVariable",
})  # fmt: skip


def _name_of(expression: Any) -> str:
    """What Spark calls a result without an alias, as far as others can ask for it."""
    kind = expression.WhichOneof("expr_type")
    if kind == "cast":
        return _name_of(expression.cast.expr)
    if kind == "unresolved_attribute":
        return split_name(expression.unresolved_attribute.unparsed_identifier)[-1]
    if kind == "unresolved_function":
        called = expression.unresolved_function
        return f"{called.function_name}({', '.join(map(_name_of, called.arguments))})"
    return "*" if kind == "unresolved_star" else ""


def _counts_rows(function: Any) -> bool:
    """count(*), in which nothing of the columns is."""
    arguments = [argument.WhichOneof("expr_type") for argument in function.arguments]
    return function.function_name.lower() == "count" and arguments == ["unresolved_star"]


def _filters(message: Any) -> bool:
    return bool(message.DESCRIPTOR.name == "NADrop")


def _is_open(rows: Rows) -> bool:
    return any(column.is_open for column in rows.columns)


def _from_open(rows: Rows, old: str, new: str) -> Column | None:
    if any(column.name.lower() == old for column in rows.shown):
        return None
    column = find_column(rows.columns, [old])
    return column.named(new) if column else None


def _fixed(sources: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Sources of open columns whose names are not those of the sources' columns."""
    return frozenset((key, column) for key, column in sources if column)


def _local_names(local: Any) -> list[str]:
    import pyarrow as pa

    if local.HasField("data") and local.data:
        with pa.ipc.open_stream(local.data) as reader:
            return list(reader.schema.names)
    return re.findall(r'"name":"([^"]+)"', local.schema.replace(" ", ""))
