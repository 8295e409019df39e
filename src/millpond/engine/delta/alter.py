"""Changing a table's schema, properties and constraints: each function is one commit, retried when it loses a race."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
from deltalake import DeltaTable

from millpond.catalog import column_statistics
from millpond.catalog.column_statistics import Columns
from millpond.engine.authorship import Author
from millpond.engine.delta import properties as known_properties
from millpond.engine.delta.log import commit_metadata
from millpond.engine.delta.properties import KEPT_LOG, keeps_log
from millpond.engine.delta.rewrite import rewrite
from millpond.engine.delta.schema import (
    CONSTRAINT_PREFIX,
    SchemaPlan,
    TableState,
    constraint_key,
    find,
    plan_add_check,
    plan_drop_check,
)
from millpond.engine.delta.table import (
    Storage,
    commit,
    delta_errors,
    fields,
    open_for_write,
    open_table,
    partition_columns,
    until_no_conflict,
)
from millpond.engine.errors import AnalysisError, ExecutionError, SparkError, column_not_found
from millpond.identity.domain import SYSTEM

CLUSTERING = "millpond.clusteringColumns"


def state_of(table: DeltaTable) -> TableState:
    metadata = table.metadata()
    return TableState(
        fields=tuple(fields(table)),
        partition_columns=tuple(partition_columns(table)),
        configuration=dict(metadata.configuration),
        description=metadata.description,
        has_rows=bool(table.file_uris()),
    )


def change(storage: Storage, author: Author, plan: Callable[[TableState], SchemaPlan | None]) -> None:
    """Plan a change on the newest version and commit it; plan and commit again when somebody was faster."""

    def attempt() -> None:
        table = open_for_write(storage)
        before = state_of(table)
        planned = plan(before)
        if planned is None:
            return
        if planned.must_hold is not None:
            _refuse_violations(table, planned)
        if planned.shape is not None:
            _set_statistics(table, storage, author, before, planned.state)
            rewrite(table, author, planned)
        else:
            commit_metadata(table, storage, author, _with_statistics(planned, before))

    until_no_conflict(attempt)


def columns_of(storage: Storage) -> Columns:
    """The columns that a table has now."""
    return _columns(state_of(open_table(storage)))


def follow_columns(storage: Storage, author: Author, after: Columns, before: Columns | None = None) -> None:
    """Say of which of a table's columns there shall be statistics: before the engine writes new ones, or when it has.

    `before` are those that it had when that was said last; None are those of now.
    """

    def plan(state: TableState) -> SchemaPlan | None:
        return _plan_statistics(state, before or _columns(state), after)

    change(storage, author, plan)


def list_columns(storage: Storage, author: Author) -> None:
    """Name the columns that have statistics, so that those that a MERGE will add have none."""

    def plan(state: TableState) -> SchemaPlan | None:
        known = column_statistics.chosen(state.configuration)
        return None if known else _plan_properties(state, column_statistics.listed(_columns(state)))

    change(storage, author, plan)


def _set_statistics(table: DeltaTable, storage: Storage, author: Author, before: TableState, after: TableState) -> None:
    """In a commit of its own, as delta-rs changes no properties while it writes: names of no column do no harm."""
    planned = _plan_statistics(before, _columns(before), _columns(after))
    if planned is not None:
        commit_metadata(table, storage, author, planned)
        table.update_incremental()


def _plan_statistics(state: TableState, before: Columns, after: Columns) -> SchemaPlan | None:
    configuration = column_statistics.followed(state.configuration, before, after)
    return None if configuration is None else _plan_properties(replace(state, configuration={}), configuration)


def _plan_properties(state: TableState, properties: Mapping[str, str]) -> SchemaPlan:
    shown = json.dumps(column_statistics.chosen(properties), ensure_ascii=False)
    return SchemaPlan(
        operation="SET TBLPROPERTIES",
        parameters={"properties": shown},
        state=replace(state, configuration={**state.configuration, **properties}),
    )


def _with_statistics(planned: SchemaPlan, before: TableState) -> SchemaPlan:
    if before.fields == planned.state.fields:
        return planned  # properties alone are changed, perhaps these
    state, columns = planned.state, (_columns(before), _columns(planned.state))
    configuration = column_statistics.followed(state.configuration, *columns)
    return planned if configuration is None else replace(planned, state=replace(state, configuration=configuration))


def _columns(state: TableState) -> Columns:
    return Columns(state.fields, state.partition_columns)


def _refuse_violations(table: DeltaTable, plan: SchemaPlan) -> None:
    """Raises: `ExecutionError` if a row violates `plan.must_hold`, or if delta-rs cannot evaluate it."""
    try:
        with delta_errors(table.table_uri):
            batches = pa.RecordBatchReader.from_stream(table.scan(predicate=f"NOT ({plan.must_hold})"))
            violated = any(batch.num_rows for batch in batches)
    except SparkError as error:
        raise AnalysisError(
            "DELTA_INVALID_CHECK_CONSTRAINT",
            f"The expression {plan.must_hold} cannot be evaluated as a condition on each row: {error.message}",
            sql_state="42621",
        ) from error
    if not violated:
        return
    if plan.operation != "ADD CONSTRAINT":
        raise ExecutionError(
            "DELTA_NOT_NULL_COLUMN_VIOLATION",
            f"Some rows violate {plan.must_hold}. Fill these first, then set NOT NULL.",
            sql_state="23502",
        )
    raise ExecutionError(
        "DELTA_NEW_CHECK_CONSTRAINT_VIOLATION",
        f"Some rows in the table violate the new CHECK constraint ({plan.must_hold}). Correct them first.",
        sql_state="23512",
        parameters={"checkConstraint": str(plan.must_hold)},
    )


# -- properties ---------------------------------------------------------------------------------------------------


def set_properties(storage: Storage, author: Author, properties: Mapping[str, str]) -> None:
    """SET TBLPROPERTIES; `comment` is the table's description, as on Spark."""
    wanted = known_properties.checked({key: value for key, value in properties.items() if key != "comment"})
    table = open_for_write(storage)
    if wanted:
        commit(
            table,
            author,
            lambda noted: table.alter.set_table_properties(wanted, raise_if_not_exists=False, commit_properties=noted),
        )
    if "comment" in properties:
        set_description(storage, author, properties["comment"])


def keep_log(storage: Storage) -> None:
    """Let no writer remove old entries of the log from now on, as a version of the table is to stay readable."""
    table = open_for_write(storage)
    if not keeps_log(table.metadata().configuration):
        commit(
            table,
            Author.of(SYSTEM),
            lambda noted: table.alter.set_table_properties(KEPT_LOG, commit_properties=noted),
            user_metadata="kept: versions that registered models were trained on",
        )


def unset_properties(storage: Storage, author: Author, keys: Sequence[str], *, if_exists: bool) -> None:
    """UNSET TBLPROPERTIES. Raises: `AnalysisError` for a key that is not set, unless `if_exists`."""

    def plan(state: TableState) -> SchemaPlan | None:
        missing = [key for key in keys if key not in state.configuration and key != "comment"]
        if missing and not if_exists:
            raise AnalysisError(
                "UNSET_NONEXISTENT_PROPERTIES",
                f"Attempted to unset non-existent properties {missing} in the table.",
                sql_state="42K0J",
                parameters={"properties": ", ".join(missing)},
            )
        if any(key.startswith(CONSTRAINT_PREFIX) for key in keys):
            raise AnalysisError("DELTA_ADD_CONSTRAINTS", "Use ALTER TABLE DROP CONSTRAINT.", sql_state="0A000")
        kept = {key: value for key, value in state.configuration.items() if key not in keys}
        description = None if "comment" in keys else state.description
        if kept == dict(state.configuration) and description == state.description:
            return None
        return SchemaPlan(
            operation="UNSET TBLPROPERTIES",
            parameters={"properties": json.dumps(list(keys), ensure_ascii=False), "ifExists": json.dumps(if_exists)},
            state=replace(state, configuration=kept, description=description),
        )

    change(storage, author, plan)


def set_description(storage: Storage, author: Author, text: str | None) -> None:
    """COMMENT ON TABLE; None is no comment."""
    table = open_for_write(storage)
    commit(table, author, lambda noted: table.alter.set_table_description(text or "", commit_properties=noted))


def cluster_by(storage: Storage, author: Author, columns: Sequence[str]) -> None:
    """CLUSTER BY: noted as a property; OPTIMIZE without ZORDER then orders by these columns."""

    def plan(state: TableState) -> SchemaPlan | None:
        found = clustering_columns(columns, state)
        configuration = {key: value for key, value in state.configuration.items() if key != CLUSTERING}
        if found:
            configuration[CLUSTERING] = json.dumps(found, ensure_ascii=False)
        if configuration == dict(state.configuration):
            return None
        old = state.configuration.get(CLUSTERING, "[]")
        return SchemaPlan(
            operation="CLUSTER BY",
            parameters={"oldClusteringColumns": old, "newClusteringColumns": json.dumps(found, ensure_ascii=False)},
            state=replace(state, configuration=configuration),
        )

    change(storage, author, plan)


def clustering_columns(columns: Sequence[str], state: TableState) -> list[str]:
    """The columns' names as the schema writes them, at most four as on Databricks."""
    if state.partition_columns and columns:
        raise AnalysisError(
            "DELTA_CLUSTER_BY_WITH_PARTITIONED_BY",
            "Clustering and partitioning cannot both be specified. Drop PARTITIONED BY or CLUSTER BY.",
            sql_state="42613",
        )
    if len(columns) > 4:
        raise AnalysisError(
            "DELTA_CLUSTER_BY_INVALID_NUM_COLUMNS",
            f"CLUSTER BY supports at most 4 columns, but {len(columns)} were given.",
            sql_state="54000",
        )
    found = []
    for column in columns:
        field = find(state.fields, column)
        if field is None:
            raise column_not_found(column, tuple(one["name"] for one in state.fields))
        found.append(field["name"])
    return found


# -- constraints --------------------------------------------------------------------------------------------------


def add_check(storage: Storage, author: Author, name: str, expression: str) -> None:
    """ADD CONSTRAINT ... CHECK. Raises: errors that name the constraint when it exists or a row violates it."""
    change(storage, author, lambda state: plan_add_check(state, name, expression))


def drop_check(storage: Storage, author: Author, name: str, *, if_exists: bool) -> bool:
    """DROP CONSTRAINT; whether there was one."""
    if constraint_key(state_of(open_for_write(storage)), name) is None:
        if if_exists:
            return False
        raise AnalysisError(
            "DELTA_CONSTRAINT_DOES_NOT_EXIST",
            f"Cannot drop nonexistent constraint {name}. To avoid this error, give IF EXISTS.",
            sql_state="42704",
            parameters={"constraintName": name},
        )
    change(storage, author, lambda state: plan_drop_check(state, name))
    return True
