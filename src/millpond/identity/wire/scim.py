"""SCIM resources, to and from accounts.

Sources: RFC 7643 (schemas), RFC 7644 (protocol), and `databricks/sdk/service/iam.py` for the members that the SDK
reads. `userName`, `emails` and `applicationId` cannot be changed: a change of them is ignored, as the SDK documents.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from millpond.identity.directory import Listing
from millpond.identity.domain import Draft, Entry, PrincipalKind, Profile, Related
from millpond.kernel.errors import InvalidArgument

LIST_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_SCHEMAS: Mapping[PrincipalKind, str] = {
    PrincipalKind.USER: "urn:ietf:params:scim:schemas:core:2.0:User",
    PrincipalKind.SERVICE_PRINCIPAL: "urn:ietf:params:scim:schemas:core:2.0:ServicePrincipal",
    PrincipalKind.GROUP: "urn:ietf:params:scim:schemas:core:2.0:Group",
}
RESOURCES: Mapping[PrincipalKind, str] = {
    PrincipalKind.USER: "Users",
    PrincipalKind.SERVICE_PRINCIPAL: "ServicePrincipals",
    PrincipalKind.GROUP: "Groups",
}
LIST_ATTRIBUTES = frozenset({"emails", "entitlements", "roles", "groups", "members"})
_TEXT_ATTRIBUTES = frozenset({"userName", "displayName", "externalId", "applicationId", "password", "id"})
ATTRIBUTES = LIST_ATTRIBUTES | _TEXT_ATTRIBUTES | {"active", "name", "schemas", "meta"}
_CANONICAL = {name.casefold(): name for name in ATTRIBUTES}
_ALWAYS_SHOWN = frozenset({"schemas", "id"})


def canonical(attribute: str) -> str | None:
    """The spelling of an attribute's name, which SCIM compares without regard to case; None for an unknown one."""
    return _CANONICAL.get(attribute.casefold())


def resource_of(entry: Entry) -> dict[str, Any]:
    """The SCIM resource of an account."""
    account, profile = entry.account, entry.account.profile
    body: dict[str, Any] = {"schemas": [_SCHEMAS[account.kind]], "id": account.id, "displayName": account.display_name}
    match account.kind:
        case PrincipalKind.USER:
            body |= {"userName": account.name, "active": account.active}
        case PrincipalKind.SERVICE_PRINCIPAL:
            body |= {"applicationId": account.name, "active": account.active}
        case PrincipalKind.GROUP:
            body |= {"meta": {"resourceType": "WorkspaceGroup"}}
    if entry.reduced:
        return body
    body |= {
        "externalId": account.external_id,
        "groups": [_relation(group, "direct") for group in entry.groups],
        "members": [_relation(member) for member in entry.members],
        "entitlements": [{"value": value} for value in profile.entitlements],
        "roles": [{"value": value} for value in profile.roles],
    }
    if account.kind is PrincipalKind.USER:
        name = {"givenName": profile.given_name, "familyName": profile.family_name}
        body["name"] = {key: value for key, value in name.items() if value}
        emails = profile.emails or (account.name,)
        body["emails"] = [{"type": "work", "value": mail, "primary": at == 0} for at, mail in enumerate(emails)]
    return {key: value for key, value in body.items() if value not in (None, [], {})}


def me_of(entry: Entry) -> dict[str, Any]:
    """The resource of whoever asks: a service principal too is read as a user, named by its application id."""
    return resource_of(entry) | {"userName": entry.account.name}


def list_of(listing: Listing, shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A page of resources."""
    return {
        "schemas": [LIST_SCHEMA],
        "totalResults": listing.total,
        "startIndex": listing.start_index,
        "itemsPerPage": len(shown),
        "Resources": list(shown),
    }


def select_attributes(resource: Mapping[str, Any], attributes: str | None, excluded: str | None) -> dict[str, Any]:
    """The resource with only the attributes that were asked for, or without those that were not wanted."""
    if attributes:
        wanted = _names(attributes) | _ALWAYS_SHOWN
        return {key: value for key, value in resource.items() if key in wanted}
    unwanted = (_names(excluded) if excluded else frozenset()) - _ALWAYS_SHOWN
    return {key: value for key, value in resource.items() if key not in unwanted}


def draft_of(kind: PrincipalKind, raw: Mapping[str, Any], old: Entry | None = None) -> Draft:
    """What a request body says that an account shall be.

    An absent `active` leaves an account as it is, and absent `groups` leave its groups; all else that is absent is
    emptied. Raises InvalidArgument for a member of the wrong type, or a missing name.
    """
    body = {_CANONICAL.get(key.casefold(), key): value for key, value in raw.items()}
    name = _name_of(kind, body, old)
    emails = old.account.profile.emails if old else tuple(values_of(body, "emails"))
    person = body.get("name") or {}
    if not isinstance(person, Mapping):
        raise InvalidArgument("'name' must be an object with givenName and familyName.")
    given, family = _text(person, "givenName"), _text(person, "familyName")
    return Draft(
        name=name,
        display_name=_text(body, "displayName") or " ".join(part for part in (given, family) if part) or name,
        active=_active(body, old),
        external_id=_text(body, "externalId") or None,
        profile=Profile(
            given_name=given,
            family_name=family,
            emails=() if emails == (name,) else emails,
            entitlements=tuple(values_of(body, "entitlements")),
            roles=tuple(values_of(body, "roles")),
        ),
        member_ids=frozenset(values_of(body, "members")),
        group_ids=frozenset(values_of(body, "groups")) if "groups" in body else None,
        password=_text(body, "password"),
    )


def values_of(body: Mapping[str, Any], attribute: str) -> list[str]:
    """The values of a list attribute, each once: `[{"value": "7"}]`, `["7"]` and `{"value": "7"}` are `["7"]`."""
    found = body.get(attribute)
    items = found if isinstance(found, list) else [] if found is None else [found]
    values = [item.get("value") if isinstance(item, Mapping) else item for item in items]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        raise InvalidArgument(f"'{attribute}' must be a list of objects with a 'value' that is a text.")
    return list(dict.fromkeys(texts))


def boolean(value: Any, attribute: str) -> bool:
    """A truth value, which some directories send as the text "True" or "False"."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0].get("value") if isinstance(value[0], Mapping) else value[0]
    known = {"true": True, "false": False}.get(str(value).casefold())
    if known is None:
        raise InvalidArgument(f"'{attribute}' must be true or false, not {str(value)[:40]!r}.")
    return known


def _name_of(kind: PrincipalKind, body: Mapping[str, Any], old: Entry | None) -> str:
    attribute = {PrincipalKind.USER: "userName", PrincipalKind.GROUP: "displayName"}.get(kind, "applicationId")
    if old is not None and kind is not PrincipalKind.GROUP:
        return old.account.name
    name = _text(body, attribute) or (old.account.name if old else None)
    if name is None and kind is PrincipalKind.SERVICE_PRINCIPAL:
        return str(uuid.uuid4())
    if name is None:
        raise InvalidArgument(f"'{attribute}' is missing.")
    return name


def _active(body: Mapping[str, Any], old: Entry | None) -> bool:
    if body.get("active") is None:
        return old.account.active if old else True
    return boolean(body["active"], "active")


def _text(body: Mapping[str, Any], attribute: str) -> str | None:
    value = body.get(attribute)
    if value is not None and not isinstance(value, str):
        raise InvalidArgument(f"'{attribute}' must be a text, not {str(value)[:40]!r}.")
    return value


def _relation(related: Related, kind: str | None = None) -> dict[str, str]:
    body = {
        "display": related.display_name,
        "value": related.id,
        "$ref": f"{RESOURCES[related.kind]}/{related.id}",
    }
    return body | ({"type": kind} if kind else {})


def _names(text: str) -> frozenset[str]:
    """The top attributes of a list such as `userName, name.givenName`."""
    parts = (part.strip().rpartition(":")[2].split(".")[0] for part in text.split(","))
    return frozenset(_CANONICAL.get(part.casefold(), part) for part in parts)
