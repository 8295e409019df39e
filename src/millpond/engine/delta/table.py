"""Opening a Delta table and committing to it."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
    DeltaProtocolError,
    SchemaMismatchError,
    TableNotFoundError,
)

from millpond.catalog import locations
from millpond.engine.authorship import MARK, Author
from millpond.engine.errors import AnalysisError, ExecutionError, SparkError, UnsupportedError
from millpond.engine.types import Field
from millpond.kernel.ids import new_id

T = TypeVar("T")

OPERATION = "millpond.operation"
PARAMETERS = "millpond.operationParameters"
MAX_ATTEMPTS = 10
"""How often a write that lost a race starts again before the user hears of it."""

KNOWN_FEATURES = frozenset(
    {"appendOnly", "invariants", "checkConstraints", "generatedColumns", "changeDataFeed", "timestampNtz"}
)


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where a table is, and how to reach it."""

    url: str
    """`file:///...` or `s3://...`."""
    options: Mapping[str, str] = field(default_factory=dict)


NOTHING = -1
"""In place of a number: the table has no transaction of an application."""


@dataclass(frozen=True, kw_only=True)
class Once:
    """What a table shall have once, however often it is written: number `version` of what an application writes.

    Source: Delta protocol, "Transaction Identifiers".
    """

    application: str
    version: int
    operation: str | None = "STREAMING UPDATE"
    """What DESCRIBE HISTORY shows; None for what the write is."""
    after: int | None = None
    """Which number of the application this was computed from, NOTHING for none; None where that does not matter."""
    held: tuple[str, int] | None = None
    """Another application, and its number that this was computed at, 0 for none too. The commit says it again."""

    def is_in(self, table: DeltaTable) -> bool:
        """Whether a version of the table has it, or a later one of the same application.

        Raises CommitConflict where it was computed from another state than the table has.
        """
        if self.held is not None and (known := table.transaction_version(self.held[0]) or 0) != self.held[1]:
            raise _conflict(table.table_uri, f"transaction {known} of {self.held[0]}, not {self.held[1]}")
        found = table.transaction_version(self.application)
        if self.after is not None:
            if self.after != (NOTHING if found is None else found):
                raise _conflict(table.table_uri, f"transaction {found} of {self.application}, not {self.after}")
            return False
        return found is not None and found >= self.version

    @property
    def transactions(self) -> list[Transaction]:
        """As delta-rs commits them; another commit of one of the applications then conflicts with it."""
        said = [(self.application, self.version), *([] if self.held is None else [self.held])]
        return [Transaction(app_id=application, version=version) for application, version in said]


class CommitConflict(ExecutionError):
    """Another writer was faster; the caller may start again from the new version."""

    code = "ABORTED"


def open_table(storage: Storage, *, version: int | None = None) -> DeltaTable:
    """The table at its newest (or the given) version; reads the log only."""
    if locations.is_link(storage.url):
        told = f"Table {storage.url}: its directory is a symbolic link, which is not followed."
        raise ExecutionError("DELTA_IO_ERROR", told, sql_state="58030")
    with delta_errors(storage.url):
        return DeltaTable(storage.url, version=version, storage_options=dict(storage.options))


def open_for_write(storage: Storage) -> DeltaTable:
    """The table, after making sure that we understand every feature it uses."""
    table = open_table(storage)
    refuse_unknown_features(table, storage.url)
    return table


def refuse_unknown_features(table: DeltaTable, where: str) -> None:
    """Raises `UnsupportedError` naming the features of the table that we would damage or misread."""
    protocol = table.protocol()
    named = {*(protocol.reader_features or []), *(protocol.writer_features or [])}
    unknown = named - KNOWN_FEATURES
    configuration = table.metadata().configuration
    if configuration.get("delta.columnMapping.mode", "none") != "none":
        unknown.add("columnMapping")
    if unknown:
        raise unknown_features(sorted(unknown), where)


def unknown_features(features: list[str], where: str) -> UnsupportedError:
    listed = ", ".join(features)
    return UnsupportedError(
        "DELTA_UNSUPPORTED_FEATURES_FOR_READ",
        f"Unsupported Delta table feature: table {where} requires the feature(s) {listed}, which this engine does not "
        "have. Use an engine that has them, or rewrite the table without them (CREATE TABLE ... AS SELECT there).",
        sql_state="56038",
        parameters={"tableNameOrPath": where, "unsupported": listed},
    )


def fields(table: DeltaTable) -> list[Field]:
    """The table's columns as Delta writes them."""
    schema: dict[str, list[Field]] = json.loads(table.schema().to_json())
    return schema["fields"]


def partition_columns(table: DeltaTable) -> list[str]:
    return list(table.metadata().partition_columns)


def file_sizes(table: DeltaTable) -> dict[str, int]:
    """Bytes of each data file by its path."""
    actions = pa.table(table.get_add_actions(flatten=True))
    return dict(zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True))


def commit(
    table: DeltaTable,
    author: Author,
    write: Callable[[CommitProperties], T],
    *,
    operation: str | None = None,
    parameters: Mapping[str, str] | None = None,
    exact: bool = False,
    user_metadata: str | None = None,
    once: Once | None = None,
) -> T | None:
    """Run one delta-rs write under the author's name.

    delta-rs can report an error for a commit that is in the log: then this returns None, as the work is done.
    `operation` and `parameters` are what DESCRIBE HISTORY shows instead of delta-rs' own. `exact` forbids delta-rs to
    put the commit on top of others that came in between; the caller retries on `CommitConflict`.
    """
    properties = commit_properties(
        author, operation=operation, parameters=parameters, exact=exact, user_metadata=user_metadata, once=once
    )
    mark = (properties.custom_metadata or {})[MARK]
    before = table.version()
    try:
        with delta_errors(table.table_uri):
            return write(properties)
    except SparkError:
        if _landed(table, mark, before):
            return None
        raise


def commit_properties(
    author: Author,
    *,
    operation: str | None = None,
    parameters: Mapping[str, str] | None = None,
    exact: bool = False,
    user_metadata: str | None = None,
    once: Once | None = None,
) -> CommitProperties:
    """What a commit says of itself: its author, a mark of its own, and what the history shall show."""
    noted: dict[str, Any] = {"userId": author.id, "userName": author.name, MARK: new_id()}
    if operation is not None:
        noted[OPERATION] = operation
    if parameters is not None:
        noted[PARAMETERS] = dict(parameters)
    if user_metadata is not None:
        noted["userMetadata"] = user_metadata
    return CommitProperties(
        custom_metadata=noted,
        max_commit_retries=0 if exact else None,
        app_transactions=None if once is None else once.transactions,
    )


def _landed(table: DeltaTable, mark: str, before: int) -> bool:
    """Whether a commit with this mark came into the log after version `before`; moves `table` to the newest version."""
    table.update_incremental()
    newer = table.version() - before
    return newer > 0 and any(entry.get(MARK) == mark for entry in table.history(newer))


def until_no_conflict(attempt: Callable[[], T]) -> T:
    """Run `attempt`, which opens the table anew each time, until it does not lose a race."""
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            return attempt()
        except CommitConflict:
            continue
    return attempt()


@contextmanager
def delta_errors(where: str) -> Iterator[None]:
    """Turn delta-rs' exceptions into errors that Spark users know."""
    try:
        yield
    except TableNotFoundError as error:
        raise AnalysisError(
            "DELTA_TABLE_NOT_FOUND",
            f"There is no Delta table at {where}.",
            sql_state="42P01",
            parameters={"tableName": where},
        ) from error
    except CommitFailedError as error:
        raise _commit_error(str(error), where) from error
    except SchemaMismatchError as error:
        raise AnalysisError("DELTA_SCHEMA_MISMATCH", str(error), sql_state="42KDG") from error
    except (DeltaError, DeltaProtocolError) as error:
        raise _delta_error(str(error).split("\n   0: ", 1)[0], where) from error
    except (OSError, ValueError) as error:
        raise ExecutionError("DELTA_IO_ERROR", f"Table {where}: {error}.", sql_state="58030") from error


def _commit_error(text: str, where: str) -> SparkError:
    if "nsupported table features" in text:
        return unknown_features([text.split("[", 1)[-1].rstrip("].")], where)
    if "append-only" in text:
        return AnalysisError(
            "DELTA_CANNOT_MODIFY_APPEND_ONLY",
            f"Table {where} is configured to only allow appends. If you would like to permit updates or deletes, set "
            "its property delta.appendOnly to false.",
            sql_state="42809",
            parameters={"table_name": where},
        )
    return _conflict(where, text)


def _conflict(where: str, text: str) -> CommitConflict:
    return CommitConflict(
        "DELTA_CONCURRENT_WRITE",
        f"A concurrent transaction changed table {where} since this one read it ({text}). Try the operation again.",
        sql_state="2D521",
        parameters={"tableName": where},
    )


def _delta_error(text: str, where: str) -> SparkError:
    quoted = text.split("Feature '", 1)
    if len(quoted) == 2 and "is not supported" in text:
        return unknown_features([quoted[1].split("'", 1)[0]], where)
    if "catalog-managed" in text:
        return unknown_features(["catalogManaged"], where)
    if "conflict" in text.lower() or "concurrent" in text.lower():
        return _commit_error(text, where)
    if "failed validation check" in text:
        return ExecutionError("DELTA_VIOLATE_CONSTRAINT_WITH_VALUES", text, sql_state="23001")
    return ExecutionError("DELTA_OPERATION_FAILED", f"Table {where}: {text}.", sql_state="XXKDA")
