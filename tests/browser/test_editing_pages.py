"""Alerts and jobs made and changed in Chromium: what is wrong is said, and nobody else may."""

import re
import uuid

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import jobs, sql
from playwright.sync_api import Page, expect

from tests.browser.conftest import Tab
from tests.browser.markup import MARKUP
from tests.servers import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def w(stocked: Server) -> WorkspaceClient:
    return WorkspaceClient(host=stocked.url, token=stocked.token, auth_type="pat")


def write(page: Page, text: str) -> None:
    """Put a text into the editor, as somebody who types it."""
    page.locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def field(page: Page, name: str) -> object:
    return page.get_by_label(name, exact=True)


def test_an_alert_is_made_evaluated_changed_and_put_away(tab: Tab, w: WorkspaceClient) -> None:
    page, name = tab.page, f"{uuid.uuid4().hex[:6]} {MARKUP}"
    tab.open("/sql/alerts")
    page.get_by_role("link", name="New alert").click()
    field(page, "Name").fill(name)
    write(page, "SELECT tenure AS months FROM shop.silver.loyal")
    field(page, "Of it").select_option("MAX")
    field(page, "Threshold").fill("many")
    field(page, "E-mail addresses").fill("nobody")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("'many' is no number")
    expect(field(page, "Name")).to_have_value(name)
    field(page, "Threshold").fill("200")
    field(page, "Column").fill("months")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("no e-mail address")
    field(page, "E-mail addresses").fill("")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(re.compile("/sql/alerts/[0-9a-f-]{36}$"))
    page.get_by_role("button", name="Evaluate now").click()
    row = page.get_by_role("region", name="Evaluations").get_by_role("row").nth(1)
    expect(row).to_contain_text("299")
    expect(row).to_contain_text("triggered")
    page.get_by_role("link", name="Edit").click()
    expect(field(page, "Threshold")).to_have_value("200")
    field(page, "Threshold").fill("300")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Evaluate now").click()
    expect(page.get_by_role("img", name="MAX(months) over time")).to_be_visible()
    made = next(each for each in w.alerts_v2.list_alerts() if each.display_name == name)
    assert made.evaluation.state is sql.AlertEvaluationState.OK
    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_text("MAX(months) > 300").first).to_be_visible()
    page.get_by_role("link", name="Permissions").click()
    expect(page.get_by_role("heading", name="Grant", exact=True)).to_be_visible()
    tab.open(f"/sql/alerts?q={name[:6]}")
    expect(page.get_by_role("region", name="Alerts").get_by_role("row").nth(1)).to_contain_text("MAX(months) > 300")
    page.get_by_role("link", name=name).click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Put the alert into the trash?")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/sql/alerts")
    assert w.alerts_v2.get_alert(made.id).lifecycle_state is sql.AlertLifecycleState.DELETED
    assert not tab.is_hurt()


def test_a_saved_query_gets_an_alert(tab: Tab, w: WorkspaceClient) -> None:
    page, name = tab.page, f"orders {uuid.uuid4().hex[:6]}"
    made = w.queries.create(query=sql.CreateQueryRequestQuery(display_name=name, query_text="SELECT 'red' AS light"))
    tab.open(f"/sql/queries/{made.id}")
    page.get_by_role("link", name="Alert", exact=True).click()
    expect(field(page, "Name")).to_have_value(name)
    expect(page.locator(".cm-content")).to_be_hidden()
    field(page, "Column").fill("light")
    field(page, "Is").select_option("EQUAL")
    field(page, "The threshold is a").select_option("text")
    field(page, "Threshold").fill("red")
    field(page, "Quartz cron expression").fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Not evaluated yet")).to_be_visible()
    alert = next(each for each in w.alerts.list() if each.display_name == name)
    assert (alert.query_id, alert.condition.threshold.value.string_value) == (made.id, "red")


def test_a_job_is_made_and_changed_in_the_form_and_as_yaml(tab: Tab, w: WorkspaceClient) -> None:
    page, name = tab.page, f"{uuid.uuid4().hex[:6]} {MARKUP}"
    tab.open("/jobs")
    page.get_by_role("link", name="New job").click()
    field(page, "Name").fill(name)
    field(page, "Does").select_option("condition")
    field(page, "Left").fill("{{job.parameters.least}}")
    field(page, "Right").fill("1")
    page.get_by_role("button", name="Add a task").click()
    second = page.get_by_role("region", name="Task task_2")
    expect(second.get_by_label("After", exact=True)).to_have_value("main")
    field(page, "Parameters, name = default").fill("least = 1")
    field(page, "It starts").select_option("cron")
    field(page, "Quartz cron expression").fill("at noon")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("notebook_path: Field required")
    expect(field(page, "Name")).to_have_value(name)
    expect(field(page, "Left")).to_have_value("{{job.parameters.least}}")
    page.get_by_role("button", name="Remove task task_2").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("no Quartz cron expression")
    field(page, "Quartz cron expression").fill("0 0 12 * * ?")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
    job_id = int(page.url.rpartition("/")[2])
    settings = w.jobs.get(job_id).settings
    assert (settings.name, settings.schedule.quartz_cron_expression) == (name, "0 0 12 * * ?")
    assert settings.parameters == [jobs.JobParameterDefinition(name="least", default="1")]
    assert settings.tasks[0].condition_task.op is jobs.ConditionTaskOp.EQUAL_TO
    page.get_by_role("link", name="Edit").click()
    page.get_by_role("link", name="YAML").click()
    expect(page.locator(".cm-content")).to_contain_text("quartz_cron_expression")
    write(page, "name: mended\ntasks:\n- task_key: a\n  spark_jar_task: {main_class_name: x}")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("spark_jar_task, which this Millpond's jobs do not have")
    write(page, "name: mended\ntasks: [")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be read in line")
    w.jobs.update(job_id, new_settings=jobs.JobSettings(description="by somebody else"))
    write(page, '{"name": "mended", "tasks": []}')
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("changed meanwhile")
    page.reload()
    expect(page.locator(".cm-content")).to_contain_text("by somebody else")
    write(page, '{"name": "mended", "tasks": []}')
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="mended")).to_be_visible()
    assert w.jobs.get(job_id).settings.name == "mended"
    assert not tab.is_hurt()


def test_what_is_saved_unchanged_stays_as_it_was(tab: Tab, w: WorkspaceClient) -> None:
    script = jobs.SparkPythonTask(python_file="/Volumes/a/b/c/s.py", parameters=["--name", "", "two\nlines"])
    job = w.jobs.create(
        name="kept", parameters=[jobs.JobParameterDefinition("cfg", "a=1\nb=2")], tags={"team": "ml"},
        tasks=[jobs.Task("t", spark_python_task=script, max_retries=0)],
    ).job_id  # fmt: skip
    before = w.jobs.get(job).settings
    tab.open(f"/jobs/{job}/edit")
    expect(tab.page.get_by_text("The parameters do not fit on lines")).to_be_visible()
    tab.page.get_by_role("button", name="Save").click()
    tab.page.wait_for_url(re.compile(rf"/jobs/{job}$"))
    assert w.jobs.get(job).settings == before
    alert = w.alerts_v2.create_alert(sql.AlertV2.from_dict({
        "display_name": "kept", "query_text": "SELECT 1 AS n", "warehouse_id": "starter",
        "evaluation": {
            "source": {"name": "n", "display": "Rows"}, "comparison_operator": "LESS_THAN",
            "threshold": {"value": {"double_value": 1234567}},
        },
        "schedule": {"quartz_cron_schedule": "0 0 3 * * ?", "timezone_id": "UTC"},
    }))  # fmt: skip
    tab.open(f"/sql/alerts/{alert.id}/edit")
    tab.page.get_by_role("button", name="Save").click()
    tab.page.wait_for_url(re.compile(rf"/sql/alerts/{alert.id}$"))
    assert w.alerts_v2.get_alert(alert.id).evaluation == alert.evaluation
    assert not tab.is_hurt()


def test_the_form_of_a_job_of_many_tasks_leaves_them_alone(tab: Tab, w: WorkspaceClient) -> None:
    equal = jobs.ConditionTask(op=jobs.ConditionTaskOp.EQUAL_TO, left="1", right="1")
    tasks = [jobs.Task(f"t{number}", condition_task=equal) for number in range(51)]
    job_id = w.jobs.create(name="many", tasks=tasks).job_id
    tab.open(f"/jobs/{job_id}/edit")
    expect(tab.page.get_by_text("There are 51, too many for a form")).to_be_visible()
    field(tab.page, "Tags, name = value").fill("team = ml")
    tab.page.get_by_role("button", name="Save").click()
    tab.page.wait_for_url(re.compile(rf"/jobs/{job_id}$"))
    settings = w.jobs.get(job_id).settings
    assert (settings.tags, len(settings.tasks)) == ({"team": "ml"}, 51)


def test_nobody_else_sees_or_changes_them(bobs_tab: Tab, w: WorkspaceClient) -> None:
    job = w.jobs.create(name="not bob's").job_id
    alert = w.alerts_v2.create_alert(sql.AlertV2.from_dict({
        "display_name": "not bob's", "query_text": "SELECT 1", "warehouse_id": "starter",
        "evaluation": {"source": {"name": "1"}, "comparison_operator": "IS_NULL"},
        "schedule": {"quartz_cron_schedule": "0 0 3 * * ?", "timezone_id": "UTC"},
    }))  # fmt: skip
    bobs_tab.expected.append("404")
    for path in (f"/jobs/{job}/edit", f"/sql/alerts/{alert.id}", f"/sql/alerts/{alert.id}/edit"):
        assert bobs_tab.open(path).status == 404
        expect(bobs_tab.page.get_by_text("There is nothing here")).to_be_visible()
    bobs_tab.open("/sql/alerts")
    expect(bobs_tab.page.get_by_text("No alerts yet")).to_be_visible()
    level = jobs.JobAccessControlRequest(
        user_name="bob@example.com", permission_level=jobs.JobPermissionLevel.CAN_MANAGE_RUN
    )
    w.jobs.set_permissions(str(job), access_control_list=[level])
    bobs_tab.expected.append("403")
    assert bobs_tab.open(f"/jobs/{job}/edit").status == 403
    bobs_tab.open(f"/jobs/{job}")
    expect(bobs_tab.page.get_by_role("link", name="Edit")).to_have_count(0)
