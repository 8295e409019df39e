"""Features in Chromium: found, described, measured, compared, and followed to models and back."""

import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Tab, opened
from tests.feature_tables.conftest import Shop, fill_shop
from tests.servers import Server

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]  # the clients' warnings are not ours


@pytest.fixture(scope="module")
def shop(stocked: Server) -> Iterator[Shop]:
    """A schema with feature tables, one of which is used."""
    tail = uuid.uuid4().hex[:8]
    with fill_shop(stocked, tail, experiment=f"/shop-{tail}") as made:
        yield made


def test_features_are_found_and_followed(tab: Tab, shop: Shop) -> None:
    """From the list to a table, to a feature with its histogram beside that of an earlier version, to its model."""
    page = tab.page
    tab.open(f"/features?q={shop.name}")
    people = page.get_by_role("row").filter(has_text=f"{shop.name}.people")
    expect(people).to_contain_text("1 model")
    expect(people).to_contain_text("1 endpoint, 1 run")
    expect(people.locator("time")).to_be_visible()
    expect(people).to_contain_text("at ts")
    page.get_by_label("Use", exact=True).select_option("no")
    page.get_by_role("button", name="Find").click()
    expect(people).to_have_count(0)
    expect(page.get_by_role("row").filter(has_text=f"{shop.name}.idle")).to_contain_text("unused")
    tab.open(f"/features?q={shop.name}")
    people.get_by_role("link").click()
    features = page.get_by_role("region", name="Features")
    expect(features.get_by_role("row").filter(has_text="spent")).to_contain_text("orders.amount")
    expect(features.get_by_role("row").filter(has_text="visits")).to_contain_text("unused")
    expect(page.get_by_role("region", name="Statistics").get_by_role("row").filter(has_text="visits")).to_contain_text(
        "7"
    )
    shop.sql("INSERT INTO $.people VALUES (9, TIMESTAMP '2026-02-01 00:00:00', 99.5, 9, 'Linz')")
    features.get_by_role("link", name="spent").click()
    page.get_by_label("Compared with").select_option("1")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("img", name="Histogram of spent")).to_be_visible()
    row = page.get_by_role("region", name="Statistics").get_by_role("row").filter(has_text="Greatest")
    expect(row.get_by_role("cell")).to_have_text(["Greatest", "99.5", "30"])
    expect(page.get_by_role("region", name="Made from")).to_contain_text(f"{shop.name}.orders")
    used = page.get_by_role("region", name="Used by")
    expect(used).to_contain_text(f"train-{shop.tail}")
    expect(used.get_by_role("link", name=f"{shop.name}.churn/1")).to_be_visible()
    tab.open(f"/models/{shop.name}.churn?version=1")
    row = page.get_by_role("region", name="Features").get_by_role("row").filter(has_text=f"{shop.name}.people")
    expect(row).to_contain_text("spent")
    row.get_by_role("link").click()
    expect(page.get_by_role("link", name="city")).to_be_visible()


def test_texts_have_frequent_values_and_numbers_that_are_none_no_bin(tab: Tab, shop: Shop) -> None:
    tables = f"/catalog/main/{shop.name.partition('.')[2]}/tables"
    tab.open(f"{tables}/people?tab=features&feature=city")
    expect(tab.page.get_by_label("Most frequent values of city")).to_contain_text("Graz")
    shop.sql("CREATE TABLE $.broken (id BIGINT NOT NULL, v DOUBLE, CONSTRAINT broken_pk PRIMARY KEY (id))")
    shop.sql("INSERT INTO $.broken SELECT id, CASE WHEN id < 2 THEN id ELSE double('NaN') END FROM range(20)")
    tab.open(f"{tables}/broken?tab=features&feature=v")
    expect(tab.page.get_by_role("img", name="Histogram of v: most values, 5 %, are at 0 – 0.05")).to_be_visible()
    expect(tab.page.get_by_role("row").filter(has_text="NaN or infinite")).to_contain_text("18")


def test_who_may_see_no_features_is_told_how_to_make_some(bobs_tab: Tab, shop: Shop) -> None:
    bobs_tab.open("/features")
    expect(bobs_tab.page.get_by_role("heading", name="No feature tables yet")).to_be_visible()
    expect(bobs_tab.page.get_by_role("main")).not_to_contain_text(shop.name)


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (420, "dark")])
def test_pages_of_features_fit_their_window(browser: Browser, shop: Shop, width: int, theme: str) -> None:
    table = f"/catalog/main/{shop.name.partition('.')[2]}/tables/people?tab=features"
    with opened(
        browser, shop.server, shop.server.token, viewport={"width": width, "height": 900}, color_scheme=theme
    ) as tab:
        for path in (f"/features?q={shop.name}", table, f"{table}&feature=spent&before=1", f"{table}&feature=city"):
            tab.open(path)
            expect(tab.page.get_by_role("region").first).to_be_visible()
            expect(tab.page.get_by_role("status", name="Loading")).to_have_count(0)
            too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not tab.page.evaluate(too_wide), path
