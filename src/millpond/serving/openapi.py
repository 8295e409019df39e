"""What a served model takes: read from its MLmodel file, told as columns, an example and an OpenAPI document."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # ships no types; mlflow brings it

_MAX_FILE_BYTES = 4 << 20
_TYPES: Mapping[str, Mapping[str, Any]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "string": {"type": "string"},
    "binary": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
}


_OF_SQL: Mapping[str, str] = {
    "bigint": "long", "int": "integer", "smallint": "integer", "tinyint": "integer", "timestamp": "datetime",
    "timestamp_ntz": "datetime", "date": "datetime",
}  # fmt: skip


def input_type(kind: str) -> str:
    """MLflow's name of a SQL type."""
    return _OF_SQL.get(kind.lower(), kind.lower())


@dataclass(frozen=True, kw_only=True)
class InputField:
    """One column or tensor of a model's signature."""

    name: str | None
    type: str
    """MLflow's name of the type: double, long, string, datetime, tensor, array, object, map ..."""
    required: bool


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """What a request to a model holds."""

    fields: tuple[InputField, ...]
    """Empty when the model was logged without a signature."""
    example: Mapping[str, Any] | None
    """A request that the model was logged with."""
    outputs: tuple[InputField, ...] = ()
    """What it answers with; a tensor's type is that of its numbers, as `int64`."""


def read_model_input(model_dir: Path) -> ModelInput:
    """The signature and the example of the model in a directory.

    The files are a user's: they are parsed as data, of bounded size, and what is not as expected counts as absent.
    """
    signature = _signature(model_dir / "MLmodel")
    return ModelInput(
        fields=_fields(signature, "inputs", _field),
        example=_example(model_dir / "serving_input_example.json"),
        outputs=_fields(signature, "outputs", _output),
    )


def _signature(path: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(_text(path)).get("signature")
    except (OSError, ValueError, AttributeError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _fields(
    signature: Mapping[str, Any], part: str, read: Callable[[Mapping[str, Any]], InputField]
) -> tuple[InputField, ...]:
    try:
        return tuple(read(column) for column in json.loads(signature.get(part) or "[]"))
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return ()


def _output(column: Mapping[str, Any]) -> InputField:
    field = _field(column)
    spec = column.get("tensor-spec") or {}
    is_flat = field.type == "tensor" and len(spec.get("shape", ())) == 1
    return replace(field, type=str(spec["dtype"])) if is_flat else field


def _field(column: Mapping[str, Any]) -> InputField:
    name = column.get("name")
    return InputField(
        name=None if name is None else str(name),
        type=str(column["type"]),
        required=bool(column.get("required", True)),
    )


def _example(path: Path) -> Mapping[str, Any] | None:
    try:
        example = json.loads(_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    return example if isinstance(example, dict) else None


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"{path.name} is too large")
    return path.read_text()


def openapi_document(endpoint: str, base_url: str, models: Mapping[str, ModelInput]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an endpoint's served models, by name; the first describes the endpoint itself."""
    first = next(iter(models.values()), ModelInput(fields=(), example=None))
    paths = {f"/serving-endpoints/{endpoint}/invocations": first}
    for name, model in models.items():
        paths[f"/serving-endpoints/{endpoint}/served-models/{name}/invocations"] = model
    return {
        "openapi": "3.1.0",
        "info": {"title": endpoint, "version": "1"},
        "servers": [{"url": base_url}],
        "paths": {path: {"post": _operation(model)} for path, model in paths.items()},
    }


def _operation(model: ModelInput) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"oneOf": _shapes(model.fields)}}
    if model.example is not None:
        content["example"] = model.example
    answer = {"type": "object", "properties": {"predictions": {}}}
    return {
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {"200": {"description": "Predictions", "content": {"application/json": {"schema": answer}}}},
    }


def _shapes(fields: Sequence[InputField]) -> list[dict[str, Any]]:
    named = {field.name: dict(_TYPES.get(field.type, {})) for field in fields if field.name is not None}
    row = {
        "type": "object",
        "properties": named,
        "required": [field.name for field in fields if field.name is not None and field.required],
    }
    split = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}},
            "data": {"type": "array", "items": {"type": "array"}},
            "index": {"type": "array"},
        },
        "required": ["data"],
    }
    shapes: dict[str, Any] = {
        "dataframe_records": {"type": "array", "items": row},
        "dataframe_split": split,
        "instances": {"type": "array"},
        "inputs": {},
    }
    return [
        {"type": "object", "properties": {key: value, "params": {"type": "object"}}, "required": [key]}
        for key, value in shapes.items()
    ]
