"""The SQL page in Chromium: writing, running, looking, keeping."""

import re
import uuid

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Tab
from tests.browser.markup import MARKUP

pytestmark = pytest.mark.browser

SLOW = "SELECT count(*) FROM range(100000) a CROSS JOIN range(1000000) b WHERE (a.id * b.id) % 7 = 3"


def write(page: Page, text: str) -> None:
    """Put a text into the editor, as somebody who types it."""
    page.locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def test_a_statement_is_run_shown_and_kept_in_the_address(tab: Tab) -> None:
    """With Ctrl+Enter; whoever opens the address again sees the text and the rows."""
    tab.open("/sql")
    write(tab.page, "SELECT customer_id, tenure AS months FROM shop.silver.loyal ORDER BY 1")
    tab.page.keyboard.press("Control+Enter")
    expect(tab.page.get_by_text("succeeded")).to_be_visible()
    expect(tab.page.get_by_role("gridcell", name="C-0291")).to_be_visible()
    expect(tab.page).to_have_url(re.compile(r"/sql\?statement=[0-9a-f-]{36}&in=main\.default&warehouse=starter$"))
    tab.page.reload()
    expect(tab.page.get_by_role("gridcell", name="C-0291")).to_be_visible()
    expect(tab.page.locator(".cm-content")).to_contain_text("AS months FROM shop.silver.loyal")


def test_a_result_as_a_chart_and_as_a_file(tab: Tab) -> None:
    tab.open("/sql")
    write(tab.page, "SELECT concat('c', id) AS name, id * 10 AS size FROM range(3) ORDER BY 1")
    tab.page.get_by_role("button", name="Run").click()
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name="Download CSV").click()
    assert download.value.path().read_text().splitlines() == ["name,size", "c0,0", "c1,10", "c2,20"]
    tab.page.get_by_role("link", name="Chart").click()
    expect(tab.page.get_by_role("img", name="size by name")).to_be_visible()
    tab.page.get_by_label("Kind of chart").select_option("line")
    tab.page.get_by_role("button", name="Draw").click()
    expect(tab.page).to_have_url(re.compile(r"view=chart&kind=line&x=0&y=1$"))
    expect(tab.page.locator("canvas")).to_be_visible()


def test_names_and_values_are_text(tab: Tab) -> None:
    """What looks like markup, or like a property that NiceGUI would evaluate, is shown."""
    tab.open("/sql")
    write(tab.page, f"SELECT '{MARKUP}' AS `:onclick`, 1 AS `{MARKUP}`")
    tab.page.keyboard.press("Control+Enter")
    expect(tab.page.get_by_role("gridcell", name=MARKUP)).to_be_visible()
    expect(tab.page.get_by_role("columnheader", name=":onclick")).to_be_visible()
    tab.page.get_by_role("link", name="Chart").click()
    expect(tab.page.locator("canvas")).to_be_visible()
    assert not tab.is_hurt()


def test_a_failing_statement_says_why(tab: Tab) -> None:
    tab.open("/sql")
    write(tab.page, "SELECT * FROM shop.silver.never_made")
    tab.page.keyboard.press("Control+Enter")
    expect(tab.page.get_by_text("TABLE_OR_VIEW_NOT_FOUND")).to_be_visible()


def test_a_running_statement_can_be_cancelled(tab: Tab) -> None:
    tab.open("/sql")
    write(tab.page, SLOW)
    tab.page.keyboard.press("Control+Enter")
    expect(tab.page.get_by_text("running")).to_be_visible()
    tab.page.get_by_role("button", name="Cancel").click()
    expect(tab.page.get_by_text("cancelled")).to_be_visible()


def test_the_editor_completes_the_catalogs_names(tab: Tab) -> None:
    """Tables of a schema, and columns of the tables that the statement names."""
    tab.open("/sql")
    write(tab.page, "SELECT  FROM shop.silver.")
    tab.page.keyboard.type("cust")
    option = tab.page.locator(".cm-tooltip-autocomplete li", has_text="customers")
    expect(option).to_be_visible()
    option.click()
    expect(tab.page.locator(".cm-content")).to_contain_text("FROM shop.silver.customers")
    for _ in range(len(" FROM shop.silver.customers")):
        tab.page.keyboard.press("ArrowLeft")
    tab.page.keyboard.type("tenu")
    expect(tab.page.locator(".cm-tooltip-autocomplete li", has_text="tenure")).to_be_visible()


def test_nobody_is_told_names_that_they_may_not_see(bobs_tab: Tab) -> None:
    bobs_tab.open("/sql")
    write(bobs_tab.page, "SELECT * FROM ")
    bobs_tab.page.keyboard.type("s")
    expect(bobs_tab.page.locator(".cm-tooltip-autocomplete li", has_text="systemcatalog")).to_be_visible()
    assert bobs_tab.page.locator(".cm-tooltip-autocomplete li", has_text="shop").count() == 0


def test_a_query_is_saved_and_found_again(tab: Tab) -> None:
    name = f"Loyal {uuid.uuid4().hex[:6]}"
    tab.open("/sql")
    write(tab.page, "SELECT 1 AS first_text")
    tab.page.get_by_label("Name of the query").fill(name)
    tab.page.get_by_role("button", name="Save").click()
    expect(tab.page.get_by_text("Saved.")).to_be_visible()
    tab.page.get_by_role("link", name="Saved queries").click()
    tab.page.get_by_role("link", name=name).click()
    expect(tab.page.locator(".cm-content")).to_contain_text("first_text")
    expect(tab.page.get_by_label("Name of the query")).to_have_value(name)


def test_the_history_lists_what_ran_and_leads_back_to_it(tab: Tab) -> None:
    text = f"SELECT '{uuid.uuid4().hex}' AS mark"
    tab.open("/sql")
    write(tab.page, text)
    tab.page.keyboard.press("Control+Enter")
    expect(tab.page.get_by_text("succeeded")).to_be_visible()
    tab.page.get_by_role("link", name="History").click()
    tab.page.get_by_role("link", name=text).click()
    expect(tab.page.locator(".cm-content")).to_contain_text(text)
    expect(tab.page.get_by_text("1 row")).to_be_visible()


def test_anothers_statement_is_not_there(tab: Tab, bobs_tab: Tab) -> None:
    tab.open("/sql")
    write(tab.page, "SELECT 'secret' AS s")
    tab.page.keyboard.press("Control+Enter")
    expect(tab.page.get_by_role("gridcell", name="secret")).to_be_visible()
    bobs_tab.expected.append("404")
    response = bobs_tab.open(tab.page.url.removeprefix(tab.url))
    assert response.status == 404
    expect(bobs_tab.page.get_by_text("There is nothing here")).to_be_visible()


def test_warehouses_and_saved_queries_have_permissions(tab: Tab) -> None:
    tab.open("/sql")
    tab.page.get_by_role("link", name="Warehouses").click()
    tab.page.get_by_role("link", name="Starter Warehouse").click()
    tab.page.get_by_role("link", name="Permissions").click()
    expect(tab.page.get_by_role("row", name="account users")).to_contain_text("CAN_USE")
    tab.open("/sql")
    write(tab.page, "SELECT 1")
    name = f"shared-{uuid.uuid4().hex[:6]}"
    tab.page.get_by_label("Name of the query").fill(name)
    tab.page.get_by_role("button", name="Save").click()
    expect(tab.page.get_by_text("Saved.")).to_be_visible()
    tab.open("/sql?tab=queries")
    tab.page.get_by_role("link", name=name).click()
    tab.page.get_by_role("main").get_by_role("link", name="Permissions").click()
    form = tab.page.get_by_role("form", name="Grant", exact=True)
    form.get_by_label("Grant to").fill("users")
    form.get_by_label("Permission level").select_option("CAN_EDIT")
    form.get_by_role("button", name="Grant").click()
    expect(tab.page.get_by_role("row", name="account users")).to_contain_text("CAN_EDIT")
