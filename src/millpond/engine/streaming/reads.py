"""What a streaming read in a plan becomes: a name, the whole table, or what one batch reads of it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from millpond.catalog.domain import Table, TableType
from millpond.catalog.names import quote, split_name
from millpond.engine import guarded, proto
from millpond.engine.errors import AnalysisError, ExecutionError, unsupported
from millpond.engine.needs import Needs
from millpond.engine.streaming.plans import source_number
from millpond.identity.access import Act, require

if TYPE_CHECKING:
    from millpond.engine.binding import Binder
    from millpond.engine.streaming.added import AddedRows

BindStream = Callable[["Binder", Any], None]
"""Puts something in the place of a relation that reads a stream by an absolute name."""


def bind_stream(binder: "Binder", relation: Any) -> None:
    """Bind a streaming read: of a table of the catalog, by its name; all others are refused."""
    read = relation.read
    if read.WhichOneof("read_type") != "named_table":
        raise unsupported(
            f"Streams of format {read.data_source.format or 'none'}: stream a Delta table by its name, with "
            "spark.readStream.table(name)."
        )
    parts = split_name(read.named_table.unparsed_identifier)
    if binder.is_absolute:
        streamable(binder, parts)
        read.named_table.unparsed_identifier = ".".join(map(quote, binder.absolute_name(parts)))
    else:
        binder.streams(binder, relation)


def refuse_stream(_binder: "Binder", _relation: Any) -> None:
    """A stream where rows are asked for now. Raises AnalysisError."""
    raise AnalysisError(
        "STREAMING_QUERY_NOT_STARTED",
        "Queries with streaming sources must be executed with writeStream.start();",
        sql_state="0A000",
    )


def as_table(binder: "Binder", relation: Any) -> None:
    """The whole table, of which only the columns are looked at."""
    named = relation.read.named_table
    parts = split_name(named.unparsed_identifier)
    streamable(binder, parts)
    bound = binder.table_relation(parts)
    if relation.HasField("common"):
        bound.common.CopyFrom(relation.common)
    relation.CopyFrom(bound)


def streamable(binder: "Binder", parts: tuple[str, ...]) -> Table:
    """The table that a name means. Raises SparkError when it is not there, may not be read or cannot be streamed."""
    if binder.finds_temp_view(parts):
        raise unsupported(
            f"readStream of the temporary view {'.'.join(parts)}: use spark.table for a view of a stream."
        )
    table = binder.table(parts)
    require(binder.principal, Act.READ, table.securable)
    if table.table_type is TableType.VIEW or table.data_source_format != "DELTA" or table.securable.kept_by_server:
        raise unsupported(f"Streaming from {table.name}: it is no Delta table of the catalog.")
    return table


class BatchReads:
    """What one batch reads of each of its sources."""

    def __init__(self, rows: "Sequence[AddedRows]") -> None:
        """`rows` are those of the sources, by their numbers."""
        self._rows = rows

    def __call__(self, binder: "Binder", relation: Any) -> None:
        """Put the batch's rows where the stream is read, as whoever runs the query may see them now."""
        rows = self._rows[source_number(relation.read)]
        parts = split_name(relation.read.named_table.unparsed_identifier)
        table = streamable(binder, parts)
        if table.id != rows.table.id:
            raise ExecutionError(
                "DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE",
                f"{table.name} is another table than when the query began; start the query again.",
                sql_state="55019",
            )
        bound = proto.relations.Relation()
        if relation.HasField("common"):
            bound.common.CopyFrom(relation.common)
        bound.subquery_alias.alias = parts[-1]
        read_rows(binder, bound.subquery_alias.input, table, rows)
        relation.CopyFrom(bound)


def read_rows(binder: "Binder", target: Any, table: Table, rows: "AddedRows") -> None:
    """Make `target` give rows of a table that are laid out, as whoever asks may see them."""
    binder.needs.direct[table.id] = table
    guards = binder.world.guards_for(binder.invoker, table)
    if not guards:
        location = rows.location(guarded=False)
        _read_place(target, location)
        binder.needs.tables[location] = table
        binder.needs.names[location] = str(table.name)
        return
    needs, base = Needs(), proto.relations.Relation()
    _read_place(base, rows.location(guarded=True))
    needs.read(rows.home(guarded=True), str(table.name))
    guarded.read_rows(binder, target, table, guards, base, needs, other=True)
    binder.note_contents(target, table)


def _read_place(relation: Any, location: str) -> None:
    relation.read.data_source.format = "delta"
    relation.read.data_source.paths.append(location)
