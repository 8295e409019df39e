"""The pages of governance in Chromium, for who may change something there and for who may not."""

import base64
import re
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.conftest import Tab, signed_in, watched
from tests.servers import Server, wait_until

pytestmark = pytest.mark.browser

UNITY = "/api/2.1/unity-catalog"
ANN = "ann@governed.example"


@pytest.fixture(scope="module")
def governed(server: Server) -> Server:
    """A catalog with a schema in it, which nobody was granted."""
    assert server.call("POST", f"{UNITY}/catalogs", {"name": "gov"})[0] == 200
    assert server.call("POST", f"{UNITY}/schemas", {"name": "silver", "catalog_name": "gov"})[0] == 200
    return server


@pytest.fixture(scope="module")
def anns_token(server: Server) -> str:
    """A token of a user who owns nothing."""
    return server.new_user(ANN)


@pytest.fixture(scope="module")
def boss_context(browser: Browser, server: Server) -> Iterator[BrowserContext]:
    with signed_in(browser, server, server.token) as context:
        yield context


@pytest.fixture(scope="module")
def anns_context(browser: Browser, server: Server, anns_token: str) -> Iterator[BrowserContext]:
    with signed_in(browser, server, anns_token) as context:
        yield context


@pytest.fixture
def boss(boss_context: BrowserContext, server: Server) -> Iterator[Tab]:
    """A tab of the administrator."""
    with watched(boss_context, server) as tab:
        yield tab


@pytest.fixture
def ann(anns_context: BrowserContext, server: Server) -> Iterator[Tab]:
    """A tab of a user who owns nothing."""
    with watched(anns_context, server) as tab:
        yield tab


def grant(tab: Tab, who: str, *privileges: str) -> None:
    """Fill in the form and send it."""
    form = tab.page.get_by_role("form", name="Grant", exact=True)
    form.get_by_label("Grant to").fill(who)
    for privilege in privileges:
        form.get_by_label(privilege, exact=True).check()
    form.get_by_role("button", name="Grant").click()


def test_who_manages_an_object_grants_asks_why_and_revokes(boss: Tab, ann: Tab, governed: Server) -> None:
    """The other sees, meanwhile, what concerns her, and changes nothing."""
    ann.expected.append("status of 404")
    assert ann.open("/catalog/gov?tab=permissions").status == 404
    boss.open("/catalog/gov?tab=permissions")
    grant(boss, ANN, "USE CATALOG", "SELECT")
    row = boss.page.get_by_role("row").filter(has_text=ANN)
    expect(row).to_contain_text("USE CATALOG")

    assert ann.open("/catalog/gov?tab=permissions").status == 200
    expect(ann.page.get_by_role("row").filter(has_text=ANN)).to_contain_text("SELECT")
    assert ann.page.get_by_role("button", name="Revoke").count() == 0
    assert ann.page.get_by_role("form", name="Grant").count() == 0

    boss.open("/catalog/gov/silver?tab=permissions")
    row = boss.page.get_by_role("row").filter(has_text=ANN)
    expect(row.get_by_role("link", name="catalog gov").first).to_be_visible()
    boss.page.get_by_label("Who", exact=True).fill(ANN)
    boss.page.get_by_label("Privilege", exact=True).select_option("USE_SCHEMA")
    boss.page.get_by_role("button", name="Explain").click()
    expect(
        boss.page.get_by_text("missing: USE SCHEMA, to be granted on schema gov.silver or catalog gov")
    ).to_be_visible()

    boss.open("/catalog/gov?tab=permissions")
    boss.page.get_by_role("button", name=f"Revoke USE CATALOG from {ANN}").click()
    expect(boss.page.get_by_role("button", name=f"Revoke USE CATALOG from {ANN}")).to_have_count(0)
    granted = governed.call("GET", f"{UNITY}/permissions/catalog/gov")[1]
    assert granted == {"privilege_assignments": [{"principal": ANN, "privileges": ["SELECT"]}]}


def test_an_object_is_given_away_and_a_mistake_is_explained(boss: Tab, governed: Server) -> None:
    governed.call("POST", f"{UNITY}/schemas", {"name": "gift", "catalog_name": "gov"})
    boss.open("/catalog/gov/gift?tab=permissions")
    boss.page.get_by_text("Change the owner").click()
    boss.page.get_by_label("New owner").fill("nobody@example.com")
    boss.page.get_by_role("button", name="Change owner").click()
    expect(boss.page.get_by_role("alert").filter(has_text="nobody@example.com")).to_be_visible()
    boss.page.get_by_label("New owner").fill("admins")
    boss.page.get_by_role("button", name="Change owner").click()
    expect(boss.page.locator("dd").first).to_have_text("admins")
    assert governed.call("GET", f"{UNITY}/schemas/gov.gift")[1]["owner"] == "admins"


def test_a_level_takes_the_place_of_the_one_before(boss: Tab, ann: Tab, server: Server, anns_token: str) -> None:
    made = server.call("POST", "/api/2.0/mlflow/experiments/create", {"name": "/governed"})[1]
    path = f"/experiments/{made['experiment_id']}?tab=permissions"
    boss.open(path)
    for level in ("CAN_READ", "CAN_EDIT"):
        boss.page.get_by_label("Permission level").select_option(level)
        grant(boss, ANN)
        expect(boss.page.get_by_role("row").filter(has_text=ANN)).to_contain_text(level)
    expect(boss.page.get_by_role("row").filter(has_text=ANN)).not_to_contain_text("CAN_READ")
    ann.open(f"{path}&privilege=CAN_MANAGE")
    expect(ann.page.get_by_text(f"No: {ANN} may not use CAN_MANAGE on experiment")).to_be_visible()


def test_an_administrator_finds_an_act_in_the_audit_and_verifies_the_chain(boss: Tab, server: Server) -> None:
    """By filters that are in the address; the entry has a page of its own."""
    assert server.call("POST", f"{UNITY}/catalogs", {"name": "audited"})[0] == 200
    wait_until(
        lambda: server.call("GET", "/api/millpond/audit?object_name=audited&action_name=createCatalog")[1]["events"],
        what="the entry in the audit",
    )
    boss.open("/audit")
    boss.page.get_by_label("Object").fill("audited")
    boss.page.get_by_label("Action").fill("createCatalog")
    boss.page.get_by_role("button", name="Filter").click()
    expect(boss.page).to_have_url(re.compile(r"/audit\?who=&action=createCatalog&object=audited"))
    expect(boss.page.get_by_role("row")).to_have_count(2)
    boss.page.get_by_role("row").nth(1).get_by_role("link").first.click()
    expect(boss.page.locator("dd", has_text="catalog audited")).to_be_visible()

    boss.open("/audit?object=never-made")
    expect(boss.page.get_by_role("heading", name="Nothing like this happened")).to_be_visible()
    boss.page.get_by_label("Who").fill("somebody")
    boss.page.get_by_role("button", name="Verify the chain").click()
    expect(boss.page.get_by_text(re.compile(r"The chain is whole: [\d,]+ entries"))).to_be_visible()
    expect(boss.page.get_by_label("Who")).to_have_value("somebody")  # what is typed stays as the page changes


def test_the_audit_is_not_there_for_others(ann: Tab) -> None:
    ann.expected.append("status of 404")
    for path in ("/audit", "/audit/1"):
        assert ann.open(path).status == 404
    expect(ann.page.get_by_role("navigation", name="Main").get_by_role("link", name="Audit")).to_have_count(0)


def test_an_administrator_adds_somebody_to_a_group_then_deactivates_and_deletes_them(
    boss: Tab, server: Server, anns_token: str
) -> None:
    name = "new@governed.example"
    boss.open("/users")
    form = boss.page.get_by_role("form", name="Add a user")
    form.get_by_label("User name").fill(name)
    form.get_by_label("Initial password").fill("initial-1")
    form.get_by_role("button", name="Add").click()
    expect(boss.page.get_by_role("link", name=name)).to_be_visible()
    token = server.call("POST", "/api/2.0/token/create", {}, basic=f"{name}:initial-1")[1]["token_value"]

    boss.open("/users?tab=groups")
    boss.page.get_by_label("Group name").fill("governors")
    boss.page.get_by_role("button", name="Add").click()
    boss.page.get_by_role("link", name="governors").click()
    for kept in (name, ANN):
        boss.page.get_by_label("New member").fill(kept)
        boss.page.get_by_role("button", name="Add").click()
        expect(boss.page.get_by_role("button", name=f"Remove {kept}")).to_be_visible()
    boss.page.get_by_role("button", name=f"Remove {ANN}").click()
    expect(boss.page.get_by_role("heading", name="Members, 1")).to_be_visible()
    groups = server.call("GET", "/api/2.0/preview/scim/v2/Me", token=token)[1]["groups"]
    assert "governors" in [group["display"] for group in groups]

    boss.open("/users?q=new%40governed")
    boss.page.get_by_role("link", name=name).click()
    boss.page.get_by_role("button", name="Deactivate").click()
    expect(boss.page.get_by_text("deactivated", exact=True)).to_be_visible()
    assert server.call("GET", "/api/2.0/preview/scim/v2/Me", token=token)[0] == 401
    boss.page.get_by_role("button", name="Delete").click()
    expect(boss.page.get_by_role("button", name="Cancel")).to_be_focused()
    boss.page.get_by_role("button", name="Delete").click()
    expect(boss.page).to_have_url(re.compile("/users$"))
    expect(boss.page.get_by_role("link", name=ANN)).to_be_visible()
    expect(boss.page.get_by_role("link", name=name)).to_have_count(0)


def test_others_see_themselves_and_their_groups_only(ann: Tab, server: Server) -> None:
    ann.open("/users")
    expect(ann.page.get_by_role("heading", name="You and your groups")).to_be_visible()
    expect(ann.page.locator("dd", has_text=ANN)).to_be_visible()
    expect(ann.page.get_by_role("main")).not_to_contain_text(server.user)
    boss_id = server.call("GET", "/api/2.0/preview/scim/v2/Me")[1]["id"]
    ann.expected.append("status of 403")
    assert ann.open(f"/users/{boss_id}").status == 403
    expect(ann.page.get_by_text("Only an administrator may see another user or group")).to_be_visible()


def test_a_secret_is_put_and_never_shown_and_an_acl_lets_another_see_its_key(
    boss: Tab, ann: Tab, server: Server, anns_token: str
) -> None:
    boss.open("/secrets")
    boss.page.get_by_label("Name of the scope").fill("governed-scope")
    boss.page.get_by_role("button", name="Create scope").click()
    boss.page.get_by_role("link", name="governed-scope").click()
    ann.expected.append("status of 404")
    assert ann.open("/secrets/governed-scope").status == 404

    boss.page.get_by_label("Key", exact=True).fill("password")
    boss.page.get_by_label("Value", exact=True).fill("hush-hush")
    boss.page.get_by_role("button", name="Put secret").click()
    expect(boss.page.get_by_role("region", name="Secrets").get_by_text("password")).to_be_visible()
    assert "hush-hush" not in boss.page.content()
    boss.page.get_by_label("Give access to").fill(ANN)
    boss.page.get_by_role("button", name="Give access").click()
    expect(boss.page.get_by_role("button", name=f"Remove {ANN}")).to_be_visible()

    ann.open("/secrets")
    ann.page.get_by_role("link", name="governed-scope").click()
    expect(ann.page.get_by_role("region", name="Secrets").get_by_text("password")).to_be_visible()
    expect(ann.page.get_by_role("button", name="Put secret")).to_have_count(0)
    expect(ann.page.get_by_text("Who may use this scope")).to_have_count(0)
    got = server.call("GET", "/api/2.0/secrets/get?scope=governed-scope&key=password", token=anns_token)[1]
    assert base64.b64decode(got["value"]) == b"hush-hush"

    boss.page.get_by_role("button", name="Delete password").click()
    expect(boss.page.get_by_role("button", name="Cancel")).to_be_visible()
    boss.page.get_by_role("button", name="Delete password").click()
    expect(boss.page.get_by_role("heading", name="No secrets in this scope yet")).to_be_visible()
    boss.page.get_by_role("button", name="Delete scope").click()
    expect(boss.page.get_by_role("button", name="Cancel")).to_be_visible()
    boss.page.get_by_role("button", name="Delete scope").click()
    expect(boss.page).to_have_url(re.compile("/secrets$"))
    assert server.call("GET", "/api/2.0/secrets/list?scope=governed-scope")[0] == 404


def test_tags_and_marks_are_changed_by_who_may_and_seen_by_all(boss: Tab, ann: Tab, governed: Server) -> None:
    """On an object's page, and in what the search finds."""
    body = {"changes": [{"principal": ANN, "add": ["BROWSE"]}]}
    assert governed.call("PATCH", f"{UNITY}/permissions/catalog/gov", body)[0] == 200
    boss.open("/catalog/gov/silver")
    boss.page.get_by_text("Edit tags").click()
    boss.page.get_by_label("Tag", exact=True).fill("team")
    boss.page.get_by_label("Value").fill("risk")
    boss.page.get_by_role("button", name="Add tag").click()
    expect(boss.page.get_by_text("team: risk")).to_be_visible()
    boss.page.get_by_text("Edit tags").click()
    boss.page.get_by_role("button", name="Mark as certified").click()
    tags = boss.page.get_by_role("group", name="Tags")
    expect(tags.get_by_text("certified", exact=True)).to_be_visible()
    ann.open("/search?q=silver&tag=team%3Drisk&certified=certified")
    expect(ann.page.get_by_role("link", name="gov.silver")).to_be_visible()
    expect(ann.page.get_by_text("team: risk")).to_be_visible()
    ann.open("/catalog/gov/silver")
    expect(ann.page.get_by_role("group", name="Tags").get_by_text("team: risk")).to_be_visible()
    expect(ann.page.get_by_text("Edit tags")).to_have_count(0)
    boss.page.get_by_role("button", name="Remove tag team").click()
    expect(boss.page.get_by_text("team: risk")).to_have_count(0)


def test_the_lineage_of_a_table_by_column_and_what_breaks_without_it(boss: Tab, ann: Tab, governed: Server) -> None:
    """The picture has everything beside it in tables; the column is in the address; others see only what they may."""
    assert governed.call("POST", f"{UNITY}/catalogs", {"name": "flow"})[0] == 200
    assert governed.call("POST", f"{UNITY}/schemas", {"name": "s", "catalog_name": "flow"})[0] == 200
    for name in ("orders", "report"):
        column = {"name": "amount", "type_text": "int", "type_name": "INT", "position": 0}
        body = {"name": name, "catalog_name": "flow", "schema_name": "s", "table_type": "MANAGED",
                "data_source_format": "DELTA", "columns": [column]}  # fmt: skip
        assert governed.call("POST", f"{UNITY}/tables", body)[0] == 200
    path = "/catalog/flow/s/tables"
    boss.open(f"{path}/orders?tab=lineage")
    expect(boss.page.get_by_text("No lineage yet")).to_be_visible()
    source = {"namespace": "millpond", "name": "flow.s.orders"}
    field = {"inputFields": [{**source, "field": "amount"}]}
    target = {"namespace": "millpond", "name": "flow.s.report", "facets": {
        "columnLineage": {"fields": {"amount": field}}}}  # fmt: skip
    event = {"eventTime": "2026-01-02T03:04:05Z", "eventType": "COMPLETE", "run": {"runId": str(uuid.uuid4())},
             "job": {"namespace": "x", "name": "y"}, "inputs": [source], "outputs": [target]}  # fmt: skip
    assert governed.call("POST", "/api/v1/lineage", event)[0] == 201

    boss.open(f"{path}/orders?tab=lineage")
    expect(boss.page.get_by_role("img", name="Lineage of flow.s.orders")).to_be_visible()
    made = boss.page.get_by_role("region", name="What was made of it")
    expect(made).to_contain_text("amount → amount")
    boss.page.get_by_label("Column", exact=True).select_option("amount")
    boss.page.get_by_role("button", name="Follow").click()
    expect(boss.page).to_have_url(re.compile(r"tab=lineage&column=amount"))
    breaks = boss.page.get_by_role("region", name="What breaks if the column amount goes")
    expect(breaks).to_contain_text("computed from it")
    made.get_by_role("link", name="flow.s.report").click()
    expect(boss.page.get_by_role("region", name="Made of", exact=True)).to_contain_text("flow.s.orders")

    for kind, name, privilege in (("catalog", "flow", "USE_CATALOG"), ("schema", "flow.s", "USE_SCHEMA"),
                                  ("table", "flow.s.report", "SELECT")):  # fmt: skip
        change = {"changes": [{"principal": ANN, "add": [privilege]}]}
        assert governed.call("PATCH", f"{UNITY}/permissions/{kind}/{name}", change)[0] == 200
    ann.open(f"{path}/report?tab=lineage")
    expect(ann.page.get_by_text("No lineage yet")).to_be_visible()


def test_policies_are_set_seen_below_and_dropped(boss: Tab, ann: Tab, governed: Server) -> None:
    """By who manages the object; what is set above is seen below, with a link there. Others have no such tab."""
    for method, path, body in (
        ("POST", "/api/2.1/tag-policies", {"tag_key": "pii_page", "values": [{"name": "ssn"}]}),
        ("POST", f"{UNITY}/functions", {"function_info": STARS}),
        ("PATCH", f"{UNITY}/permissions/catalog/gov", {"changes": [{"principal": ANN, "add": ["USE_CATALOG"]}]}),
    ):
        assert governed.call(method, path, body)[0] == 200
    boss.open("/catalog/gov?tab=policies")
    expect(boss.page.get_by_text("No policy covers this")).to_be_visible()
    form = boss.page.get_by_role("form", name="New policy")
    for label, text in (
        ("Name", "hide_numbers"), ("Function", "gov.silver.stars"), ("For", "account users"), ("Except for", "admins"),
    ):  # fmt: skip
        form.get_by_label(label, exact=True).fill(text)
    form.get_by_role("button", name="Create policy").click()
    expect(boss.page.get_by_role("alert").filter(has_text="Say which columns are masked")).to_be_visible()
    form.get_by_label("Columns", exact=True).fill("has_tag_value('pii_page', 'ssn')")
    form.get_by_role("button", name="Create policy").click()
    row = boss.page.get_by_role("row").filter(has_text="hide_numbers")
    expect(row).to_contain_text("gov.silver.stars")
    expect(row).to_contain_text("not admins")

    boss.open("/catalog/gov/silver?tab=policies")
    row = boss.page.get_by_role("row").filter(has_text="hide_numbers")
    expect(row.get_by_role("button", name="Drop policy hide_numbers")).to_have_count(0)
    row.get_by_role("link", name="catalog gov").click()
    boss.page.get_by_role("button", name="Drop policy hide_numbers").click()
    expect(boss.page.get_by_role("button", name="Cancel")).to_be_focused()
    boss.page.get_by_role("button", name="Drop policy hide_numbers").click()
    expect(boss.page.get_by_text("No policy covers this")).to_be_visible()

    ann.open("/catalog/gov?tab=policies")
    expect(ann.page.get_by_role("link", name="Permissions")).to_be_visible()
    assert ann.page.get_by_role("link", name="Policies").count() == 0


STARS = {
    "name": "stars", "catalog_name": "gov", "schema_name": "silver", "data_type": "STRING", "full_data_type": "string",
    "input_params": {"parameters": [{"name": "v", "type_text": "string", "type_name": "STRING", "position": 0}]},
    "routine_body": "SQL", "routine_definition": "'***'", "parameter_style": "S", "is_deterministic": True,
    "sql_data_access": "CONTAINS_SQL", "is_null_call": True, "security_type": "DEFINER", "specific_name": "stars",
    "properties": "{}",
}  # fmt: skip
