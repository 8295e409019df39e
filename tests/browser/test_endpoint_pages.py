"""The tabs of an endpoint's page: each does its main act, and offers nobody what they may not do."""

import json
import re
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Tab, opened
from tests.servers import Server, run_cli, wait_until

NAME = "divided"
API, OURS = "/api/2.0/serving-endpoints", f"/api/millpond/serving-endpoints/{NAME}"
REQUEST = {"dataframe_records": [{"tenure": 1, "charges": 70.5}]}


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def divided(stocked: Server) -> Iterator[Server]:
    """An endpoint with two versions and an inference table, which has been asked."""
    entities = [
        {"entity_name": "shop.silver.churn", "entity_version": version, "name": f"v{version}"} for version in "12"
    ]
    routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in (("v1", 100), ("v2", 0))]
    capture = {"catalog_name": "main", "schema_name": "default"}
    config = {"served_entities": entities, "traffic_config": {"routes": routes}, "auto_capture_config": capture}
    assert stocked.call("POST", API, {"name": NAME, "config": config})[0] == 200
    wait_until(lambda: endpoint(stocked)["state"]["ready"] == "READY", timeout_s=120, what="the endpoint")
    for _ in range(3):
        assert stocked.call("POST", f"/serving-endpoints/{NAME}/invocations", REQUEST)[0] == 200
    yield stocked
    stocked.call("DELETE", f"{API}/{NAME}")


def endpoint(server: Server) -> dict:
    return server.call("GET", f"{API}/{NAME}")[1]


def shares(server: Server) -> dict[str, int]:
    wait_until(lambda: endpoint(server)["state"]["config_update"] == "NOT_UPDATING", what="the update")
    routes = endpoint(server)["config"]["traffic_config"]["routes"]
    return {route["served_entity_name"]: route["traffic_percentage"] for route in routes}


def test_traffic_is_divided_by_sliders_that_add_up(divided: Server, tab: Tab) -> None:
    tab.open(f"/serving/{NAME}")
    slider = tab.page.get_by_label("Traffic of v2", exact=True)
    slider.fill("30")
    expect(tab.page.locator(".mp-slider", has_text="v1")).to_contain_text("70 %")
    expect(tab.page.get_by_label("Traffic of v1", exact=True)).to_have_value("70")
    tab.page.get_by_role("button", name="Save traffic").click()
    expect(tab.page.get_by_role("row").filter(has_text="v2").first).to_contain_text("30 %")
    assert shares(divided) == {"v1": 70, "v2": 30}
    tab.open(f"/serving/{NAME}")  # it loads itself again when the update has ended
    tab.page.get_by_label("Traffic of v1", exact=True).fill("100")
    tab.page.get_by_role("button", name="Save traffic").click()
    expect(tab.page.get_by_role("row").filter(has_text="v1").first).to_contain_text("100 %")


def test_a_canary_is_begun_paused_and_aborted_from_its_page(divided: Server, tab: Tab) -> None:
    tab.open(f"/serving/{NAME}?tab=rollout")
    tab.page.get_by_label("Steps, %").fill("20, x")
    tab.page.get_by_role("button", name="Begin").click()
    expect(tab.page.get_by_text("Steps: 'x' is no number")).to_be_visible()
    tab.page.get_by_label("Steps, %").fill("20, 100")
    tab.page.get_by_role("button", name="Begin").click()
    expect(tab.page.get_by_text("v2 takes over from v1")).to_be_visible()
    assert shares(divided) == {"v1": 80, "v2": 20}
    tab.page.get_by_role("button", name="Pause").click()
    expect(tab.page.get_by_text("It is paused by")).to_be_visible()
    tab.open(f"/serving/{NAME}")
    tab.page.get_by_role("link", name="Its canary").click()
    tab.page.get_by_role("button", name="Abort").click()
    expect(tab.page.get_by_role("button", name="Cancel")).to_be_visible()
    tab.page.get_by_role("button", name="Abort").click()
    expect(tab.page.get_by_text("aborted it at 20 %")).to_be_visible()
    assert shares(divided) == {"v1": 100, "v2": 0}


def test_a_canary_is_begun_and_promoted_by_a_command(divided: Server) -> None:
    def canary(*args: str, check: bool = True) -> str:
        done = run_cli("endpoint", "canary", *args, "--data-dir", str(divided.data_dir), check=check)
        return done.stdout + done.stderr

    assert "--steps is a list of percentages" in canary("start", NAME, "v2", "--steps", "a", check=False)
    begun = canary("start", NAME, "v2", "--steps", "10,100", "--requests", "5")
    assert begun.startswith("v2: RUNNING, step 1 of 2, 10 % of the traffic.")
    assert json.loads(canary("status", NAME, "--json"))["guardrails"]["min_requests"] == 5
    assert "PAUSED" in canary("pause", NAME)
    assert "RUNNING" in canary("resume", NAME)
    assert "COMPLETED" in canary("promote", NAME)
    assert shares(divided) == {"v1": 0, "v2": 100}
    assert "no canary under way" in canary("abort", NAME, check=False)
    routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in (("v1", 100), ("v2", 0))]
    assert divided.call("PUT", f"{API}/{NAME}/config", {"traffic_config": {"routes": routes}})[0] == 200
    assert shares(divided) == {"v1": 100, "v2": 0}


def test_recorded_requests_are_seen_and_replayed(divided: Server, tab: Tab) -> None:
    tab.open(f"/serving/{NAME}?tab=requests")
    table = tab.page.get_by_role("region", name="Newest requests")
    wait_until(lambda: tab.open(f"/serving/{NAME}?tab=requests") and _is_shown(tab), timeout_s=60, what="the requests")
    expect(table).to_contain_text('{"tenure":1,"charges":70.5}')
    tab.open(f"/serving/{NAME}?tab=replays")
    tab.page.get_by_label("Version", exact=True).fill("2")
    tab.page.get_by_role("button", name="Replay").click()
    tab.page.get_by_role("link", name="Version 2").click()
    expect(tab.page.get_by_text("predictions differ.")).to_be_visible(timeout=60_000)
    expect(tab.page.get_by_role("region", name="Labels")).to_be_visible()


def _is_shown(tab: Tab) -> bool:
    place = tab.page.get_by_role("region", name="Newest requests").or_(tab.page.get_by_text("No requests yet"))
    expect(place).to_be_visible()
    return tab.page.get_by_role("region", name="Newest requests").is_visible()


def test_metrics_are_drawn_and_a_form_of_the_signature_asks(divided: Server, tab: Tab) -> None:
    tab.open(f"/serving/{NAME}?tab=try")
    tab.page.get_by_label("Value of tenure").fill("40")
    tab.page.get_by_label("Value of tenure").press("Tab")
    expect(tab.page.get_by_label("Request body, as JSON")).to_have_value(re.compile(r'"tenure": 40'))
    tab.page.get_by_role("button", name="Send").click()
    expect(tab.page.locator(".mp-card", has_text="Response")).to_contain_text("answered by v1")
    tab.open(f"/serving/{NAME}?tab=metrics")
    expect(tab.page.get_by_role("img", name=re.compile("Processes: v1 v1 1, v2 v2 1"))).to_be_visible()
    expect(tab.page.locator("canvas").first).to_be_visible()
    tab.open(f"/serving/{NAME}?tab=code")
    expect(tab.page.get_by_text("await fetch(")).to_be_visible()
    tab.open(f"/serving/{NAME}?tab=logs&entity=v2")
    expect(tab.page.get_by_text("How it was loaded")).to_be_visible()
    tab.open(f"/serving/{NAME}?tab=events")
    expect(tab.page.get_by_role("region", name="Events")).to_contain_text("Replica 1 answers")


def test_who_may_only_ask_is_offered_no_more(divided: Server, browser: Browser) -> None:
    name = f"asker-{uuid.uuid4().hex[:8]}@example.com"
    token = divided.new_user(name)
    levels = {"access_control_list": [{"user_name": name, "permission_level": "CAN_QUERY"}]}
    path = f"/api/2.0/permissions/serving-endpoints/{endpoint(divided)['id']}"
    assert divided.call("PATCH", path, levels)[0] == 200
    with opened(browser, divided, token) as tab:
        tab.expected.append("404|403")
        tab.open(f"/serving/{NAME}")
        expect(tab.page.get_by_role("region", name="Serving now")).to_be_visible()
        expect(tab.page.get_by_role("button", name="Save traffic")).to_have_count(0)
        expect(tab.page.get_by_role("link", name="Logs")).to_have_count(0)
        for each in ("rollout", "replays"):
            tab.open(f"/serving/{NAME}?tab={each}")
            expect(tab.page.get_by_role("button", name=re.compile("Begin|Replay"))).to_have_count(0)
        tab.open(f"/serving/{NAME}?tab=requests")
        expect(tab.page.get_by_role("alert")).to_contain_text("does not exist")
        assert tab.open(f"/serving/{NAME}?tab=logs").status == 404
    body = {"served_entity_name": "v2"}
    assert divided.call("POST", f"{OURS}/canary", body, token=token)[0] == 403
    assert divided.call("POST", f"{OURS}/replays", {"entity_version": "2"}, token=token)[0] == 403
