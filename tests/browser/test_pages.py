"""The pages with real things on them, seen by an administrator in Chromium."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Tab
from tests.browser.markup import MARKUP
from tests.servers import Server

pytestmark = pytest.mark.browser

CUSTOMERS = "/catalog/shop/silver/tables/customers"


def test_home_leads_to_what_was_made_last(tab: Tab) -> None:
    tab.open("/")
    for name in ("main.default.churn_payload", "depth-6", "shop.silver.churn"):
        expect(tab.page.get_by_role("link", name=name).first).to_be_visible()
    tab.page.locator(".mp-recent", has_text="Endpoints").get_by_role("link", name=re.compile("churn")).click()
    expect(tab.page.locator("h1 .mp-title-text")).to_have_text("churn")


def test_the_sidebar_leads_to_each_room_and_marks_where_one_is(tab: Tab) -> None:
    tab.open("/")
    for name in ("Catalog", "SQL", "Jobs", "Experiments", "Models", "Serving", "Users", "Audit", "Secrets", "Home"):
        tab.page.get_by_role("navigation", name="Main").get_by_role("link", name=name).click()
        current = tab.page.get_by_role("navigation", name="Main").locator("[aria-current=page]")
        expect(current).to_have_text(re.compile(name))


def test_a_tables_schema_has_names_types_and_nullability(tab: Tab) -> None:
    tab.open(CUSTOMERS)
    row = tab.page.get_by_role("row").filter(has_text="tenure")
    expect(row).to_contain_text("bigint")
    tab.page.get_by_label("Filter columns").fill("char")
    tab.page.keyboard.press("Enter")
    expect(tab.page).to_have_url(re.compile(r"\?q=char$"))
    expect(tab.page.get_by_role("row")).to_have_count(2)


def test_a_tables_rows_are_shown_as_text(tab: Tab) -> None:
    tab.open(f"{CUSTOMERS}?tab=sample")
    expect(tab.page.get_by_text("The first 200 rows")).to_be_visible()
    expect(tab.page.get_by_role("gridcell", name="C-0000").first).to_be_visible()
    expect(tab.page.get_by_role("gridcell", name=MARKUP).first).to_be_visible()
    assert tab.page.locator(".mp-grid img, .mp-grid script").count() == 0
    assert not tab.is_hurt()


def test_a_views_rows_are_read_through_the_engine(tab: Tab) -> None:
    tab.open("/catalog/shop/silver/tables/loyal?tab=sample")
    expect(tab.page.get_by_text("All 9 rows")).to_be_visible()
    expect(tab.page.get_by_role("gridcell", name="C-0291")).to_be_visible()


def test_an_empty_table_says_how_to_fill_it(tab: Tab) -> None:
    tab.open("/catalog/shop/silver/tables/nothing?tab=sample")
    expect(tab.page.get_by_role("heading", name="This table has no rows")).to_be_visible()
    expect(tab.page.get_by_text('df.writeTo("shop.silver.nothing").append()')).to_be_visible()


def test_a_tables_history_names_each_commit(tab: Tab) -> None:
    tab.open(f"{CUSTOMERS}?tab=history")
    rows = tab.page.get_by_role("table").get_by_role("row")  # one more when the table's pin has let it keep its log
    expect(rows.filter(has=tab.page.get_by_role("cell", name="1", exact=True))).to_contain_text("5 rows written")
    expect(rows.filter(has=tab.page.get_by_role("cell", name="0", exact=True))).to_contain_text("300 rows written")
    expect(tab.page.get_by_role("main")).not_to_contain_text("file:///")


def test_a_tables_details_tell_its_size_and_to_an_administrator_its_place(tab: Tab) -> None:
    tab.open(f"{CUSTOMERS}?tab=details")
    expect(tab.page.get_by_text("file:///")).to_be_visible()
    expect(tab.page.locator("dd", has_text="KiB")).to_be_visible()


def test_files_are_uploaded_listed_and_downloaded_never_run(tab: Tab, tmp_path: Path) -> None:
    tab.open("/catalog/shop/silver/volumes/raw")
    source = tmp_path / "prices 100% #1 é.csv"
    source.write_text("a,b\n1,2\n")
    tab.page.locator("input[type=file]").set_input_files(source)
    link = tab.page.get_by_role("link", name=source.name)
    expect(link).to_be_visible()
    with tab.page.expect_download() as download:
        link.click()
    assert Path(download.value.path()).read_text() == "a,b\n1,2\n"
    with tab.page.expect_download():
        tab.page.get_by_role("link", name="notes.html").click()
    assert not tab.is_hurt()
    tab.page.get_by_role("link", name="2026 <b>").click()
    expect(tab.page.get_by_role("heading", name="No files here")).to_be_visible()


def test_an_upload_that_is_refused_says_why(tab: Tab, tmp_path: Path) -> None:
    tab.expected.append("40[0-9]")
    tab.open("/catalog/shop/silver/volumes/raw")
    tab.page.route("**/api/2.0/fs/files/**", lambda route: route.fulfill(status=403, json={"message": "Not here."}))
    (tmp_path / "x.txt").write_text("x")
    tab.page.locator("input[type=file]").set_input_files(tmp_path / "x.txt")
    expect(tab.page.get_by_text("Not here.")).to_be_visible()


def test_experiments_lead_to_runs_with_their_metrics(tab: Tab) -> None:
    tab.open("/experiments")
    tab.page.get_by_role("link", name="/churn").click()
    row = tab.page.get_by_role("row").filter(has_text="depth-6")
    expect(row).to_contain_text("0.76")
    expect(row).to_contain_text("shop.silver.customers")
    expect(tab.page.get_by_role("link", name=MARKUP)).to_be_visible()
    assert not tab.is_hurt()


def test_runs_are_filtered_by_mlflows_language_and_a_mistake_is_explained(tab: Tab) -> None:
    tab.open("/experiments")
    tab.page.get_by_role("link", name="/churn").click()
    tab.page.get_by_label("Filter runs").fill("metrics.auc > 0.75")
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("row")).to_have_count(2)
    tab.page.get_by_label("Filter runs").fill("auc above everything")
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("alert")).to_be_visible()


def test_a_run_opens_in_mlflows_own_pages(tab: Tab) -> None:
    tab.open("/experiments")
    tab.page.get_by_role("link", name="/churn").click()
    tab.page.get_by_role("link", name="depth-6").click()
    expect(tab.page).to_have_url(re.compile("/ml/#/experiments/"))
    expect(tab.page.get_by_text("depth-6").first).to_be_visible()
    expect(tab.page.get_by_text("log_loss").first).to_be_visible()
    tab.problems.clear()  # MLflow's own pages warn on the console


def test_the_links_that_mlflows_client_prints_lead_to_its_pages(tab: Tab) -> None:
    tab.page.goto(f"{tab.url}/#/experiments/0")
    expect(tab.page).to_have_url(re.compile("/ml/#/experiments/0"))
    tab.problems.clear()


def test_a_model_shows_versions_aliases_source_and_signature(tab: Tab) -> None:
    tab.open("/models/shop.silver.churn?version=1")
    expect(tab.page.get_by_role("row").filter(has_text="Version 1")).to_contain_text("@production")
    expect(tab.page.get_by_role("link", name="depth-6")).to_be_visible()
    inputs = tab.page.get_by_role("region", name="Inputs")
    expect(inputs.get_by_role("row").filter(has_text="charges")).to_contain_text("double")
    expect(tab.page.get_by_text(f"Who leaves. {MARKUP}")).to_be_visible()
    assert not tab.is_hurt()


def test_an_alias_is_set_and_removed(tab: Tab) -> None:
    tab.open("/models/shop.silver.churn?version=2")
    tab.page.get_by_label("Alias for version 2").fill("candidate")
    tab.page.keyboard.press("Enter")
    row = tab.page.get_by_role("row").filter(has_text="Version 2")
    expect(row).to_contain_text("@candidate")
    tab.page.get_by_role("button", name="Remove alias candidate").click()
    expect(row).not_to_contain_text("@candidate")


def test_a_wrong_alias_is_refused_in_words(tab: Tab) -> None:
    tab.open("/models/shop.silver.churn?version=2")
    tab.page.get_by_label("Alias for version 2").fill("latest")
    tab.page.get_by_role("button", name="Point alias here").click()
    expect(tab.page.get_by_role("alert").filter(has_text="latest")).to_be_visible()


def test_the_record_of_a_model_is_read_and_moves_are_asked_for_and_approved(tab: Tab) -> None:
    tab.open("/models/shop.silver.churn?tab=record")
    live = tab.page.locator("section.mp-card", has=tab.page.get_by_role("heading", name="Live now"))
    expect(live).to_contain_text("@production")
    expect(live).to_contain_text("served by churn")
    tab.page.get_by_label("Comment on the version").fill(f"looks fine {MARKUP}")
    tab.page.get_by_role("button", name="Comment", exact=True).click()
    expect(tab.page.get_by_role("row").filter(has_text="looks fine")).to_contain_text("commented")
    tab.page.get_by_label("Alias or stage").fill("@asked")
    tab.page.get_by_role("button", name="Ask for a move").click()
    tab.page.get_by_role("button", name=re.compile("^Approve version")).click()
    expect(live).to_contain_text("@asked")
    assert not tab.is_hurt()


def test_versions_are_compared_side_by_side(tab: Tab) -> None:
    tab.open("/models/shop.silver.churn?tab=compare&versions=2,1")
    about = tab.page.locator("section.mp-card", has=tab.page.get_by_role("heading", name="About"))
    inputs = tab.page.locator("section.mp-card", has=tab.page.get_by_role("heading", name="Inputs"))
    expect(about.locator("th")).to_have_text(["Name", "Version 2", "Version 1"])
    expect(about.get_by_role("row").filter(has_text="Aliases")).to_contain_text("differs")
    expect(inputs.get_by_role("row").filter(has_text="tenure")).to_be_visible()
    tab.page.get_by_label("Versions to compare").fill("1, 2")
    tab.page.keyboard.press("Enter")
    expect(about.locator("th")).to_have_text(["Name", "Version 1", "Version 2"])
    assert not tab.is_hurt()


def test_a_description_is_edited_in_place(tab: Tab) -> None:
    tab.open("/models/plain-model")
    tab.page.get_by_role("button", name="Edit the description of this model").click()
    tab.page.get_by_label("Description of this model", exact=True).fill("First line\n<b>second</b>")
    tab.page.get_by_role("button", name="Save").click()
    expect(tab.page.get_by_text("<b>second</b>")).to_be_visible()


def test_an_endpoint_is_tried_from_its_page(tab: Tab) -> None:
    tab.open("/serving/churn?tab=try")
    body = tab.page.get_by_label("Request body, as JSON")
    expect(body).to_have_value(re.compile(r'"tenure": 1'))
    tab.page.get_by_role("button", name="Send").click()
    response = tab.page.locator(".mp-card", has_text="Response")
    expect(response).to_contain_text('"predictions"')
    expect(response).to_contain_text(re.compile(r"\d+ ms|\d+\.\d s"))
    body.fill('{"dataframe_records": [{"tenure": 1}]}')
    tab.page.get_by_role("button", name="Send").click()
    expect(response).to_contain_text("400")
    expect(response).to_contain_text("charges")
    body.fill("{")
    tab.page.get_by_role("button", name="Send").click()
    expect(response).to_contain_text("not JSON")


def test_an_endpoint_that_failed_shows_the_models_own_traceback(tab: Tab) -> None:
    tab.open("/serving/broken")
    expect(tab.page.get_by_role("alert").filter(has_text="the weights are <b>missing</b>")).to_be_visible()
    expect(tab.page.locator("pre", has_text="load_context")).to_be_visible()
    tab.open("/serving")
    expect(tab.page.get_by_role("row").filter(has_text="broken").first).to_contain_text("failed")


def test_an_endpoint_shows_what_it_serves_and_how_to_call_it(tab: Tab, stocked: Server) -> None:
    tab.open("/serving/churn")
    expect(tab.page.get_by_role("link", name="shop.silver.churn version 1")).to_be_visible()
    expect(tab.page.get_by_text("ready").first).to_be_visible()
    tab.page.get_by_role("link", name="main.default.churn_payload").click()
    expect(tab.page.get_by_role("heading", name="churn_payload")).to_be_visible()
    tab.open("/serving/churn?tab=code")
    expect(tab.page.get_by_text(f'curl -s "{stocked.url}/serving-endpoints/churn/invocations"')).to_be_visible()


def _type_into_search(page: Page, text: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(text)


def test_search_finds_things_of_every_room_by_keyboard(tab: Tab) -> None:
    tab.open("/catalog")
    _type_into_search(tab.page, "churn")
    options = tab.page.get_by_role("option")
    expect(options.filter(has_text="endpoint")).to_have_count(1)
    expect(options.filter(has_text="model")).to_have_count(1)
    expect(options.filter(has_text="experiment")).to_have_count(1)
    tab.page.keyboard.press("ArrowDown")
    expect(tab.page.get_by_role("combobox")).to_have_attribute("aria-activedescendant", "mp-search-0")
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("heading", level=1)).to_contain_text("churn")


def test_search_has_a_page_of_its_own(tab: Tab) -> None:
    tab.open("/catalog")
    _type_into_search(tab.page, "customers")
    tab.page.keyboard.press("Enter")
    expect(tab.page).to_have_url(re.compile(r"/search\?q=customers$"))
    expect(tab.page.get_by_role("link", name="shop.silver.customers")).to_be_visible()


def test_search_takes_markup_as_text(tab: Tab) -> None:
    tab.open("/catalog")
    _type_into_search(tab.page, MARKUP)  # which stands in comments
    expect(tab.page.get_by_role("option").first).to_be_visible()
    _type_into_search(tab.page, MARKUP + " nowhere")
    expect(tab.page.get_by_text("Nothing that you may see holds this.")).to_be_visible()
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("heading", level=1)).to_contain_text(MARKUP)
    assert not tab.is_hurt()


def test_the_catalog_tree_opens_branches_by_keyboard(tab: Tab) -> None:
    tab.open("/catalog")
    shop = tab.page.get_by_role("treeitem", name="shop")
    shop.focus()
    tab.page.keyboard.press("ArrowRight")
    silver = tab.page.get_by_role("treeitem", name="silver")
    expect(silver).to_be_visible()
    expect(shop).to_have_attribute("aria-expanded", "true")
    silver.focus()
    tab.page.keyboard.press("ArrowRight")
    expect(tab.page.get_by_role("treeitem", name="customers")).to_be_visible()
    tab.page.keyboard.press("ArrowLeft")
    expect(tab.page.get_by_role("treeitem", name="customers")).to_have_count(0)


def test_a_new_token_is_shown_once_and_works(tab: Tab, stocked: Server) -> None:
    tab.open("/connect")
    tab.page.get_by_label("What the token is for").fill("laptop")
    tab.page.get_by_role("button", name="Create token").click()
    secret = tab.page.locator("#tokens pre").inner_text()
    assert stocked.call("GET", "/api/2.0/preview/scim/v2/Me", token=secret)[0] == 200
    tab.open("/connect")
    expect(tab.page.get_by_text("laptop")).to_be_visible()
    assert secret not in tab.page.content()
    tab.page.get_by_role("button", name="Revoke the token laptop").click()
    expect(tab.page.get_by_text("laptop")).to_have_count(0)
    assert stocked.call("GET", "/api/2.0/preview/scim/v2/Me", token=secret)[0] == 401


def test_code_is_copied(tab: Tab) -> None:
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.open("/connect?client=pyspark")
    tab.page.locator(".mp-code").nth(1).get_by_role("button", name="Copy").click()
    expect(tab.page.locator(".mp-code").nth(1).get_by_role("button")).to_have_text(re.compile("Copied"))
    assert "SparkSession.builder.remote" in tab.page.evaluate("navigator.clipboard.readText()")
