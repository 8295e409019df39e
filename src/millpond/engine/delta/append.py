"""Rows that somebody else computed, committed by delta-rs: for tables that the engine cannot write itself."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from millpond.engine.authorship import Author
from millpond.engine.delta.properties import engine_can_append
from millpond.engine.delta.table import Once, Storage, commit, fields, open_for_write, open_table
from millpond.engine.errors import ExecutionError
from millpond.engine.types import Field


def needs_us(storage: Storage, columns: Sequence[Field]) -> bool:
    """Whether the engine would fail to append to a table with these columns; looks at the log only if they are odd."""
    names = [column["name"] for column in columns]
    if engine_can_append(names, {"delta.constraints.any": ""}):
        return False
    return not engine_can_append(names, open_table(storage).metadata().configuration)


def write_rows(
    storage: Storage,
    author: Author,
    batches: Iterable[pa.RecordBatch],
    *,
    overwrite: bool,
    options: Mapping[str, str],
    user_metadata: str | None = None,
    once: Once | None = None,
) -> None:
    """Append the batches, or put them in the place of all rows or of those that `replaceWhere` names, in one commit.

    Constraints, NOT NULL and generated columns are checked and filled by delta-rs; nothing is committed if the iterator
    raises. With `once`, nothing is done if that is in the table already: the commit says so itself, and a commit of the
    same that comes in between is a conflict. Raises: `ExecutionError` for a row that violates a constraint.
    """
    table = open_for_write(storage)
    if once is not None and once.is_in(table):
        return
    known = {key.lower(): value for key, value in options.items()}
    how: dict[str, Any] = {"mode": "overwrite" if overwrite else "append"}
    if known.get("mergeschema", "").lower() == "true":
        how["schema_mode"] = "merge"
    if overwrite and "replacewhere" in known:
        how["predicate"] = known["replacewhere"]
    rows = _reader(batches, pa.schema(table.schema().to_arrow()))
    try:
        commit(
            table,
            author,
            lambda noted: write_deltalake(table, rows, commit_properties=noted, **how),
            user_metadata=user_metadata,
            once=once,
            operation=None if once is None else once.operation,
            parameters=_parameters(once),
        )
    except ExecutionError as error:
        if error.error_class != "DELTA_VIOLATE_CONSTRAINT_WITH_VALUES":
            raise
        required = [column["name"] for column in fields(table) if not column["nullable"]]
        raise ExecutionError(
            "DELTA_VIOLATE_CONSTRAINT_WITH_VALUES",
            f"A row violates a CHECK constraint of the table or is NULL in one of {required}: {error.message}",
            sql_state="23001",
        ) from error


def _parameters(once: Once | None) -> Mapping[str, str] | None:
    if once is None or once.operation is None:
        return None
    return {"queryId": once.application, "epochId": str(once.version)}


def merge_rows(
    storage: Storage,
    author: Author,
    batches: Iterable[pa.RecordBatch],
    *,
    keys: Sequence[str],
    deletes: str | None,
    user_metadata: str | None = None,
    once: Once | None = None,
) -> None:
    """Put the batches in the place of the rows with the same keys, each of which they have once, in one commit.

    Where the column `deletes` is true the row goes. With `once` as `write_rows`.
    """
    table = open_for_write(storage)
    if once is not None and once.is_in(table):
        return
    rows = _reader(batches, pa.schema(table.schema().to_arrow()))
    names = [name for name in rows.schema.names if name != deletes]
    values = {_quoted(name): f"s.{_quoted(name)}" for name in names}
    same = " AND ".join(f"t.{_quoted(key)} = s.{_quoted(key)}" for key in keys)
    stays = None if deletes is None else f"NOT s.{_quoted(deletes)}"

    def merge(noted: Any) -> Any:
        merger = table.merge(rows, same, source_alias="s", target_alias="t", commit_properties=noted)
        if deletes is not None:
            merger = merger.when_matched_delete(f"s.{_quoted(deletes)}")
        return merger.when_matched_update(values, stays).when_not_matched_insert(values, stays).execute()

    commit(table, author, merge, user_metadata=user_metadata, once=once, exact=True)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _reader(batches: Iterable[pa.RecordBatch], empty: pa.Schema) -> pa.RecordBatchReader:
    """A reader over the batches, whose schema is that of the first; of the table if there is none."""
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        return pa.RecordBatchReader.from_batches(empty, [])

    def every() -> Iterable[pa.RecordBatch]:
        yield first
        yield from iterator

    return pa.RecordBatchReader.from_batches(first.schema, every())
