"""Tags and tag policies through the unmodified databricks-sdk, on both databases."""

import uuid

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, NotFound, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service import iam, tags
from databricks.sdk.service.catalog import EntityTagAssignment, PermissionsChange, Privilege

from millpond.catalog.service import CatalogService
from millpond.catalog.tags import CERTIFICATION, MAX_TAGS
from tests.catalog.conftest import Site, catalog, data_dir, database, make_table, people, site

__all__ = ["catalog", "data_dir", "database", "people", "site"]


@pytest.fixture
def lake(site: Site) -> Site:
    """A table with two columns and a volume, of alice's."""
    alice = site.people.alice
    site.catalog.create_catalog(alice, name="lake")
    make_table(site.catalog, alice, "lake.default.t")
    return site


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


def grant(site: Site, kind: str, name: str, *privileges: Privilege) -> None:
    wish = PermissionsChange(principal=site.people.bob.name, add=list(privileges))
    site.client(site.people.alice).grants.update(kind, name, changes=[wish])


def test_a_tag_is_made_read_listed_changed_and_removed(lake: Site) -> None:
    w = lake.client(lake.people.alice)
    for kind, name in (
        ("catalogs", "lake"),
        ("schemas", "lake.default"),
        ("tables", "lake.default.t"),
        ("columns", "lake.default.t.ID"),
    ):
        made = assign(w, kind, name, "cost center", "hr")
        assert (made.tag_value, made.updated_by, made.update_time is not None) == ("hr", lake.people.alice.name, True)
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


def test_keys_are_limited_as_on_databricks(lake: Site) -> None:
    w = lake.client()
    for key in ("", "a.b", "a,b", "a-b", "a=b", "a/b", "a:b", " a", "a ", "k" * 256, "a\0b"):
        with pytest.raises(InvalidParameterValue):
            assign(w, "tables", "lake.default.t", key, "x")


def test_values_and_counts_are_limited(lake: Site, catalog: CatalogService) -> None:
    w, alice = lake.client(), lake.people.alice
    with pytest.raises(InvalidParameterValue):
        assign(w, "tables", "lake.default.t", "k", "v" * 1001)
    catalog.set_tags(alice, "table", "lake.default.t", {f"k{number}": "v" * 1000 for number in range(MAX_TAGS)})
    with pytest.raises(InvalidParameterValue, match="more than 50"):
        assign(w, "tables", "lake.default.t", "one more")
    assign(w, "columns", "lake.default.t.id", "one more")


def test_what_has_no_tags_or_is_not_there_says_so(lake: Site) -> None:
    w = lake.client()
    for kind, name in (("tables", "lake.default.nope"), ("columns", "lake.default.t.nope"), ("catalogs", "nope")):
        with pytest.raises(NotFound):
            assign(w, kind, name, "k")
    for kind, name in (("metastores", "metastore"), ("columns", "lake.default.t"), ("tag policy", CERTIFICATION)):
        with pytest.raises(InvalidParameterValue):
            assign(w, kind, name, "k")


def test_apply_tag_and_the_way_in_let_one_tag(lake: Site) -> None:
    mine = lake.client(lake.people.bob)
    for kind, name in (("tables", "lake.default.t"), ("columns", "lake.default.t.id"), ("columns", "lake.default.t.x")):
        with pytest.raises(NotFound, match=r"Table 'lake\.default\.t' does not exist"):
            assign(mine, kind, name, "k")
    grant(lake, "catalog", "lake", Privilege.USE_CATALOG, Privilege.USE_SCHEMA)
    grant(lake, "table", "lake.default.t", Privilege.SELECT)
    assert tags_of(mine, "tables", "lake.default.t") == {}
    with pytest.raises(PermissionDenied, match="APPLY TAG"):
        assign(mine, "columns", "lake.default.t.id", "k")
    grant(lake, "table", "lake.default.t", Privilege.APPLY_TAG)
    assign(mine, "columns", "lake.default.t.id", "k", "v")
    mine.entity_tag_assignments.delete("columns", "lake.default.t.id", "k")
    with pytest.raises(PermissionDenied):
        assign(mine, "schemas", "lake.default", "k")


def test_tags_follow_renames_and_go_with_their_object(lake: Site) -> None:
    w, alice = lake.client(lake.people.alice), lake.people.alice
    assign(w, "tables", "lake.default.t", "k", "v")
    assign(w, "schemas", "lake.default", "s")
    w.schemas.update("lake.default", new_name="other")
    w.catalogs.update("lake", new_name="pond")
    assert tags_of(w, "tables", "pond.other.t") == {"k": "v"}
    assert tags_of(w, "schemas", "pond.other") == {"s": ""}
    w.tables.delete("pond.other.t")
    make_table(lake.catalog, alice, "pond.other.t")
    assert tags_of(w, "tables", "pond.other.t") == {}


def test_a_governed_tag_takes_its_values_only(lake: Site) -> None:
    w = lake.client()
    policy = governed(w, "low", "high")
    assert w.tag_policies.get_tag_policy(policy.tag_key).values == [tags.Value("low"), tags.Value("high")]
    assert policy.tag_key in {each.tag_key for each in w.tag_policies.list_tag_policies(page_size=1)}
    for value in ("middle", None):
        with pytest.raises(InvalidParameterValue, match="governed"):
            assign(w, "tables", "lake.default.t", policy.tag_key, value)
    assign(w, "tables", "lake.default.t", policy.tag_key, "high")
    key_only = governed(w)
    with pytest.raises(InvalidParameterValue):
        assign(w, "tables", "lake.default.t", key_only.tag_key, "x")
    assign(w, "tables", "lake.default.t", key_only.tag_key)
    wish = tags.TagPolicy(tag_key=policy.tag_key, values=[tags.Value("middle")], description="how much")
    changed = w.tag_policies.update_tag_policy(policy.tag_key, wish, "values")
    assert (changed.values, changed.description) == ([tags.Value("middle")], "")
    w.tag_policies.delete_tag_policy(policy.tag_key)
    with pytest.raises(NotFound):
        w.tag_policies.get_tag_policy(policy.tag_key)
    assert tags_of(w, "tables", "lake.default.t") == {policy.tag_key: "high", key_only.tag_key: ""}


def test_who_owns_an_object_may_still_not_assign_a_governed_tag(lake: Site) -> None:
    """ASSIGN on the policy is needed besides; rule sets give it, as the SDK's access control proxy does."""
    admin, owner = lake.client(), lake.client(lake.people.alice)
    policy = governed(admin, "yes")
    assign(admin, "tables", "lake.default.t", policy.tag_key, "yes")
    for act in (
        lambda: assign(owner, "columns", "lake.default.t.id", policy.tag_key, "yes"),
        lambda: owner.entity_tag_assignments.delete("tables", "lake.default.t", policy.tag_key),
        lambda: owner.tag_policies.delete_tag_policy(policy.tag_key),
        lambda: governed(owner),
    ):
        with pytest.raises(PermissionDenied):
            act()
    name = f"accounts/1/tagPolicies/{policy.id}/ruleSets/default"
    rule = iam.GrantRule(role="roles/tagPolicy.assigner", principals=[f"users/{lake.people.alice.name}"])
    before = admin.account_access_control_proxy.get_rule_set(name, "")
    wish = iam.RuleSetUpdateRequest(name=name, etag=before.etag, grant_rules=[rule])
    after = admin.account_access_control_proxy.update_rule_set(name, wish)
    assert after.grant_rules == [rule]
    assign(owner, "columns", "lake.default.t.id", policy.tag_key, "yes")
    owner.entity_tag_assignments.delete("tables", "lake.default.t", policy.tag_key)
    with pytest.raises(PermissionDenied):
        owner.account_access_control_proxy.update_rule_set(name, iam.RuleSetUpdateRequest(name=name, etag=""))
    roles = admin.account_access_control_proxy.get_assignable_roles_for_resource(f"accounts/1/tagPolicies/{policy.id}")
    assert {role.name for role in roles.roles or []} == {"roles/tagPolicy.assigner", "roles/tagPolicy.manager"}


def test_a_stale_rule_set_is_refused(lake: Site) -> None:
    from databricks.sdk.errors import Aborted

    w = lake.client()
    name = f"accounts/1/tagPolicies/{governed(w).id}/ruleSets/default"
    with pytest.raises(Aborted):
        w.account_access_control_proxy.update_rule_set(
            name, iam.RuleSetUpdateRequest(name=name, etag="old", grant_rules=[])
        )


def test_the_systems_own_tag_stays_as_it_is(lake: Site) -> None:
    w = lake.client()
    for act in (
        lambda: w.tag_policies.delete_tag_policy(CERTIFICATION),
        lambda: w.tag_policies.update_tag_policy(CERTIFICATION, tags.TagPolicy(tag_key=CERTIFICATION), "*"),
    ):
        with pytest.raises(Exception, match="stays as it is"):
            act()
    assign(w, "tables", "lake.default.t", CERTIFICATION, "certified")
    assert tags_of(w, "tables", "lake.default.t") == {CERTIFICATION: "certified"}


def test_tags_of_a_table_come_with_what_its_containers_pass_on(lake: Site, catalog: CatalogService) -> None:
    admin = lake.people.admin
    for kind, name, values in (
        ("catalog", "lake", {"a": "catalog", "b": "catalog"}),
        ("schema", "lake.default", {"b": "schema"}),
        ("table", "lake.default.t", {"c": "table"}),
        ("column", "lake.default.t.Name", {"pii": ""}),
    ):
        catalog.set_tags(admin, kind, name, values)
    found = catalog.tags_of(catalog.recent_tables(admin)[0])
    assert (found.own, found.inherited) == ({"c": "table"}, {"a": "catalog", "b": "schema"})
    assert found.columns == {"name": {"pii": ""}}
