"""Field masks: what of a resource's JSON is replaced by what somebody gives."""

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any

from millpond.kernel.errors import InvalidArgument


def masked(before: Mapping[str, Any], given: Mapping[str, Any], mask: str, known: Collection[str]) -> dict[str, Any]:
    """The resource with the fields that the mask names as they are given, or without them; `*` for all of `known`.

    Raises InvalidArgument for a mask that names no field of it.
    """
    if mask.strip() == "*":
        return {name: given[name] for name in known if name in given}
    names = [name.strip() for name in mask.split(",") if name.strip()]
    if not names or (unknown := [name for name in names if name.split(".")[0] not in known]):
        told = ", ".join(unknown)[:200] if names else ""
        raise InvalidArgument(f"update_mask names '{told}'; it names some of {', '.join(sorted(known))}, or is *.")
    found = deepcopy({name: before[name] for name in known if name in before})
    for name in names:
        _put(found, given, name.split("."))
    return found


def _put(found: dict[str, Any], given: Any, path: list[str]) -> None:
    field, *rest = path
    value = given.get(field) if isinstance(given, Mapping) else None
    if rest and isinstance(value, Mapping | None):
        inner = found.get(field)
        found[field] = inner = inner if isinstance(inner, dict) else {}
        _put(inner, value, rest)
    elif value is None:
        found.pop(field, None)
    else:
        found[field] = value
