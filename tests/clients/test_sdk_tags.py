"""Tags and tag policies through the unmodified databricks-sdk, on both databases."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import Aborted, InvalidParameterValue, NotFound, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service import catalog as uc
from databricks.sdk.service import iam, tags
from databricks.sdk.service.catalog import EntityTagAssignment, PermissionsChange, Privilege

from millpond.catalog.tags import CERTIFICATION, MAX_TAGS
from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the client leaves its connections to the garbage collector
COLUMNS = [
    uc.ColumnInfo(name="id", type_text="bigint", type_name=uc.ColumnTypeName.LONG, position=0),
    uc.ColumnInfo(name="Name", type_text="string", type_name=uc.ColumnTypeName.STRING, position=1),
]


def user_name(w: WorkspaceClient) -> str:
    return str(w.current_user.me().user_name)


@dataclass(frozen=True)
class Lake:
    """A catalog of alice's with a table, an administrator, and bob, who may do nothing there."""

    name: str
    admin: WorkspaceClient
    alice: WorkspaceClient
    bob: WorkspaceClient

    @property
    def schema(self) -> str:
        return f"{self.name}.default"

    @property
    def table(self) -> str:
        return f"{self.schema}.t"

    def grant(self, kind: str, name: str, *privileges: Privilege) -> None:
        """To bob."""
        wish = PermissionsChange(principal=user_name(self.bob), add=list(privileges))
        self.alice.grants.update(kind, name, changes=[wish])


@pytest.fixture(scope="module")
def people(any_server: Server) -> list[WorkspaceClient]:
    """The administrator, alice and bob."""
    tokens = [any_server.token, *(any_server.new_user(f"{name}-{uuid.uuid4().hex[:6]}@tags") for name in "ab")]
    return [
        WorkspaceClient(host=any_server.url, token=token, auth_type="pat", config_file="/nowhere") for token in tokens
    ]


@pytest.fixture
def lake(people: list[WorkspaceClient]) -> Iterator[Lake]:
    made = Lake(f"lake_{uuid.uuid4().hex[:8]}", *people)
    made.alice.catalogs.create(made.name)
    made_table(made.alice, made.table)
    yield made
    made.admin.catalogs.delete(made.name, force=True)


def made_table(w: WorkspaceClient, name: str) -> None:
    catalog, schema, own = name.split(".")
    w.tables.create(
        name=own, catalog_name=catalog, schema_name=schema, table_type=uc.TableType.MANAGED, storage_location="",
        data_source_format=uc.DataSourceFormat.DELTA, columns=COLUMNS,
    )  # fmt: skip


def assign(w: WorkspaceClient, kind: str, name: str, key: str, value: str | None = None) -> EntityTagAssignment:
    wish = EntityTagAssignment(entity_type=kind, entity_name=name, tag_key=key, tag_value=value)
    return w.entity_tag_assignments.create(wish)


def tags_of(w: WorkspaceClient, kind: str, name: str) -> dict[str, str | None]:
    return {each.tag_key: each.tag_value for each in w.entity_tag_assignments.list(kind, name)}


def governed(w: WorkspaceClient, *values: str) -> tags.TagPolicy:
    wish = tags.TagPolicy(
        tag_key=f"governed {uuid.uuid4().hex[:6]}", values=[tags.Value(name=value) for value in values]
    )
    return w.tag_policies.create_tag_policy(wish)


def test_a_tag_is_made_read_listed_changed_and_removed(lake: Lake) -> None:
    w = lake.alice
    for kind, name in (
        ("catalogs", lake.name),
        ("schemas", lake.schema),
        ("tables", lake.table),
        ("columns", f"{lake.table}.ID"),
    ):
        made = assign(w, kind, name, "cost center", "hr")
        assert (made.tag_value, made.updated_by, made.update_time is not None) == (
            "hr",
            user_name(lake.alice),
            True,
        )
        assign(w, kind, name, "pii")
        with pytest.raises(ResourceAlreadyExists):
            assign(w, kind, name, "pii")
        assert w.entity_tag_assignments.get(kind, name, "cost center").tag_value == "hr"
        change = EntityTagAssignment(entity_type=kind, entity_name=name, tag_key="cost center", tag_value="it")
        assert w.entity_tag_assignments.update(kind, name, "cost center", change, "tag_value").tag_value == "it"
        assert tags_of(w, kind, name) == {"cost center": "it", "pii": ""}
        w.entity_tag_assignments.delete(kind, name, "pii")
        for act in (w.entity_tag_assignments.get, w.entity_tag_assignments.delete):
            with pytest.raises(NotFound):
                act(kind, name, "pii")


def test_keys_are_limited_as_on_databricks(lake: Lake) -> None:
    w = lake.admin
    for key in ("", "a.b", "a,b", "a-b", "a=b", "a/b", "a:b", " a", "a ", "k" * 256, "a\0b"):
        with pytest.raises(InvalidParameterValue):
            assign(w, "tables", lake.table, key, "x")


def test_values_and_counts_are_limited(lake: Lake) -> None:
    w = lake.alice
    with pytest.raises(InvalidParameterValue):
        assign(w, "tables", lake.table, "k", "v" * 1001)
    for number in range(MAX_TAGS):
        assign(w, "tables", lake.table, f"k{number}", "v" * 1000)
    with pytest.raises(InvalidParameterValue, match="more than 50"):
        assign(w, "tables", lake.table, "one more")
    assign(w, "columns", f"{lake.table}.id", "one more")


def test_what_has_no_tags_or_is_not_there_says_so(lake: Lake) -> None:
    w = lake.admin
    for kind, name in (("tables", f"{lake.schema}.nope"), ("columns", f"{lake.table}.nope"), ("catalogs", "nope")):
        with pytest.raises(NotFound):
            assign(w, kind, name, "k")
    for kind, name in (("metastores", "metastore"), ("columns", lake.table), ("tag policy", CERTIFICATION)):
        with pytest.raises(InvalidParameterValue):
            assign(w, kind, name, "k")


def test_apply_tag_and_the_way_in_let_one_tag(lake: Lake) -> None:
    mine = lake.bob
    for kind, name in (("tables", lake.table), ("columns", f"{lake.table}.id"), ("columns", f"{lake.table}.x")):
        with pytest.raises(NotFound, match=f"Table '{lake.table}' does not exist"):
            assign(mine, kind, name, "k")
    lake.grant("catalog", lake.name, Privilege.USE_CATALOG, Privilege.USE_SCHEMA)
    lake.grant("table", lake.table, Privilege.SELECT)
    assert tags_of(mine, "tables", lake.table) == {}
    with pytest.raises(PermissionDenied, match="APPLY TAG"):
        assign(mine, "columns", f"{lake.table}.id", "k")
    lake.grant("table", lake.table, Privilege.APPLY_TAG)
    assign(mine, "columns", f"{lake.table}.id", "k", "v")
    mine.entity_tag_assignments.delete("columns", f"{lake.table}.id", "k")
    with pytest.raises(PermissionDenied):
        assign(mine, "schemas", lake.schema, "k")


def test_tags_follow_renames_and_go_with_their_object(lake: Lake) -> None:
    w, pond = lake.alice, f"{lake.name}_pond"
    assign(w, "tables", lake.table, "k", "v")
    assign(w, "schemas", lake.schema, "s")
    w.schemas.update(lake.schema, new_name="other")
    w.catalogs.update(lake.name, new_name=pond)
    assert tags_of(w, "tables", f"{pond}.other.t") == {"k": "v"}
    assert tags_of(w, "schemas", f"{pond}.other") == {"s": ""}
    w.tables.delete(f"{pond}.other.t")
    made_table(w, f"{pond}.other.t")
    assert tags_of(w, "tables", f"{pond}.other.t") == {}
    w.catalogs.update(pond, new_name=lake.name)


def test_a_governed_tag_takes_its_values_only(lake: Lake) -> None:
    w = lake.admin
    policy = governed(w, "low", "high")
    assert w.tag_policies.get_tag_policy(policy.tag_key).values == [tags.Value("low"), tags.Value("high")]
    assert policy.tag_key in {each.tag_key for each in w.tag_policies.list_tag_policies(page_size=1)}
    for value in ("middle", None):
        with pytest.raises(InvalidParameterValue, match="governed"):
            assign(w, "tables", lake.table, policy.tag_key, value)
    assign(w, "tables", lake.table, policy.tag_key, "high")
    key_only = governed(w)
    with pytest.raises(InvalidParameterValue):
        assign(w, "tables", lake.table, key_only.tag_key, "x")
    assign(w, "tables", lake.table, key_only.tag_key)
    wish = tags.TagPolicy(tag_key=policy.tag_key, values=[tags.Value("middle")], description="how much")
    changed = w.tag_policies.update_tag_policy(policy.tag_key, wish, "values")
    assert (changed.values, changed.description) == ([tags.Value("middle")], "")
    w.tag_policies.delete_tag_policy(policy.tag_key)
    with pytest.raises(NotFound):
        w.tag_policies.get_tag_policy(policy.tag_key)
    assert tags_of(w, "tables", lake.table) == {policy.tag_key: "high", key_only.tag_key: ""}


def test_who_owns_an_object_may_still_not_assign_a_governed_tag(lake: Lake) -> None:
    """ASSIGN on the policy is needed besides; rule sets give it, as the SDK's access control proxy does."""
    admin, owner = lake.admin, lake.alice
    policy = governed(admin, "yes")
    assign(admin, "tables", lake.table, policy.tag_key, "yes")
    for act in (
        lambda: assign(owner, "columns", f"{lake.table}.id", policy.tag_key, "yes"),
        lambda: owner.entity_tag_assignments.delete("tables", lake.table, policy.tag_key),
        lambda: owner.tag_policies.delete_tag_policy(policy.tag_key),
        lambda: governed(owner),
    ):
        with pytest.raises(PermissionDenied):
            act()
    name = f"accounts/1/tagPolicies/{policy.id}/ruleSets/default"
    rule = iam.GrantRule(role="roles/tagPolicy.assigner", principals=[f"users/{user_name(lake.alice)}"])
    before = admin.account_access_control_proxy.get_rule_set(name, "")
    wish = iam.RuleSetUpdateRequest(name=name, etag=before.etag, grant_rules=[rule])
    after = admin.account_access_control_proxy.update_rule_set(name, wish)
    assert after.grant_rules == [rule]
    assign(owner, "columns", f"{lake.table}.id", policy.tag_key, "yes")
    owner.entity_tag_assignments.delete("tables", lake.table, policy.tag_key)
    with pytest.raises(PermissionDenied):
        owner.account_access_control_proxy.update_rule_set(name, iam.RuleSetUpdateRequest(name=name, etag=""))
    roles = admin.account_access_control_proxy.get_assignable_roles_for_resource(f"accounts/1/tagPolicies/{policy.id}")
    assert {role.name for role in roles.roles or []} == {"roles/tagPolicy.assigner", "roles/tagPolicy.manager"}


def test_a_stale_rule_set_is_refused(lake: Lake) -> None:
    w = lake.admin
    name = f"accounts/1/tagPolicies/{governed(w).id}/ruleSets/default"
    with pytest.raises(Aborted):
        w.account_access_control_proxy.update_rule_set(
            name, iam.RuleSetUpdateRequest(name=name, etag="old", grant_rules=[])
        )


def test_the_systems_own_tag_stays_as_it_is(lake: Lake) -> None:
    w = lake.admin
    for act in (
        lambda: w.tag_policies.delete_tag_policy(CERTIFICATION),
        lambda: w.tag_policies.update_tag_policy(CERTIFICATION, tags.TagPolicy(tag_key=CERTIFICATION), "*"),
    ):
        with pytest.raises(Exception, match="stays as it is"):
            act()
    assign(w, "tables", lake.table, CERTIFICATION, "certified")
    assert tags_of(w, "tables", lake.table) == {CERTIFICATION: "certified"}
