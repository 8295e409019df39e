"""The query history as a relation and by the API: what PySpark and warehouses ran, for who may see it."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import sql as api
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession

from tests.servers import Server, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the client leaves its connections to the garbage collector
COLUMNS = "statement_text, execution_status, statement_type, warehouse_id, produced_rows, error_message, executed_by"


class User:
    """Somebody with both clients."""

    def __init__(self, server: Server, token: str) -> None:
        self.w = WorkspaceClient(host=server.url, token=token, auth_type="pat", config_file="/nowhere")
        self.spark: Any = SparkSession.builder.remote(server.spark_remote.replace(server.token, token)).create()
        self.name = str(self.w.current_user.me().user_name)

    def history(self, condition: str) -> list[dict[str, Any]]:
        text = f"SELECT {COLUMNS} FROM system.query.history WHERE {condition} ORDER BY start_time"
        return [row.asDict() for row in self.spark.sql(text).collect()]


@pytest.fixture(scope="module")
def user(any_server: Server) -> Iterator[Callable[[str], User]]:
    made: list[User] = []

    def make(name: str) -> User:
        token = any_server.token if name == "admin" else any_server.new_user(f"{name}-{uuid.uuid4().hex[:6]}@history")
        made.append(User(any_server, token))
        return made[-1]

    yield make
    for each in made:
        each.spark.stop()


def test_what_ran_is_told_to_who_ran_it_and_to_administrators(user: Callable[[str], User]) -> None:
    """SQL as it was written, what a DataFrame reached, failures with their errors, warehouses beside Spark."""
    ann, bob, admin = user("ann"), user("bob"), user("admin")
    mark = uuid.uuid4().hex
    ann.w.catalogs.create(f"h_{mark[:8]}")
    ann.spark.sql(f"USE h_{mark[:8]}.default")
    ann.spark.sql(f"CREATE TABLE t AS SELECT id, '{mark}' AS m FROM range(7)")
    ann.spark.sql(f"SELECT * FROM t WHERE m = '{mark}'").collect()
    ann.spark.table("t").filter("id > 2").toPandas()
    with pytest.raises(AnalysisException):
        ann.spark.sql(f"SELECT * FROM nope WHERE m = '{mark}'").collect()
    ann.w.statement_execution.execute_statement(f"SELECT '{mark}'", "starter", wait_timeout="50s")
    mine = ann.history(f"statement_text LIKE '%{mark}%' AND statement_text NOT LIKE '%history%'")
    told = [(each["statement_text"], each["execution_status"], each["statement_type"]) for each in mine]
    assert told == [
        (f"CREATE TABLE t AS SELECT id, '{mark}' AS m FROM range(7)", "FINISHED", "CREATE"),
        (f"SELECT * FROM t WHERE m = '{mark}'", "FINISHED", "SELECT"),
        (f"SELECT * FROM nope WHERE m = '{mark}'", "FAILED", "SELECT"),
        (f"SELECT '{mark}'", "FINISHED", "SELECT"),
    ]
    assert [each["warehouse_id"] for each in mine] == [None, None, None, "starter"]
    assert mine[1]["produced_rows"] == 7
    assert "TABLE_OR_VIEW_NOT_FOUND" in mine[2]["error_message"]
    assert {each["executed_by"] for each in mine} == {ann.name}
    [frame] = ann.history(f"statement_text LIKE '-- DataFrame: read table h_{mark[:8]}.default.t%'")
    assert frame["produced_rows"] == 4
    assert bob.history(f"statement_text LIKE '%{mark}%' AND executed_by = '{ann.name}'") == []
    assert len(admin.history(f"statement_text LIKE '%{mark}%' AND executed_by = '{ann.name}'")) >= len(mine)

    def texts() -> list[str]:
        return [str(each.query_text) for each in ann.w.query_history.list(max_results=50).res or []]

    wait_until(lambda: f"SELECT * FROM nope WHERE m = '{mark}'" in texts(), what="the API to tell of Spark Connect")
    ann.w.catalogs.delete(f"h_{mark[:8]}", force=True)


def test_who_monitors_a_warehouse_reads_what_others_ran_in_it(user: Callable[[str], User]) -> None:
    ann, bob = user("ann"), user("bob")
    mark = uuid.uuid4().hex
    warehouse_id = str(ann.w.warehouses.create(name=f"watched-{mark[:6]}").response.id)
    ann.w.statement_execution.execute_statement(f"SELECT '{mark}'", warehouse_id, wait_timeout="50s")
    ann.spark.sql(f"SELECT '{mark}'").collect()
    wish = api.WarehouseAccessControlRequest(
        user_name=bob.name, permission_level=api.WarehousePermissionLevel.CAN_MONITOR
    )
    ann.w.warehouses.update_permissions(warehouse_id, access_control_list=[wish])
    theirs = bob.history(f"statement_text = 'SELECT \\'{mark}\\''")
    assert [(each["executed_by"], each["warehouse_id"]) for each in theirs] == [(ann.name, warehouse_id)]
    ann.w.warehouses.delete(warehouse_id)


def test_nobody_changes_it(user: Callable[[str], User]) -> None:
    spark = user("admin").spark
    for statement in (
        "DROP VIEW system.query.history",
        "CREATE OR REPLACE VIEW system.query.history AS SELECT 1 AS a",
        "INSERT INTO system.query.history SELECT * FROM system.query.history",
        "DELETE FROM system.query.history",
    ):
        with pytest.raises(PySparkException):
            spark.sql(statement).collect()
    assert "statement_text" in spark.table("system.query.history").columns
