"""Permission levels of warehouses and saved queries through the unmodified databricks-sdk, on both databases."""

import uuid
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, NotFound, PermissionDenied
from databricks.sdk.service import iam
from databricks.sdk.service import sql as api

from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the client leaves its connections to the garbage collector
Level = api.WarehousePermissionLevel


def client(server: Server, token: str) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=token, auth_type="pat", config_file="/nowhere")


@pytest.fixture(scope="module")
def ann(any_server: Server) -> WorkspaceClient:
    return client(any_server, any_server.new_user(f"ann-{uuid.uuid4().hex[:6]}@levels"))


@pytest.fixture(scope="module")
def bob(any_server: Server) -> WorkspaceClient:
    return client(any_server, any_server.new_user(f"bob-{uuid.uuid4().hex[:6]}@levels"))


def name(w: WorkspaceClient) -> str:
    return str(w.current_user.me().user_name)


def run(w: WorkspaceClient, warehouse_id: str, text: str = "SELECT 1") -> api.StatementResponse:
    return w.statement_execution.execute_statement(text, warehouse_id, wait_timeout="50s")


def test_levels_of_a_warehouse_open_it_step_by_step(ann: WorkspaceClient, bob: WorkspaceClient) -> None:
    """To look at it, to run in it, to see what others ran, to stop it; each holds those before."""
    w = ann.warehouses
    warehouse_id = str(w.create(name=f"hers-{uuid.uuid4().hex[:6]}").response.id)

    def let_bob(level: api.WarehousePermissionLevel) -> None:
        wish = api.WarehouseAccessControlRequest(user_name=name(bob), permission_level=level)
        w.update_permissions(warehouse_id, access_control_list=[wish])

    with pytest.raises(NotFound):
        bob.warehouses.get_permissions(warehouse_id)
    let_bob(Level.CAN_VIEW)
    assert bob.warehouses.get(warehouse_id).id == warehouse_id
    with pytest.raises(PermissionDenied, match="CAN_USE"):
        run(bob, warehouse_id)
    hers = run(ann, warehouse_id, "SELECT 'hers'").statement_id
    by_id = api.QueryFilter(statement_ids=[hers])
    let_bob(Level.CAN_USE)
    assert run(bob, warehouse_id).status.state is api.StatementState.SUCCEEDED
    assert not bob.query_history.list(filter_by=by_id).res
    let_bob(Level.CAN_MONITOR)
    assert [one.query_text for one in bob.query_history.list(filter_by=by_id).res] == ["SELECT 'hers'"]
    with pytest.raises(PermissionDenied, match="CAN_MANAGE"):
        bob.warehouses.stop(warehouse_id)
    let_bob(Level.CAN_MANAGE)
    bob.warehouses.stop(warehouse_id)
    levels = {each.permission_level for each in w.get_permission_levels(warehouse_id).permission_levels or []}
    assert levels == {Level.CAN_VIEW, Level.CAN_USE, Level.CAN_MONITOR, Level.CAN_MANAGE, Level.IS_OWNER}
    w.set_permissions(warehouse_id, access_control_list=[])
    with pytest.raises(NotFound):
        bob.warehouses.get(warehouse_id)
    w.delete(warehouse_id)


def test_a_warehouse_is_given_away_by_its_owner(any_server: Server, ann: WorkspaceClient, bob: WorkspaceClient) -> None:
    warehouse_id = str(ann.warehouses.create(name=f"given-{uuid.uuid4().hex[:6]}").response.id)
    found = ann.warehouses.get_permissions(warehouse_id)
    assert (found.object_type, _levels(found)) == (
        "warehouses", {(name(ann), Level.IS_OWNER), ("admins", Level.CAN_MANAGE)},
    )  # fmt: skip
    for wrong in (
        [_owner(user_name=name(ann)), _owner(user_name=name(bob))],
        [_owner(group_name="users")],
        [_owner(user_name="nobody@levels")],
    ):
        with pytest.raises(InvalidParameterValue):
            ann.warehouses.update_permissions(warehouse_id, access_control_list=wrong)
    ann.warehouses.update_permissions(warehouse_id, access_control_list=[_owner(user_name=name(bob))])
    with pytest.raises(NotFound):
        ann.warehouses.get(warehouse_id)
    assert bob.warehouses.get(warehouse_id).creator_name == name(bob)
    alias = client(any_server, any_server.token).permissions.get("sql/warehouses", warehouse_id)
    assert any(each.user_name == name(bob) for each in alias.access_control_list or [])
    bob.warehouses.delete(warehouse_id)


def _owner(**who: str) -> api.WarehouseAccessControlRequest:
    return api.WarehouseAccessControlRequest(permission_level=Level.IS_OWNER, **who)


def _levels(found: api.WarehousePermissions) -> set[tuple[Any, Any]]:
    return {
        (entry.user_name or entry.group_name, each.permission_level)
        for entry in found.access_control_list or []
        for each in entry.all_permissions or []
    }


def test_everybody_was_granted_the_use_of_the_starter(ann: WorkspaceClient) -> None:
    assert ("users", Level.CAN_USE) in _levels(ann.warehouses.get_permissions("starter"))
    assert run(ann, "starter").status.state is api.StatementState.SUCCEEDED


def test_levels_of_a_saved_query_open_it_step_by_step(ann: WorkspaceClient, bob: WorkspaceClient) -> None:
    draft = api.CreateQueryRequestQuery(display_name="shared", query_text="SELECT 1")
    query_id = str(ann.queries.create(query=draft).id)

    def let_bob(level: iam.PermissionLevel) -> None:
        wish = iam.AccessControlRequest(user_name=name(bob), permission_level=level)
        ann.permissions.update("queries", query_id, access_control_list=[wish])

    def edit() -> Any:
        change = api.UpdateQueryRequestQuery(query_text="SELECT 2")
        return bob.queries.update(query_id, "query_text", query=change)

    with pytest.raises(NotFound):
        bob.queries.get(query_id)
    let_bob(iam.PermissionLevel.CAN_VIEW)
    assert bob.queries.get(query_id).query_text == "SELECT 1"
    assert query_id in {each.id for each in bob.queries.list()}
    found = bob.api_client.do("GET", "/api/millpond/search", query={"q": "shared select", "owner": name(ann)})
    assert [each["id"] for each in found["results"]] == [query_id]
    with pytest.raises(PermissionDenied, match="CAN_EDIT"):
        edit()
    let_bob(iam.PermissionLevel.CAN_EDIT)
    assert edit().last_modifier_user_name == name(bob)
    for forbidden in (
        lambda: bob.queries.delete(query_id),
        lambda: bob.permissions.set("queries", query_id, access_control_list=[]),
        lambda: bob.queries.update(
            query_id, "owner_user_name", query=api.UpdateQueryRequestQuery(owner_user_name=name(bob))
        ),
    ):
        with pytest.raises(PermissionDenied):
            forbidden()
    with pytest.raises(InvalidParameterValue):
        let_bob(iam.PermissionLevel.IS_OWNER)
    let_bob(iam.PermissionLevel.CAN_MANAGE)
    bob.queries.delete(query_id)
    assert query_id not in {each.id for each in ann.queries.list()}
