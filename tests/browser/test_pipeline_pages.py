"""Pipelines in Chromium: found, started, followed, looked into, stopped; and hidden from others."""

import io
import uuid
from dataclasses import dataclass

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.pipelines import (
    FileLibrary,
    PipelineAccessControlRequest,
    PipelineLibrary,
    PipelinePermissionLevel,
)
from playwright.sync_api import expect

from tests.browser.conftest import Tab
from tests.browser.markup import MARKUP
from tests.servers import Server, wait_until

pytestmark = pytest.mark.browser

SOURCE = """
import dlt
from pyspark.sql import SparkSession

spark = SparkSession.active()

@dlt.table
def orders():
    return spark.range(10).selectExpr("id", "id - 2 AS amount")

@dlt.table
@dlt.expect_or_drop("positive <b>amount</b>", "amount > 0")
@dlt.expect("even", "id % 2 = 0")
def good_orders():
    return spark.table("orders")
"""
SLOW = "import time\nprint('sleeps', flush=True)\ntime.sleep(600)\n"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A pipeline that was never started, and one that takes for ever."""

    w: WorkspaceClient
    name: str
    schema: str
    good: str
    slow: str


@pytest.fixture(scope="module")
def made(stocked: Server) -> Made:
    w = WorkspaceClient(host=stocked.url, token=stocked.token, auth_type="pat")
    tail = uuid.uuid4().hex[:8]
    schema = f"pipes_{tail}"
    w.schemas.create(schema, "main")
    w.volumes.create("main", schema, "v", VolumeType.MANAGED)

    def pipeline(name: str, text: str) -> str:
        path = f"/Volumes/main/{schema}/v/{uuid.uuid4().hex}.py"
        w.files.upload(path, io.BytesIO(text.encode()))
        library = PipelineLibrary(file=FileLibrary(path=path))
        created = w.pipelines.create(
            name=name, catalog="main", schema=schema, libraries=[library], tags={"team": tail}, development=True,
            configuration={"a.key": MARKUP},
        )  # fmt: skip
        return str(created.pipeline_id)

    name = f"{tail} {MARKUP}"
    return Made(w=w, name=name, schema=schema, good=pipeline(name, SOURCE), slow=pipeline(f"slow {tail}", SLOW))


def test_a_pipeline_is_started_and_its_datasets_seen(tab: Tab, made: Made) -> None:
    page = tab.page
    tab.open("/pipelines")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Pipelines")
    page.get_by_role("link", name=made.name).click()
    expect(page.get_by_text("No update yet")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("status").filter(has_text="Completed.")).to_be_visible(timeout=120_000)
    graph = page.get_by_role("region", name="Datasets and what each is made of")
    expect(graph.get_by_role("link", name="good_orders, completed, 7 rows")).to_be_visible()
    table = page.get_by_role("region", name="Datasets", exact=True)
    row = table.get_by_role("row").filter(has_text="good_orders")
    expect(row).to_contain_text("positive <b>amount</b>: 3 of 10 rows failed")
    expect(row).to_contain_text("3 rows dropped")
    graph.get_by_role("link", name="good_orders").click()
    page.wait_for_url(f"**/catalog/main/{made.schema}/tables/good_orders")

    tab.open(f"/pipelines/{made.good}?tab=updates")
    expect(page.get_by_role("table")).to_contain_text("what is new")
    tab.open(f"/pipelines/{made.good}?tab=events")
    expect(page.get_by_role("table")).to_contain_text("is COMPLETED")
    page.get_by_label("Level").select_option("ERROR")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_text("No such events")).to_be_visible()
    tab.open(f"/pipelines/{made.good}?tab=settings")
    expect(page.get_by_text("a.key").first).to_be_visible()
    tab.open(f"/pipelines/{made.good}?tab=permissions")
    expect(page.get_by_label("Permission level")).to_contain_text("CAN_RUN")
    run = made.w.api_client.do("GET", f"/api/2.0/pipelines/{made.good}/updates")["updates"][0]["job_run_id"]
    tab.open(f"/jobs/runs/{run}")
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name=made.name).click()
    expect(page.get_by_role("status").filter(has_text="Completed.")).to_be_visible()
    assert not tab.is_hurt()


def test_one_that_runs_is_followed_and_stopped(tab: Tab, made: Made) -> None:
    page = tab.page
    tab.open(f"/pipelines/{made.slow}")
    page.get_by_role("button", name="Validate").click()
    expect(page.get_by_role("status").filter(has_text="Starting.")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Validate")).to_have_count(0)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status").filter(has_text="Stopped.")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("validates only")).to_be_visible()
    page.get_by_role("button", name="Full refresh").click()
    expect(page.get_by_role("alert")).to_contain_text("Make all tables anew?")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert")).to_contain_text("Delete the pipeline")
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/pipelines")
    wait_until(lambda: made.slow not in [each.pipeline_id for each in made.w.pipelines.list_pipelines()])


def test_those_of_others_are_not_there_and_who_may_view_may_not_start(bobs_tab: Tab, made: Made) -> None:
    page, who = bobs_tab.page, bobs_tab
    who.expected.append("status of 404")
    assert who.open(f"/pipelines/{made.good}").status == 404
    expect(page.get_by_text("There is nothing here")).to_be_visible()
    who.open("/pipelines")
    expect(page.get_by_text("No pipelines yet")).to_be_visible()
    made.w.pipelines.update_permissions(made.good, access_control_list=[
        PipelineAccessControlRequest(group_name="users", permission_level=PipelinePermissionLevel.CAN_VIEW)
    ])  # fmt: skip
    assert who.open(f"/pipelines/{made.good}").status == 200
    expect(page.get_by_role("heading", level=1)).to_contain_text(made.name)
    expect(page.get_by_role("button", name="Start")).to_have_count(0)
