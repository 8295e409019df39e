"""The unmodified Databricks SDK on alerts that were made on the page, which says more of them than its APIs can."""

from dataclasses import replace
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue
from databricks.sdk.service import sql

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.ids import new_id
from millpond.sql.alerts import store
from millpond.sql.alerts.domain import Aggregation, Alert, AlertDraft, AlertState, Condition, Operand, Operator
from tests.servers import Server

OVER_SIX = sql.AlertCondition.from_dict({
    "op": "GREATER_THAN", "operand": {"column": {"name": "n"}}, "threshold": {"value": {"double_value": 6}},
    "empty_result_state": "OK",
})  # fmt: skip


@pytest.fixture
def w(server: Server) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=server.token, auth_type="pat")


def kept(server: Server) -> Database:
    return Database(f"sqlite:///{server.data_dir / 'millpond.db'}")


def on_page(server: Server, **more: Any) -> Alert:
    """An alert with what the page can say of one, in the server's database."""
    source = Operand(column="n", aggregation=Aggregation.SUM, display="Rows")
    limit = Operand(column="most", aggregation=Aggregation.MAX)
    condition = Condition(source=source, operator=Operator.GREATER_THAN, threshold=limit, empty_state=AlertState.ERROR)
    now = utc_now()
    alert = Alert(
        id=new_id(), owner=server.user, run_as=server.user, modified_by=server.user, trashed=False, created_at=now,
        updated_at=now, draft=AlertDraft(**{"name": "of a page", "condition": condition, **more}),
    )  # fmt: skip
    with kept(server).write() as connection:
        store.add(connection, alert)
    return alert


def test_what_older_apis_cannot_say_of_an_alert_made_on_the_page_stays(server: Server, w: WorkspaceClient) -> None:
    asked = w.queries.create(query=sql.CreateQueryRequestQuery(display_name="q", query_text="SELECT 1 AS n")).id
    made = on_page(server, query_id=asked)

    def now() -> AlertDraft:
        with kept(server).read() as connection:
            found = store.find(connection, made.id)
        assert found is not None
        return found.draft

    w.alerts.update(made.id, "display_name", alert=sql.UpdateAlertRequestAlert(display_name="x"))
    assert now() == replace(made.draft, name="x")
    changed = sql.UpdateAlertRequestAlert(condition=OVER_SIX)
    w.alerts.update(made.id, "condition.threshold", alert=changed)
    assert now().condition == replace(made.draft.condition, threshold=6.0)
    shown = w.alerts_legacy.get(made.id)
    w.alerts_legacy.update(made.id, "y", shown.options, shown.query.id)
    assert now() == replace(made.draft, name="y", condition=replace(made.draft.condition, threshold=6.0))
    w.alerts.update(made.id, "condition", alert=changed)
    assert now().condition == Condition(
        source=Operand(column="n"), operator=Operator.GREATER_THAN, threshold=6.0, empty_state=AlertState.OK
    )
    by_column = on_page(server, query_id=made.draft.query_id)
    shown = w.alerts_legacy.get(by_column.id)
    w.alerts_legacy.update(by_column.id, "y", shown.options, shown.query.id)
    made = by_column
    assert now() == replace(by_column.draft, name="y")


def test_an_alert_made_on_the_page_without_schedule_and_warehouse_is_changed(
    server: Server, w: WorkspaceClient
) -> None:
    made = on_page(server, query_text="SELECT 1 AS n, 0 AS most")
    changed = w.alerts_v2.update_alert(made.id, sql.AlertV2.from_dict({"display_name": "x"}), "display_name")
    assert (changed.display_name, changed.schedule, changed.warehouse_id) == ("x", None, None)
    with pytest.raises(InvalidParameterValue, match="schedule: Field required"):
        w.api_client.do("POST", "/api/2.0/alerts", body={
            "display_name": "x", "query_text": "SELECT 1 AS n", "warehouse_id": "starter",
            "evaluation": {"source": {"name": "n"}, "comparison_operator": "IS_NULL"}})  # fmt: skip
