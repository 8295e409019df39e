"""A table's page tells where it is online, how far behind, and what went wrong."""

from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import Tab
from tests.servers import Server, wait_until

PAGE = "/catalog/shop/silver/tables/keyed?tab=online"
READ = "/api/millpond/online-tables/shop.silver.keyed_online"


def test_a_table_shows_where_it_is_online(tab: Tab, stocked: Server) -> None:
    sql(stocked, "CREATE TABLE shop.silver.keyed (id BIGINT NOT NULL, v INT, CONSTRAINT k PRIMARY KEY (id))")
    tab.open(PAGE)
    expect(tab.page.get_by_text("This table is not online")).to_be_visible()
    done(stocked.call("POST", "/api/2.0/feature-store/online-stores", {"name": "page", "capacity": "CU_1"}))
    spec = {"online_store": "page", "online_table_name": "shop.silver.keyed_online", "publish_mode": "TRIGGERED"}
    publish = "/api/2.0/feature-store/tables/shop.silver.keyed/publish"
    done(stocked.call("POST", publish, {"publish_spec": spec}))
    wait_until(lambda: stocked.call("GET", READ)[1]["state"] == "ONLINE", timeout_s=60, what="the table online")
    sql(stocked, "INSERT INTO shop.silver.keyed VALUES (1, 1)")
    tab.open(PAGE)
    row = tab.page.get_by_role("row").filter(has_text="shop.silver.keyed_online")
    expect(row).to_contain_text("triggered, in page (embedded)")
    expect(row).to_contain_text("1 version, ")
    done(stocked.call("POST", publish, {"publish_spec": spec}))
    wait_until(lambda: stocked.call("GET", READ)[1]["versions_behind"] == 0, timeout_s=60, what="all being online")
    tab.open(PAGE)
    expect(row).to_contain_text("current")


def sql(server: Server, text: str) -> None:
    """Carry a statement out."""
    body = {"statement": text, "warehouse_id": "starter", "wait_timeout": "50s"}
    made = done(server.call("POST", "/api/2.0/sql/statements", body))
    assert made["status"]["state"] == "SUCCEEDED", made


def done(answer: tuple[int, Any]) -> Any:
    """The body of a call that has to succeed."""
    assert answer[0] == 200, answer
    return answer[1]
