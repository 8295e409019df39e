"""The views of an inference table: its requests row by row, with the columns of the model's signature, and labels."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from millpond.catalog.names import ObjectName, quote
from millpond.inference_tables.domain import beside
from millpond.serving.openapi import InputField, ModelInput

_TYPES: Mapping[str, str] = {
    "boolean": "BOOLEAN", "bool": "BOOLEAN", "integer": "INT", "int32": "INT", "int16": "INT", "int8": "INT",
    "long": "BIGINT", "int64": "BIGINT", "float": "DOUBLE", "float32": "DOUBLE", "double": "DOUBLE",
    "float64": "DOUBLE", "datetime": "TIMESTAMP",
}  # fmt: skip
"""MLflow's and NumPy's types in SQL; all others are texts or JSON."""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSPEAKABLE = re.compile(r"""['"\\\]\x00-\x1f`]""")
"""No path of JSON can name these without doubt; such columns are found in `inputs` alone."""
_OWN = (
    "databricks_request_id", "client_request_id", "date", "timestamp_ms", "status_code", "served_entity_name",
    "model_name", "model_version", "requester", "execution_time_ms",
)  # fmt: skip
_TAKEN = frozenset({*_OWN, "row_index", "input", "prediction", "label", "labelled_by", "labelled_at_ms"})


@dataclass(frozen=True, kw_only=True)
class View:
    """A view that is to be there."""

    name: ObjectName
    query: str


def views_of(payload: ObjectName, models: Sequence[ModelInput]) -> tuple[View, View]:
    """The unpacked view, and the one with labels beside the predictions."""
    unpacked, labelled = beside(payload, "unpacked"), beside(payload, "labelled")
    outputs = _merged([field for model in models for field in model.outputs])
    whole = next((field for field in outputs if field.name is None), None)
    kind = _TYPES.get(whole.type, "STRING") if whole else "STRING"
    inputs = _merged([field for model in models for field in model.fields])
    return (
        View(name=unpacked, query=_unpacked(payload, inputs, outputs, kind)),
        View(name=labelled, query=_labelled(unpacked, beside(payload, "labels"), kind)),
    )


def digest_of(views: Sequence[View]) -> str:
    """Which views they are."""
    return hashlib.sha256("\0".join(f"{each.name}\0{each.query}" for each in views).encode()).hexdigest()[:32]


def _unpacked(payload: ObjectName, inputs: Sequence[InputField], outputs: Sequence[InputField], kind: str) -> str:
    taken = set(_TAKEN)
    own = [f"p.{name}" for name in _OWN]
    given = [_column(field, "r.input_row", "input_", taken) for field in inputs if field.name]
    predicted = "get(p.predictions, r.row_number)"  # a subscript of a lateral column Sail cannot read
    told = [_column(field, predicted, "prediction_", taken) for field in outputs if field.name]
    prediction = predicted if kind == "STRING" else f"TRY_CAST({predicted} AS {kind})"
    listed = [*own, "r.row_number AS row_index", "r.input_row AS input", *given, f"{prediction} AS prediction", *told]
    columns = ", ".join(filter(None, listed))
    rows = "LATERAL VIEW OUTER posexplode(p.inputs) r AS row_number, input_row"
    return f"SELECT {columns} FROM {payload.quoted} p {rows}"  # noqa: S608 - names are quoted, paths are checked


def _labelled(unpacked: ObjectName, labels: ObjectName, kind: str) -> str:
    label = "l.label" if kind == "STRING" else f"TRY_CAST(l.label AS {kind})"
    return (
        f"SELECT u.*, {label} AS label, l.labelled_by, l.timestamp_ms AS labelled_at_ms "  # noqa: S608 - as above
        f"FROM {unpacked.quoted} u LEFT JOIN {labels.quoted} l "
        "ON u.databricks_request_id = l.databricks_request_id AND coalesce(u.row_index, 0) = l.row_index"
    )


def _column(field: InputField, row: str, prefix: str, taken: set[str]) -> str:
    """A field of a row as a typed column under a free name; empty for one that cannot be told."""
    name = str(field.name)
    if _UNSPEAKABLE.search(name):
        return ""
    free = name if name.lower() not in taken else f"{prefix}{name}"
    if free.lower() in taken:
        return ""
    taken.add(free.lower())
    path = f"$.{name}" if _PLAIN.fullmatch(name) else f"$['{name}']"
    value = f'get_json_object({row}, "{path}")'
    kind = _TYPES.get(field.type)
    return f"{value if kind is None else f'TRY_CAST({value} AS {kind})'} AS {quote(free)}"


def _merged(fields: Sequence[InputField]) -> list[InputField]:
    """Fields by name; where two models differ about a type, it is a text."""
    found: dict[str | None, InputField] = {}
    for field in fields:
        known = found.setdefault(field.name, field)
        if known.type != field.type:
            found[field.name] = InputField(name=field.name, type="string", required=False)
    return list(found.values())
