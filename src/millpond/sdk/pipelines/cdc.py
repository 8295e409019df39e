"""Applies changes (AUTO CDC): rows by their keys, in the order that events say, however late they come.

Events of one batch are made once, beside the target. With SCD type 1 a table beside it has the sequence of the last
event of each key, deletes too, so that what comes late brings nothing back. With type 2 it has all events, of which the
history of the keys that have new ones is made again.

Two tables cannot be written in one commit. Each says up to where it has come; the second is brought to where the first
is before there is another batch, and what it is brought with does not depend on whether the first is ahead.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyspark.sql.connect import functions as F
from pyspark.sql.connect.window import Window

from millpond.catalog.names import quote
from millpond.sdk.pipelines import names
from millpond.sdk.pipelines.domain import Changes, Dataset, PipelineFailed
from millpond.sdk.pipelines.events import Counts, added
from millpond.sdk.pipelines.reading import Reading, Versions, as_column, planned

if TYPE_CHECKING:
    from millpond.sdk.pipelines.graph import Node
    from millpond.sdk.pipelines.tables import Application
    from millpond.sdk.pipelines.writing import Flows, Staged

START, END = "__START_AT", "__END_AT"
_SEQUENCE, _DELETED, _GONE = "__sequence", "__deleted", "__gone"


def shaped(changes: Changes, frame: Any) -> Any:
    """What the target's rows are, but for which; `frame` has the events. Raises PipelineFailed."""
    columns = _columns(changes, frame)
    more = []
    if changes.scd_type == 2:
        more = [as_column(changes.sequence_by).alias(START), as_column(changes.sequence_by).alias(END)]
    else:
        _ = frame.select(as_column(changes.sequence_by)).schema
    if changes.deletes is not None:
        _ = frame.select(F.coalesce(as_column(changes.deletes), F.lit(False))).schema
    return frame.select(*(F.col(quote(each)) for each in columns), *more)


def _columns(changes: Changes, frame: Any) -> list[str]:
    known = {name.lower(): name for name in frame.columns}
    wanted = [*changes.keys, *(changes.columns or ()), *changes.except_columns, *(changes.track or ()),
              *changes.track_except]  # fmt: skip
    unknown = next((name for name in wanted if name.lower() not in known), None)
    if unknown is not None:
        raise PipelineFailed(f"'{changes.source}' has no column '{unknown}'; it has {', '.join(frame.columns)}.")
    left = {name.lower() for name in changes.except_columns}
    chosen = [name.lower() for name in changes.columns] if changes.columns is not None else list(known)
    found = [known[name] for name in chosen if name not in left]
    missing = [name for name in changes.keys if name.lower() not in {each.lower() for each in found}]
    if missing:
        raise PipelineFailed(f"The key '{missing[0]}' is not among the columns that are kept.")
    return found


def apply(flows: "Flows", node: "Node") -> Counts:
    """Apply what is new in a flow's source. Raises PipelineFailed for events without a key or a sequence."""
    flows.look(node)
    return added([_Application(flows, node, number).run() for number in range(len(node.streams))])


class _Application:
    """One batch of one stream of a flow of changes."""

    def __init__(self, flows: "Flows", node: "Node", number: int) -> None:
        assert node.flow.changes is not None
        self._flows = flows
        self._node = node
        self._changes = node.flow.changes
        self._stream = node.streams[number]
        self._dataset: Dataset = flows.dataset(node)

    def run(self) -> Counts:
        """Apply it."""
        flows, target = self._flows, self._dataset.name
        frames: dict[str, Any] = {}
        with planned(Reading(flows.registry, flows.home, frames)):
            events = self._events()
            schema = events.schema
        application = flows.tables.application(self._node.flow, self._stream)
        beside = self._beside(schema, application.generation)
        first, second = (target, beside) if self._changes.scd_type == 1 else (beside, target)
        behind = flows.tables.cursor(second, application)  # asked before the first, which is never behind it then
        ahead = flows.tables.cursor(first, application)
        counts = []
        if ahead is not None and ahead != behind:
            versions = flows.pending(self._stream, behind, ahead)
            assert versions is not None
            counts.append(self._batch(events, frames, application, beside, versions, ahead, behind))
            behind = ahead
        versions = flows.pending(self._stream, ahead, flows.tables.newest(self._stream.table))
        if versions is not None:
            counts.append(self._batch(events, frames, application, beside, versions, ahead, behind))
        return added(counts)

    def _events(self) -> Any:
        from millpond.sdk.pipelines.graph import frame_of

        frame = frame_of(self._node.flow)
        known = {name.lower(): name for name in frame.columns}
        keys = tuple(known[key.lower()] for key in self._changes.keys)
        changes = self._changes = replace(self._changes, keys=keys)
        deleted = F.lit(False) if changes.deletes is None else F.coalesce(as_column(changes.deletes), F.lit(False))
        columns = [F.col(quote(each)) for each in _columns(changes, frame)]
        return frame.select(*columns, as_column(changes.sequence_by).alias(_SEQUENCE), deleted.alias(_DELETED))

    def _beside(self, schema: Any, generation: int) -> str:
        """The table beside the target, of the target's generation."""
        from pyspark.sql.types import StructType

        keys = {name.lower() for name in self._changes.keys}
        kept = [
            field for field in schema.fields
            if self._changes.scd_type == 2 or field.name.lower() in keys or field.name in {_SEQUENCE, _DELETED}
        ]  # fmt: skip
        return self._flows.tables.beside(self._dataset, "changes", StructType(kept), generation)

    # -- a batch ------------------------------------------------------------------------------------------------

    def _batch(
        self, events: Any, frames: dict[str, Any], application: "Application", beside: str, versions: Versions,
        ahead: int | None, behind: int | None,
    ) -> Counts:  # fmt: skip
        """Bring the first table to the end of the versions, if it is not there, and then the second."""
        flows = self._flows
        with planned(flows.batch(self._node, frames, self._stream, versions)):
            views = flows.counted_views(events, frames)
            staged = flows.stage(self._node.flow, self._dataset, events, always=True)
        assert staged is not None
        with planned(flows.batch(self._node, frames)):
            self._write(staged, application, beside, versions.end, ahead, behind)
        counts = staged.counts()
        flows.discard(self._dataset)
        return replace(counts, qualities=(*counts.qualities, *views))

    def _write(
        self, staged: "Staged", application: "Application", beside: str, end: int, ahead: int | None, behind: int | None
    ) -> None:
        flows = self._flows
        self._check(staged)
        is_there = ahead == end
        if self._changes.scd_type == 1:
            rows = self._newer(self._winners(staged.rows), beside)
            if not is_there:
                self._merge(self._dataset.name, rows.drop(_SEQUENCE), self._changes.keys, application, end,
                            ahead, deletes=_DELETED)  # fmt: skip
            state = rows.select(*(F.col(quote(key)) for key in self._changes.keys), _SEQUENCE, _DELETED)
            self._merge(beside, state, self._changes.keys, application, end, behind)
        else:
            if not is_there:
                flows.append(beside, staged.rows, application, end, ahead)
            self._write_history(staged.rows, beside, application, end, behind)

    def _check(self, staged: "Staged") -> None:
        needed = {_SEQUENCE: "sequence"} | dict.fromkeys(self._changes.keys, "key")
        counted = [F.count_if(F.col(quote(name)).isNull()).alias(f"c{at}") for at, name in enumerate(needed)]
        found = staged.rows.agg(*counted).collect()[0]
        for at, (name, kind) in enumerate(needed.items()):
            if found[at]:
                self._flows.discard(self._dataset)
                what = kind if kind == "sequence" else f"key '{name}'"
                raise PipelineFailed(
                    f"{found[at]} events for '{self._dataset.name}' ({self._node.flow.location}) have no {what}. "
                    "Filter them out in the source."
                )

    def _merge(
        self, name: str, rows: Any, keys: Any, application: "Application", version: int, after: int | None, *,
        deletes: str | None = None,
    ) -> None:  # fmt: skip
        writer = self._flows.transacting(rows, application, version, after)
        writer = writer.option("millpond.mergeOn", ".".join(map(quote, keys)))
        if deletes is not None:
            writer = writer.option("millpond.deleteWhen", deletes)
        writer.saveAsTable(names.quoted(name))

    def _orderly(self, *first: Any) -> list[Any]:
        """An order of events in which no two of one key are equal, if they are not the same."""
        from pyspark.sql.types import ArrayType, MapType, StructType

        fields = self._node.schema.fields
        plain = [field.name for field in fields if not isinstance(field.dataType, ArrayType | MapType | StructType)]
        rest = [F.col(quote(name)).desc() for name in plain if name not in {START, END}]
        return [*first, F.col(_DELETED).desc(), *rest]

    # -- type 1 -------------------------------------------------------------------------------------------------

    def _winners(self, events: Any) -> Any:
        """The last event of each key."""
        over = Window.partitionBy(*map(quote, self._changes.keys)).orderBy(*self._orderly(F.col(_SEQUENCE).desc()))
        return events.withColumn("__n", F.row_number().over(over)).filter("__n = 1").drop("__n")

    def _newer(self, winners: Any, beside: str) -> Any:
        """Those that are later than what is known of their keys."""
        known = self._flows.spark.table(names.quoted(beside))
        known = known.select(
            *(F.col(quote(key)).alias(f"__key_{at}") for at, key in enumerate(self._changes.keys)),
            F.col(_SEQUENCE).alias("__known"),
        )
        same = F.lit(True)
        for at, key in enumerate(self._changes.keys):
            same = same & (F.col(quote(key)) == F.col(f"__key_{at}"))
        joined = winners.join(known, same, "left")
        kept = joined.filter(F.col("__known").isNull() | (F.col(_SEQUENCE) > F.col("__known")))
        return kept.select(*(F.col(quote(name)) for name in winners.columns))

    # -- type 2 -------------------------------------------------------------------------------------------------

    def _write_history(
        self, batch: Any, beside: str, application: "Application", version: int, after: int | None
    ) -> None:
        keys = [quote(key) for key in self._changes.keys]
        touched = batch.select(*keys).distinct()
        events = self._flows.spark.table(names.quoted(beside)).join(touched, list(self._changes.keys), "left_semi")
        history = self._history(events).withColumn(_GONE, F.lit(False))
        old = self._flows.spark.table(names.quoted(self._dataset.name))
        old = old.join(touched, list(self._changes.keys), "left_semi")
        on = [*self._changes.keys, START]
        gone = old.join(history.select(*map(quote, on)), on, "left_anti")
        gone = gone.select(
            *(
                F.lit(True).alias(_GONE) if name == _GONE else F.col(quote(name)) if name in on else
                F.lit(None).cast(history.schema[name].dataType).alias(name)
                for name in history.columns
            )
        )  # fmt: skip
        self._merge(self._dataset.name, history.unionByName(gone), on, application, version, after, deletes=_GONE)

    def _history(self, events: Any) -> Any:
        """The rows of history that events of some keys make."""
        keys = [quote(key) for key in self._changes.keys]
        once = Window.partitionBy(*keys, _SEQUENCE).orderBy(*self._orderly())
        events = events.withColumn("__n", F.row_number().over(once)).filter("__n = 1").drop("__n")
        columns = [name for name in events.columns if name not in {_SEQUENCE, _DELETED}]
        over = Window.partitionBy(*keys).orderBy(F.col(_SEQUENCE))
        marked = events.withColumn("__begins", self._begins(columns, over))
        marked = marked.withColumn("__part", F.sum(F.col("__begins").cast("bigint")).over(over))
        parts = marked.filter(F.col("__begins") | F.col(_DELETED))
        parts = parts.withColumn(END, F.lead(_SEQUENCE).over(over)).filter(F.col("__begins"))
        parts = parts.select(*keys, "__part", F.col(_SEQUENCE).alias(START), END)
        last = Window.partitionBy(*keys, "__part").orderBy(F.col(_SEQUENCE).desc())
        values = marked.filter(~F.col(_DELETED)).withColumn("__n", F.row_number().over(last)).filter("__n = 1")
        joined = values.join(parts, [*self._changes.keys, "__part"])
        return joined.select(*map(quote, columns), START, END)

    def _begins(self, columns: list[str], over: Any) -> Any:
        """Whether an event begins a row of history."""
        changes = self._changes
        if changes.track is None and not changes.track_except:
            return ~F.col(_DELETED)
        left = {name.lower() for name in (*changes.track_except, *changes.keys)}
        tracked = [name for name in (changes.track or columns) if name.lower() not in left]
        differs = F.coalesce(F.lag(_DELETED).over(over), F.lit(True))
        for name in tracked:
            column = F.col(quote(name))
            differs = differs | ~column.eqNullSafe(F.lag(column).over(over))
        return ~F.col(_DELETED) & differs
