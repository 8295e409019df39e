"""Cost and quota through the official clients: what a user's work used, what it costs, who is told, what is refused."""

import io
import sqlite3
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest
from databricks.sdk import AccountClient, WorkspaceClient
from databricks.sdk.errors import BadRequest, NotFound, PermissionDenied
from databricks.sdk.service.billing import (
    ActionConfigurationType,
    AlertConfigurationQuantityType,
    AlertConfigurationTimePeriod,
    AlertConfigurationTriggerType,
    BudgetConfigurationFilter,
    BudgetConfigurationFilterClause,
    BudgetConfigurationFilterOperator,
    BudgetConfigurationFilterTagClause,
    CreateBudgetConfigurationBudget,
    CreateBudgetConfigurationBudgetActionConfigurations,
    CreateBudgetConfigurationBudgetAlertConfigurations,
    UpdateBudgetConfigurationBudget,
)
from databricks.sdk.service.catalog import PermissionsChange, Privilege, SecurableType, VolumeType
from databricks.sdk.service.jobs import CronSchedule, JobSettings, RunResultState, SparkPythonTask, SubmitTask, Task
from databricks.sdk.service.serving import EndpointCoreConfigInput, EndpointTag, ServedEntityInput
from databricks.sdk.service.settings import Config, GenericWebhookConfig
from databricks.sdk.service.sql import Disposition, Format, StatementState
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from tests.clients.mlflow_session import signed_in
from tests.conftest import LOCAL_WEBHOOKS
from tests.receivers import receiving
from tests.servers import Server, run_cli, running_server, wait_until

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]  # the clients' warnings are not ours
PATIENCE = timedelta(minutes=5)
BURN = "import time\nuntil = time.process_time() + 0.6\nwhile time.process_time() < until:\n    pass\n"
METERED = {"MILLPOND_BILLING__INTERVAL_S": "1", "MILLPOND_SMTP__HOST": "127.0.0.1", "MILLPOND_SMTP__SENDER": "m@b.org"}
SCALE = Path(__file__).parents[1] / "serving" / "pyfuncs" / "scale.py"


@dataclass(frozen=True)
class Shop:
    """A server that meters every second, its administrator, and Ann."""

    server: Server
    w: WorkspaceClient
    ann: WorkspaceClient
    name: str
    token: str
    volume: str
    warehouse: str

    def get(self, path: str, token: str | None = None) -> dict[str, Any]:
        status, body = self.server.call("GET", f"/api/millpond/{path}", token=token)
        assert status == 200, body
        return body

    def set(self, path: str, **body: Any) -> dict[str, Any]:
        status, found = self.server.call("POST", f"/api/millpond/{path}", body)
        assert status == 200, found
        return found

    def used(self, sku: str, **asked: str) -> float:
        """What was used of a SKU."""
        query = "&".join(f"{name}={value}" for name, value in asked.items())
        return sum(each["usage_quantity"] for each in self.get(f"usage?{query}")["usage"] if each["sku_name"] == sku)

    def script(self, text: str) -> SparkPythonTask:
        path = f"{self.volume}/s{uuid.uuid4().hex[:10]}.py"
        self.w.files.upload(path, io.BytesIO(text.encode()))
        return SparkPythonTask(python_file=path)

    def sql(self, client: WorkspaceClient, text: str, **more: Any) -> list[list[Any]]:
        done = client.statement_execution.execute_statement(
            text, self.warehouse, disposition=Disposition.INLINE, format=Format.JSON_ARRAY, wait_timeout="50s", **more
        )
        assert done.status is not None
        assert done.status.state is StatementState.SUCCEEDED, done.status.error
        return (done.result and done.result.data_array) or []

    def without_quota(self, quota: dict[str, Any]) -> None:
        assert self.server.call("DELETE", f"/api/millpond/quotas/{quota['id']}")[0] == 200


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    place = tmp_path_factory.mktemp("billing") / "data"
    with running_server(place, env=LOCAL_WEBHOOKS | METERED) as server:
        w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
        w.schemas.create("cost", "main")
        w.volumes.create("main", "cost", "v", VolumeType.MANAGED)
        name = "ann@cost.org"
        token = server.new_user(name)
        ann = WorkspaceClient(host=server.url, token=token, auth_type="pat")
        for kind, full, privileges in (
            (SecurableType.CATALOG, "main", [Privilege.USE_CATALOG]),
            (SecurableType.SCHEMA, "main.cost", [Privilege.USE_SCHEMA, Privilege.CREATE_TABLE, Privilege.READ_VOLUME]),
        ):
            w.grants.update(kind.value, full, changes=[PermissionsChange(add=privileges, principal=name)])
        [warehouse] = list(w.warehouses.list())
        yield Shop(server, w, ann, name, token, "/Volumes/main/cost/v", warehouse.id)


@pytest.fixture(autouse=True)
def _leaves_neither_clusters_nor_quotas(shop: Shop) -> Iterator[None]:
    yield
    for cluster in shop.w.clusters.list():
        shop.w.clusters.permanent_delete(cluster.cluster_id)
    for quota in shop.get("quotas")["quotas"]:
        shop.without_quota(quota)


def test_a_run_costs_what_its_processes_used_and_says_so(shop: Shop) -> None:
    shop.set("prices", sku_name="JOBS_CPU", price=2.0)
    run = shop.ann.jobs.submit(
        run_name="burn", tasks=[_task(shop.script("import subprocess, sys\n" + BURN + _BELOW))]
    ).result(PATIENCE)
    assert run.state.result_state is RunResultState.SUCCESS
    used = shop.used("JOBS_CPU", run_id=str(run.run_id))
    assert 1.2 <= used < 8
    assert shop.used("JOBS_MEMORY", run_id=str(run.run_id)) > 0
    [told] = [each for each in shop.get(f"usage?run_id={run.run_id}")["usage"] if each["sku_name"] == "JOBS_CPU"]
    assert told["cost"] == pytest.approx(2 * used)
    assert shop.used("JOBS_CPU", run_id=str(run.run_id), group_by="user") == used
    # exactly once, however long one looks
    before = time.monotonic()
    wait_until(lambda: time.monotonic() - before > 2, what="two rounds of the meter")
    assert shop.used("JOBS_CPU", run_id=str(run.run_id)) == used


_BELOW = f"subprocess.run([sys.executable, '-c', {BURN!r}], check=True)\n"


def _task(script: SparkPythonTask) -> SubmitTask:
    return SubmitTask("t", spark_python_task=script)


@pytest.fixture(scope="module")
def endpoint(shop: Shop) -> str:
    """An endpoint whose processes are kept up."""
    with signed_in(shop.server) as client, mlflow.start_run(experiment_id=client.create_experiment("cost")):
        mlflow.pyfunc.log_model(
            name="model", python_model=str(SCALE), pip_requirements=["mlflow"],
            registered_model_name="main.cost.scale",
        )  # fmt: skip
    entity = ServedEntityInput(entity_name="main.cost.scale", entity_version="1", workload_size="Small")
    shop.w.serving_endpoints.create_and_wait(
        "scaled", config=EndpointCoreConfigInput("scaled", served_entities=[entity]), tags=[EndpointTag("team", "red")],
        timeout=PATIENCE,
    )  # fmt: skip
    return "scaled"


def test_an_endpoint_counts_requests_for_who_asks_and_its_processes_for_its_owner(shop: Shop, endpoint: str) -> None:
    rows = [{"x": 1.0}]
    for _ in range(3):
        shop.w.serving_endpoints.query("scaled", dataframe_records=rows)
    requests = lambda **asked: shop.used("MODEL_SERVING_REQUEST", kind="endpoint", **asked)  # noqa: E731
    wait_until(lambda: requests() == 3, what="the requests")
    wait_until(lambda: shop.used("MODEL_SERVING_MEMORY", kind="endpoint") > 0, what="the replica's memory")
    assert shop.used("MODEL_SERVING_CPU", kind="endpoint") > 0
    by_tag = shop.get("usage?group_by=tag&tag=team&product=MODEL_SERVING")["usage"]
    assert {each["tag"] for each in by_tag} == {"red"}
    by_object = shop.get("usage?group_by=object&product=MODEL_SERVING")["usage"]
    assert {(each["kind"], each["name"]) for each in by_object} == {("endpoint", "scaled")}

    quota = shop.set("quotas", holder="user", name=shop.server.user, measure="requests", limit=3, period="DAY")
    time_s = time.monotonic()

    def refused() -> str:
        try:
            shop.w.serving_endpoints.query("scaled", dataframe_records=rows)
        except BadRequest as error:
            return str(error)
        return ""

    told = wait_until(refused, what="the quota to count")
    assert "requests per day of user admin@millpond.local" in told
    assert time.monotonic() - time_s < 20
    shop.without_quota(quota)
    wait_until(lambda: not refused(), what="the quota to be gone")


def test_what_runs_idle_or_is_used_by_nobody_is_reported_to_who_may_see_it(shop: Shop, endpoint: str) -> None:
    def found(token: str | None = None) -> dict[str, str]:
        return {f"{each['kind']} {each['name']}": each["why"] for each in shop.get("waste?days=2", token)["waste"]}

    cluster = shop.w.clusters.create(
        "1.0.x-scala2.12", cluster_name="idle", node_type_id="local.1c2g", num_workers=0
    ).result(PATIENCE)  # fmt: skip
    warehouse = shop.w.warehouses.create(name="quiet", cluster_size="Small").result(PATIENCE)
    shop.sql(shop.w, "CREATE TABLE main.cost.features (id BIGINT NOT NULL, x DOUBLE, CONSTRAINT pk PRIMARY KEY (id))")
    assert found() == {}  # all of it was made just now
    _age(shop, "compute_clusters", "used_at", "id", cluster.cluster_id)
    _age(shop, "sql_warehouses", "created_at", "id", warehouse.id)
    _age(shop, "serving_endpoints", "created_at", "name", endpoint)
    _age(shop, "billing_usage", "hour", "sku", "MODEL_SERVING_REQUEST")
    _age(shop, "catalog_tables", "created_at", "name", "features")
    told = found()
    assert "was last used at" in told["cluster idle"]
    assert told["warehouse quiet"] == "It runs, and had no statement in the last 2 days."
    assert told["endpoint scaled"] == "Nobody asked it in the last 2 days."
    assert "No model, endpoint, function or online table uses it." in told["feature table main.cost.features"]
    assert found(shop.token) == {}
    assert "cluster idle (admin@millpond.local): It runs" in run_cli(
        "waste", "--data-dir", str(shop.server.data_dir), "--days", "2"
    ).stdout  # fmt: skip
    assert shop.server.call("GET", "/api/millpond/waste?days=0")[0] == 400


def _age(shop: Shop, table: str, column: str, key: str, value: str | None) -> None:
    """Let a time of a row be three days ago."""
    with sqlite3.connect(shop.server.data_dir / "millpond.db", timeout=30) as connection:
        three_days_us = 3 * 24 * 3600 * 10**6
        connection.execute(f"UPDATE {table} SET {column} = {column} - ? WHERE {key} = ?", (three_days_us, value))


def test_statements_spark_and_tables_are_metered_and_read_back_as_system_tables(shop: Shop) -> None:
    shop.sql(shop.ann, "CREATE TABLE main.cost.orders AS SELECT id FROM range(1000)")
    spark = SparkSession.builder.remote(shop.server.spark_remote.replace(shop.server.token, shop.token)).create()
    assert spark.sql("SELECT count(*) FROM main.cost.orders").collect()[0][0] == 1000
    wait_until(
        lambda: shop.used("SQL_REQUEST", group_by="user", user=shop.name) >= 2, what="the statements to be counted"
    )
    wait_until(lambda: shop.used("SQL_MEMORY", user=shop.name) > 0, what="the engine to be metered")
    assert shop.used("SQL_CPU", user=shop.name) > 0.05

    query = (
        "SELECT sku_name, usage_unit, usage_quantity, identity_metadata.run_as, usage_metadata.warehouse_id, "
        "billing_origin_product, usage_type, usage_end_time - usage_start_time, custom_tags, workspace_id "
        "FROM system.billing.usage WHERE sku_name = 'SQL_REQUEST'"
    )
    mine = spark.sql(query).collect()
    assert {row.run_as for row in mine} == {shop.name}
    assert {row.warehouse_id for row in mine} == {None, shop.warehouse}
    assert sum(row.usage_quantity for row in mine) >= 2
    heavy = "SELECT sum(sin(id)) AS {} FROM range(20000000)"
    spark.sql(heavy.format("spark_spent")).collect()
    shop.sql(shop.ann, heavy.format("http_spent"))
    for alias in ("spark_spent", "http_spent"):
        history = (
            f"SELECT max(total_task_duration_ms) FROM system.query.history WHERE statement_text LIKE '%AS {alias}%'"
        )
        assert spark.sql(history).collect()[0][0] > 50, alias
    spark.stop()
    names = "SELECT DISTINCT identity_metadata.run_as FROM system.billing.usage ORDER BY 1"
    both = [[shop.server.user], [shop.name]]
    wait_until(lambda: shop.sql(shop.w, names) == both, what="the administrator's own usage beside Ann's")
    only_mine = shop.sql(shop.ann, names)
    assert only_mine == [[shop.name]]
    prices = shop.sql(
        shop.ann,
        "SELECT sku_name, CAST(pricing.effective_list.default AS DOUBLE), currency_code, price_end_time IS NULL "
        "FROM system.billing.list_prices WHERE sku_name = 'STORAGE'",
    )
    assert prices == [["STORAGE", "0.0", "USD", "true"]]
    priced = shop.sql(
        shop.ann,
        "SELECT u.sku_name, sum(u.usage_quantity * p.pricing.default) FROM system.billing.usage u "
        "JOIN system.billing.list_prices p ON u.sku_name = p.sku_name AND u.usage_start_time >= p.price_start_time "
        "AND (p.price_end_time IS NULL OR u.usage_start_time < p.price_end_time) GROUP BY 1",
    )
    assert float(dict(map(tuple, priced))["JOBS_CPU"]) > 2.4


@pytest.mark.long
def test_storage_of_managed_tables_is_metered(shop: Shop) -> None:
    shop.sql(shop.w, "CREATE TABLE IF NOT EXISTS main.cost.stored AS SELECT id FROM range(10)")
    found = wait_until(lambda: shop.get("usage?group_by=object&product=DEFAULT_STORAGE")["usage"], timeout_s=90,
                       what="the look at storage")  # fmt: skip
    assert all(each["usage_unit"] == "GIB_HOUR" and each["kind"] == "table" for each in found)
    assert any(0 < each["usage_quantity"] < 0.01 for each in found)


def test_a_quota_refuses_runs_statements_clusters_and_tables_with_the_reason(shop: Shop) -> None:
    task = shop.script("print(1)")
    job = shop.ann.jobs.create(name="j", tasks=[Task("t", spark_python_task=task)], tags={"team": "green"})
    quota = shop.set("quotas", holder="user", name=shop.name, measure="cpu_seconds", limit=0.01, period="DAY")
    said = r"Quota exceeded: cpu_seconds per day of user ann@cost.org: [\d.]+ of 0.01 are used"
    node = {"node_type_id": "local.1c2g", "spark_version": "1.0.x-scala2.12", "num_workers": 0}
    for act in (
        lambda: shop.ann.jobs.run_now(job.job_id),
        lambda: shop.ann.jobs.submit(run_name="x", tasks=[_task(task)]),
        lambda: shop.sql(shop.ann, "SELECT 1"),
    ):
        with pytest.raises(BadRequest, match=said):
            act()
    remote = shop.server.spark_remote.replace(shop.server.token, shop.token)

    def spark_refuses() -> bool:
        spark = SparkSession.builder.remote(remote).create()
        try:
            spark.sql("SELECT 1").collect()
        except PySparkException as error:
            return "Quota exceeded" in str(error)
        finally:
            spark.stop()
        return False

    wait_until(spark_refuses, what="the gateway to know of the quota")
    assert [each["used"] > 0.01 for each in shop.get("quotas", token=shop.token)["quotas"]] == [True]
    shop.without_quota(quota)

    begun = shop.ann.jobs.run_now_and_wait(job.job_id, idempotency_token="once", timeout=PATIENCE).run_id
    tasks = shop.set("quotas", holder="member", name="users", measure="running_tasks", limit=0)
    with pytest.raises(BadRequest, match="running_tasks of each member of users: 0 of 0 are used, and 1 more"):
        shop.ann.jobs.run_now(job.job_id)
    assert shop.ann.jobs.run_now(job.job_id, idempotency_token="once").response.run_id == begun
    shop.without_quota(tasks)
    cores = shop.set("quotas", holder="user", name=shop.server.user, measure="cluster_cores", limit=1)
    made = shop.w.clusters.create(**node).result(PATIENCE)
    with pytest.raises(BadRequest, match=r"cluster_cores of user admin@millpond\.local: 1 of 1 are used, and 1 more"):
        shop.w.clusters.create(**node)
    wait_until(lambda: shop.used("ALL_PURPOSE_CPU") > 0.5, what="the cluster's slice to be metered")
    shop.w.clusters.permanent_delete(made.cluster_id)
    shop.without_quota(cores)
    assert shop.ann.jobs.run_now_and_wait(job.job_id, timeout=PATIENCE).state.result_state is RunResultState.SUCCESS


def test_tasks_over_a_quota_of_running_tasks_wait_for_each_other(shop: Shop) -> None:
    """Five at once where two may be; and a scheduled run where none may, until one may."""
    quota = shop.set("quotas", holder="user", name=shop.server.user, measure="running_tasks", limit=2)
    script = shop.script("import time\ntime.sleep(1)")
    tasks = [SubmitTask(task_key=f"t{number}", spark_python_task=script) for number in range(5)]
    run = shop.w.jobs.submit_and_wait(run_name="five", tasks=tasks, timeout=PATIENCE)
    assert run.state.result_state is RunResultState.SUCCESS
    spans = [(each.start_time, each.end_time) for each in run.tasks]
    assert max(sum(start <= began < end for start, end in spans) for began, _ in spans) <= 2
    shop.without_quota(quota)
    job = shop.w.jobs.create(name="late", tasks=[Task("t", spark_python_task=shop.script("print(1)"))])
    quota = shop.set("quotas", holder="user", name=shop.server.user, measure="running_tasks", limit=0)
    shop.w.jobs.update(job.job_id, new_settings=_every_second())
    late = wait_until(lambda: next(iter(shop.w.jobs.list_runs(job_id=job.job_id)), None), what="the run")
    shop.w.jobs.delete(job.job_id)
    assert shop.w.jobs.get_run(late.run_id).state.result_state is None
    shop.without_quota(quota)
    ended = shop.w.jobs.wait_get_run_job_terminated_or_skipped(late.run_id, timeout=PATIENCE)
    assert ended.state.result_state is RunResultState.SUCCESS


def _every_second() -> JobSettings:
    return JobSettings(schedule=CronSchedule(quartz_cron_expression="* * * * * ?", timezone_id="UTC"))


def account(shop: Shop, token: str) -> AccountClient:
    workspace = str(shop.w.get_workspace_id())
    return AccountClient(host=shop.server.url, account_id=workspace, token=token, auth_type="pat")


@pytest.mark.long
def test_a_budget_of_the_account_client_tells_a_destination_once(shop: Shop) -> None:
    shop.set("prices", sku_name="JOBS_CPU", price=2.0)
    a = account(shop, shop.server.token)
    with receiving() as receiver:
        hook = shop.w.notification_destinations.create(
            display_name="money", config=Config(generic_webhook=GenericWebhookConfig(url=receiver.url))
        )
        budget = a.budgets.create(_budget("red team", "1000000", shop.server.user)).budget
        status, ours = shop.server.call(
            "POST", f"/api/2.1/accounts/{shop.w.get_workspace_id()}/budgets",
            {"budget": {"display_name": "blue", "filter": {"tags": [{"key": "team", "value": {"values": ["blue"]}}]},
                        "alert_configurations": [_ours("DAY", "0.5", hook.id), _ours("MONTH", "1", hook.id)]}},
        )  # fmt: skip
        assert status == 200, ours
        job = shop.ann.jobs.create(
            name="spender", tasks=[Task("t", spark_python_task=shop.script(BURN))], tags={"team": "blue"}
        )
        assert receiver.got == []
        shop.ann.jobs.run_now_and_wait(job.job_id, timeout=PATIENCE)
        wait_until(lambda: len(receiver.got) == 2, timeout_s=60, what="both alerts")
        told = receiver.about(lambda body: body["event_type"] == "billing.budget_exceeded")
        assert sorted(body["period"] for _, body in told) == ["DAY", "MONTH"]
        assert {body["budget"] for _, body in told} == {"blue"}
        assert all(body["spent"] >= 0.5 and body["currency"] == "USD" for _, body in told)
        again = shop.ann.jobs.run_now_and_wait(job.job_id, timeout=PATIENCE)
        assert again.state.result_state is RunResultState.SUCCESS, again.state
        standings = {each["display_name"]: each for each in shop.get("budgets")["budgets"]}
        assert standings["blue"]["spent_this_month"] > 2
        assert standings["red team"]["spent_today"] == 0
        before = time.monotonic()
        wait_until(lambda: time.monotonic() - before > 11, what="another round")
        assert len(receiver.got) == 2

    assert [each.display_name for each in a.budgets.list()] == ["red team", "blue"]
    found = a.budgets.get(budget.budget_configuration_id).budget
    assert found.as_dict()["filter"] == budget.as_dict()["filter"]
    assert found.alert_configurations[0].action_configurations[0].target == shop.server.user
    changed = a.budgets.update(
        budget.budget_configuration_id,
        UpdateBudgetConfigurationBudget(
            budget_configuration_id=budget.budget_configuration_id, display_name="renamed",
            alert_configurations=found.alert_configurations, filter=found.filter,
        ),
    ).budget  # fmt: skip
    assert changed.display_name == "renamed"
    assert (
        changed.alert_configurations[0].alert_configuration_id == found.alert_configurations[0].alert_configuration_id
    )
    for each in list(a.budgets.list()):
        a.budgets.delete(each.budget_configuration_id)
    with pytest.raises(NotFound):
        a.budgets.get(budget.budget_configuration_id)


def _ours(period: str, threshold: str, destination: str) -> dict[str, Any]:
    action = {"action_type": "NOTIFICATION_DESTINATION", "target": destination}
    return {"time_period": period, "quantity_threshold": threshold, "action_configurations": [action]}


def _budget(name: str, threshold: str, target: str) -> CreateBudgetConfigurationBudget:
    clause = BudgetConfigurationFilterClause(operator=BudgetConfigurationFilterOperator.IN, values=["red"])
    return CreateBudgetConfigurationBudget(
        display_name=name,
        filter=BudgetConfigurationFilter(tags=[BudgetConfigurationFilterTagClause(key="team", value=clause)]),
        alert_configurations=[
            CreateBudgetConfigurationBudgetAlertConfigurations(
                time_period=AlertConfigurationTimePeriod.MONTH,
                trigger_type=AlertConfigurationTriggerType.CUMULATIVE_SPENDING_EXCEEDED,
                quantity_type=AlertConfigurationQuantityType.LIST_PRICE_DOLLARS_USD,
                quantity_threshold=threshold,
                action_configurations=[
                    CreateBudgetConfigurationBudgetActionConfigurations(
                        action_type=ActionConfigurationType.EMAIL_NOTIFICATION, target=target
                    )
                ],
            )
        ],
    )


def test_others_set_nothing_and_see_only_their_own(shop: Shop) -> None:
    with pytest.raises(PermissionDenied, match="Only an administrator"):
        account(shop, shop.token).budgets.create(_budget("mine", "1", "a@b.org"))
    with pytest.raises(PermissionDenied):
        list(account(shop, shop.token).budgets.list())
    other = AccountClient(host=shop.server.url, account_id="42", token=shop.server.token, auth_type="pat")
    with pytest.raises(NotFound, match="Account '42'"):
        list(other.budgets.list())
    call = shop.server.call
    for method, path, body in (
        ("POST", "prices", {"sku_name": "JOBS_CPU", "price": 0}),
        ("POST", "quotas", {"holder": "user", "name": shop.name, "measure": "cost", "limit": 1e9, "period": "DAY"}),
        ("GET", "budgets", None),
    ):
        assert call(method, f"/api/millpond/{path}", body, token=shop.token)[0] == 403, path
    users = shop.get("usage?group_by=user", token=shop.token)["usage"]
    assert {each["user"] for each in users} == {shop.name}
    status, told = call("GET", f"/api/millpond/usage?user={shop.server.user}", token=shop.token)
    assert (status, told["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    for query, said in (
        ("group_by=colour", "group_by is one of"),
        ("group_by=tag", "needs tag"),
        ("since=yesterday", "since is 'yesterday'"),
        ("since=1999-01-01", "800 days"),
    ):
        status, told = call("GET", f"/api/millpond/usage?{query}")
        assert (status, said in told["message"]) == (400, True), told


def test_the_command_line_tells_of_usage_and_waste(shop: Shop) -> None:
    place = str(shop.server.data_dir)
    told = run_cli("usage", "--data-dir", place, "--by", "user").stdout
    assert shop.name in told
    assert "CPU_SECOND" in told
    assert "waste" in run_cli("--help").stdout
    assert "idle or unused" in run_cli("waste", "--data-dir", place).stdout


def test_a_model_that_is_asked_by_its_uri_counts_for_who_asks(shop: Shop, endpoint: str) -> None:
    name = "asker@cost.org"
    token = shop.server.new_user(name)

    def ask() -> tuple[int, Any]:
        path = "/api/millpond/scoring/invocations?model=models:/main.cost.scale/1"
        return shop.server.call("POST", path, {"dataframe_records": [{"x": 1.0}]}, token=token)

    for right in ("USE CATALOG ON CATALOG main", "USE SCHEMA ON SCHEMA main.cost", "EXECUTE ON MODEL main.cost.scale"):
        shop.sql(shop.w, f"GRANT {right} TO `{name}`")
    assert [ask()[0] for _ in range(2)] == [200, 200]
    used = lambda resource: shop.used(f"MODEL_SERVING_{resource}", kind="model", user=name)  # noqa: E731
    wait_until(lambda: used("REQUEST") == 2, what="the requests")
    wait_until(lambda: used("MEMORY") > 0, what="the memory of its process")
    assert used("CPU") > 0
    by_object = shop.get("usage?group_by=object&product=MODEL_SERVING&kind=model")["usage"]
    assert {(each["kind"], each["name"]) for each in by_object} == {("model", "main.cost.scale/1")}
    shop.set("quotas", holder="user", name=name, measure="requests", limit=2, period="DAY")
    told = wait_until(lambda: body if (body := ask()[1]).get("error_code") else None, what="the quota to count")
    assert "requests per day of user asker@cost.org" in told["message"]
