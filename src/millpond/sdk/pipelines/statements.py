"""SQL sources: the statements that declare datasets and flows. Source: Databricks' SQL reference for pipelines.

The grammar's own words are read here; queries and expressions stay as they were written.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlglot.tokenizer_core import TokenType

from millpond.catalog.names import quote
from millpond.engine.errors import SparkError
from millpond.engine.syntax.columns import properties
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.tables import cluster_columns
from millpond.sdk.pipelines.declaring import changes_of
from millpond.sdk.pipelines.domain import Action, Dataset, Expectation, Flow, Kind, Location, PipelineFailed
from millpond.sdk.pipelines.reading import session
from millpond.sdk.pipelines.registry import Registry

_PARAMETER = re.compile(r"\$\{([^}]+)\}")


def declare(registry: Registry, text: str, path: str, configuration: Mapping[str, str], first_line: int = 1) -> None:
    """Declare what a file of SQL does. Raises PipelineFailed, with the file and line."""
    source = _with_values(text, configuration, path)
    settings: dict[str, str] = {}
    for start, statement in _statements(source, path, first_line):
        location = Location(path=path, line=first_line + source.count("\n", 0, start))
        try:
            _Statement(registry, statement, location, settings).declare()
        except SparkError as error:
            raise PipelineFailed(f"{location}: {error}") from error


def _with_values(text: str, configuration: Mapping[str, str], path: str) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in configuration:
            raise PipelineFailed(f"{path} names ${{{found[1]}}}, which the pipeline's configuration does not have.")
        return configuration[found[1]]

    return _PARAMETER.sub(value, text)


def _statements(text: str, path: str, first_line: int) -> Iterator[tuple[int, str]]:
    """Where each statement begins, and the text that it is."""
    try:
        words = Cursor(text).words()
    except SparkError as error:
        raise PipelineFailed(f"{path}, line {first_line}: {error}") from error
    begin: int | None = None
    for word in words:
        if word.kind == TokenType.SEMICOLON:
            if begin is not None:
                yield begin, text[begin : word.start]
            begin = None
        elif begin is None:
            begin = word.start
    if begin is not None:
        yield begin, text[begin:]


@dataclass
class _Columns:
    """What stands in the parentheses behind a name."""

    names: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)
    comments: dict[str, str] = field(default_factory=dict)
    typed: int = 0
    """How many of the names have a type."""
    expectations: list[Expectation] = field(default_factory=list)


class _Statement:
    """One statement."""

    def __init__(self, registry: Registry, text: str, location: Location, settings: dict[str, str]) -> None:
        self._registry = registry
        self._text = text
        self._location = location
        self._settings = settings
        self._cursor = Cursor(text)

    def declare(self) -> None:
        """Declare what it says. Raises SparkError, PipelineFailed."""
        cursor = self._cursor
        if cursor.accept("SET"):
            key, _, value = self._text[len("SET") :].strip().partition("=")
            self._settings[key.strip().strip("`")] = value.strip().strip("'\"")
        elif cursor.accept("APPLY", "CHANGES", "INTO") or cursor.accept("AUTO", "CDC", "INTO"):
            self._changes(None)
        elif cursor.accept("CREATE", "FLOW"):
            self._flow()
        elif cursor.accept("CREATE"):
            self._create()
        else:
            cursor.fail("a pipeline's source declares tables, views and flows: CREATE ..., APPLY CHANGES INTO ..., SET")

    # -- datasets -----------------------------------------------------------------------------------------------

    def _create(self) -> None:
        cursor = self._cursor
        if cursor.accept("OR"):
            cursor.expect_any("REFRESH", "REPLACE")
        cursor.accept("PRIVATE")
        temporary = bool(cursor.accept_any("TEMPORARY", "TEMP"))
        kind = self._kind(temporary=temporary)
        cursor.accept("IF", "NOT", "EXISTS")
        name = self._name()
        columns = self._columns() if cursor.sees("(") else _Columns()
        facts = self._options(kind)
        dataset = Dataset(
            name=name, kind=kind, location=self._location, schema=", ".join(columns.definitions) if columns.typed
            else None, column_comments=columns.comments, expectations=tuple(columns.expectations), **facts,
        )  # fmt: skip
        if not cursor.accept("AS"):
            cursor.expect_end()
            if kind is not Kind.STREAMING_TABLE:
                cursor.fail("expected AS and a query")
            self._registry.add_dataset(dataset)
            return
        renamed = columns.names if columns.names and not columns.typed else None
        self._registry.add_table(dataset, self._query(renamed), self._settings)

    def _kind(self, *, temporary: bool) -> Kind:
        cursor = self._cursor
        streaming = cursor.accept("STREAMING")
        live = cursor.accept("LIVE")
        if cursor.accept("MATERIALIZED", "VIEW"):
            return Kind.MATERIALIZED_VIEW
        if cursor.accept("TABLE") and (streaming or live):
            return Kind.STREAMING_TABLE if streaming else Kind.MATERIALIZED_VIEW
        if cursor.accept("VIEW") and (temporary or live):
            return Kind.VIEW
        raise cursor.error("expected STREAMING TABLE, MATERIALIZED VIEW, TEMPORARY VIEW or FLOW")

    def _name(self) -> str:
        return ".".join(map(quote, self._cursor.name()))

    def _columns(self) -> _Columns:
        cursor, found = self._cursor, _Columns()
        cursor.in_parentheses(lambda _: self._column(found))
        if found.definitions and found.typed != len(found.names):
            raise cursor.error("give all columns a type, or none of them and no keys")
        return found

    def _column(self, found: _Columns) -> None:
        cursor = self._cursor
        if cursor.sees("CONSTRAINT") and (after := cursor.word(2)) is not None and after.text.upper() == "EXPECT":
            found.expectations.append(self._expectation())
        elif cursor.sees_any("CONSTRAINT", "PRIMARY", "FOREIGN", "CHECK"):
            found.definitions.append(cursor.text_until())
        else:
            name = cursor.identifier()
            found.names.append(name)
            if cursor.accept("COMMENT"):
                found.comments[name.lower()] = cursor.string()
            if not cursor.sees_any(",", ")"):
                found.typed += 1
                found.definitions.append(f"{quote(name)} {_until_comma(cursor)}")

    def _expectation(self) -> Expectation:
        cursor = self._cursor
        cursor.expect("CONSTRAINT")
        name = cursor.identifier()
        cursor.expect("EXPECT")
        condition, action = cursor.parenthesised_text(), Action.WARN
        if cursor.accept("ON", "VIOLATION"):
            if cursor.accept("DROP", "ROW"):
                action = Action.DROP
            else:
                cursor.expect("FAIL", "UPDATE")
                action = Action.FAIL
        return Expectation(name=name, condition=condition, action=action)

    def _options(self, kind: Kind) -> dict[str, Any]:
        cursor = self._cursor
        facts: dict[str, Any] = {}
        while not cursor.at_end() and not cursor.sees("AS"):
            if cursor.accept("COMMENT"):
                facts["comment"] = cursor.string()
            elif cursor.accept("TBLPROPERTIES"):
                facts["properties"] = properties(cursor)
            elif kind is not Kind.VIEW and cursor.accept("PARTITIONED", "BY"):
                facts["partitioned_by"] = cursor.in_parentheses(lambda inner: inner.identifier())
            elif kind is not Kind.VIEW and cursor.accept("CLUSTER", "BY"):
                facts["clustered_by"] = cluster_columns(cursor)
            elif cursor.accept("USING"):
                cursor.expect("DELTA")
            else:
                cursor.fail("expected COMMENT, TBLPROPERTIES, PARTITIONED BY, CLUSTER BY, or AS and a query")
        return facts

    def _query(self, renamed: list[str] | None = None) -> Callable[[], Any]:
        word = self._cursor.word()
        if word is None:
            self._cursor.fail("expected a query")
        text = self._text[word.start :]

        def query() -> Any:
            frame = session().sql(text)
            return frame if renamed is None else frame.toDF(*renamed)

        return query

    # -- flows --------------------------------------------------------------------------------------------------

    def _flow(self) -> None:
        cursor = self._cursor
        name = cursor.identifier()
        if cursor.accept("COMMENT"):
            cursor.string()
        cursor.expect("AS")
        if cursor.accept("AUTO", "CDC", "INTO") or cursor.accept("APPLY", "CHANGES", "INTO"):
            self._changes(name)
            return
        cursor.expect("INSERT", "INTO")
        once = cursor.accept("ONCE")
        target = self._name()
        cursor.expect("BY", "NAME")
        self._registry.add_flow(
            Flow(
                name=name, target=target, location=self._location, query=self._query(), settings=dict(self._settings),
                once=once,
            )
        )  # fmt: skip

    def _changes(self, name: str | None) -> None:
        cursor = self._cursor
        target = self._name()
        cursor.expect("FROM")
        source = self._stream_name()
        found: dict[str, Any] = {"scd_type": "1"}
        while not cursor.at_end():
            self._clause(found)
        if "keys" not in found or "sequence_by" not in found:
            cursor.fail("AUTO CDC takes KEYS (...) and SEQUENCE BY ...")
        self._registry.add_flow(
            Flow(
                name=name or target,
                target=target,
                location=self._location,
                query=None,
                changes=changes_of(
                    source, found["keys"], found["sequence_by"], found.get("deletes"), found.get("columns"),
                    found.get("except"), found["scd_type"], found.get("track"), found.get("track_except"),
                ),
            )
        )  # fmt: skip

    def _stream_name(self) -> str:
        cursor = self._cursor
        if cursor.accept("STREAM", "("):
            name = self._name()
            cursor.expect(")")
            return name
        if not cursor.accept("STREAM"):
            cursor.fail("changes are read from STREAM(name)")
        return self._name()

    def _clause(self, found: dict[str, Any]) -> None:
        cursor = self._cursor
        stops = ("APPLY", "SEQUENCE BY", "COLUMNS", "STORED AS", "TRACK HISTORY", "KEYS")
        if cursor.accept("KEYS"):
            found["keys"] = cursor.in_parentheses(lambda inner: inner.identifier())
        elif cursor.accept("APPLY", "AS", "DELETE", "WHEN"):
            found["deletes"] = cursor.text_until(*stops)
        elif cursor.accept("SEQUENCE", "BY"):
            found["sequence_by"] = cursor.text_until(*stops)
        elif cursor.accept("COLUMNS"):
            self._column_list(found, "columns", "except")
        elif cursor.accept("STORED", "AS", "SCD", "TYPE"):
            found["scd_type"] = str(cursor.integer())
        elif cursor.accept("TRACK", "HISTORY", "ON"):
            self._column_list(found, "track", "track_except")
        else:
            cursor.fail("expected KEYS, SEQUENCE BY, APPLY AS DELETE WHEN, COLUMNS, STORED AS SCD TYPE, TRACK HISTORY")

    def _column_list(self, found: dict[str, Any], key: str, key_of_others: str) -> None:
        cursor = self._cursor
        if cursor.accept("*"):
            cursor.expect("EXCEPT")
            found[key_of_others] = cursor.in_parentheses(lambda inner: inner.identifier())
        elif cursor.sees("("):
            found[key] = cursor.in_parentheses(lambda inner: inner.identifier())
        else:
            found[key] = cursor.comma_list(lambda inner: inner.identifier())


def _until_comma(cursor: Cursor) -> str:
    """A column's type and all that follows, up to the next column; commas between `<` and `>` are of the type."""
    pieces = [cursor.text_until()]
    while pieces and "".join(pieces).count("<") > "".join(pieces).count(">"):
        cursor.expect(",")
        pieces.append(cursor.text_until())
    return ", ".join(pieces)
