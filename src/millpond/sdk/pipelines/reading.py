"""What the names in a flow's query mean, while PySpark writes its plan.

A DataFrame's plan is written each time that the server is asked, so one DataFrame can be planned in several ways: over
empty tables of the right columns (`Shape`), to see which streams it reads (`Streams`), over what tables have now
(`Whole`), and over what is new in one of them (`Batch`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pyspark.sql.connect import plan as plans
from pyspark.sql.connect.dataframe import DataFrame
from pyspark.sql.connect.session import SparkSession

from millpond.catalog.names import quote
from millpond.engine.queries import Query, TableSite, analyse
from millpond.engine.splicing import column_edits, spliced
from millpond.engine.syntax.cursor import Cursor, Word
from millpond.sdk.pipelines import names
from millpond.sdk.pipelines.domain import Action, Dataset, Kind, PipelineFailed
from millpond.sdk.pipelines.files import FileSource, of_arguments, source_of
from millpond.sdk.pipelines.registry import Registry

_QUERY_STARTS = frozenset({"SELECT", "WITH", "FROM", "VALUES", "TABLE", "("})
_BEFORE_STREAM = frozenset({"FROM", "JOIN", ","})
_NO_NAMES = frozenset({
    "WHERE", "GROUP", "ORDER", "AS", "JOIN", "LEFT", "RIGHT", "FULL", "INNER", "CROSS", "SEMI", "ANTI", "LATERAL",
    "LIMIT", "HAVING", "UNION", "EXCEPT", "INTERSECT", "ON", "WINDOW", "PIVOT", "TABLESAMPLE", "QUALIFY",
})  # fmt: skip
_STREAM_OPTIONS = frozenset({
    "startingversion", "maxfilespertrigger", "maxbytespertrigger", "ignoredeletes", "ignorechanges",
    "skipchangecommits",
})  # fmt: skip
_SWITCHES = frozenset({"ignoredeletes", "ignorechanges", "skipchangecommits"})


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One streaming read of a query."""

    table: str
    """Its full name; of files, that of the table that notes them."""
    number: int
    """Among the query's streaming reads of this table, in order."""
    options: tuple[tuple[str, str], ...]
    files: FileSource | None = None

    @property
    def starting_version(self) -> str | None:
        """Where it begins, if not with all that is there."""
        return next((value for key, value in self.options if key == "startingversion"), None)


class Reading:
    """One way of planning; this one reads what tables have now."""

    def __init__(self, registry: Registry, home: tuple[str, str], frames: dict[str, Any]) -> None:
        """`frames` are those of views, made when they are first read."""
        self._registry = registry
        self._home = home
        self._frames = frames
        self._within: list[str] = []
        self._sites: dict[tuple[int, int], int] = {}
        self._numbers: dict[int, int] = {}
        self._counts: dict[str, int] = {}
        self.inputs: dict[str, bool] = {}
        """Names of what is read, of the pipeline and others; whether as a stream."""

    # -- by PySpark ---------------------------------------------------------------------------------------------

    def read(self, relation: Any) -> None:
        """Put what is read in the place of a read by name."""
        identifier, streaming = relation.read.named_table.unparsed_identifier, relation.read.is_streaming
        dataset = self._registry.find(identifier)
        if dataset is None:
            if names.split(identifier)[0].lower() == "live":
                raise PipelineFailed(f"No dataset of the pipeline has the name '{identifier}', which is read.")
            name = names.full(identifier, *self._home)
            self._note(name, streaming)
            if streaming:
                self._stream(relation, name)
        elif dataset.kind is Kind.VIEW:
            self._note(dataset.name, streaming)
            self._view(relation, dataset)
        else:
            self._note(dataset.name, streaming)
            self._stored(relation, dataset, streaming)

    def files(self, relation: Any) -> None:
        """Put something in the place of files that are read as a stream."""
        source = source_of(relation.read.data_source)
        self._note(source.path, True)
        self._file_stream(relation, source)

    def sql(self, relation: Any) -> None:
        """The same for what SQL text reads."""
        root = relation.with_relations.root if relation.WhichOneof("rel_type") == "with_relations" else relation
        query, starts, files = _analysed(root.sql.query)
        edits, references = [], []
        for number, site in enumerate(query.tables):
            name = ".".join(map(quote, site.parts))
            is_files = site.start in files
            is_ours = (
                is_files
                or site.start in starts
                or self._registry.find(name) is not None
                or site.parts[0].lower() == "live"
            )
            if not is_ours:
                if len(site.parts) > 1 or not names.split(name)[0].startswith("__"):
                    self._note(names.full(name, *self._home), False)
                continue
            alias = f"__pipeline_{number}"
            place = self._sites.setdefault((relation.common.plan_id, number), _fresh_id())
            what = files.get(site.start, name)
            references.append(self._reference(what, alias, place, site, streaming=site.start in starts))
            suffix = "" if site.aliased or is_files else f" AS {quote(site.parts[-1])}"
            edits.append((site.start, site.end, quote(alias) + suffix))
        if not references:
            return
        root.sql.query = spliced(query.text, [*edits, *column_edits(query)])
        if root is relation:
            inner = type(relation)()
            inner.CopyFrom(relation)
            inner.common.plan_id = _fresh_id()
            relation.ClearField("sql")
            relation.with_relations.root.CopyFrom(inner)
        relation.with_relations.references.extend(references)

    def _reference(self, name: "str | Arguments", alias: str, place: int, site: TableSite, *, streaming: bool) -> Any:
        read = plans.proto.Relation()
        read.common.plan_id = place
        if isinstance(name, Arguments):
            of_arguments(name.text, read)
            read.read.is_streaming = streaming
            if streaming:
                self.files(read)
            else:
                source_of(read.read.data_source).put(read, [*read.read.data_source.paths])
            return _named(read, alias)
        read.read.named_table.unparsed_identifier = name
        for key, value in (("versionAsOf", site.version), ("timestampAsOf", site.timestamp)):
            if value is not None:
                read.read.named_table.options[key] = value
        if streaming:
            read.read.is_streaming = True
        self.read(read)
        return _named(read, alias)

    # -- parts --------------------------------------------------------------------------------------------------

    def _note(self, name: str, streaming: bool) -> None:
        self.inputs[name] = self.inputs.get(name, False) or streaming

    def _number(self, relation: Any, name: str) -> tuple[int, bool]:
        """A streaming read's number among those of its table, and whether it is seen for the first time."""
        place = relation.common.plan_id
        is_new = place not in self._numbers
        if is_new:
            self._numbers[place] = self._counts.get(name, 0)
            self._counts[name] = self._numbers[place] + 1
        return self._numbers[place], is_new

    def _stored(self, relation: Any, dataset: Dataset, streaming: bool) -> None:
        relation.read.named_table.unparsed_identifier = names.quoted(dataset.name)
        if streaming:
            self._stream(relation, dataset.name)

    def _stream(self, relation: Any, name: str) -> None:
        """Put something in the place of a read of a stream. Here that is the whole table."""
        relation.read.is_streaming = False
        relation.read.named_table.options.clear()
        _ = name

    def _file_stream(self, relation: Any, source: FileSource) -> None:
        source.put(relation, [source.path])

    def _view(self, relation: Any, dataset: Dataset) -> None:
        if dataset.name in self._within:
            raise PipelineFailed(cycle([*self._within, dataset.name]))
        self._within.append(dataset.name)
        try:
            planned = dropped(self._frame(dataset), dataset)._plan.plan(session().client)
        finally:
            self._within.pop()
        number = relation.common.plan_id
        relation.Clear()
        relation.common.plan_id = number
        relation.subquery_alias.alias = dataset.short
        relation.subquery_alias.input.CopyFrom(planned)

    def _frame(self, dataset: Dataset) -> Any:
        if dataset.name not in self._frames:
            flow = next(flow for flow in self._registry.flows.values() if flow.target == dataset.name)
            assert flow.query is not None
            self._frames[dataset.name] = flow.query()
        return self._frames[dataset.name]


class Shape(Reading):
    """Reads empty tables of the right columns, so that nothing has to be there."""

    def __init__(
        self, registry: Registry, home: tuple[str, str], frames: dict[str, Any], schema_of: Callable[[Dataset], Any]
    ) -> None:
        super().__init__(registry, home, frames)
        self._schema_of = schema_of

    def _stored(self, relation: Any, dataset: Dataset, streaming: bool) -> None:
        schema, number = self._schema_of(dataset), relation.common.plan_id
        relation.Clear()
        relation.common.plan_id = number
        relation.subquery_alias.alias = dataset.short
        relation.subquery_alias.input.local_relation.schema = schema.json()
        relation.subquery_alias.input.common.plan_id = _fresh_id()


class Streams(Reading):
    """Leaves streams as they are, and notes them. Such a plan is looked at, and not sent."""

    def __init__(self, registry: Registry, home: tuple[str, str], frames: dict[str, Any], target: str) -> None:
        super().__init__(registry, home, frames)
        self.streams: list[Stream] = []
        self._target = target

    def _file_stream(self, relation: Any, source: FileSource) -> None:
        name = names.beside(self._target, "files")
        number, is_new = self._number(relation, name)
        if is_new:
            self.streams.append(Stream(table=name, number=number, options=(), files=source))

    def _stream(self, relation: Any, name: str) -> None:
        options = {key.lower(): value for key, value in relation.read.named_table.options.items()}
        unknown = next((key for key in options if key not in _STREAM_OPTIONS), None)
        if unknown is not None:
            raise PipelineFailed(
                f"The option '{unknown}' of the stream of '{name}'. Known are startingVersion, maxFilesPerTrigger, "
                "maxBytesPerTrigger, ignoreDeletes, ignoreChanges and skipChangeCommits."
            )
        number, is_new = self._number(relation, name)
        if is_new:
            self.streams.append(Stream(table=name, number=number, options=tuple(sorted(options.items()))))


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Commits of a table: those after `start` up to `end`; all that it has at `end` if `start` is None."""

    start: int | None
    end: int
    paths: tuple[str, ...] = ()
    """The files that these commits note."""
    schema: str = ""
    """Of the files, as JSON."""


class Batch(Reading):
    """Reads what is new in streams."""

    def __init__(
        self, registry: Registry, home: tuple[str, str], frames: dict[str, Any],
        versions: Mapping[tuple[str, int], Versions],
    ) -> None:  # fmt: skip
        """`versions` are of streams, by table and number."""
        super().__init__(registry, home, frames)
        self._versions = versions
        self._ledger = next((table for table, number in versions if versions[table, number].schema), "")

    def _file_stream(self, relation: Any, source: FileSource) -> None:
        number, _ = self._number(relation, self._ledger)
        found = self._versions[self._ledger, number]
        if found.paths:
            source.put(relation, found.paths, found.schema)
            return
        place = relation.common.plan_id
        relation.Clear()
        relation.common.plan_id = place
        relation.local_relation.schema = found.schema

    def _stream(self, relation: Any, name: str) -> None:
        number, _ = self._number(relation, name)
        found, options = self._versions[name, number], relation.read.named_table.options
        kept = {key: value for key, value in options.items() if key.lower() in _SWITCHES}
        relation.read.is_streaming = False
        options.clear()
        options.update(kept | {"millpond.changes": "appended", "endingVersion": str(found.end)})
        if found.start is not None:
            options["startingVersion"] = str(found.start)


def dropped(frame: Any, dataset: Dataset) -> Any:
    """A view's rows without those that its expectations drop."""
    for each in dataset.expectations:
        if each.action is Action.DROP:
            frame = frame.filter(holds(each.condition))
    return frame


def holds(condition: Any) -> Any:
    """A Column: whether a condition is met, which one that is NULL is not."""
    from pyspark.sql.connect import functions

    return functions.coalesce(as_column(condition), functions.lit(False))


def as_column(expression: Any) -> Any:
    """SQL or a Column as a Column."""
    from pyspark.sql.connect import functions

    return functions.expr(expression) if isinstance(expression, str) else expression


def cycle(path: list[str]) -> str:
    """The message for datasets that need each other."""
    return "Datasets read each other in a circle: " + " -> ".join(path[path.index(path[-1]) :]) + "."


# -- SQL ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arguments:
    """What stands in the parentheses of read_files."""

    text: str


def _named(read: Any, alias: str) -> Any:
    """A relation under a name by which SQL can ask for it."""
    reference = plans.proto.Relation()
    reference.common.plan_id = _fresh_id()
    reference.subquery_alias.alias = alias
    reference.subquery_alias.input.CopyFrom(read)
    return reference


@lru_cache(maxsize=512)
def _analysed(text: str) -> tuple[Query, frozenset[int], Mapping[int, Arguments]]:
    """A query, where the names stand that are read as streams, and where files are read.

    The query's text has names in the place of files, and is without the word STREAM.
    """
    words = Cursor(text).words()
    edits: list[tuple[int, int, str]] = []
    starts, files = set(), {}
    for number, word in enumerate(words[:-1]):
        if _is_stream(words, number):
            within = words[number + 1].text == "(" and not words[number + 1].is_string
            name = words[number + (2 if within else 1)]
            edits.append(_blank(word.start, words[number + 1].end if within else word.end))
            starts.add(name.start)
            closing = _closing(words, number + 1) if within else None
            if closing is not None:
                edits.append(_blank(closing.start, closing.end))
        if word.is_bare and word.text.lower() == "read_files" and words[number + 1].text == "(":
            closing = _closing(words, number + 1)
            if closing is not None:
                files[word.start] = Arguments(text[words[number + 1].end + 1 : closing.start])
                edits.append((word.start, closing.end + 1, f"__files_{len(files)}".ljust(closing.end + 1 - word.start)))
    return analyse(spliced(text, edits)), frozenset(starts), files


def _blank(start: int, end: int) -> tuple[int, int, str]:
    return start, end + 1, " " * (end + 1 - start)


def _is_stream(words: tuple[Word, ...], number: int) -> bool:
    word, before = words[number], words[number - 1] if number else None
    if not (word.is_bare and word.text.upper() == "STREAM") or before is None or before.is_string:
        return False
    after = words[number + 1]
    is_named = after.is_name and after.text.upper() not in _NO_NAMES
    return before.text.upper() in _BEFORE_STREAM and (is_named or (after.text == "(" and not after.is_string))


def _closing(words: tuple[Word, ...], opening: int) -> Word | None:
    """The parenthesis that closes another."""
    depth = 0
    for word in words[opening:]:
        if not word.is_string:
            depth += (word.text == "(") - (word.text == ")")
        if depth == 0:
            return word
    return None


# -- PySpark ------------------------------------------------------------------------------------------------------

_current: ContextVar[Reading | None] = ContextVar("pipeline_reading", default=None)
_session: list[Any] = []


def session() -> Any:
    """The update's Spark session."""
    return _session[-1]


@contextmanager
def planned(reading: Reading) -> Iterator[Reading]:
    """Plans that this thread writes meanwhile are written so."""
    token = _current.set(reading)
    try:
        yield reading
    finally:
        _current.reset(token)


@contextmanager
def hooks(spark: Any) -> Iterator[None]:
    """PySpark asks for what names mean, until the block ends."""
    read_plan, sql_plan, sql = plans.Read.plan, plans.SQL.plan, SparkSession.sql
    source_plan = plans.DataSource.plan

    def plan_of_read(self: Any, client: Any) -> Any:
        relation = read_plan(self, client)
        if (reading := _current.get()) is not None:
            reading.read(relation)
        return relation

    def plan_of_source(self: Any, client: Any) -> Any:
        relation = source_plan(self, client)
        if (reading := _current.get()) is not None and relation.read.is_streaming:
            reading.files(relation)
        return relation

    def plan_of_sql(self: Any, client: Any) -> Any:
        relation = sql_plan(self, client)
        if (reading := _current.get()) is not None and _is_query(self._query):
            reading.sql(relation)
        return relation

    def lazy_sql(self: Any, sqlQuery: str, args: Any = None, **kwargs: Any) -> Any:
        if _current.get() is None or not _is_query(sqlQuery):
            return sql(self, sqlQuery, args, **kwargs)
        return DataFrame(_sql_plan(self, sqlQuery, args, kwargs), self)

    plans.Read.plan, plans.SQL.plan, SparkSession.sql = plan_of_read, plan_of_sql, lazy_sql
    plans.DataSource.plan = plan_of_source
    _session.append(spark)
    try:
        yield
    finally:
        _session.pop()
        plans.Read.plan, plans.SQL.plan, SparkSession.sql = read_plan, sql_plan, sql
        plans.DataSource.plan = source_plan


def _sql_plan(spark: Any, text: str, args: Any, named: Mapping[str, Any]) -> Any:
    """A query that is not sent before its rows are asked for."""
    from pyspark.sql.connect.functions import lit
    from pyspark.sql.connect.sql_formatter import SQLStringFormatter

    positional = [lit(each) for each in args] if isinstance(args, list) else []
    by_name = {key: lit(value) for key, value in args.items()} if isinstance(args, dict) else {}
    views = []
    if named:
        formatter = SQLStringFormatter(spark)
        text = formatter.format(text, **named)
        views = [plans.SubqueryAlias(frame._plan, name) for frame, name in formatter._temp_views]
    return plans.SQL(text, positional, by_name, views)


def _is_query(text: str) -> bool:
    words = Cursor(text).words()
    return bool(words) and words[0].text.upper() in _QUERY_STARTS


def _fresh_id() -> int:
    return int(plans.LogicalPlan._fresh_plan_id())
