"""Jobs in Chromium: found, run, followed while they run, looked into, repaired; and hidden from others."""

import io
import re
import uuid
from dataclasses import dataclass
from datetime import timedelta
from socket import gethostname

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.jobs import (
    ConditionTask,
    ConditionTaskOp,
    ForEachTask,
    JobAccessControlRequest,
    JobParameterDefinition,
    JobPermissionLevel,
    PeriodicTriggerConfiguration,
    PeriodicTriggerConfigurationTimeUnit,
    SparkPythonTask,
    Task,
    TaskDependency,
    TriggerSettings,
)
from playwright.sync_api import Page, expect

from tests.browser.conftest import Tab
from tests.browser.markup import MARKUP
from tests.servers import Server, wait_until

pytestmark = pytest.mark.browser

LONG = timedelta(seconds=120)
HOURLY = TriggerSettings(
    periodic=PeriodicTriggerConfiguration(interval=2, unit=PeriodicTriggerConfigurationTimeUnit.HOURS)
)
TRAIN = """
import mlflow
mlflow.set_experiment("/jobs-pages")
with mlflow.start_run(run_name="made-by-a-task"):
    mlflow.log_metric("auc", 0.8)
raise ValueError("no champion: <b>main.ml.churn</b>")
"""
TALKS = "import time\nfor number in range(600):\n    print('line', number, flush=True)\n    time.sleep(0.1)"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A job that has run once, and failed; and one that talks for a minute."""

    w: WorkspaceClient
    name: str
    volume: str
    job_id: int
    run_id: int
    talking_id: int

    def upload(self, name: str, text: str) -> SparkPythonTask:
        """A script."""
        self.w.files.upload(f"{self.volume}/{name}.py", io.BytesIO(text.encode()), overwrite=True)
        return SparkPythonTask(f"{self.volume}/{name}.py")


@pytest.fixture(scope="module")
def made(stocked: Server) -> Made:
    w = WorkspaceClient(host=stocked.url, token=stocked.token, auth_type="pat")
    tail = uuid.uuid4().hex[:8]
    w.schemas.create(f"jobs_{tail}", "main")
    w.volumes.create("main", f"jobs_{tail}", "v", VolumeType.MANAGED)
    blank = Made(w=w, name=f"{tail} {MARKUP}", volume=f"/Volumes/main/jobs_{tail}/v", job_id=0, run_id=0, talking_id=0)
    one = blank.upload("one", f"import sys\nprint('country', sys.argv[1])\nprint('''{MARKUP}''')")
    one.parameters = ["{{input}}"]
    enough = ConditionTask(ConditionTaskOp.GREATER_THAN, "{{tasks.count.values.rows}}", "{{job.parameters.least}}")
    count = blank.upload("count", "dbutils.jobs.taskValues.set('rows', 12)")
    job = w.jobs.create(
        name=blank.name,
        tags={"team": tail},
        parameters=[JobParameterDefinition("least", "10")],
        trigger=HOURLY,
        tasks=[
            Task("count", spark_python_task=count),
            Task("enough", depends_on=[TaskDependency("count")], condition_task=enough),
            Task("train", depends_on=[TaskDependency("enough", "true")],
                 spark_python_task=blank.upload("train", TRAIN)),
            Task("alert", depends_on=[TaskDependency("enough", "false")], spark_python_task=count),
            Task("each", for_each_task=ForEachTask('["at", "de"]', Task("one", spark_python_task=one), concurrency=2)),
        ],
    )  # fmt: skip
    run = w.jobs.run_now_and_wait(job.job_id, timeout=LONG)
    talks = w.jobs.create(name=f"{tail} talks", tasks=[Task("talk", spark_python_task=blank.upload("talk", TALKS))])
    return Made(
        w=w, name=blank.name, volume=blank.volume, job_id=job.job_id, run_id=run.run_id, talking_id=talks.job_id
    )


def state(page: Page) -> object:
    """The sentence that says how a run stands."""
    return expect(page.locator(".mp-run-state"))


def fits(tab: Tab) -> bool:
    """Whether the page is no wider than its window, and each of its controls has a name."""
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    nameless = """[...document.querySelectorAll('main a, main button, main input')].filter(e => e.checkVisibility() &&
        !(e.getAttribute('aria-label') || e.title || e.labels?.length || e.textContent.trim())).length"""
    return not tab.page.evaluate(wide) and tab.page.evaluate(nameless) == 0


def test_a_job_is_found_run_and_followed_to_its_end(tab: Tab, made: Made) -> None:
    page = tab.page
    tab.open(f"/jobs?q={made.name[:8].upper()}&tag=team")
    rows = page.get_by_role("region", name="Jobs").get_by_role("row")
    expect(rows).to_have_count(2)
    expect(rows.last).to_contain_text(f"team: {made.name[:8]}")
    expect(rows.last).to_contain_text("Every 2 hours")
    expect(rows.last).to_contain_text("in 1 hour")
    expect(rows.last.locator(".mp-squares a")).to_have_attribute("aria-label", re.compile("^failed, "))
    assert fits(tab)
    made.upload("train", "print('mended')")
    rows.last.get_by_role("button").click()
    page.wait_for_url("**/jobs/runs/*")
    state(page).to_have_text(re.compile("Succeeded"))
    expect(page.get_by_role("link", name="alert, skipped")).to_be_visible()
    assert not tab.is_hurt()


def test_a_jobs_page_has_its_matrix_tasks_settings_and_rights(tab: Tab, made: Made) -> None:
    page = tab.page
    tab.open(f"/jobs/{made.job_id}")
    here = page.locator(".mp-matrix-here")
    expect(page.get_by_role("listitem").filter(has_text="train")).to_be_visible()
    page.locator(".mp-matrix").get_by_role("link").last.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("main").get_by_role("status").first).to_contain_text("train: failed")
    expect(here).to_have_attribute("href", f"/jobs/runs/{made.run_id}/tasks/train")
    assert fits(tab)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Every 2 hours, paused")).to_be_visible()
    assert made.w.jobs.get(made.job_id).settings.trigger.pause_status.value == "PAUSED"
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Every 2 hours", exact=True)).to_be_visible()
    page.get_by_text("Run with other parameters").click()
    page.get_by_label("least", exact=True).fill("12")
    page.get_by_role("button", name="Run with these").click()
    page.wait_for_url("**/jobs/runs/*")
    state(page).to_have_text(re.compile("Succeeded"))
    expect(page.get_by_role("link", name="train, skipped")).to_be_visible()
    tab.open(f"/jobs/{made.job_id}?tab=tasks&task=train")
    expect(page.get_by_role("region", name="Tasks", exact=True).get_by_role("row")).to_have_count(6)
    expect(page.locator("pre", has_text="train.py")).to_be_visible()
    tab.open(f"/jobs/{made.job_id}?tab=settings")
    expect(page.locator("pre").first).to_contain_text("task_key: enough")
    expect(page.get_by_text("Runs as")).to_be_visible()
    tab.open(f"/jobs/{made.job_id}?tab=permissions")
    expect(page.get_by_role("heading", name="Grant", exact=True)).to_be_visible()
    assert not tab.is_hurt()


def test_a_failed_run_says_why_leads_to_its_log_and_is_repaired(tab: Tab, made: Made) -> None:
    page = tab.page
    told = made.w.jobs.get_run(made.run_id)
    made.upload("train", "print('mended')")
    tab.open(told.run_page_url.removeprefix(tab.url))
    state(page).to_contain_text("Task train failed: ValueError: no champion: <b>main.ml.churn</b>")
    expect(page.get_by_role("link", name="made-by-a-task")).to_be_visible()
    expect(page.get_by_role("link", name="train, failed")).to_be_visible()
    assert fits(tab)
    page.get_by_role("link", name="Timeline").click()
    expect(page.locator(".mp-timeline a", has_text="count")).to_contain_text(re.compile("set up .*, ran"))
    page.get_by_role("link", name="Search in logs").click()
    page.get_by_label("Words in the logs").fill("COUNTRY D")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="each, input 1").click()
    expect(page.get_by_role("log")).to_contain_text(f"country de\n{MARKUP}")
    train = next(task for task in told.tasks if task.task_key == "train")
    tab.open(train.run_page_url.removeprefix(tab.url))
    expect(page.get_by_role("log")).to_contain_text("Traceback")
    tab.open(f"/jobs/runs/{made.run_id}/tasks/count")
    expect(page.locator("dl", has_text="rows").get_by_text("12")).to_be_visible()
    tab.open(f"/jobs/runs/{made.run_id}")
    page.get_by_text("Repair: run tasks again").click()
    page.get_by_role("button", name="Repair").click()
    state(page).to_have_text(re.compile("Succeeded"))
    expect(page.get_by_text("once")).to_be_visible()
    tab.open(f"/jobs/runs/{made.run_id}/tasks/train")
    expect(page.get_by_role("region", name="Attempts").get_by_role("row")).to_have_count(3)
    assert not tab.is_hurt()


def test_a_log_is_read_while_it_is_written_and_the_run_is_cancelled(tab: Tab, made: Made) -> None:
    page = tab.page
    run_id = made.w.jobs.run_now(made.talking_id).run_id
    tab.open(f"/jobs/runs/{run_id}/tasks/talk")
    log = page.get_by_role("log")
    expect(log).to_contain_text("line 2")
    page.evaluate("window.stays = true")
    expect(log).to_contain_text("line 25")
    assert page.evaluate("window.stays")
    page.get_by_role("link", name=f"Run {run_id}").click()
    state(page).to_contain_text("0 of 1 tasks have ended; talk running")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("alert").locator("..").get_by_role("button", name="Cancel").first.click()
    state(page).to_contain_text("Cancelled. Repair the run")
    expect(page.get_by_role("link", name="talk, cancelled")).to_be_visible()


def test_what_somebody_types_stays_when_a_run_ends(tab: Tab, made: Made) -> None:
    page = tab.page
    run_id = made.w.jobs.run_now(made.talking_id).run_id
    tab.open(f"/jobs/runs/{run_id}?tab=logs")
    words = page.get_by_label("Words in the logs")
    words.fill("half a wo")
    made.w.jobs.cancel_run(run_id)
    expect(page.locator("#mp-moved-on")).to_be_visible(timeout=60_000)
    expect(words).to_have_value("half a wo")
    assert fits(tab)
    page.get_by_role("button", name="Load again").click()
    state(page).to_contain_text("Cancelled. Repair the run")
    expect(words).to_have_value("")


def test_a_run_has_what_it_read_and_wrote_and_a_table_the_jobs_that_did(tab: Tab, made: Made) -> None:
    page, schema = tab.page, made.volume.split("/")[3]
    text = f"""
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
spark.sql("CREATE TABLE main.{schema}.loaded AS SELECT 1 AS a")
spark.table("main.{schema}.loaded").count()
"""
    name = f"{made.name[:8]} loads"
    job = made.w.jobs.create(name=name, tasks=[Task("load", spark_python_task=made.upload("load", text))]).job_id
    run = made.w.jobs.run_now_and_wait(job, timeout=LONG)
    path = f"/api/millpond/jobs/runs/{run.run_id}/lineage"
    wait_until(lambda: len(made.w.api_client.do("GET", path)["lineage"]) == 2, what="what it did to be noted")
    tab.open(f"/jobs/runs/{run.run_id}/tasks/load")
    expect(page.get_by_text(f"server {gethostname()}")).to_be_visible()
    expect(page.get_by_role("region", name="Lineage").get_by_role("row").filter(has_text="wrote")).to_have_count(1)
    tab.open(f"/jobs/runs/{run.run_id}")
    done = page.get_by_role("region", name="Lineage")
    expect(done.get_by_role("row").filter(has_text="read")).to_contain_text(f"main.{schema}.loaded")
    expect(done.get_by_role("link", name="load", exact=True).first).to_have_attribute(
        "href", re.compile(rf"/jobs/runs/{run.run_id}/tasks/load\?attempt=")
    )
    assert fits(tab)
    done.get_by_role("link", name=f"main.{schema}.loaded").first.click()
    jobs = page.get_by_role("region", name="Jobs that use it")
    expect(jobs.get_by_role("row").filter(has_text="wrote")).to_contain_text(name)
    expect(jobs.get_by_role("link", name=f"run {run.run_id}").first).to_be_visible()
    assert fits(tab)
    jobs.get_by_role("link", name=name).first.click()
    page.wait_for_url(f"**/jobs/{job}")
    assert not tab.is_hurt()


def test_jobs_of_others_are_not_there_and_who_may_view_may_not_run(
    bobs_tab: Tab, made: Made, bobs_token: str, stocked: Server
) -> None:
    page = bobs_tab.page
    bobs_tab.expected.append("status of 404")
    run = f"/jobs/runs/{made.run_id}"
    for path in (f"/jobs/{made.job_id}", run, f"{run}?tab=logs&q=country", f"{run}/tasks/train"):
        assert bobs_tab.open(path).status == 404, path
        assert "no champion" not in page.content()
    bobs_tab.open(f"/jobs?q={made.name[:8]}")
    expect(page.get_by_role("heading", name="No such job")).to_be_visible()

    def give(level: JobPermissionLevel) -> None:
        bob = JobAccessControlRequest(user_name="bob@example.com", permission_level=level)
        made.w.jobs.set_permissions(str(made.job_id), access_control_list=[bob])

    give(JobPermissionLevel.CAN_VIEW)
    bobs_tab.open(f"/jobs/{made.job_id}")
    expect(page.locator(".mp-matrix")).to_be_visible()
    expect(page.get_by_role("button", name="Run now")).to_have_count(0)
    bobs_tab.open(run)
    expect(page.get_by_text("Repair: run tasks again")).to_have_count(0)
    give(JobPermissionLevel.CAN_MANAGE_RUN)
    bobs_tab.open(f"/jobs/{made.job_id}")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    give(JobPermissionLevel.CAN_VIEW)
    runs = len(list(made.w.jobs.list_runs(job_id=made.job_id)))
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_text(re.compile("may not"))).to_be_visible()
    assert len(list(made.w.jobs.list_runs(job_id=made.job_id))) == runs
