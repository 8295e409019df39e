"""Which flows there are, what each reads, and whether they can be run: found out before anything is written."""

import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql.types import StructType

from millpond.engine.errors import SparkError
from millpond.engine.streaming.plans import aggregates, check_streamable, is_streaming
from millpond.sdk.pipelines import cdc
from millpond.sdk.pipelines.domain import Dataset, Flow, Kind, PipelineFailed
from millpond.sdk.pipelines.reading import Shape, Stream, Streams, cycle, holds, planned, session
from millpond.sdk.pipelines.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Node:
    """A flow, and what is known of its query."""

    flow: Flow
    inputs: Mapping[str, bool]
    """Full names of what it reads, and of views; whether as a stream."""
    streams: tuple[Stream, ...]
    schema: StructType
    """Of the query; of a flow of changes, that of its target."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """All flows, in an order in which they can run."""

    datasets: Mapping[str, Dataset]
    nodes: Mapping[str, Node]
    schemas: Mapping[str, StructType]
    """Of tables, by their names."""

    def into(self, name: str) -> list[Node]:
        """The flows that go into a dataset."""
        return [node for node in self.nodes.values() if node.flow.target == name]

    def tables(self) -> list[Dataset]:
        """Datasets that are stored."""
        return [each for each in self.datasets.values() if each.kind is not Kind.VIEW]

    def needs(self, name: str) -> set[str]:
        """The stored datasets that a dataset reads, through views too."""
        return {each for node in self.into(name) for each in self.reads(node) if each in self.datasets}

    def in_order(self, names: Collection[str]) -> list[str]:
        """Datasets, each after those that it reads."""
        found: list[str] = []
        waiting = sorted(names)
        while waiting:
            ready = [name for name in waiting if not self.needs(name).intersection(waiting)]
            found.extend(ready)
            waiting = [name for name in waiting if name not in ready]
        return found

    def reads(self, node: Node) -> set[str]:
        """The tables that a flow reads, of the pipeline and others, through views too."""
        found: set[str] = set()
        for each in node.inputs:
            view = each in self.datasets and self.datasets[each].kind is Kind.VIEW
            found.update(*map(self.reads, self.into(each))) if view else found.add(each)
        return found


class Analysis:
    """Makes the graph of a registry."""

    def __init__(self, registry: Registry, home: tuple[str, str]) -> None:
        self._registry = registry
        self._home = home
        self._nodes: dict[str, Node] = {}
        self._schemas: dict[str, StructType] = {}
        self._kinds: dict[str, Kind] = {}
        self._within: list[str] = []

    def run(self) -> Graph:
        """Evaluate all. Raises PipelineFailed for the first that cannot be done, with its file and line."""
        for flow in self._registry.flows.values():
            self._node(flow)
        datasets = {}
        for name, dataset in self._registry.datasets.items():
            datasets[name] = replace(dataset, kind=self._kinds.get(name, dataset.kind))
            if dataset.kind is not Kind.VIEW:
                self._schema(dataset)
        self._registry.datasets.update(datasets)
        for node in self._nodes.values():
            self._check_reads(node)
        return Graph(datasets=datasets, nodes=self._nodes, schemas=self._schemas)

    # -- flows --------------------------------------------------------------------------------------------------

    def _node(self, flow: Flow) -> Node:
        if flow.name in self._nodes:
            return self._nodes[flow.name]
        if flow.target in self._within:
            raise PipelineFailed(f"{where(flow)}: {cycle([*self._within, flow.target])}")
        self._within.append(flow.target)
        try:
            node = self._evaluated(flow)
        finally:
            self._within.pop()
        self._nodes[flow.name] = node
        self._check_kind(node)
        return node

    def _evaluated(self, flow: Flow) -> Node:
        frames: dict[str, Any] = {}
        shape = Shape(self._registry, self._home, frames, self._schema)
        with told(flow):
            with planned(shape):
                frame = frame_of(flow)
                rows = frame if flow.changes is None else cdc.shaped(flow.changes, frame)
                schema = rows.schema
                self._check_expectations(flow, rows)
            reading = Streams(self._registry, self._home, frames, flow.target)
            with planned(reading):
                plan = frame._plan.plan(session().client)
            if reading.streams:
                check(plan)
        return Node(flow=flow, inputs={**shape.inputs, **reading.inputs}, streams=tuple(reading.streams), schema=schema)

    def _check_expectations(self, flow: Flow, frame: Any) -> None:
        for each in self._registry.datasets[flow.target].expectations:
            try:
                _ = frame.select(holds(each.condition)).schema
            except PySparkException as error:
                raise PipelineFailed(f"the expectation '{each.name}': {error}") from error

    def _check_kind(self, node: Node) -> None:
        flow, dataset = node.flow, self._registry.datasets[node.flow.target]
        kind = dataset.kind
        if kind is Kind.TABLE:
            kind = self._kinds.get(dataset.name) or (Kind.STREAMING_TABLE if node.streams else Kind.MATERIALIZED_VIEW)
        self._kinds[dataset.name] = kind
        if kind is Kind.STREAMING_TABLE and not node.streams and not flow.once:
            raise PipelineFailed(
                f"{where(flow)}: the query is of no stream, and '{flow.target}' is a streaming table. Read a stream, "
                "with spark.readStream.table or STREAM(name), or declare a materialized view."
            )
        if node.streams and (flow.once or kind is Kind.MATERIALIZED_VIEW):
            what = "a flow that runs once" if flow.once else f"'{flow.target}' is a materialized view"
            raise PipelineFailed(
                f"{where(flow)}: the query is of a stream, and {what}. Declare a streaming table, or read the table "
                "with spark.read.table."
            )

    def _check_reads(self, node: Node) -> None:
        for name, streaming in node.inputs.items():
            kind = self._kinds.get(name)
            if streaming and kind is Kind.MATERIALIZED_VIEW:
                raise PipelineFailed(
                    f"{where(node.flow)}: '{name}' is a materialized view, which is made anew each time and cannot be "
                    "read as a stream. Read it with spark.read.table, or make it a streaming table."
                )
            if streaming and kind is Kind.VIEW and not any(each.streams for each in self._into(name)):
                raise PipelineFailed(
                    f"{where(node.flow)}: the view '{name}' is of no stream and cannot be read as one."
                )

    def _into(self, name: str) -> list[Node]:
        return [node for node in self._nodes.values() if node.flow.target == name]

    # -- tables -------------------------------------------------------------------------------------------------

    def _schema(self, dataset: Dataset) -> StructType:
        """The columns of a table, from its declaration or its flows."""
        if dataset.name not in self._schemas:
            flows = [flow for flow in self._registry.flows.values() if flow.target == dataset.name]
            given = declared(dataset)
            found = [self._node(flow) for flow in flows]
            columns = given or found[0].schema
            for node in found:
                columns = _merged(columns, node, dataset, fixed=given is not None)
            missing = [name for name in dataset.partitioned_by if name.lower() not in _lowered(columns)]
            if missing:
                raise PipelineFailed(
                    f"{dataset.location}: '{dataset.name}' has no column {', '.join(missing)} to be partitioned by."
                )
            self._schemas[dataset.name] = columns
        return self._schemas[dataset.name]


def _merged(columns: StructType, node: Node, dataset: Dataset, *, fixed: bool) -> StructType:
    known, added = _lowered(columns), []
    for field in node.schema.fields:
        there = known.get(field.name.lower())
        if there is None and fixed:
            raise PipelineFailed(
                f"{where(node.flow)}: the query has the column '{field.name}', which the schema of '{dataset.name}' "
                f"({dataset.location}) does not have."
            )
        if there is None:
            added.append(field)
        elif there.dataType.simpleString() != field.dataType.simpleString():
            raise PipelineFailed(
                f"{where(node.flow)}: the column '{field.name}' is {field.dataType.simpleString()}, and in "
                f"'{dataset.name}' ({dataset.location}) it is {there.dataType.simpleString()}. Cast it."
            )
    return StructType([*columns.fields, *added])


def _lowered(columns: StructType) -> dict[str, Any]:
    return {field.name.lower(): field for field in columns.fields}


def declared(dataset: Dataset) -> StructType | None:
    """The columns that a declaration gives; None where it gives none. Raises PipelineFailed for what are no columns."""
    if dataset.schema is None or isinstance(dataset.schema, StructType):
        return dataset.schema
    from millpond.engine.syntax.cursor import Cursor
    from millpond.engine.syntax.model import CreateTable
    from millpond.engine.syntax.tables import create_table
    from millpond.engine.types import field_of

    try:
        made = create_table(Cursor(f"t ({dataset.schema})"))
    except SparkError as error:
        raise PipelineFailed(f"{dataset.location}: the schema of '{dataset.name}': {error}") from error
    assert isinstance(made, CreateTable)
    return StructType.fromJson({"type": "struct", "fields": [field_of(spec) for spec in made.columns]})


@contextmanager
def told(flow: Flow) -> Iterator[None]:
    """What fails meanwhile is told with the flow's name, its file and its line."""
    try:
        yield
    except PipelineFailed as error:
        text = str(error)
        raise (error if text.startswith("Flow ") else PipelineFailed(f"{where(flow)}: {text}")) from error
    except RecursionError as error:
        raise PipelineFailed(f"{where(flow)}: the query is nested too deep.") from error
    except SparkError as error:
        raise PipelineFailed(f"{where(flow)}: {error}") from error
    except Exception as error:  # the boundary of a user's query
        line = _line(error, flow.location.path)
        at = f" (line {line})" if line not in {None, flow.location.line} else ""
        raise PipelineFailed(f"{where(flow)}{at}: {type(error).__name__}: {error}") from error


def where(flow: Flow) -> str:
    """A flow as errors name it."""
    into = "" if flow.name == flow.target else f" into '{flow.target}'"
    return f"Flow '{flow.name}'{into} ({flow.location})"


def _line(error: BaseException, path: str) -> int | None:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return lines[-1] if lines else None


def frame_of(flow: Flow) -> Any:
    """The DataFrame of a flow's query; of a flow of changes, that of its source."""
    if flow.changes is not None:
        return session().readStream.table(flow.changes.source)
    assert flow.query is not None
    frame = flow.query()
    if not hasattr(frame, "_plan"):
        raise PipelineFailed(f"the query gives {type(frame).__name__}, and not a DataFrame.")
    return frame


# -- streams ------------------------------------------------------------------------------------------------------


def check(plan: Any) -> None:
    """Pass for a plan of which new rows are answered by themselves. Raises SparkError."""
    copy = type(plan)()
    copy.CopyFrom(plan)
    _pass_sql(copy)
    check_streamable(copy)


def _pass_sql(message: Any) -> None:
    """Put a plain read in the place of each SQL text over streams that can be streamed. Raises PipelineFailed."""
    if message.DESCRIPTOR.full_name == "spark.connect.Relation" and message.WhichOneof("rel_type") == "with_relations":
        streams = {each.subquery_alias.alias: each for each in message.with_relations.references if is_streaming(each)}
        if streams and message.with_relations.root.WhichOneof("rel_type") == "sql":
            _check_sql(message.with_relations.root.sql.query, set(streams))
            for each in streams.values():
                check(each.subquery_alias.input)
            message.Clear()
            message.read.named_table.unparsed_identifier = "a_stream"
            message.read.is_streaming = True
            return
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inner in value if field.is_repeated else (value,):
                _pass_sql(inner)


def _check_sql(text: str, streams: set[str]) -> None:
    """Pass for a text that answers each row of its streams by itself."""
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(text, dialect="databricks")
    within: set[str] = set()
    while within != streams:  # what WITH names is a stream where it reads one
        within = streams
        streams = within | {each.alias for each in tree.find_all(exp.CTE) if _reads(each, within)}
    for table in tree.find_all(exp.Table):
        if table.name in streams:
            _check_above(table, streams)


def _reads(node: Any, streams: set[str]) -> bool:
    from sqlglot import exp

    return node is not None and any(table.name in streams for table in node.find_all(exp.Table))


def _check_above(table: Any, streams: set[str]) -> None:
    """Check what is done with a stream, up to the whole text or to what WITH names."""
    from sqlglot import exp

    node = table
    while node is not None and not isinstance(node, exp.CTE):
        _check_clauses(node)
        _check_joins(node, streams)
        if isinstance(node, exp.Select):
            _check_columns(node, aggregates())
        elif isinstance(node, exp.SetOperation):
            _check_union(node, streams)
        above = node.parent
        wanted = exp.Query if isinstance(node, exp.From | exp.Join) else exp.From | exp.Join | exp.Query | exp.CTE
        if isinstance(node, exp.Join):
            wanted |= exp.Table
        is_value = (isinstance(above, exp.Select) and isinstance(node, exp.Query)) or node.arg_key == "on"
        if above is not None and (is_value or not isinstance(above, wanted)):
            raise PipelineFailed("A subquery that reads a stream, in an expression: join instead.")
        node = above


def _check_union(node: Any, streams: set[str]) -> None:
    from sqlglot import exp

    if not isinstance(node, exp.Union) or node.args["distinct"]:
        raise PipelineFailed("except, intersect and a union without doubles of a stream: use UNION ALL.")
    if not (_reads(node.left, streams) and _reads(node.right, streams)):
        raise PipelineFailed("A union of a stream and a table: read both as streams.")


def _check_clauses(node: Any) -> None:
    from sqlglot import exp

    found = {key for key, value in node.args.items() if value}
    if any(not each.args.get("unpivot") for each in node.args.get("pivots") or ()):
        found.add("pivot")
    for key, what in (
        ("group", "GROUP BY"), ("distinct", "DISTINCT"), ("order", "ORDER BY"), ("limit", "LIMIT"),
        ("having", "HAVING"), ("sort", "SORT BY"), ("offset", "OFFSET"), ("pivot", "PIVOT"),
    ):  # fmt: skip
        if key in found and not (key == "distinct" and isinstance(node, exp.SetOperation)):
            raise PipelineFailed(
                f"{what} over a stream: stream the rows into a table, and do that in a materialized view."
            )


def _check_columns(select: Any, aggregating: frozenset[str]) -> None:
    from sqlglot import exp

    for each in select.expressions:
        for found in each.find_all(exp.AggFunc, exp.Window, exp.Anonymous):
            if isinstance(found, exp.Window) or (isinstance(found, exp.AggFunc) or found.name.lower() in aggregating):
                raise PipelineFailed(
                    f"{found.sql(dialect='databricks')[:80]} over a stream looks at more than one row: stream the rows "
                    "into a table, and do that in a materialized view."
                )


def _check_joins(node: Any, streams: set[str]) -> None:
    from sqlglot import exp

    joins = node.args.get("joins") or ()
    left = node.name in streams if isinstance(node, exp.Table) else _reads(node.find(exp.From) or node.this, streams)
    for join in joins:
        right = _reads(join.this, streams)
        if left and right:
            raise PipelineFailed("A join of two streams: write one of them to a table and join that.")
        if left or right:
            _check_join(join, right=right)
        left = left or right


def _check_join(join: Any, *, right: bool) -> None:
    side, kind = str(join.side).upper(), str(join.kind).upper()
    allowed = side in {"", "RIGHT"} if right else side in {"", "LEFT"}
    if not allowed or (right and kind in {"SEMI", "ANTI"}):
        raise PipelineFailed(
            f"A {side.lower()} join with a stream on the {'right' if right else 'left'}: rows that match nothing are "
            "never known for sure."
        )
