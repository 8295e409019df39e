"""SCIM PATCH operations, in each form in which directories and the SDK send them."""

from typing import Any

import pytest

from millpond.identity.domain import Account, Draft, Entry, PrincipalKind, Profile, Related
from millpond.identity.wire.patches import patched
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import InvalidArgument

MEMBERS = tuple(
    Related(id=value, name=f"user{value}", display_name=f"User {value}", kind=PrincipalKind.USER) for value in "456"
)


def entry(kind: PrincipalKind, **account: Any) -> Entry:
    base: dict[str, Any] = {"id": "9", "name": "it", "display_name": "It", "active": True, "external_id": None}
    base |= {"profile": Profile(entitlements=("sql", "clusters")), "created_at": utc_now()}
    members = MEMBERS if kind is PrincipalKind.GROUP else ()
    return Entry(account=Account(kind=kind, **(base | account)), members=members)


def patch_group(*operations: Any) -> Draft:
    return patched(PrincipalKind.GROUP, entry(PrincipalKind.GROUP), {"Operations": list(operations)})


def patch_user(*operations: Any) -> Draft:
    return patched(PrincipalKind.USER, entry(PrincipalKind.USER), {"Operations": list(operations)})


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "members", "value": [{"value": "7"}]},
        {"op": "Add", "path": "members", "value": [{"value": "7", "display": "x"}]},
        {"op": "add", "value": {"members": [{"value": "7"}]}},
        {"op": "add", "value": {"members": [{"value": "7"}, {"value": "4"}]}},
        {"op": "add", "path": "members", "value": {"value": "7"}},
        {"op": "add", "path": "members", "value": ["7"]},
        {"op": "add", "path": "urn:ietf:params:scim:schemas:core:2.0:Group:members", "value": [{"value": "7"}]},
        {"op": "replace", "path": "members", "value": [{"value": value} for value in "4567"]},
        {"op": "replace", "value": {"members": [{"value": value} for value in "4567"]}},
    ],
)
def test_a_member_is_added(operation: dict[str, Any]) -> None:
    assert patch_group(operation).member_ids == frozenset("4567")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": 'members[value eq "5"]'},
        {"op": "Remove", "path": "members", "value": [{"value": "5"}]},
        {"op": "remove", "path": 'members[value eq "5" and display co "user"]'},
        {"op": "remove", "path": 'members[$ref eq "Users/5"]'},
        {"op": "replace", "path": "members", "value": [{"value": "4"}, {"value": "6"}]},
    ],
)
def test_a_member_is_removed(operation: dict[str, Any]) -> None:
    assert patch_group(operation).member_ids == frozenset("46")


def test_all_members_are_removed() -> None:
    assert patch_group({"op": "remove", "path": "members"}).member_ids == frozenset()


def test_operations_are_done_in_order() -> None:
    draft = patch_group(
        {"op": "remove", "path": "members"}, {"op": "add", "path": "members", "value": [{"value": "4"}]}
    )
    assert draft.member_ids == frozenset("4")


def test_what_is_not_named_stays() -> None:
    draft = patch_group({"op": "replace", "path": "displayName", "value": "new"})
    assert draft.name == "new"
    assert draft.member_ids == frozenset("456")
    assert draft.profile.entitlements == ("sql", "clusters")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "active", "value": False},
        {"op": "replace", "path": "active", "value": "False"},
        {"op": "replace", "path": "active", "value": "false"},
        {"op": "replace", "path": "active", "value": [{"value": "false"}]},
        {"op": "replace", "value": {"active": False}},
        {"op": "add", "value": {"ACTIVE": "false"}},
    ],
)
def test_a_user_is_deactivated(operation: dict[str, Any]) -> None:
    assert patch_user(operation).active is False


def test_entitlements_are_added_and_removed() -> None:
    draft = patch_user(
        {"op": "add", "path": "entitlements", "value": [{"value": "new"}]},
        {"op": "remove", "path": 'entitlements[value eq "sql"]'},
    )
    assert draft.profile.entitlements == ("clusters", "new")


def test_a_picked_value_is_replaced() -> None:
    draft = patch_user({"op": "replace", "path": 'entitlements[value eq "sql"].value', "value": "warehouse"})
    assert draft.profile.entitlements == ("clusters", "warehouse")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "name.givenName", "value": "Ada"},
        {"op": "replace", "value": {"name.givenName": "Ada"}},
        {"op": "add", "path": "name", "value": {"givenName": "Ada"}},
        {"op": "replace", "value": {"name": {"givenName": "Ada"}}},
    ],
)
def test_a_part_of_the_name_is_set(operation: dict[str, Any]) -> None:
    assert patch_user(operation).profile.given_name == "Ada"


@pytest.mark.parametrize("path", ["userName", "emails", "id", 'emails[type eq "work"].value'])
def test_what_never_changes_is_ignored(path: str) -> None:
    draft = patch_user({"op": "replace", "path": path, "value": "other@example.com"})
    assert draft.name == "it"


def test_another_schemas_attributes_are_ignored() -> None:
    urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
    draft = patch_user({"op": "add", "value": {urn: {"department": "x"}, f"{urn}:manager": "y", "displayName": "Z"}})
    assert draft.display_name == "Z"


@pytest.mark.parametrize(
    ("operation", "scim_type"),
    [
        ({"op": "remove"}, "noTarget"),
        ({"op": "replace", "path": "nonsense", "value": 1}, "invalidPath"),
        ({"op": "replace", "path": "members[", "value": 1}, "invalidPath"),
        ({"op": "replace", "path": 'displayName[value eq "x"]', "value": 1}, "invalidPath"),
        ({"op": "replace", "path": "name.nickName", "value": "x"}, "invalidPath"),
        ({"op": "replace", "path": 'entitlements[value eq "absent"]', "value": "x"}, "noTarget"),
        ({"op": "remove", "path": "entitlements[value like 5]"}, "invalidFilter"),
        ({"op": "increase", "path": "active", "value": 1}, None),
        ({"op": "replace", "path": "active"}, None),
        ({"op": "replace", "path": "active", "value": "perhaps"}, None),
        ({"op": "replace", "path": "displayName", "value": 7}, None),
        ({"op": "add", "value": "text"}, None),
        ({"op": "add", "path": "entitlements", "value": [{"no": "value"}]}, None),
        ({"op": "replace", "path": 7, "value": "x"}, "invalidPath"),
        ("text", None),
    ],
)
def test_a_wrong_operation_is_refused(operation: Any, scim_type: str | None) -> None:
    with pytest.raises(InvalidArgument) as caught:
        patch_user(operation)
    assert getattr(caught.value, "scim_type", None) == scim_type


@pytest.mark.parametrize("body", [{}, {"Operations": []}, {"Operations": "x"}, {"Operations": [{}] * 1001}])
def test_a_body_without_operations_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        patched(PrincipalKind.USER, entry(PrincipalKind.USER), body)


def test_a_falsy_value_that_the_sdk_left_out_is_explained() -> None:
    with pytest.raises(InvalidArgument, match='write the text "false"'):
        patch_user({"op": "replace", "path": "active"})
