"""Carries out flows: what a query gives is in its table once, and what was expected of the rows is counted.

Rows of a dataset that drops some, or fails for some, are made once, into a table beside the target with a column for
each expectation; they are counted there, and what may stay goes on. What is only counted is counted in the rows that
were written, at the version that wrote them. So counts are of the rows that were written, whatever the query calls.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql.connect import functions as F

from millpond.catalog.names import quote
from millpond.sdk.pipelines import names
from millpond.sdk.pipelines.domain import Action, Dataset, Expectation, Flow, PipelineFailed
from millpond.sdk.pipelines.events import Counts, Quality, added
from millpond.sdk.pipelines.graph import Graph, Node, frame_of, where
from millpond.sdk.pipelines.reading import Batch, Reading, Stream, Versions, holds, planned
from millpond.sdk.pipelines.registry import Registry
from millpond.sdk.pipelines.tables import Application, Tables

_MARK = "__expectation_"


class Flows:
    """Carries out the flows of one update."""

    def __init__(self, registry: Registry, home: tuple[str, str], graph: Graph, tables: Tables, spark: Any) -> None:
        self.registry = registry
        self.home = home
        self.graph = graph
        self.tables = tables
        self.spark = spark

    def dataset(self, node: Node) -> Dataset:
        """What a flow goes into."""
        return self.graph.datasets[node.flow.target]

    # -- whole tables -------------------------------------------------------------------------------------------

    def replace(self, node: Node) -> Counts:
        """Make a materialized view anew, in one commit. Raises PipelineFailed for rows that must not be."""
        dataset = self.dataset(node)
        frames: dict[str, Any] = {}
        with planned(Reading(self.registry, self.home, frames)):
            frame = frame_of(node.flow)
            views = self.counted_views(frame, frames)
            staged = self.stage(node.flow, dataset, frame)
            rows = frame if staged is None else staged.rows
            writer = rows.write.format("delta").mode("overwrite")
            if self.tables.changes_columns(dataset, frame.schema):
                writer = writer.option("overwriteSchema", "true")
                if dataset.partitioned_by:
                    writer = writer.partitionBy(*dataset.partitioned_by)
            writer.saveAsTable(names.quoted(dataset.name))
        return self._finished(dataset, staged, self.spark.table(names.quoted(dataset.name)), views)

    # -- streams ------------------------------------------------------------------------------------------------

    def advance(self, node: Node) -> Counts:
        """Add what is new in each of a flow's streams to its table, one stream after the other."""
        self.look(node)
        return added([self._advance(node, stream) for stream in node.streams])

    def look(self, node: Node) -> None:
        """Note which files have come of those that a flow streams."""
        for stream in node.streams:
            if stream.files is not None:
                self.tables.discover(self.dataset(node), stream)

    def pending(self, stream: Stream, cursor: int | None, newest: int) -> Versions | None:
        """What is new in a stream up to a version; None for nothing. Raises PipelineFailed for a start after that."""
        start = cursor
        if cursor is None and stream.starting_version is not None:
            wanted = stream.starting_version
            start = newest if wanted == "latest" else int(wanted) - 1
            if start > newest:
                raise PipelineFailed(
                    f"'{stream.table}' is to be streamed from version {wanted}; its newest is {newest}."
                )
            start = None if start < 0 else start
        if cursor is not None and cursor >= newest:
            return None
        return Versions(start=start, end=newest)

    def _advance(self, node: Node, stream: Stream) -> Counts:
        dataset = self.dataset(node)
        application = self.tables.application(node.flow, stream)
        cursor = self.tables.cursor(dataset.name, application)
        versions = self.pending(stream, cursor, self.tables.newest(stream.table))
        if versions is None:
            return Counts(written=0)
        frames: dict[str, Any] = {}
        with planned(Reading(self.registry, self.home, frames)):
            frame = frame_of(node.flow)
            _ = frame.schema  # views are made by now
        with planned(self.batch(node, frames, stream, versions)):
            views = self.counted_views(frame, frames)
            staged = self.stage(node.flow, dataset, frame)
            if staged is None:
                self.append(dataset.name, frame, application, versions.end, cursor)
        if staged is not None:
            with planned(self.batch(node, frames)):
                self.append(dataset.name, staged.rows, application, versions.end, cursor)
        return self._finished(dataset, staged, self._new_rows(dataset.name), views)

    def batch(
        self, node: Node, frames: dict[str, Any], stream: Stream | None = None, versions: Versions | None = None
    ) -> Batch:
        """Reads what is new in one stream of a flow, if any, and nothing of its others."""
        ranges: dict[tuple[str, int], Versions] = {}
        for each in node.streams:
            newest = self.tables.newest(each.table)
            ranges[each.table, each.number] = Versions(start=newest, end=newest)
        if stream is not None and versions is not None:
            ranges[stream.table, stream.number] = versions
        for each in node.streams:
            if each.files is not None:
                ranges[each.table, each.number] = self.tables.files(each, ranges[each.table, each.number])
        return Batch(self.registry, self.home, frames, ranges)

    def run_once(self, node: Node) -> Counts:
        """Add the rows of a flow that runs once, if they are not there."""
        dataset = self.dataset(node)
        application = self.tables.once(node.flow)
        if self.tables.cursor(dataset.name, application) is not None:
            return Counts(written=0)
        frames: dict[str, Any] = {}
        with planned(Reading(self.registry, self.home, frames)):
            frame = frame_of(node.flow)
            views = self.counted_views(frame, frames)
            staged = self.stage(node.flow, dataset, frame)
            self.append(dataset.name, frame if staged is None else staged.rows, application, 1, None)
        return self._finished(dataset, staged, self._new_rows(dataset.name), views)

    def append(self, name: str, rows: Any, application: Application, version: int, after: int | None) -> None:
        """Add rows, in one commit that says up to where a source was read by then."""
        self.transacting(rows, application, version, after).saveAsTable(names.quoted(name))

    def transacting(self, rows: Any, application: Application, version: int, after: int | None) -> Any:
        """A writer whose commit conflicts with another of the same, and with a full refresh."""
        writer = rows.write.format("delta").mode("append").option("txnAppId", application.name)
        writer = writer.option("millpond.txnHeld", application.held)
        return writer.option("txnVersion", version).option("millpond.txnAfter", "none" if after is None else after)

    def _new_rows(self, name: str) -> Any:
        """The rows of a table's newest commit."""
        newest = self.tables.newest(name)
        reader = self.spark.read.option("millpond.changes", "added").option("endingVersion", newest)
        return reader.option("startingVersion", newest - 1).table(names.quoted(name))

    # -- expectations -------------------------------------------------------------------------------------------

    def stage(self, flow: Flow, dataset: Dataset, frame: Any, *, always: bool = False) -> "Staged | None":
        """The rows, made once and counted, where some may not stay. Raises PipelineFailed for what must not be."""
        expected = dataset.expectations
        if not always and all(each.action is Action.WARN for each in expected):
            return None
        marks = {each.name: f"{_MARK}{number}" for number, each in enumerate(expected)}
        marked = frame.select("*", *(holds(each.condition).alias(marks[each.name]) for each in expected))
        rows = self.spark.table(names.quoted(self.tables.stage(dataset, marked)))
        staged = Staged(dataset, rows, frame, marks)
        for each in expected:
            failed = staged.failed(each)
            if each.action is Action.FAIL and failed:
                self.discard(dataset)
                raise PipelineFailed(
                    f"{where(flow)}: {failed} of {staged.total} rows for '{dataset.name}' do not meet the expectation "
                    f"'{each.name}' ({_shown(each)}), which fails the update. None of them was written."
                )
        return staged

    def counted_views(self, query: Any, frames: Mapping[str, Any]) -> list[Quality]:
        """What is expected of the views that a flow's query reads. Raises PipelineFailed for what must not be."""
        found = []
        _ = query._plan.plan(self.spark.client)  # streams are numbered as they come in the query
        for name, frame in frames.items():
            dataset = self.graph.datasets[name]
            if not dataset.expectations:
                continue
            total, counts = _counted(frame, [holds(each.condition) for each in dataset.expectations])
            for each, passed in zip(dataset.expectations, counts, strict=True):
                if each.action is Action.FAIL and passed < total:
                    raise PipelineFailed(
                        f"{total - passed} of {total} rows of the view '{name}' ({dataset.location}) do not meet the "
                        f"expectation '{each.name}' ({_shown(each)}), which fails the update."
                    )
                found.append(Quality(name=each.name, dataset=name, passed=passed, failed=total - passed))
        return found

    def _finished(self, dataset: Dataset, staged: "Staged | None", written: Any, views: Sequence[Quality]) -> Counts:
        if staged is not None:
            counts = staged.counts()
            self.discard(dataset)
        else:
            total, passed = _counted(written, [holds(each.condition) for each in dataset.expectations])
            pairs = zip(dataset.expectations, passed, strict=True)
            counts = Counts(written=total, qualities=tuple(_quality(each, dataset, total, met) for each, met in pairs))
        return Counts(written=counts.written, dropped=counts.dropped, qualities=(*counts.qualities, *views))

    def discard(self, dataset: Dataset) -> None:
        """Leave nothing of what was staged."""
        self.tables.drop(self.tables.staged(dataset))


class Staged:
    """Rows beside a table, with a column for each expectation."""

    def __init__(self, dataset: Dataset, rows: Any, frame: Any, marks: Mapping[str, str]) -> None:
        """`frame` is the query that made them. None of its rows is read again, but lineage sees what they are from."""
        self._dataset = dataset
        self._marks = marks
        drops = [each for each in dataset.expectations if each.action is Action.DROP]
        kept = rows
        for each in drops:
            kept = kept.filter(F.col(marks[each.name]))
        kept = kept.select(*(F.col(quote(column)) for column in frame.columns))
        self.rows = kept.unionByName(frame.filter(F.lit(False)))
        keeps = F.lit(True)
        for each in drops:
            keeps = keeps & F.col(marks[each.name])
        self.total, counted = _counted(rows, [keeps, *(F.col(mark) for mark in marks.values())])
        self._kept, self._passed = counted[0], dict(zip(marks, counted[1:], strict=True))

    def failed(self, expectation: Expectation) -> int:
        """How many rows do not meet an expectation."""
        return self.total - self._passed[expectation.name]

    def counts(self) -> Counts:
        """Of all rows."""
        found = [
            _quality(each, self._dataset, self.total, self._passed[each.name]) for each in self._dataset.expectations
        ]
        return Counts(written=self._kept, dropped=self.total - self._kept, qualities=tuple(found))


def _counted(frame: Any, conditions: Sequence[Any]) -> tuple[int, list[int]]:
    """How many rows there are, and for how many each condition holds."""
    each = [F.coalesce(F.sum(one.cast("bigint")), F.lit(0)).alias(f"c{at}") for at, one in enumerate(conditions)]
    row = frame.agg(F.count(F.lit(1)).alias("total"), *each).collect()[0]
    return int(row["total"]), [int(row[f"c{at}"]) for at in range(len(conditions))]


def _quality(expectation: Expectation, dataset: Dataset, total: int, passed: int) -> Quality:
    return Quality(name=expectation.name, dataset=dataset.name, passed=passed, failed=total - passed)


def _shown(expectation: Expectation) -> str:
    return str(expectation.condition)[:200]
