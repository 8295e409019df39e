"""The unmodified databricks-sdk manages accounts, groups and credentials, and gets its own exceptions."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from databricks.sdk import AccountClient, WorkspaceClient
from databricks.sdk.data_plane import DataPlaneTokenSource
from databricks.sdk.errors import (
    BadRequest,
    DatabricksError,
    InvalidParameterValue,
    NotFound,
    PermissionDenied,
    ResourceConflict,
    ResourceDoesNotExist,
    Unauthenticated,
)
from databricks.sdk.service.iam import ComplexValue, ListSortOrder, Name, Patch, PatchOp, PatchSchema
from databricks.sdk.service.settings import PublicTokenInfo, TokenInfo
from google.protobuf.field_mask_pb2 import FieldMask

from millpond.identity.credentials import new_secret
from tests.identity.conftest import ADMIN, Site, identity, site  # noqa: F401 - fixtures

PATCH = [PatchSchema.URN_IETF_PARAMS_SCIM_API_MESSAGES_2_0_PATCH_OP]


def values(items: list[ComplexValue] | None) -> set[str | None]:
    return {item.value for item in items or []}


def robot_client(site: Site, application_id: str, secret: str) -> WorkspaceClient:  # noqa: F811
    return WorkspaceClient(
        host=site.url, client_id=application_id, client_secret=secret, auth_type="oauth-m2m", config_file="/nowhere"
    )


def test_the_handshake(site: Site) -> None:  # noqa: F811
    w = site.client()
    workspace_id = site.identity.directory.workspace_id()
    assert w.config.workspace_id == str(workspace_id)
    assert w.config.discovery_url == f"{site.url}/oidc/.well-known/oauth-authorization-server"
    assert w.get_workspace_id() == workspace_id
    me = w.current_user.me()
    assert (me.user_name, me.active, me.emails and me.emails[0].value) == (ADMIN, True, ADMIN)
    assert {group.display for group in me.groups or []} == {"admins", "users"}


def test_users_from_birth_to_death(site: Site) -> None:  # noqa: F811
    w = site.client()
    made = w.users.create(
        user_name="Bob@Example.com",
        name=Name(given_name="Bob", family_name="Builder"),
        external_id="E-7",
        entitlements=[ComplexValue(value="allow-cluster-create")],
    )
    assert made.id
    assert made.display_name == "Bob Builder"
    assert w.users.get(made.id) == made
    assert [user.id for user in w.users.list(filter='userName eq "bob@example.com"')] == [made.id]
    w.users.update(made.id, display_name="Robert", active=True, user_name="ignored@example.com")
    changed = w.users.get(made.id)
    assert (changed.display_name, changed.user_name, changed.external_id) == ("Robert", "Bob@Example.com", None)
    assert not changed.entitlements
    w.users.patch(
        made.id,
        operations=[
            Patch(op=PatchOp.REPLACE, path="active", value="false"),
            Patch(op=PatchOp.ADD, path="entitlements", value=[{"value": "sql"}]),
            Patch(op=PatchOp.REPLACE, value={"externalId": "E-8"}),
        ],
        schemas=PATCH,
    )
    patched = w.users.get(made.id)
    assert (patched.active, values(patched.entitlements), patched.external_id) == (False, {"sql"}, "E-8")
    w.users.delete(made.id)
    with pytest.raises(NotFound, match="User with id"):
        w.users.get(made.id)
    with pytest.raises(NotFound):
        w.users.delete(made.id)


def test_groups_nest_and_members_come_and_go(site: Site) -> None:  # noqa: F811
    w = site.client()
    people = [w.users.create(user_name=f"u{number}@example.com").id for number in range(3)]
    robot = w.service_principals.create(display_name="robot")
    inner = w.groups.create(display_name="inner", members=[ComplexValue(value=people[0])])
    outer = w.groups.create(display_name="outer", members=[ComplexValue(value=inner.id)])
    assert inner.id and outer.id  # noqa: PT018
    w.groups.patch(
        inner.id,
        operations=[
            Patch(op=PatchOp.ADD, value={"members": [{"value": people[1]}, {"value": robot.id}]}),
            Patch(op=PatchOp.ADD, path="members", value=[{"value": people[2]}]),
            Patch(op=PatchOp.REMOVE, path=f'members[value eq "{people[0]}"]'),
        ],
        schemas=PATCH,
    )
    assert values(w.groups.get(inner.id).members) == {people[1], people[2], robot.id}
    assert {group.display for group in w.users.get(str(people[1])).groups or []} == {"inner", "users"}
    assert {group.display for group in w.groups.get(inner.id).groups or []} == {"outer"}
    assert w.groups.get(outer.id).members == [ComplexValue(display="inner", value=inner.id, ref=f"Groups/{inner.id}")]
    w.groups.update(inner.id, display_name="renamed", members=[ComplexValue(value=people[0])])
    renamed = w.groups.get(inner.id)
    assert (renamed.display_name, values(renamed.members)) == ("renamed", {people[0]})
    with pytest.raises(BadRequest, match="member of itself"):
        w.groups.patch(inner.id, operations=[Patch(op=PatchOp.ADD, path="members", value=[{"value": outer.id}])])
    w.groups.delete(inner.id)
    assert not w.groups.get(outer.id).members


def test_lists_are_paged_filtered_sorted_and_trimmed(site: Site) -> None:  # noqa: F811
    w = site.client()
    for number in range(7):
        w.users.create(user_name=f"user{number}@example.com", display_name=f"Ünï {number}")
    assert len(list(w.users.list(count=3))) == 8
    found = list(
        w.users.list(
            filter='displayName co "ÜNÏ" and userName sw "user"',
            sort_by="userName",
            sort_order=ListSortOrder.DESCENDING,
            attributes="userName",
            count=2,
        )
    )
    assert [user.user_name for user in found] == [f"user{number}@example.com" for number in reversed(range(7))]
    assert found[0].id
    assert found[0].display_name is None
    admins = list(w.groups.list(filter='displayName eq "admins"', excluded_attributes="members"))
    assert [(group.display_name, group.members) for group in admins] == [("admins", [])]
    with pytest.raises(BadRequest, match="invalidFilter"):
        list(w.users.list(filter="userName like 5"))


def test_a_taken_name_is_a_conflict_for_one_of_many(site: Site) -> None:  # noqa: F811
    w = site.client()

    def create(_number: int) -> str | None:
        try:
            return w.users.create(user_name="same@example.com").id
        except ResourceConflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [found for found in pool.map(create, range(8)) if found]
    assert len(made) == 1
    with pytest.raises(ResourceConflict, match=r"uniqueness.*taken by a user"):
        w.groups.create(display_name="SAME@example.com")


def test_the_last_administrator_and_oneself_stay(site: Site) -> None:  # noqa: F811
    w = site.client()
    me = w.current_user.me()
    (admins,) = w.groups.list(filter='displayName eq "admins"')
    assert me.id and admins.id  # noqa: PT018
    with pytest.raises(BadRequest, match="cannot delete yourself"):
        w.users.delete(me.id)
    with pytest.raises(BadRequest, match="no administrator"):
        w.groups.patch(admins.id, operations=[Patch(op=PatchOp.REMOVE, path="members")])
    with pytest.raises(BadRequest, match="always exists"):
        w.groups.delete(admins.id)
    with pytest.raises(BadRequest, match="cannot deactivate yourself"):
        w.users.patch(me.id, operations=[Patch(op=PatchOp.REPLACE, path="active", value="false")])


def test_hostile_names_are_only_names(site: Site) -> None:  # noqa: F811
    w = site.client()
    for name in ("'; DROP TABLE identity_principals;--", 'a"b', "naïve ☃ 例え", "%", "{x}", "$(id)", "a,b.c"):
        made = w.users.create(user_name=name)
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        assert [user.id for user in w.users.list(filter=f'userName eq "{quoted}"')] == [made.id]
    for name in ("", "a\0b", "x" * 300, "system", "zero\u200bwidth"):
        with pytest.raises(BadRequest):
            w.users.create(user_name=name)
    for strange in ("%27", "1%20OR%201=1", "%00", "-1"):
        with pytest.raises(NotFound):
            w.users.get(strange)


def test_the_account_client_reaches_the_same_directory(site: Site) -> None:  # noqa: F811
    options: dict[str, Any] = {"host": site.url, "token": site.identity.admin_token, "config_file": "/nowhere"}
    account = AccountClient(account_id=str(site.identity.directory.workspace_id()), **options)
    made = account.users_v2.create(user_name="carl@example.com")
    assert made.id
    assert site.client().users.get(made.id).user_name == "carl@example.com"
    assert {group.display_name for group in account.groups_v2.list()} >= {"admins", "users"}
    with pytest.raises(NotFound, match="Account 'other'"):
        AccountClient(account_id="other", **options).users_v2.get(made.id)


# Tokens


def test_tokens_of_ones_own(site: Site) -> None:  # noqa: F811
    w = site.client()
    made = w.tokens.create(comment="for CI", lifetime_seconds=600)
    assert made.token_info
    info = made.token_info
    assert (info.comment, (info.expiry_time or 0) - (info.creation_time or 0)) == ("for CI", 600_000)
    assert abs((info.creation_time or 0) / 1000 - time.time()) < 60
    endless = w.tokens.create().token_info
    assert endless
    assert endless.expiry_time == -1
    assert {token.token_id for token in w.tokens.list()} >= {info.token_id, endless.token_id}
    other = site.client(made.token_value)
    assert other.current_user.me().user_name == ADMIN
    token_id = str(info.token_id)
    w.tokens.update(token_id, PublicTokenInfo(comment="for CD"), FieldMask(paths=["comment"]))
    assert "for CD" in [token.comment for token in w.tokens.list()]
    w.tokens.delete(token_id)
    with pytest.raises(Unauthenticated):
        other.current_user.me()
    with pytest.raises(ResourceDoesNotExist):
        w.tokens.delete(token_id)
    for wrong in (-5, 0, 10**12):
        with pytest.raises(InvalidParameterValue, match="lifetime"):
            w.tokens.create(lifetime_seconds=wrong)
    with pytest.raises(InvalidParameterValue, match="Scopes"):
        w.tokens.create(scopes=["sql"])


def test_an_administrator_manages_everybodys_tokens(site: Site) -> None:  # noqa: F811
    w = site.client()
    user = site.identity.user("bob@example.com")
    bob = site.client(site.identity.token_of("bob@example.com"))
    bobs = bob.tokens.create(comment="mine").token_info
    assert bobs
    listed = {token.token_id: token for token in w.token_management.list(created_by_username="BOB@example.com")}
    info = listed[bobs.token_id]
    assert isinstance(info, TokenInfo)
    assert (info.created_by_username, str(info.owner_id), info.comment) == ("bob@example.com", user.id, "mine")
    assert info.workspace_id == w.get_workspace_id()
    assert [token.token_id for token in w.token_management.list(created_by_id=int(user.id))] == [bobs.token_id]
    assert list(w.token_management.list(created_by_username="nobody")) == []
    token_id = str(bobs.token_id)
    assert w.token_management.get(token_id).token_info == info
    w.token_management.delete(token_id)
    with pytest.raises(ResourceDoesNotExist):
        w.token_management.get(token_id)


def test_a_token_on_behalf_of_a_service_principal(site: Site) -> None:  # noqa: F811
    w = site.client()
    robot = w.service_principals.create(display_name="robot")
    made = w.token_management.create_obo_token(str(robot.application_id), comment="job", lifetime_seconds=600)
    assert made.token_info
    assert (str(made.token_info.owner_id), made.token_info.created_by_username) == (robot.id, ADMIN)
    acting = site.client(made.token_value)
    assert acting.current_user.me().user_name == robot.application_id
    w.service_principals.patch(str(robot.id), operations=[Patch(op=PatchOp.REPLACE, path="active", value="false")])
    with pytest.raises(Unauthenticated):
        acting.current_user.me()
    with pytest.raises(BadRequest, match="not active"):
        w.token_management.create_obo_token(str(robot.application_id))
    with pytest.raises(ResourceDoesNotExist):
        w.token_management.create_obo_token(ADMIN)


@pytest.mark.parametrize("token", ["dapi" + "0" * 64, "nonsense", "a.b.c"])
def test_a_wrong_token_is_the_sdks_own_exception(site: Site, token: str) -> None:  # noqa: F811
    with pytest.raises(Unauthenticated):
        site.client(token).current_user.me()


def test_a_token_of_a_deleted_user_stops(site: Site) -> None:  # noqa: F811
    user = site.identity.user("bob@example.com")
    bob = site.client(site.identity.token_of("bob@example.com"))
    assert bob.current_user.me().id == user.id
    site.client().users.delete(user.id)
    with pytest.raises(Unauthenticated):
        bob.current_user.me()


# Service principals and OAuth


def test_a_service_principal_works_by_oauth_until_its_secret_is_deleted(site: Site) -> None:  # noqa: F811
    w = site.client()
    robot = w.service_principals.create(display_name="robot")
    assert robot.id and robot.application_id  # noqa: PT018
    secret = w.service_principal_secrets_proxy.create(robot.id, lifetime="3600s")
    assert secret.secret and secret.id and secret.expire_time and secret.expire_time.endswith("Z")  # noqa: PT018
    acting = robot_client(site, robot.application_id, secret.secret)
    me = acting.current_user.me()
    assert (me.id, me.user_name, me.display_name) == (robot.id, robot.application_id, "robot")
    assert acting.tokens.create(comment="own").token_value
    with pytest.raises(PermissionDenied):
        acting.users.create(user_name="x@example.com")
    assert [(found.id, found.secret_hash) for found in w.service_principal_secrets_proxy.list(robot.id)] == [
        (secret.id, secret.secret_hash)
    ]
    w.service_principal_secrets_proxy.delete(robot.id, secret.id)
    with pytest.raises(Unauthenticated):
        acting.current_user.me()
    with pytest.raises(ValueError, match="invalid_client"):
        robot_client(site, robot.application_id, secret.secret).current_user.me()


def test_a_service_principal_may_be_an_administrator(site: Site) -> None:  # noqa: F811
    w = site.client()
    (admins,) = w.groups.list(filter='displayName eq "admins"')
    robot = w.service_principals.create(display_name="robot", groups=[ComplexValue(value=admins.id)])
    secret = w.service_principal_secrets_proxy.create(str(robot.id)).secret
    acting = robot_client(site, str(robot.application_id), str(secret))
    made = acting.users.create(user_name="made@example.com")
    assert made.id
    with pytest.raises(BadRequest, match="cannot delete yourself"):
        acting.service_principals.delete(str(robot.id))
    w.service_principals.update(str(robot.id), display_name="robot 2", groups=[])
    assert w.service_principals.get(str(robot.id)).display_name == "robot 2"
    with pytest.raises(PermissionDenied):
        acting.users.delete(made.id)


def test_the_data_plane_gets_a_token_for_one_endpoint(site: Site) -> None:  # noqa: F811
    w = site.client()
    robot = w.service_principals.create(display_name="robot")
    secret = w.service_principal_secrets_proxy.create(str(robot.id)).secret
    acting = robot_client(site, str(robot.application_id), str(secret))
    details = '[{"type": "workspace_permission", "object_path": "/serving-endpoints/churn"}]'
    source = DataPlaneTokenSource(site.url, acting.config.oauth_token)
    with site.http(source.token(f"{site.url}/serving-endpoints/churn/invocations", details).access_token) as narrowed:
        answer = narrowed.post("/serving-endpoints/churn/invocations").json()
        assert answer == {"endpoint": "churn", "name": robot.application_id}
        assert narrowed.post("/serving-endpoints/other/invocations").status_code == 403
        assert narrowed.get("/api/2.0/preview/scim/v2/Me").status_code == 403


# Who may


ADMIN_CALLS: list[Callable[[WorkspaceClient, str], Any]] = [
    lambda w, _: w.users.create(user_name="x@example.com"),
    lambda w, other: w.users.update(other, display_name="x"),
    lambda w, other: w.users.patch(other, operations=[Patch(op=PatchOp.REPLACE, path="displayName", value="x")]),
    lambda w, other: w.users.delete(other),
    lambda w, _: w.groups.create(display_name="x"),
    lambda w, _: w.groups.patch("1", operations=[Patch(op=PatchOp.REPLACE, path="displayName", value="x")]),
    lambda w, _: w.groups.update("1", display_name="x"),
    lambda w, _: w.groups.delete("1"),
    lambda w, _: w.service_principals.create(display_name="x"),
    lambda w, _: w.service_principals.update("1", display_name="x"),
    lambda w, _: w.service_principals.patch("1", operations=[Patch(op=PatchOp.REMOVE, path="roles")]),
    lambda w, _: w.service_principals.delete("1"),
    lambda w, _: w.service_principal_secrets_proxy.create("1"),
    lambda w, _: list(w.service_principal_secrets_proxy.list("1")),
    lambda w, _: w.service_principal_secrets_proxy.delete("1", "x"),
    lambda w, _: w.token_management.create_obo_token("x"),
    lambda w, _: w.token_management.list(),
    lambda w, _: w.token_management.get("x"),
    lambda w, _: w.token_management.delete("x"),
    lambda w, _: w.api_client.do("POST", "/api/millpond/users/token", body={"user_name": ADMIN}),
]


def test_who_is_no_administrator_is_denied_each_administrators_call(site: Site) -> None:  # noqa: F811
    site.identity.user("bob@example.com")
    bob = site.client(site.identity.token_of("bob@example.com"))
    me = str(bob.current_user.me().id)
    for call in ADMIN_CALLS:
        with pytest.raises(PermissionDenied, match="Only an administrator"):
            call(bob, me)
    assert [(user.user_name, user.emails) for user in bob.users.list(filter=f'userName eq "{ADMIN}"')] == [(ADMIN, [])]
    assert [group.members for group in bob.groups.list()] == [[], []]


def test_every_error_is_the_sdks_own_and_none_is_a_failure_of_the_server(site: Site) -> None:  # noqa: F811
    w = site.client()
    odd: list[Any] = [None, 7, [], {}, "x", {"value": 7}, [[1]], {"members": 7}, {"name": []}, new_secret(), "\udcff"]
    for path in ("Users", "Groups", "ServicePrincipals"):
        for value in odd:
            for method, where, body in [
                ("POST", "", {"userName": value, "displayName": value, "applicationId": value}),
                ("POST", "", {"userName": "a", "displayName": "b", "members": value, "name": value, "active": value}),
                ("PUT", "/1", {"displayName": value, "members": value}),
                ("PATCH", "/1", {"Operations": value}),
                ("PATCH", "/1", {"Operations": [{"op": "add", "path": "members", "value": value}]}),
            ]:
                code = outcome(w, method, f"/api/2.0/preview/scim/v2/{path}{where}", body)
                assert code in {None, "SCIM_400", "SCIM_404", "SCIM_409"}, (method, path, body)


def outcome(w: WorkspaceClient, method: str, path: str, body: Any) -> str | None:
    try:
        w.api_client.do(method, path, body=body)
    except DatabricksError as error:
        return error.error_code
    return None
