"""What holds for every page: status, width, theme, keyboard, no foreign hosts, nothing of what one may not see."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Tab, opened
from tests.servers import Server

pytestmark = pytest.mark.browser

PAGES = [
    "/", "/catalog", "/catalog/shop", "/catalog/shop?tab=details", "/catalog/shop/silver",
    "/catalog/shop/silver?tab=volumes", "/catalog/shop/silver?tab=functions", "/catalog/shop/silver?tab=models",
    "/catalog/shop/silver/tables/customers", "/catalog/shop/silver/tables/customers?tab=sample",
    "/catalog/shop/silver/tables/customers?tab=history", "/catalog/shop/silver/tables/customers?tab=details",
    "/catalog/shop/silver/volumes/raw", "/experiments", "/experiments/1", "/models", "/features",
    "/models/shop.silver.churn", "/serving", "/serving/churn", "/serving/churn?tab=try",
    "/serving/churn?tab=code", "/search?q=churn", "/connect",
    "/catalog/shop?tab=permissions", "/catalog/shop/silver/tables/customers?tab=permissions&who=bob&privilege=SELECT",
    "/models/shop.silver.churn?tab=permissions", "/serving/churn?tab=permissions", "/experiments/1?tab=permissions",
    "/audit", "/audit?result=failed&from=2026-01-01", "/audit/1",
    "/users", "/users?tab=groups", "/users?tab=programs", "/users?q=nobody", "/secrets",
    "/sql", "/sql?tab=queries", "/sql?tab=history", "/jobs", "/jobs?tab=runs",
]  # fmt: skip


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), pytest.param(768, "dark", marks=pytest.mark.long)])
def test_every_page_fits_its_window_and_asks_no_other_host(
    browser: Browser, stocked: Server, width: int, theme: str
) -> None:
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": theme}
    with opened(browser, stocked, stocked.token, **options) as tab:
        for path in PAGES:
            assert tab.open(path).status == 200, path
            expect(tab.page.get_by_role("heading", level=1)).to_be_visible()
            too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not tab.page.evaluate(too_wide), path
            assert tab.page.get_by_role("heading", level=1).count() == 1, path
        assert tab.hosts == {stocked.url.split("/")[2]}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/catalog/nowhere", 404, "Catalog 'nowhere' does not exist"),
        ("/catalog/shop/silver/tables/nowhere", 404, "does not exist"),
        ("/models/nowhere", 404, "nowhere"),
        ("/models/shop.silver.churn?version=99", 404, "99"),
        ("/serving/nowhere", 404, "nowhere"),
        ("/jobs/17", 404, "Job '17' does not exist"),
        ("/jobs/runs/17/tasks/a", 404, "Run 17 does not exist"),
        ("/experiments/99999", 404, "99999"),
        ("/no/such/page", 404, "No page has this address"),
        ("/catalog/sh%20op", 400, "not allowed in names"),
        ("/catalog?page=%00", 400, "page_token"),
    ],
)
def test_what_is_not_there_has_a_friendly_page_and_its_status(tab: Tab, path: str, status: int, words: str) -> None:
    tab.expected.append(f"status of {status}")
    assert tab.open(path).status == status
    expect(tab.page.get_by_role("main")).to_contain_text(words)
    expect(tab.page.get_by_role("main").get_by_role("link", name="Home")).to_be_visible()


@pytest.mark.parametrize(
    "path",
    [
        "/catalog/shop", "/catalog/shop/silver", "/catalog/shop/silver/tables/customers?tab=sample",
        "/catalog/shop/silver/volumes/raw", "/models/shop.silver.churn", "/serving/churn", "/experiments/1",
    ],
)  # fmt: skip
def test_others_things_are_not_there_for_who_may_not_see_them(bobs_tab: Tab, path: str) -> None:
    bobs_tab.expected.append("status of 404")
    assert bobs_tab.open(path).status == 404
    assert "window.hurt" not in bobs_tab.page.content()


def test_lists_search_and_tree_tell_nothing_of_others_things(bobs_tab: Tab) -> None:
    for path in ("/", "/catalog", "/models", "/serving", "/experiments", "/search?q=shop", "/search?q=churn"):
        bobs_tab.open(path)
        main = bobs_tab.page.get_by_role("main")
        expect(main).to_be_visible()
        assert "shop.silver" not in main.inner_text(), path
        assert "depth-6" not in main.inner_text(), path


def test_who_has_nothing_yet_is_told_the_first_steps(bobs_tab: Tab, stocked: Server) -> None:
    bobs_tab.open("/")
    expect(bobs_tab.page.get_by_role("heading", name="First steps")).to_be_visible()
    expect(bobs_tab.page.get_by_text(f'mlflow.set_tracking_uri("{stocked.url}")')).to_be_visible()
    for path, title in (("/models", "No models yet"), ("/serving", "No endpoints yet"), ("/experiments", "Log a run")):
        bobs_tab.open(path)
        expect(bobs_tab.page.get_by_role("heading", name=title)).to_be_visible()
        expect(bobs_tab.page.get_by_role("button", name="Copy").first).to_be_visible()


def test_the_theme_is_kept_for_the_user_in_every_browser(browser: Browser, stocked: Server, bobs_token: str) -> None:
    with opened(browser, stocked, bobs_token) as tab:
        tab.open("/")
        with tab.page.expect_response("**/api/millpond/ui/preferences"):
            tab.page.get_by_role("button", name="Dark").click()
        expect(tab.page.locator("html")).to_have_attribute("data-theme", "dark")
    with opened(browser, stocked, bobs_token, color_scheme="light") as tab:
        tab.open("/")
        expect(tab.page.locator("html")).to_have_attribute("data-theme", "dark")
        expect(tab.page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
        background = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(13, 19, 20)"
        with tab.page.expect_response("**/api/millpond/ui/preferences"):
            tab.page.get_by_role("button", name="Like the system").click()


def test_the_first_key_leads_past_the_frame_and_focus_is_visible(tab: Tab) -> None:
    tab.open("/catalog/shop/silver/tables/customers")
    tab.page.keyboard.press("Tab")
    skip = tab.page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#mp-main")).to_be_focused()
    for _ in range(8):
        tab.page.keyboard.press("Tab")
        style = tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        where = tab.page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.className")
        assert style == "solid", where


@pytest.mark.long
def test_each_control_has_a_name(tab: Tab) -> None:
    nameless = """[...document.querySelectorAll('a, button, input, select, textarea')]
        .filter(e => e.type !== 'hidden' && e.checkVisibility() && !e.closest('.ag-root-wrapper'))
        .filter(e => !(e.getAttribute('aria-label') || e.title || e.labels?.length || e.innerText.trim()
                       || e.getAttribute('aria-hidden')))
        .map(e => e.outerHTML)"""
    for path in PAGES:
        tab.open(path)
        assert tab.page.evaluate(nameless) == [], path


def test_the_browser_tree_opens_on_demand_where_there_is_little_room(browser: Browser, stocked: Server) -> None:
    narrow = {"viewport": {"width": 768, "height": 900}}
    with opened(browser, stocked, stocked.token, **narrow) as tab:
        tab.open("/catalog/shop/silver")
        tree = tab.page.get_by_role("tree")
        expect(tree).to_be_hidden()
        tab.page.get_by_role("button", name="Browse the catalog").click()
        expect(tree).to_be_visible()
