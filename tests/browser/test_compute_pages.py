"""Compute in Chromium: a cluster is made, watched until it runs, looked into and ended; a policy is edited."""

import re
import uuid

import pytest
from databricks.sdk import WorkspaceClient
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Tab, opened
from tests.servers import Server
from tests.workers import StandIn, new_worker_token

pytestmark = pytest.mark.browser

SOON_MS = 60_000


@pytest.mark.long
def test_a_cluster_is_made_watched_and_ended_and_a_policy_is_edited(server: Server, browser: Browser) -> None:
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    with opened(browser, server, server.token) as tab:
        _drive(server, w, tab)


def _drive(server: Server, w: WorkspaceClient, tab: Tab) -> None:
    name = f"browsed-{uuid.uuid4().hex[:8]}"
    page = tab.page
    tab.open("/compute")
    form = page.get_by_role("form", name="New cluster")
    form.get_by_label("Name").fill(name)
    form.get_by_role("button", name="Create").click()
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page.get_by_role("button", name="Restart")).to_be_visible(timeout=SOON_MS)
    [cluster] = [each for each in w.clusters.list() if each.cluster_name == name]
    expect(page.get_by_text("60 idle minutes")).to_be_visible()
    page.get_by_role("link", name="Events").click()
    expect(page.get_by_text("driver healthy")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible(timeout=SOON_MS)
    page.get_by_role("link", name="Details").click()
    expect(page.get_by_text(f"Ended by {server.user}.")).to_be_visible()
    w.clusters.permanent_delete(cluster.cluster_id)

    policy = w.cluster_policies.create(name=name, definition='{"num_workers": {"type": "fixed", "value": 0}}')
    tab.open("/compute?tab=policies")
    page.get_by_role("link", name=name).click()
    field = page.locator("textarea")
    field.fill('{"num_workers": {"type": "odd"}}')
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text(re.compile("has type 'odd'"))).to_be_visible()
    field.fill('{"num_workers": {"type": "range", "maxValue": 3}}')
    page.evaluate("window.before = true")
    page.get_by_role("button", name="Save").click()
    page.wait_for_function("!window.before")  # it loads again
    expect(field).to_have_value(re.compile('"maxValue": 3'))
    assert '"maxValue": 3' in (w.cluster_policies.get(policy.policy_id).definition or "")
    w.cluster_policies.delete(policy.policy_id)

    worker = StandIn(server=server, token=new_worker_token(server, name))
    assert worker.register(name=name, slots=3)[0] == 200
    tab.open("/compute?tab=workers")
    row = page.get_by_role("row", name=name)
    expect(row.get_by_text("ready")).to_be_visible()
    expect(row.get_by_text("0 of 3")).to_be_visible()
    worker.ask("leave")
