"""Writing each row of a table anew in another shape, in one commit: renamed, dropped and retyped columns.

Batches stream from delta-rs' reader through `pyarrow` to delta-rs' writer, so memory does not grow with the table.
"""

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from millpond.engine.authorship import Author
from millpond.engine.delta.schema import SchemaPlan, Shape
from millpond.engine.delta.table import commit
from millpond.engine.errors import unsupported
from millpond.engine.syntax.expressions import columns_in
from millpond.engine.types import GENERATED, Field, arrow_type

Convert = Callable[[pa.Array], pa.Array]


def rewrite(table: DeltaTable, author: Author, plan: SchemaPlan) -> None:
    """Overwrite the table by itself in `plan.shape`.

    Raises: `CommitConflict` when somebody committed since `table` was opened: a row appended under the old schema would
    otherwise stay in the new table with its renamed column empty.
    """
    refuse_generated_from_capitals(plan.state.fields)
    source = pa.RecordBatchReader.from_stream(table.scan())
    columns, converts = _columns(plan.shape or (), source.schema)
    schema = pa.schema(columns)
    rows = pa.RecordBatchReader.from_batches(schema, _converted(source, plan.shape or (), converts, schema))

    def write(properties: CommitProperties) -> None:
        write_deltalake(
            table,
            rows,
            mode="overwrite",
            schema_mode="overwrite",
            partition_by=list(plan.state.partition_columns) or None,
            commit_properties=properties,
        )

    commit(table, author, write, operation=plan.operation, parameters=plan.parameters, exact=True)


def refuse_generated_from_capitals(fields: Sequence[Field]) -> None:
    """delta-rs' writer looks up the columns of a generation expression in lower case only, whatever their quotes."""
    capitals = {one["name"].lower(): one["name"] for one in fields if one["name"] != one["name"].lower()}
    for field in fields:
        expression = field["metadata"].get(GENERATED)
        read = (columns_in(expression) or set()) if expression else set()
        for name in sorted(read & capitals.keys()):
            raise unsupported(
                f"Rewriting a table whose generated column {field['name']} reads {capitals[name]}: the writer of "
                "rewrites cannot find names with capitals. Create a new table with CREATE TABLE ... AS SELECT."
            )


def _converted(
    source: pa.RecordBatchReader, shapes: Sequence[Shape], converts: Sequence[Convert], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    for batch in source:
        arrays = [convert(batch.column(shape.source)) for shape, convert in zip(shapes, converts, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _columns(shapes: Sequence[Shape], source: pa.Schema) -> tuple[list[pa.Field], list[Convert]]:
    made, converts = [], []
    for shape in shapes:
        kind, convert = _conversion(shape, source.field(shape.source).type)
        made.append(_arrow_field(shape.field, kind))
        converts.append(convert)
    return made, converts


def _arrow_field(field: Field, kind: pa.DataType) -> pa.Field:
    metadata = {key: str(value) for key, value in field["metadata"].items()}
    return pa.field(field["name"], kind, field["nullable"], metadata or None)


def _conversion(shape: Shape, source: pa.DataType) -> tuple[pa.DataType, Convert]:
    """The Arrow type of the new column and how its arrays come from the old one's."""
    if shape.cast:
        target = arrow_type(shape.field["type"])
        return target, lambda array: array.cast(target)
    if shape.inner is None:
        return source, lambda array: array
    positions = [source.get_field_index(one.source) for one in shape.inner]
    made = [_conversion(one, source.field(at).type) for one, at in zip(shape.inner, positions, strict=True)]
    fields = [_arrow_field(one.field, kind) for one, (kind, _) in zip(shape.inner, made, strict=True)]

    def rebuild(array: pa.StructArray) -> pa.StructArray:
        children = [convert(array.field(at)) for at, (_, convert) in zip(positions, made, strict=True)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=array.is_null())

    return pa.struct(fields), rebuild
