"""The JSON of tag assignments and tag policies, as `databricks/sdk/service/catalog.py` and `tags.py` read it."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from millpond.catalog.tags import Tag, TagPolicy
from millpond.kernel.clock import rfc3339
from millpond.kernel.errors import InvalidArgument


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


class AssignmentBody(_Body):
    """EntityTagAssignment, of POST and PATCH; in the latter the path names what it is about."""

    entity_type: str = ""
    entity_name: str = ""
    tag_key: str = ""
    tag_value: str = ""


class PolicyValue(_Body):
    """One allowed value."""

    name: str


class PolicyBody(_Body):
    """TagPolicy, of POST and PATCH."""

    tag_key: str = ""
    description: str | None = None
    values: list[PolicyValue] = []

    @property
    def names(self) -> tuple[str, ...]:
        """The allowed values."""
        return tuple(value.name for value in self.values)


def kind_of(entity_type: str) -> str:
    """The kind of object that a client means by `tables`, `columns`, ..."""
    kind = entity_type.lower().removesuffix("s")
    return {"view": "table", "registered_model": "model", "registered-model": "model"}.get(kind, kind)


def masked(update_mask: str, *known: str) -> frozenset[str]:
    """Which fields of a body count. Raises InvalidArgument for one that cannot be changed."""
    fields = {field.strip() for field in update_mask.split(",") if field.strip()}
    if fields - {*known, "*"}:
        raise InvalidArgument(f"update_mask is '{update_mask[:80]}'; it may name {', '.join(known)}, or be '*'.")
    return frozenset(known) if not fields or "*" in fields else frozenset(fields)


def assignment_json(entity_type: str, entity_name: str, tag: Tag) -> dict[str, Any]:
    """EntityTagAssignment."""
    return {
        "entity_type": entity_type,
        "entity_name": entity_name,
        "tag_key": tag.key,
        "tag_value": tag.value,
        "update_time": rfc3339(tag.updated_at),
        "updated_by": tag.updated_by,
    }


def policy_json(policy: TagPolicy) -> dict[str, Any]:
    """TagPolicy."""
    return {
        "id": policy.id,
        "tag_key": policy.key,
        "description": policy.description,
        "values": [{"name": value} for value in policy.values],
        "create_time": rfc3339(policy.created_at),
        "update_time": rfc3339(policy.updated_at),
    }
