"""What a model says of itself: its signature and its example, from the files that MLflow wrote beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument
from millpond.serving.openapi import ModelInput
from millpond.tracking.model_files import VersionFiles

_MAX_MLMODEL_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Field:
    """One input, output or parameter of a model."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What pages show of a model's files."""

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    params: tuple[Field, ...]
    flavors: tuple[str, ...]
    mlflow_version: str


def read_card(files: VersionFiles, principal: Principal, name: str, version: str) -> ModelCard:
    """The card of a version. Raises NotFound when its files are gone, and what reading them raises."""
    import yaml  # type: ignore[import-untyped]  # ships no types; here, because only pages of models need it

    raw = files.read(principal, name, version, "MLmodel", max_bytes=_MAX_MLMODEL_BYTES)
    try:
        described = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"The MLmodel file of '{name}' version {version} is not YAML.") from error
    described = described if isinstance(described, dict) else {}
    signature = described.get("signature") or {}
    return ModelCard(
        inputs=_fields(signature.get("inputs")),
        outputs=_fields(signature.get("outputs")),
        params=_fields(signature.get("params")),
        flavors=tuple(str(flavor) for flavor in described.get("flavors") or ()),
        mlflow_version=str(described.get("mlflow_version") or ""),
    )


def _fields(text: Any) -> tuple[Field, ...]:
    """The fields of one part of a signature, which MLmodel keeps as JSON in a string."""
    try:
        items = json.loads(text) if isinstance(text, str) else []
    except ValueError:
        return ()
    return tuple(
        Field(name=str(item.get("name") or ""), type=_type(item), required=bool(item.get("required", True)))
        for item in items
        if isinstance(item, dict)
    )


def _type(item: Mapping[str, Any]) -> str:
    if item.get("type") == "tensor":
        spec = item.get("tensor-spec") or {}
        return f"tensor {spec.get('dtype', '')} {tuple(spec.get('shape') or ())}"
    if item.get("type") == "array":
        return f"array of {_type(item.get('items') or {})}"
    return str(item.get("type") or item.get("dtype") or "any")


_PLACEHOLDERS: Mapping[str, Any] = {
    "integer": 0, "long": 0, "float": 0.0, "double": 0.0, "boolean": False, "string": "", "binary": "",
    "datetime": "2026-01-01T00:00:00",
}  # fmt: skip


def example_request(model: ModelInput) -> str | None:
    """A request body to start from, as JSON text: the model's own example, else a row made from its columns."""
    if model.example is not None:
        return json.dumps(as_records(model.example), indent=2, ensure_ascii=False)
    if model.fields and all(field.name and field.type != "tensor" for field in model.fields):
        row = {field.name: _PLACEHOLDERS.get(field.type) for field in model.fields}
        return json.dumps({"dataframe_records": [row]}, indent=2, ensure_ascii=False)
    return None


def as_records(body: Mapping[str, Any], *, rows: int = 2) -> Mapping[str, Any]:
    """A `dataframe_split` request as `dataframe_records` with its first rows: what people edit most easily."""
    split = body.get("dataframe_split")
    if not isinstance(split, dict) or not {"columns", "data"} <= split.keys():
        return body
    return {"dataframe_records": [dict(zip(split["columns"], row, strict=False)) for row in split["data"][:rows]]}
