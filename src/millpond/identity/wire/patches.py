"""SCIM PATCH: operations applied to a resource, which is then read as if it had been sent whole.

Source: RFC 7644, section 3.5.2, with what directories and the Databricks SDK send beyond it: operation names in any
case, `remove` with the values to remove beside its path, single values where a list is meant, truth values as text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.identity.domain import Draft, Entry, PrincipalKind
from millpond.identity.filters import Both, Compare, Comparison, Either, Filter, Not, attribute_name, parse_filter
from millpond.identity.wire.scim import LIST_ATTRIBUTES, boolean, canonical, draft_of, resource_of
from millpond.kernel.errors import InvalidArgument

MAX_OPERATIONS = 1000
_IGNORED = frozenset({"id", "schemas", "meta", "userName", "emails", "applicationId"})
_PATH = re.compile(r"(?P<attribute>[A-Za-z]\w*)(?:\[(?P<filter>.+)\])?(?:\.(?P<part>[A-Za-z$]\w*))?")


class InvalidPath(InvalidArgument):
    """The path of an operation cannot be read, or names no attribute."""

    scim_type = "invalidPath"


class NoTarget(InvalidArgument):
    """The path of an operation finds nothing to change."""

    scim_type = "noTarget"


@dataclass(frozen=True, kw_only=True)
class _Target:
    attribute: str
    wanted: Filter | None = None
    part: str | None = None


def patched(kind: PrincipalKind, entry: Entry, body: Mapping[str, Any]) -> Draft:
    """What an account becomes by the operations of a PATCH body.

    Raises InvalidArgument (InvalidPath, NoTarget, InvalidFilter) for the first operation that cannot be done; then
    none of them is.
    """
    operations = body.get("Operations", body.get("operations"))
    if not isinstance(operations, list) or not operations or len(operations) > MAX_OPERATIONS:
        raise InvalidArgument(f"'Operations' must be a list of 1 to {MAX_OPERATIONS} operations.")
    resource = resource_of(entry)
    for operation in operations:
        _apply(resource, operation)
    if kind is PrincipalKind.GROUP and not resource.get("displayName"):
        raise InvalidArgument("A group needs its 'displayName'.")
    return draft_of(kind, resource, entry)


def _apply(resource: dict[str, Any], operation: Any) -> None:
    if not isinstance(operation, Mapping):
        raise InvalidArgument("Each operation must be an object with 'op', 'path' and 'value'.")
    op, path, value = str(operation.get("op")).casefold(), operation.get("path"), operation.get("value")
    if op not in {"add", "replace", "remove"}:
        raise InvalidArgument(f"The operation '{op[:40]}' is not one of add, replace, remove.")
    if path is not None and not isinstance(path, str):
        raise InvalidPath("The path of an operation must be a text.")
    if path:
        _change(resource, op, _target(path), value)
        return
    if op == "remove":
        raise NoTarget("A 'remove' needs a path that says what to remove.")
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"A '{op}' without a path needs an object of attributes as its value.")
    for key, each in value.items():
        if not key.casefold().startswith("urn:") or "[" in key or canonical(attribute_name(key)):
            _change(resource, op, _target(key), each)


def _target(path: str) -> _Target:
    before, bracket, after = path.strip().partition("[")
    if before.casefold().startswith("urn:"):
        before = before.rpartition(":")[2]
    match = _PATH.fullmatch(before + bracket + after)
    attribute = canonical(match["attribute"]) if match else None
    if match is None or attribute is None:
        raise InvalidPath(f"The path '{path[:100]}' names no attribute that can be changed.")
    if match["filter"] and attribute not in LIST_ATTRIBUTES:
        raise InvalidPath(f"'{attribute}' is no list, so the path '{path[:100]}' cannot pick from it.")
    wanted = parse_filter(match["filter"]) if match["filter"] else None
    return _Target(attribute=attribute, wanted=wanted, part=match["part"])


def _change(resource: dict[str, Any], op: str, target: _Target, value: Any) -> None:
    if target.attribute in _IGNORED:
        return
    if op != "remove" and value is None:
        raise InvalidArgument(
            f"The operation on '{target.attribute}' has no value. (The Databricks SDK leaves out a value that is "
            'false or empty: write the text "false", or remove the attribute.)'
        )
    if target.attribute in LIST_ATTRIBUTES:
        _change_list(resource, op, target, value)
    elif target.part is not None:
        _change_part(resource, op, target, value)
    elif op == "remove":
        resource.pop(target.attribute, None)
    elif target.attribute == "name" and isinstance(value, Mapping):
        resource["name"] = (resource.get("name", {}) if op == "add" else {}) | dict(value)
    else:
        resource[target.attribute] = boolean(value, "active") if target.attribute == "active" else value


def _change_part(resource: dict[str, Any], op: str, target: _Target, value: Any) -> None:
    parts = {"givenname": "givenName", "familyname": "familyName"}
    part = parts.get((target.part or "").casefold())
    if target.attribute != "name" or part is None:
        raise InvalidPath(f"'{target.attribute}' has no part '{target.part}'.")
    name = {key: each for key, each in resource.get("name", {}).items() if key != part}
    resource["name"] = name if op == "remove" else name | {part: value}


def _change_list(resource: dict[str, Any], op: str, target: _Target, value: Any) -> None:
    present = resource.get(target.attribute, [])
    if target.part not in {None, "value"}:
        raise InvalidPath(f"Of '{target.attribute}' only the values can be changed, not '{target.part}'.")
    new = [] if value is None else _items(value)
    if target.wanted is not None:
        chosen = [item for item in present if _passes(target.wanted, item)]
        rest = [item for item in present if item not in chosen]
        if op != "remove" and not chosen:
            raise NoTarget(f"No member of '{target.attribute}' is chosen by the path.")
        resource[target.attribute] = [*rest, *(() if op == "remove" else new)]
    elif op == "remove":
        gone = {_value(item) for item in new}
        resource[target.attribute] = [item for item in present if new and _value(item) not in gone]
    elif op == "add":
        known = {_value(item) for item in present}
        resource[target.attribute] = [*present, *(item for item in new if _value(item) not in known)]
    else:
        resource[target.attribute] = new


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _value(item: Any) -> str:
    return str(item.get("value") if isinstance(item, Mapping) else item)


def _passes(wanted: Filter, item: Any) -> bool:
    match wanted:
        case Not(inner=inner):
            return not _passes(inner, item)
        case Both(left=left, right=right):
            return _passes(left, item) and _passes(right, item)
        case Either(left=left, right=right):
            return _passes(left, item) or _passes(right, item)
        case Compare():
            return _compares(wanted, item)


def _compares(wanted: Compare, item: Any) -> bool:
    fields = {key.casefold(): each for key, each in item.items()} if isinstance(item, Mapping) else {"value": item}
    found = fields.get(wanted.attribute.rpartition(".")[2])
    if wanted.comparison is Comparison.PRESENT:
        return found is not None
    left, right = str(found).casefold(), str(wanted.value).casefold()
    match wanted.comparison:
        case Comparison.EQUAL:
            return found is not None and left == right
        case Comparison.NOT_EQUAL:
            return found is None or left != right
        case Comparison.CONTAINS:
            return found is not None and right in left
        case Comparison.STARTS_WITH:
            return found is not None and left.startswith(right)
        case _:
            return found is not None and left.endswith(right)
