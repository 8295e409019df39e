"""What is written, fitted to the table it goes to: by name or by position, with casts, and with Delta's refusals.

Sail drops columns that the table has not, cuts numbers to fit and cannot leave columns out, each without a word: so the
gateway compares the schemas first. Pure functions over Delta's schema fields. Source: Delta Lake, "Schema enforcement".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.catalog.names import quote
from millpond.engine import proto
from millpond.engine.errors import AnalysisError

Field = dict[str, Any]

_NUMBERS = ("byte", "short", "integer", "long", "float", "double")
_SIMPLE = {
    "boolean": "boolean", "byte": "byte", "short": "short", "integer": "integer", "long": "long", "float": "float",
    "double": "double", "date": "date", "timestamp": "timestamp", "timestamp_ntz": "timestamp_ntz", "binary": "binary",
    "string": "string", "null": "void", "char": "string", "var_char": "string",
}  # fmt: skip
_FORBIDDEN_IN_NAMES = frozenset(" ,;{}()\n\t=")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How to make the input fit: one SQL expression for each column of the table, or None when it fits as it is."""

    columns: tuple[tuple[str, str], ...]
    """Name and SQL text, in the table's order; new columns follow."""
    renamed: tuple[str, ...] | None = None
    """Names to give to the input's columns first, because it counts by position."""
    adds_columns: bool = False


def merged(fields: Sequence[Field], source: Sequence[Field]) -> list[Field]:
    """A table's columns when those that only the source has are added."""
    known = {field["name"].lower() for field in fields}
    return [*fields, *(field for field in source if field["name"].lower() not in known)]


def fields_of_schema(schema: Any) -> list[Field]:
    """A Spark Connect struct type as Delta's schema fields."""
    return [
        {"name": field.name, "type": delta_type(field.data_type), "nullable": field.nullable, "metadata": {}}
        for field in schema.struct.fields
    ]


def delta_type(kind: Any) -> Any:
    """A Spark Connect type as Delta writes it. Raises AnalysisError for one that no column can have."""
    name = kind.WhichOneof("kind")
    if name in _SIMPLE:
        return _SIMPLE[name]
    if name == "decimal":
        return f"decimal({kind.decimal.precision},{kind.decimal.scale})"
    if name == "array":
        return {
            "type": "array",
            "elementType": delta_type(kind.array.element_type),
            "containsNull": kind.array.contains_null,
        }
    if name == "map":
        return {
            "type": "map",
            "keyType": delta_type(kind.map.key_type),
            "valueType": delta_type(kind.map.value_type),
            "valueContainsNull": kind.map.value_contains_null,
        }
    if name == "struct":
        return {"type": "struct", "fields": fields_of_schema(kind)}
    if name == "udt":
        return delta_type(kind.udt.sql_type)
    raise AnalysisError(
        "DELTA_UNSUPPORTED_DATA_TYPES", f"A Delta table cannot store the type {name}.", sql_state="0AKDC"
    )


def fit_new(fields: Sequence[Field]) -> Fit | None:
    """The input of a new table: Spark makes all its columns nullable. Raises for names and types Delta cannot have."""
    seen: set[str] = set()
    for field in fields:
        name = field["name"]
        if name.lower() in seen:
            raise AnalysisError(
                "COLUMN_ALREADY_EXISTS",
                f"The column {quote(name.lower())} already exists. Choose another name or rename the existing column.",
                sql_state="42711",
            )
        if _FORBIDDEN_IN_NAMES & set(name):
            raise AnalysisError(
                "DELTA_INVALID_CHARACTERS_IN_COLUMN_NAMES",
                f"Found invalid character(s) among ' ,;{{}}()\\n\\t=' in the column names of your schema. "
                f"Invalid column names: {name}. Rename the column, for example with alias().",
                sql_state="42K05",
                parameters={"columnName": name},
            )
        if field["type"] == "void":
            raise AnalysisError(
                "DELTA_NULL_SCHEMA_IN_STREAMING_WRITE",
                f"Column {quote(name)} has only NULL and so no type; cast it to one.",
                sql_state="42P18",
            )
        seen.add(name.lower())
    if all(field["nullable"] or not isinstance(field["type"], str) for field in fields):
        return None
    return Fit(columns=tuple((field["name"], _nullable(field)) for field in fields))


def _nullable(field: Field) -> str:
    name = quote(field["name"])
    # nullif(x, NULL) is x, and the one form that the engine takes for nullable and does not simplify away
    return name if field["nullable"] or not isinstance(field["type"], str) else f"nullif({name}, NULL)"


def fit_by_name(
    source: Sequence[Field], table: Sequence[Field], *, merge_schema: bool, where: str, strict: bool = True
) -> Fit | None:
    """Fit by column names, whatever their case and order.

    Raises DELTA_METADATA_MISMATCH for columns that the table has not (unless the schema may grow), and
    DELTA_FAILED_TO_MERGE_FIELDS for types that do not go together.
    """
    by_name = _by_name(source)
    unknown = [field for field in source if field["name"].lower() not in {f["name"].lower() for f in table}]
    if unknown and not merge_schema:
        raise _mismatch(source, table, where)
    columns = []
    for target in table:
        given = by_name.get(target["name"].lower())
        expression = _missing(target, where) if given is None else _converted(given, target, strict=strict)
        if expression is not None:
            columns.append((target["name"], expression))
    for field in unknown:
        columns.append((field["name"], _nullable(field)))
    same = [f["name"] for f in source] == [name for name, _ in columns] and all(
        text == quote(name) for name, text in columns
    )
    return None if same and not unknown else Fit(columns=tuple(columns), adds_columns=bool(unknown))


def fit_by_position(
    source: Sequence[Field], table: Sequence[Field], *, columns: Sequence[str], constants: Mapping[str, str], where: str
) -> Fit:
    """Fit by position: to the table's columns, or those named, less those that PARTITION gives constants for.

    Raises INSERT_COLUMN_ARITY_MISMATCH, UNRESOLVED_COLUMN.
    """
    known = {field["name"].lower(): field for field in table}
    fixed = {name.lower(): text for name, text in constants.items()}
    for name in (*columns, *constants):
        if name.lower() not in known:
            raise AnalysisError(
                "UNRESOLVED_COLUMN.WITH_SUGGESTION",
                f"A column, variable, or function parameter with name {quote(name)} cannot be resolved. "
                f"Did you mean one of the following? [{', '.join(quote(f['name']) for f in table)}].",
                sql_state="42703",
                parameters={"objectName": quote(name)},
            )
    wanted = [known[name.lower()] for name in columns] or [
        f for f in table if f["name"].lower() not in fixed and not _generated(f)
    ]
    if len(wanted) != len(source) and not columns:
        every = [f for f in table if f["name"].lower() not in fixed]
        wanted = every if len(every) == len(source) else wanted
    if len(wanted) != len(source):
        kind = "NOT_ENOUGH_DATA_COLUMNS" if len(source) < len(wanted) else "TOO_MANY_DATA_COLUMNS"
        what = "not enough" if len(source) < len(wanted) else "too many"
        raise AnalysisError(
            f"INSERT_COLUMN_ARITY_MISMATCH.{kind}",
            f"Cannot write to {where}, the reason is {what} data columns: Table columns: "
            f"{', '.join(quote(f['name']) for f in wanted)}. "
            f"Data columns: {', '.join(quote(f['name']) for f in source)}.",
            sql_state="21S01",
        )
    temporary = tuple(f"__millpond_{at}" for at in range(len(source)))
    given = {
        target["name"].lower(): (field, name) for target, field, name in zip(wanted, source, temporary, strict=True)
    }
    made = []
    for target in table:
        key = target["name"].lower()
        if key in given:
            field, name = given[key]
            expression: str | None = _converted({**field, "name": name}, target, strict=False)
        elif key in fixed:
            expression = f"CAST({fixed[key]} AS {sql_type(target['type'])})"
        else:
            expression = _missing(target, where)
        if expression is not None:
            made.append((target["name"], expression))
    return Fit(columns=tuple(made), renamed=temporary)


def _generated(field: Field) -> bool:
    return "delta.generationExpression" in field["metadata"]


def _missing(target: Field, where: str) -> str | None:
    """What stands in a column that is not given; None leaves it to the engine."""
    if _generated(target):
        return None
    default = target["metadata"].get("CURRENT_DEFAULT")
    if default is not None:
        return f"CAST({default} AS {sql_type(target['type'])})"
    if not target["nullable"]:
        raise AnalysisError(
            "DELTA_MISSING_NOT_NULL_COLUMN_VALUE",
            f"Column {quote(target['name'])}, which has a NOT NULL constraint, is missing from the data "
            f"being written into {where}.",
            sql_state="23502",
            parameters={"columnName": target["name"]},
        )
    return f"CAST(NULL AS {sql_type(target['type'])})"


def _converted(source: Field, target: Field, *, strict: bool) -> str:
    name = quote(source["name"])
    kind, wanted = source["type"], target["type"]
    if same_type(kind, wanted):
        return name
    if kind == "void" or not strict or _store_assignable(kind, wanted):
        return f"CAST({name} AS {sql_type(wanted)})"
    raise AnalysisError(
        "DELTA_FAILED_TO_MERGE_FIELDS",
        f"Failed to merge fields {quote(target['name'])} and {quote(source['name'])}: incompatible data types "
        f"{sql_type(wanted)} and {sql_type(kind)}. Cast the column to {sql_type(wanted)} before writing.",
        sql_state="22005",
        parameters={"currentField": target["name"], "updateField": source["name"]},
    )


def same_type(one: Any, other: Any) -> bool:
    """Whether types are equal but for what may be NULL inside them and comments on fields."""
    if isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    if one["type"] != other["type"]:
        return False
    if one["type"] == "array":
        return same_type(one["elementType"], other["elementType"])
    if one["type"] == "map":
        return same_type(one["keyType"], other["keyType"]) and same_type(one["valueType"], other["valueType"])
    return [f["name"].lower() for f in one["fields"]] == [f["name"].lower() for f in other["fields"]] and all(
        same_type(a["type"], b["type"]) for a, b in zip(one["fields"], other["fields"], strict=True)
    )


def _store_assignable(kind: Any, wanted: Any) -> bool:
    """Whether a DataFrame's column may go into the table's by a cast that keeps its values' meaning.

    Source: Spark, `Cast.canANSIStoreAssign`.
    """
    if not isinstance(kind, str) or not isinstance(wanted, str):
        return isinstance(kind, dict) and isinstance(wanted, dict) and kind["type"] == wanted["type"]
    if _is_number(kind) and _is_number(wanted):
        return True
    if wanted == "string":
        return kind != "binary"
    return {kind, wanted} <= {"date", "timestamp", "timestamp_ntz"}


def _is_number(kind: str) -> bool:
    return kind in _NUMBERS or kind.startswith("decimal(")


def sql_type(kind: Any) -> str:
    """The type as SQL for a cast, names of fields in backticks."""
    names = {"byte": "tinyint", "short": "smallint", "integer": "int", "long": "bigint"}
    if isinstance(kind, str):
        return names.get(kind, kind)
    if kind["type"] == "array":
        return f"array<{sql_type(kind['elementType'])}>"
    if kind["type"] == "map":
        return f"map<{sql_type(kind['keyType'])},{sql_type(kind['valueType'])}>"
    return "struct<" + ",".join(f"{quote(f['name'])}:{sql_type(f['type'])}" for f in kind["fields"]) + ">"


def _by_name(fields: Sequence[Field]) -> dict[str, Field]:
    found: dict[str, Field] = {}
    for field in fields:
        if field["name"].lower() in found:
            raise AnalysisError(
                "COLUMN_ALREADY_EXISTS",
                f"The column {quote(field['name'].lower())} already exists in the data to write.",
                sql_state="42711",
            )
        found[field["name"].lower()] = field
    return found


def _mismatch(source: Sequence[Field], table: Sequence[Field], where: str) -> AnalysisError:
    def listed(fields: Sequence[Field]) -> str:
        return "\n".join(
            f"-- {f['name']}: {sql_type(f['type'])} (nullable = {str(f['nullable']).lower()})" for f in fields
        )

    return AnalysisError(
        "DELTA_METADATA_MISMATCH",
        f"A schema mismatch detected when writing to the Delta table {where}. To enable schema migration using "
        'DataFrameWriter, please set: \'.option("mergeSchema", "true")\'. To overwrite the schema, set '
        f'\'.option("overwriteSchema", "true")\' with mode overwrite.\nTable schema:\nroot\n{listed(table)}\n\n'
        f"Data schema:\nroot\n{listed(source)}\n",
        sql_state="42KDG",
    )


def fitted(relation: Any, fit: Fit | None) -> Any:
    """The relation with its columns made to fit."""
    if fit is None:
        return relation
    made = proto.relations.Relation()
    source = made.project.input
    if fit.renamed is not None:
        source.to_df.column_names.extend(fit.renamed)
        source = source.to_df.input
    source.CopyFrom(relation)
    for name, text in fit.columns:
        alias = made.project.expressions.add().alias
        alias.name.append(name)
        alias.expr.expression_string.expression = text
    return made


def only_where(relation: Any, condition: str) -> Any:
    """The relation, which fails when a row does not meet the condition of replaceWhere: the engine does not look."""
    text = condition.replace("\\", "\\\\").replace("'", "\\'")
    refusal = f"[DELTA_REPLACE_WHERE_MISMATCH] Written data does not conform to the condition {text} of replaceWhere."
    made = proto.relations.Relation()
    made.filter.input.CopyFrom(relation)
    made.filter.condition.expression_string.expression = (
        f"CASE WHEN ({condition}) THEN TRUE ELSE CAST(raise_error('{refusal}') AS BOOLEAN) END"
    )
    return made
