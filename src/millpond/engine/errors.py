"""Errors as a Spark user knows them: an error class, its parameters, a SQLSTATE and the Java class that PySpark parses.

`wire.py` of the gateway turns a `SparkError` into `google.rpc.Status` with `ErrorInfo`; PySpark then raises
`AnalysisException`, `ParseException` and so on. Messages start with `[ERROR_CLASS]` and end with `SQLSTATE: xxxxx`,
as Spark's own do.
"""

from collections.abc import Mapping
from typing import ClassVar

from millpond.kernel import errors as kernel


class SparkError(kernel.MillpondError):
    """What a command or query failed with; `str()` is the text that the user reads."""

    code = "INVALID_PARAMETER_VALUE"
    java_class: ClassVar[str] = "org.apache.spark.SparkException"

    def __init__(
        self,
        error_class: str,
        message: str,
        *,
        sql_state: str = "XX000",
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"[{error_class}] {message} SQLSTATE: {sql_state}")
        self.error_class = error_class
        self.sql_state = sql_state
        self.parameters = dict(parameters or {})

    @property
    def java_classes(self) -> tuple[str, ...]:
        """The class hierarchy, most special first, as `ErrorInfo.metadata["classes"]` wants it."""
        return (self.java_class, "java.lang.Exception", "java.lang.Throwable", "java.lang.Object")


class AnalysisError(SparkError):
    """The statement is well formed but cannot be done: unknown names, wrong types, refused permissions."""

    java_class = "org.apache.spark.sql.AnalysisException"


class ParseError(AnalysisError):
    """The text is no statement. `line` counts from 1, `column` from 0, as Spark does."""

    java_class = "org.apache.spark.sql.catalyst.parser.ParseException"

    def __init__(
        self,
        error_class: str,
        message: str,
        *,
        sql: str,
        line: int,
        column: int,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error_class, message, sql_state="42601", parameters=parameters)
        self.line = line
        self.column = column
        lines = sql.splitlines() or [""]
        shown = "\n".join([*lines[:line], "-" * column + "^^^", *lines[line:]])
        self.message = f"\n{self.message} (line {line}, pos {column})\n\n== SQL ==\n{shown}\n"
        self.args = (self.message,)

    @property
    def java_classes(self) -> tuple[str, ...]:
        return (self.java_class, AnalysisError.java_class, *super().java_classes[1:])


class UnsupportedError(SparkError):
    """A known operation that this engine does not have, or not on this table."""

    code = "NOT_IMPLEMENTED"
    java_class = "org.apache.spark.SparkUnsupportedOperationException"

    @property
    def java_classes(self) -> tuple[str, ...]:
        """PySpark knows the parent class only."""
        return (self.java_class, "java.lang.UnsupportedOperationException", *super().java_classes[1:])


class ExecutionError(SparkError):
    """The work itself failed: a violated constraint, a conflict, unreadable files."""

    code = "INTERNAL_ERROR"
    java_class = "org.apache.spark.SparkRuntimeException"


def syntax_error(sql: str, offset: int, near: str, hint: str = "") -> ParseError:
    """A ParseError at a character offset of `sql`; `near` is the offending text, empty at the end of the input."""
    before = sql[:offset]
    line = before.count("\n") + 1
    column = offset - (before.rfind("\n") + 1)
    error = f"'{near}'" if near else "end of input"
    return ParseError(
        "PARSE_SYNTAX_ERROR",
        f"Syntax error at or near {error}{': ' + hint if hint else ''}.",
        sql=sql,
        line=line,
        column=column,
        parameters={"error": error, "hint": hint},
    )


def unsupported(message: str, error_class: str = "UNSUPPORTED_FEATURE") -> UnsupportedError:
    return UnsupportedError(error_class, message, sql_state="0A000", parameters={"feature": message})


def quoted(parts: tuple[str, ...]) -> str:
    """`a`.`b`: the way Spark prints names in errors; backticks inside are doubled."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def table_not_found(parts: tuple[str, ...]) -> AnalysisError:
    return AnalysisError(
        "TABLE_OR_VIEW_NOT_FOUND",
        f"The table or view {quoted(parts)} cannot be found. Verify the spelling and correctness of the schema and "
        "catalog. If you did not qualify the name with a schema, verify the current_schema() output, or qualify the "
        "name with the correct schema and catalog. To tolerate the error on drop use DROP VIEW IF EXISTS or DROP "
        "TABLE IF EXISTS.",
        sql_state="42P01",
        parameters={"relationName": quoted(parts)},
    )


def table_exists(parts: tuple[str, ...]) -> AnalysisError:
    return AnalysisError(
        "TABLE_OR_VIEW_ALREADY_EXISTS",
        f"Cannot create table or view {quoted(parts)} because it already exists. Choose a different name, drop or "
        "replace the existing object, add the IF NOT EXISTS clause to tolerate pre-existing objects, add the OR "
        "REPLACE clause to replace the existing materialized view, or add the OR REFRESH clause to refresh the "
        "existing streaming table.",
        sql_state="42P07",
        parameters={"relationName": quoted(parts)},
    )


def schema_not_found(parts: tuple[str, ...]) -> AnalysisError:
    return AnalysisError(
        "SCHEMA_NOT_FOUND",
        f"The schema {quoted(parts)} cannot be found. Verify the spelling and correctness of the schema and catalog. "
        "If you did not qualify the name with a catalog, verify the current_schema() output, or qualify the name "
        "with the correct catalog. To tolerate the error on drop use DROP SCHEMA IF EXISTS.",
        sql_state="42704",
        parameters={"schemaName": quoted(parts)},
    )


def catalog_not_found(name: str) -> AnalysisError:
    return AnalysisError(
        "CATALOG_NOT_FOUND",
        f"The catalog {quoted((name,))} not found. Create it with CREATE CATALOG, or choose one of SHOW CATALOGS.",
        sql_state="42P08",
        parameters={"catalogName": quoted((name,))},
    )


def column_not_found(name: str, columns: tuple[str, ...]) -> AnalysisError:
    listed = ", ".join(quoted((column,)) for column in columns)
    return AnalysisError(
        "UNRESOLVED_COLUMN.WITH_SUGGESTION",
        f"A column, variable, or function parameter with name {quoted((name,))} cannot be resolved. Did you mean one "
        f"of the following? [{listed}].",
        sql_state="42703",
        parameters={"objectName": quoted((name,)), "proposal": listed},
    )


def permission_denied(message: str) -> AnalysisError:
    return AnalysisError("INSUFFICIENT_PERMISSIONS", message, sql_state="42501", parameters={"report": message})
