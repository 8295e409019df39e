"""What a model answers with, as a SQL type: read from the signature in its MLmodel file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]  # ships no types; mlflow brings it

_OF_MLFLOW: Mapping[str, str] = {
    "boolean": "BOOLEAN", "integer": "INT", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "string": "STRING",
    "binary": "BINARY", "datetime": "TIMESTAMP",
}  # fmt: skip
_OF_NUMPY: Mapping[str, str] = {
    "bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INT", "int64": "BIGINT", "float32": "FLOAT",
    "float64": "DOUBLE", "str": "STRING", "object": "STRING",
}  # fmt: skip
"""Source: MLflow, `mlflow/types/schema.py`, `DataType` and `TensorSpec`."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a model takes and gives, as far as its signature says."""

    inputs: tuple[str, ...] = ()
    """Names of its columns."""
    returns: str | None = None
    """The SQL type of one prediction; None where the signature does not say, or says what SQL has no type for."""


def shape_of(text: str) -> Shape:
    """The shape that an MLmodel file tells. The file is a user's: what is not as expected counts as absent."""
    try:
        signature = yaml.safe_load(text).get("signature") or {}
        inputs, outputs = (json.loads(signature.get(part) or "[]") for part in ("inputs", "outputs"))
        names = tuple(str(column["name"]) for column in inputs if "name" in column)
        return Shape(inputs=names, returns=_returns(outputs))
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError, yaml.YAMLError):
        return Shape()


def _returns(columns: Sequence[Mapping[str, Any]]) -> str | None:
    return _type(columns[0]) if len(columns) == 1 else _struct(columns)


def _struct(columns: Sequence[Mapping[str, Any]]) -> str | None:
    types = [(column.get("name"), _type(column)) for column in columns]
    if not types or any(name is None or kind is None for name, kind in types):
        return None
    return f"STRUCT<{', '.join(f'{_quoted(str(name))}: {kind}' for name, kind in types)}>"


def _type(column: Mapping[str, Any]) -> str | None:
    kind = column["type"]
    if kind == "tensor":
        spec = column["tensor-spec"]
        inner, depth = _OF_NUMPY.get(str(spec["dtype"])), len(spec["shape"]) - 1
        return inner and "ARRAY<" * depth + inner + ">" * depth
    if kind == "array":
        item = _type(column["items"])
        return item and f"ARRAY<{item}>"
    if kind == "object":
        return _struct([{"name": name, **field} for name, field in column["properties"].items()])
    return _OF_MLFLOW.get(str(kind))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
