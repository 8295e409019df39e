"""Unity Catalog's JSON of registered models and versions.

Source: the Databricks SDK, `service/catalog.py` (RegisteredModelInfo, ModelVersionInfo, RegisteredModelAlias).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from millpond.kernel.clock import epoch_ms
from millpond.tracking.service import CatalogModel, ModelVersion


class _Body(BaseModel):
    """Clients send fields that we keep elsewhere (owner of a new model, timestamps): they are not errors."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class TagBody(_Body):
    """A tag."""

    key: str
    value: str = ""


class TagChanges(_Body):
    """Tags to set and to remove."""

    add_tags: tuple[TagBody, ...] = ()
    remove: tuple[str, ...] = ()


class ChangeTagsBody(_Body):
    """Change tags of a model or a version."""

    changes: TagChanges


class CreateModelBody(_Body):
    """Create a registered model."""

    name: str
    catalog_name: str
    schema_name: str
    comment: str | None = None
    tags: tuple[TagBody, ...] = ()
    deployment_job_id: None = None  # there are none here: one that is named is an error


class UpdateModelBody(_Body):
    """Change a registered model."""

    new_name: str | None = None
    comment: str | None = None
    owner: str | None = None
    deployment_job_id: None = None


class CreateVersionBody(_Body):
    """Begin a version."""

    model_name: str
    catalog_name: str
    schema_name: str
    source: str
    run_id: str | None = None
    comment: str | None = None
    tags: tuple[TagBody, ...] = ()


class UpdateVersionBody(_Body):
    """Change a version."""

    comment: str | None = None


class SetAliasBody(_Body):
    """Point an alias to a version."""

    version_num: int


def tags_of(bodies: Iterable[TagBody]) -> dict[str, str]:
    """Tags by key; the last of a key counts."""
    return {body.key: body.value for body in bodies}


def model_json(found: CatalogModel, metastore_id: str) -> dict[str, Any]:
    """RegisteredModelInfo."""
    model = found.model
    return {
        "full_name": str(model.name),
        "name": model.name.name,
        "catalog_name": model.name.catalog,
        "schema_name": model.name.schema,
        "id": model.id,
        "owner": model.owner,
        "comment": model.comment or "",
        "created_at": epoch_ms(model.created_at),
        "created_by": model.created_by,
        "updated_at": epoch_ms(model.updated_at),
        "updated_by": model.updated_by,
        "metastore_id": metastore_id,
        "aliases": [alias_json(model.name, alias, number) for alias, number in found.aliases],
        "tags": _tags_json(found.tags),
    }


def alias_json(name: Any, alias: str, version: int) -> dict[str, Any]:
    """RegisteredModelAlias."""
    return {
        "alias_name": alias,
        "version_num": version,
        "catalog_name": name.catalog,
        "schema_name": name.schema,
        "model_name": name.name,
    }


def version_json(found: ModelVersion, metastore_id: str) -> dict[str, Any]:
    """ModelVersionInfo."""
    return {
        "catalog_name": found.name.catalog,
        "schema_name": found.name.schema,
        "model_name": found.name.name,
        "version": found.version,
        "id": f"{found.name}/{found.version}",
        "comment": found.comment,
        "status": found.status,
        "source": found.source,
        "storage_location": found.storage_location,
        "run_id": found.run_id,
        "created_at": found.created_ms,
        "created_by": found.created_by,
        "updated_at": found.updated_ms,
        "updated_by": found.created_by,
        "metastore_id": metastore_id,
        "aliases": [alias_json(found.name, alias, found.version) for alias in found.aliases],
        "tags": _tags_json(found.tags),
        **found.origin,
    }


def _tags_json(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in sorted(tags.items())]
