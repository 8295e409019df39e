"""Policies by the SDK (`w.policies`), and that they hold through every door, on both databases."""

import uuid
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service.catalog import (
    ColumnMaskOptions,
    EntityTagAssignment,
    FunctionArgument,
    MatchColumn,
    PermissionsChange,
    PolicyInfo,
    PolicyType,
    Privilege,
    RowFilterOptions,
    SecurableType,
)
from databricks.sdk.service.tags import TagPolicy, Value
from deltalake import DeltaTable

from tests.servers import Server, run_cli, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::polars.exceptions.UnstableWarning")


@dataclass(frozen=True, kw_only=True)
class World:
    """A catalog of the administrator's with a table of people, and Vera, who reads it."""

    server: Server
    admin: WorkspaceClient
    vera: WorkspaceClient
    token: str
    name: str
    catalog: str
    pii: str

    @property
    def table(self) -> str:
        return f"{self.catalog}.default.t"

    def mask(self, **other: Any) -> PolicyInfo:
        """A mask of what is tagged as somebody's number."""
        options = ColumnMaskOptions(f"{self.catalog}.default.veil", "n", using=[FunctionArgument(constant="2")])
        given: dict[str, Any] = {
            "name": f"mask_{uuid.uuid4().hex[:8]}",
            "on_securable_type": SecurableType.CATALOG,
            "on_securable_fullname": self.catalog,
            "policy_type": PolicyType.POLICY_TYPE_COLUMN_MASK,
            "for_securable_type": SecurableType.TABLE,
            "to_principals": ["account users"],
            "match_columns": [MatchColumn("n", f"has_tag_value('{self.pii}', 'ssn')")],
            "column_mask": options,
        }
        return PolicyInfo(**{**given, **other})

    def told(self, w: WorkspaceClient, text: str) -> list[list[Any]]:
        """The rows of a statement."""
        done = w.statement_execution.execute_statement(text, "starter", wait_timeout="50s")
        assert done.result is not None, done.status
        return done.result.data_array or []


def client(server: Server, token: str) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=token, auth_type="pat", config_file="/nowhere")


@pytest.fixture(scope="module")
def world(any_server: Server) -> World:
    run = uuid.uuid4().hex[:8]
    name = f"vera-{run}@example.com"
    token = any_server.new_user(name)
    admin = client(any_server, any_server.token)
    made = World(
        server=any_server, admin=admin, vera=client(any_server, token), token=token, name=name,
        catalog=f"tagged_{run}", pii=f"pii_{run}",
    )  # fmt: skip
    admin.tag_policies.create_tag_policy(TagPolicy(tag_key=made.pii, values=[Value("ssn"), Value("email")]))
    for text in (
        f"CREATE CATALOG {made.catalog}",
        f"CREATE FUNCTION {made.catalog}.default.veil(v STRING, n INT) RETURN concat('***', right(v, n))",
        f"CREATE FUNCTION {made.catalog}.default.mine(who STRING) RETURNS BOOLEAN RETURN who = current_user()",
        f"CREATE TABLE {made.table} AS SELECT * FROM VALUES ('{name}', '111-22'), ('other', '333-44') AS t(who, ssn)",
        f"CREATE VIEW {made.catalog}.default.v AS SELECT ssn FROM {made.table}",
        f"GRANT USE CATALOG, USE SCHEMA, SELECT ON CATALOG {made.catalog} TO `{name}`",
    ):
        executed(admin, text)
    tag = EntityTagAssignment(entity_type="columns", entity_name=f"{made.table}.ssn", tag_key=made.pii, tag_value="ssn")
    admin.entity_tag_assignments.create(tag)
    return made


def executed(w: WorkspaceClient, text: str) -> None:
    done = w.statement_execution.execute_statement(text, "starter", wait_timeout="50s")
    assert done.status is not None
    assert done.status.error is None, done.status


def test_it_holds_through_every_door(world: World) -> None:
    """What is hidden is hidden; what cannot hide it is refused; and the exempt read files as ever."""
    exempt = world.server.new_user(f"sam-{world.catalog}@example.com")
    change = PermissionsChange(principal=f"sam-{world.catalog}@example.com", add=[
        Privilege.USE_CATALOG, Privilege.USE_SCHEMA, Privilege.SELECT])  # fmt: skip
    world.admin.grants.update("catalog", world.catalog, changes=[change])
    policy = world.mask(except_principals=[f"sam-{world.catalog}@example.com"])
    made = world.admin.policies.create_policy(policy)
    assert world.told(world.vera, f"SELECT ssn FROM {world.table} ORDER BY 1") == [["***22"], ["***44"]]
    assert world.told(world.vera, f"SELECT * FROM {world.catalog}.default.v ORDER BY 1") == [["***22"], ["***44"]]
    info = world.vera.tables.get(world.table)
    assert info.storage_location is None
    with pytest.raises(PermissionDenied, match="files are for nobody"):
        world.vera.temporary_table_credentials.generate_temporary_table_credentials(table_id=str(info.table_id))
    polars = pl.Catalog(world.server.url, bearer_token=world.token, require_https=False)
    with pytest.raises(ValueError, match="storage_location"):
        polars.scan_table(world.catalog, "default", "t").collect()
    place = str(client(world.server, exempt).tables.get(world.table).storage_location)
    assert DeltaTable(place).to_pyarrow_table().num_rows == 2
    allowed = pl.Catalog(world.server.url, bearer_token=exempt, require_https=False)
    assert set(allowed.scan_table(world.catalog, "default", "t").collect()["ssn"]) == {"111-22", "333-44"}
    world.admin.policies.delete_policy("CATALOG", world.catalog, str(made.name))
    assert world.told(world.vera, f"SELECT ssn FROM {world.table} ORDER BY 1") == [["111-22"], ["333-44"]]
    assert world.vera.tables.get(world.table).storage_location == place


def test_what_is_set_is_what_comes_back(world: World) -> None:
    """With what the server adds; and it is listed below, for who asks for what is inherited."""
    given = world.mask(comment="numbers", except_principals=[world.name], when_condition=f"NOT has_tag('{world.pii}')")
    made = world.admin.policies.create_policy(given)
    assert made.id
    assert made.created_by == world.server.user
    assert [each.as_dict() for each in made.governed_tags or []] == [
        {"tag_key": world.pii}, {"tag_key": world.pii, "tag_value": "ssn"}
    ]  # fmt: skip
    kept = made.as_dict()
    for key, value in given.as_dict().items():
        assert kept[key] == value, key
    assert world.admin.policies.get_policy("catalog", world.catalog, str(made.name)) == made
    assert list(world.admin.policies.list_policies("CATALOG", world.catalog)) == [made]
    assert list(world.admin.policies.list_policies("TABLE", world.table)) == []
    assert list(world.admin.policies.list_policies("TABLE", world.table, include_inherited=True)) == [made]
    with pytest.raises(ResourceAlreadyExists):
        world.admin.policies.create_policy(given)
    world.admin.policies.delete_policy("CATALOG", world.catalog, str(made.name))
    with pytest.raises(NotFound):
        world.admin.policies.get_policy("CATALOG", world.catalog, str(made.name))


def test_an_update_changes_what_its_mask_names(world: World) -> None:
    """Without a mask, what is given; with one, also what is not: that is cleared. A mask can become a filter."""
    w = world.admin.policies
    made = w.create_policy(world.mask(comment="numbers", except_principals=[world.name]))
    name = str(made.name)
    same: dict[str, Any] = {"to_principals": ["account users"], "for_securable_type": SecurableType.TABLE}
    kept = PolicyInfo(policy_type=PolicyType.POLICY_TYPE_COLUMN_MASK, comment="other", **same)
    assert w.update_policy("CATALOG", world.catalog, name, kept).except_principals == [world.name]
    cleared = w.update_policy("CATALOG", world.catalog, name, kept, update_mask="except_principals,comment")
    assert (cleared.except_principals, cleared.comment) == (None, "other")
    options = RowFilterOptions(f"{world.catalog}.default.mine", using=[FunctionArgument(alias="n")])
    becomes = PolicyInfo(name=f"{name}_2", policy_type=PolicyType.POLICY_TYPE_ROW_FILTER, row_filter=options, **same)
    changed = w.update_policy("CATALOG", world.catalog, name, becomes)
    assert (changed.id, changed.name, changed.column_mask, changed.row_filter) == (made.id, f"{name}_2", None, options)
    assert world.told(world.vera, f"SELECT count(*) FROM {world.table}") == [["0"]]
    with pytest.raises(InvalidParameterValue, match="update_mask"):
        w.update_policy("CATALOG", world.catalog, f"{name}_2", kept, update_mask="id")
    w.delete_policy("CATALOG", world.catalog, f"{name}_2")


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"policy_type": PolicyType.POLICY_TYPE_GRANT}, "POLICY_TYPE_GRANT"),
        ({"for_securable_type": SecurableType.VOLUME}, "for TABLE"),
        ({"on_securable_type": SecurableType.VOLUME}, "not on a 'volume'"),
        ({"to_principals": ["nobody@example.com"]}, "'nobody@example.com' does not exist"),
        ({"to_principals": []}, "for nobody"),
        ({"match_columns": [MatchColumn("n", "has_tag('free')")]}, "not governed"),
        ({"match_columns": [MatchColumn("n", "pii")]}, "has_tag"),
        ({"column_mask": None}, "needs a name and column_mask"),
        ({"on_securable_type": SecurableType.TABLE, "on_securable_fullname": "$v"}, "is a view"),
        ({"on_securable_fullname": "system"}, "kept by the server"),
    ],
)
def test_what_cannot_be_is_refused(world: World, other: dict[str, Any], text: str) -> None:
    """With what, which one, and what to do."""
    other = {key: f"{world.catalog}.default.v" if value == "$v" else value for key, value in other.items()}
    with pytest.raises(BadRequest, match=text):
        world.admin.policies.create_policy(world.mask(**other))


def test_who_does_not_manage_the_object_sees_and_sets_none(world: World) -> None:
    """Nor learns that there is what they may not see."""
    w = world.vera.policies
    for kind, name in (("CATALOG", world.catalog), ("TABLE", world.table)):
        with pytest.raises(PermissionDenied):
            list(w.list_policies(kind, name))
    with pytest.raises(PermissionDenied):
        w.create_policy(world.mask())
    with pytest.raises(NotFound):
        list(w.list_policies("CATALOG", "none"))
    own = f"of_{world.catalog}"
    world.vera.catalogs.create(own)
    with pytest.raises(NotFound, match="Function"):
        w.create_policy(world.mask(on_securable_fullname=own))


def test_what_is_done_is_in_the_audit(world: World) -> None:
    """Under the names that Databricks has for it."""
    made = world.admin.policies.create_policy(world.mask())
    world.admin.policies.delete_policy("CATALOG", world.catalog, str(made.name))
    query = {"object_name": f"{made.name} on catalog {world.catalog}"}

    def acts() -> dict[str, Any]:
        found: Any = world.admin.api_client.do("GET", "/api/millpond/audit", query=query)
        return {event["action_name"]: event["request_params"] for event in found["events"]}

    wait_until(lambda: {"createPolicy", "deletePolicy"} <= acts().keys(), what="the policy's events")
    assert acts()["createPolicy"]["function"] == f"{world.catalog}.default.veil"


def test_explanations_say_what_is_kept_from_whom(world: World) -> None:
    """By which policy; for who manages the table, and about oneself. The command line says it in words."""
    made = world.admin.policies.create_policy(world.mask(to_principals=[world.name]))
    query = {"privilege": "SELECT", "securable_type": "table", "name": world.table}
    found: Any = world.vera.api_client.do("GET", "/api/millpond/access/explain", query=query)
    assert found["allowed"]
    assert found["narrowed_by"] == [
        {"policy": made.name, "securable_type": "catalog", "name": world.catalog, "column": "ssn",
         "function": f"{world.catalog}.default.veil"}
    ]  # fmt: skip
    told = run_cli("access", "explain", world.name, "SELECT", world.table, "--data-dir", str(world.server.data_dir))
    assert f"column ssn is masked by {world.catalog}.default.veil, as policy {made.name} on catalog" in told.stdout
    about: Any = world.admin.api_client.do("GET", "/api/millpond/access/explain", query=query)
    assert about["narrowed_by"] == []
    world.admin.policies.delete_policy("CATALOG", world.catalog, str(made.name))
