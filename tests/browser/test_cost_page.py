"""Cost in Chromium: usage as a chart and a table, a budget, a quota and a price are made, and a run tells its cost."""

import io
import re
import uuid

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.jobs import SparkPythonTask, SubmitTask
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Tab, opened
from tests.servers import Server

pytestmark = pytest.mark.browser

SOON_MS = 30_000
BURN = "import time\nuntil = time.process_time() + 0.3\nwhile time.process_time() < until:\n    pass\n"


def test_cost_is_seen_and_bounded(server: Server, browser: Browser) -> None:
    run_id, name = _burnt(server), f"b{uuid.uuid4().hex[:8]}"
    with opened(browser, server, server.token) as tab:
        _look_at_usage(tab, run_id)
        _make_rules(tab.page, tab, server, name)
    with opened(browser, server, server.new_user(f"{name}@cost.org")) as tab:
        tab.open("/cost?tab=quotas")
        expect(tab.page.get_by_text("Nothing is bounded.")).to_be_visible()
        expect(tab.page.get_by_role("link", name="Budgets")).to_have_count(0)
        expect(tab.page.get_by_role("form")).to_have_count(0)


def _burnt(server: Server) -> int:
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    schema = f"cost_{uuid.uuid4().hex[:8]}"
    w.schemas.create(schema, "main")
    w.volumes.create("main", schema, "v", VolumeType.MANAGED)
    path = f"/Volumes/main/{schema}/v/burn.py"
    w.files.upload(path, io.BytesIO(BURN.encode()))
    task = SubmitTask("t", spark_python_task=SparkPythonTask(python_file=path))
    run = w.jobs.submit(run_name="burner", tasks=[task]).result()
    assert run.run_id
    return run.run_id


def _look_at_usage(tab: Tab, run_id: int) -> None:
    page = tab.page
    tab.open("/cost?days=1")
    expect(page.get_by_role("img", name=re.compile(r"CPU, core-seconds: .*JOBS [\d.]+"))).to_be_visible()
    table = page.get_by_role("region", name="Usage")
    expect(table.get_by_text("JOBS_CPU", exact=True)).to_be_visible()
    page.get_by_role("navigation", name="Group").get_by_role("link", name="Object").click()
    expect(page.get_by_role("img", name=re.compile("job burner"))).to_be_visible()
    page.get_by_role("navigation", name="Measure").get_by_role("link", name="Requests").click()
    expect(page.get_by_role("img", name=re.compile("Requests: "))).to_be_visible()
    tab.open(f"/jobs/runs/{run_id}")
    expect(page.get_by_text("JOBS_CPU")).to_be_visible(timeout=SOON_MS)


def _make_rules(page: Page, tab: Tab, server: Server, name: str) -> None:
    tab.open("/cost?tab=quotas")
    form = page.get_by_role("form", name="New quota")
    server.new_user(f"{name}@nobody.org")
    form.get_by_label("Name").fill(f"{name}@nobody.org")
    form.get_by_label("Limit").fill("many")
    form.get_by_role("button", name="Create").click()
    expect(page.get_by_text("'many' is not a number.")).to_be_visible()
    form.get_by_label("Limit").fill("3600")
    form.get_by_role("button", name="Create").click()
    words = f"cpu_seconds per day of user {name}@nobody.org"
    page.get_by_role("button", name=f"Delete {words}").click()
    expect(page.get_by_role("button", name=f"Delete {words}")).to_have_count(0)

    tab.open("/cost?tab=budgets")
    form = page.get_by_role("form", name="New budget")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Tell at").fill("50")
    form.get_by_label("Of a tag").fill("team=red")
    form.get_by_role("button", name="Create").click()
    expect(page.get_by_text("50.00 a month").first).to_be_visible()
    expect(page.get_by_text("team = red").first).to_be_visible()
    page.get_by_role("button", name=f"Delete {name}").click()
    expect(page.get_by_role("button", name=f"Delete {name}")).to_have_count(0)

    tab.open("/cost?tab=prices")
    form = page.get_by_role("form", name="New price")
    form.get_by_label("SKU").select_option("JOBS_GPU")
    form.get_by_label("for one unit").fill("0.25")
    form.get_by_role("button", name="Set from this hour on").click()
    expect(page.get_by_role("region", name="Prices").get_by_text("0.25", exact=True)).to_be_visible()
    server.call("POST", "/api/millpond/prices", {"sku_name": "JOBS_GPU", "price": 0})
    tab.open("/cost?tab=waste")
    expect(page.get_by_role("heading", name="Cost")).to_be_visible()
