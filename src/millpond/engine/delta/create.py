"""A new Delta table at a location: plans from SQL definitions, then one commit; deep clones and conversions too."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from deltalake import DeltaTable, Schema, convert_to_deltalake, write_deltalake

from millpond.catalog import column_statistics
from millpond.catalog.column_statistics import Columns
from millpond.engine.authorship import Author
from millpond.engine.delta.alter import CLUSTERING, clustering_columns
from millpond.engine.delta.properties import KEPT_LOG, checked, keeps_log
from millpond.engine.delta.rewrite import refuse_generated_from_capitals
from millpond.engine.delta.schema import CONSTRAINT_PREFIX, TableState, find
from millpond.engine.delta.table import Storage, commit_properties, delta_errors, fields, open_table, partition_columns
from millpond.engine.errors import AnalysisError, SparkError, column_not_found, quoted
from millpond.engine.syntax.columns import duplicate_column
from millpond.engine.syntax.expressions import canonical, columns_in
from millpond.engine.syntax.model import ColumnSpec, Constraint, CreateTable
from millpond.engine.types import GENERATED, Field, field_of


@dataclass(frozen=True, kw_only=True)
class NewTable:
    """A Delta table that is not there yet."""

    fields: tuple[Field, ...]
    partition_columns: tuple[str, ...] = ()
    configuration: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None


def plan_table(command: CreateTable) -> NewTable:
    """What CREATE TABLE asks for, checked.

    Raises: `AnalysisError` for columns that repeat, that do not exist, or that cannot partition or be defaulted.
    """
    made = [_checked(field_of(spec), spec, command.columns) for spec in command.columns]
    names = [one["name"] for one in made]
    for name in names:
        if [other.lower() for other in names].count(name.lower()) > 1:
            raise duplicate_column(name)
    partitions = _partitions(command.partitioned_by, made)
    configuration = {**checked(command.properties), **_checks(command, names)}
    if command.cluster_by:
        state = TableState(
            fields=tuple(made),
            partition_columns=tuple(partitions),
            configuration={},
            description=None,
            has_rows=False,
        )
        configuration[CLUSTERING] = json.dumps(clustering_columns(command.cluster_by, state), ensure_ascii=False)
    return NewTable(
        fields=tuple(made),
        partition_columns=tuple(partitions),
        configuration=configuration,
        description=command.comment,
    )


def _checked(made: Field, spec: ColumnSpec, all_columns: Sequence[ColumnSpec]) -> Field:
    name = quoted(spec.path)
    if spec.default is not None and spec.generated is not None:
        raise AnalysisError(
            "GENERATED_COLUMN_WITH_DEFAULT_VALUE",
            f"A column cannot have both a default value and a generation expression: {name}.",
            sql_state="42K0G",
        )
    if spec.default is not None and columns_in(spec.default) != set():
        raise AnalysisError(
            "INVALID_DEFAULT_VALUE.NOT_CONSTANT",
            f"The DEFAULT of column {name} must be a constant expression: {spec.default}.",
            sql_state="42623",
        )
    if spec.generated is None:
        return made
    others = [one.path[0] for one in all_columns if one.path != spec.path]
    stored = canonical(spec.generated, others)
    used = columns_in(stored) or set()
    if any(one.generated is not None and one.path[0].lower() in used for one in all_columns):
        raise AnalysisError(
            "DELTA_GENERATED_COLUMNS_REFERENCE_WRONG_COLUMNS",
            f"The generated column {name} cannot use another generated column: {spec.generated}.",
            sql_state="42621",
        )
    return {**made, "metadata": {**made["metadata"], GENERATED: stored}}


def _partitions(wanted: Sequence[str], made: Sequence[Field]) -> list[str]:
    found = []
    for name in wanted:
        column = find(made, name)
        if column is None:
            raise column_not_found(name, tuple(one["name"] for one in made))
        if not isinstance(column["type"], str):
            raise AnalysisError(
                "INVALID_PARTITION_COLUMN_DATA_TYPE",
                f"Column {quoted((name,))} is of a type that cannot partition a table.",
                sql_state="0A000",
            )
        found.append(column["name"])
    if found and len(found) == len(made):
        raise AnalysisError(
            "ALL_PARTITION_COLUMNS_NOT_ALLOWED", "Cannot use all columns for partition columns.", sql_state="KD005"
        )
    return found


def _checks(command: CreateTable, names: Sequence[str]) -> dict[str, str]:
    """CHECK constraints as properties; writer version 3 is the least that enforces them."""
    checks: dict[str, str] = {}
    for number, constraint in enumerate(_of_kind(command.constraints, "CHECK"), start=1):
        name = constraint.name or f"{command.name[-1]}_check_{number}"
        if (CONSTRAINT_PREFIX + name).lower() in {key.lower() for key in checks}:
            raise AnalysisError(
                "DELTA_CONSTRAINT_ALREADY_EXISTS", f"Constraint {name!r} is given twice.", sql_state="42710"
            )
        checks[CONSTRAINT_PREFIX + name] = canonical(constraint.expression, names)
    return {**checks, "delta.minWriterVersion": "3"} if checks else {}


def _of_kind(constraints: Sequence[Constraint], kind: str) -> list[Constraint]:
    return [constraint for constraint in constraints if constraint.kind == kind]


def exists(storage: Storage) -> bool:
    """Whether a Delta log is at the location."""
    with delta_errors(storage.url):
        return DeltaTable.is_deltatable(storage.url, dict(storage.options))


def create(storage: Storage, author: Author, new: NewTable, *, replace: bool = False) -> DeltaTable:
    """Write version 0, or with `replace` the next version with nothing of the old one left in it."""
    refuse_unusable_expressions(new)
    schema = Schema.from_json(json.dumps({"type": "struct", "fields": list(new.fields)}))
    statistics = column_statistics.properties(Columns(new.fields, new.partition_columns), new.configuration)
    configuration = {**statistics, **new.configuration, **(_kept(storage) if replace else {})}
    with delta_errors(storage.url):
        return DeltaTable.create(
            storage.url,
            schema,
            mode="overwrite" if replace else "error",
            partition_by=list(new.partition_columns),
            description=new.description,
            configuration=configuration,
            storage_options=dict(storage.options),
            commit_properties=commit_properties(author, exact=True),
            raise_if_key_not_exists=False,
        )


def _kept(storage: Storage) -> dict[str, str]:
    """What of a table stays when it is replaced: models may have been trained on its earlier versions."""
    return KEPT_LOG if exists(storage) and keeps_log(open_table(storage).metadata().configuration) else {}


def refuse_unusable_expressions(new: NewTable) -> None:
    """Raises: `AnalysisError` for CHECK and GENERATED expressions that delta-rs cannot plan, as no writer of ours could
    then write the table. They are tried on an empty table in a temporary directory.
    """
    conditions = {key: text for key, text in new.configuration.items() if key.startswith(CONSTRAINT_PREFIX)}
    conditions |= {
        one["name"]: f"({one['metadata'][GENERATED]}) IS NULL" for one in new.fields if GENERATED in one["metadata"]
    }
    if not conditions:
        return
    schema = json.dumps({"type": "struct", "fields": [{**one, "metadata": {}} for one in new.fields]})
    with tempfile.TemporaryDirectory(prefix="millpond-probe-") as directory:
        probe = DeltaTable.create(directory, Schema.from_json(schema))
        for name, condition in conditions.items():
            try:
                with delta_errors(name):
                    pa.table(probe.scan(predicate=f"NOT ({condition})").read_all())
            except SparkError as error:
                raise AnalysisError(
                    "DELTA_INVALID_CHECK_CONSTRAINT",
                    f"The expression of {name} cannot be evaluated on each row ({condition}): {error.message}",
                    sql_state="42621",
                ) from error


def clone(source: DeltaTable, storage: Storage, author: Author, new: NewTable) -> DeltaTable:
    """A table with the rows of `source`, streamed; two commits, so it must not be visible before this returns."""
    refuse_generated_from_capitals(new.fields)
    table = create(storage, author, new)
    noted = commit_properties(author, operation="CLONE", parameters={"source": source.table_uri, "isShallow": "false"})
    with delta_errors(storage.url):
        write_deltalake(table, source.scan(), mode="append", commit_properties=noted)
    return table


def state_to_copy(source: DeltaTable, properties: Mapping[str, str]) -> NewTable:
    """What a clone of `source` is, with `properties` on top of its own."""
    metadata = source.metadata()
    configuration = dict(metadata.configuration)
    if any(key.startswith(CONSTRAINT_PREFIX) for key in configuration):
        configuration["delta.minWriterVersion"] = "3"
    return NewTable(
        fields=tuple(fields(source)),
        partition_columns=tuple(partition_columns(source)),
        configuration={**configuration, **checked(properties)},
        description=metadata.description,
    )


def convert(storage: Storage, author: Author, partitions: Sequence[ColumnSpec]) -> None:
    """CONVERT TO DELTA: write a log for the Parquet files that are there; they are not touched."""
    schema = {"type": "struct", "fields": [field_of(spec) for spec in partitions]}
    with delta_errors(storage.url):
        convert_to_deltalake(
            storage.url,
            mode="error",
            partition_by=Schema.from_json(json.dumps(schema)) if partitions else None,
            partition_strategy="hive" if partitions else None,
            configuration=column_statistics.properties(Columns(_fields_of_files(storage))),
            storage_options=dict(storage.options),
            commit_properties=commit_properties(author, operation="CONVERT", parameters={}),
        )


def _fields_of_files(storage: Storage) -> list[Field]:
    """The columns of the Parquet files at a place."""
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.dataset import dataset
    from pyarrow.fs import PyFileSystem

    files = PyFileSystem(DeltaStorageHandler(storage.url, dict(storage.options)))
    found = dataset("", filesystem=files, format="parquet").schema
    schema: dict[str, list[Field]] = json.loads(Schema.from_arrow(found).to_json())
    return schema["fields"]
