"""Two servers on one PostgreSQL: an alert asks once when its schedule says, tells once, and survives either's end."""

import time
from pathlib import Path
from typing import Any

import pytest

from millpond.kernel.database import Database
from millpond.sql.alerts import store
from tests.conftest import LOCAL_WEBHOOKS
from tests.postgres import fresh_database
from tests.receivers import Receiver, receiving
from tests.robustness.test_tree import kill_tree
from tests.servers import Server, run_cli, running_server, server_of, up, wait_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc").exists(), reason="reads the process tree from /proc"),
]
SLOW = "SELECT count(*) AS n FROM range(30000) a CROSS JOIN range(30000) b WHERE (a.id * b.id) % 7 = 3"

VERY_SLOW = SLOW.replace("30000", "300000")


def make(server: Server, receiver: Receiver, text: str, cron: str) -> str:
    """An alert on a text, told to the receiver; its id."""
    config = {"generic_webhook": {"url": receiver.url}}
    body = {"display_name": "hook", "config": config}
    status, hook = server.call("POST", "/api/2.0/notification-destinations", body)
    assert status == 200, hook
    evaluation = {
        "source": {"name": "n"}, "comparison_operator": "GREATER_THAN", "threshold": {"value": {"double_value": 1}},
        "notification": {"subscriptions": [{"destination_id": hook["id"]}]},
    }  # fmt: skip
    schedule = {"quartz_cron_schedule": cron, "timezone_id": "UTC"}
    asked = {"display_name": "a", "query_text": text, "warehouse_id": "starter", "evaluation": evaluation,
             "schedule": schedule}  # fmt: skip
    status, made = server.call("POST", "/api/2.0/alerts", asked)
    assert status == 200, made
    return str(made["id"])


def evaluations(server: Server, alert_id: str) -> list[dict[str, Any]]:
    status, found = server.call("GET", f"/api/millpond/alerts/{alert_id}/evaluations")
    assert status == 200, found
    return list(found["evaluations"])


def test_an_alert_asks_and_tells_once_and_is_evaluated_where_a_server_was_killed(
    tmp_path: Path, postgres_url: str
) -> None:
    other = tmp_path / "other"
    env = LOCAL_WEBHOOKS | {"MILLPOND_SECRETS__KEY": "ab" * 32}  # either opens the destinations
    with (
        receiving() as receiver,
        fresh_database(postgres_url) as url,
        running_server(tmp_path / "one", "--database-url", url, env=env) as one,
    ):
        storage = {"MILLPOND_STORAGE_ROOT": str(one.data_dir / "tables")}
        up(other, "--database-url", url, env=env | storage)
        began = time.monotonic()
        often = [make(one, receiver, "SELECT 2 AS n", f"{second} * * * * ?") for second in range(0, 60, 10)]

        def is_told(alert_id: str) -> bool:
            return "TRIGGERED" in [each["state"] for each in evaluations(one, alert_id)]

        wait_until(lambda: all(map(is_told, often)), timeout_s=120, what="the evaluations")
        for each in often:
            one.call("DELETE", f"/api/2.0/alerts/{each}")
            assert len(evaluations(one, each)) <= (time.monotonic() - began) / 60 + 1
        wait_until(lambda: len(receiver.got) >= len(often), what="the messages")
        slow = make(one, receiver, SLOW, "0 0 0 1 1 ?")
        begun = [one.call("POST", f"/api/millpond/alerts/{slow}/evaluate")[1]["evaluation_id"] for _ in range(2)]
        assert begun[0] == begun[1]
        kill_tree(other)
        found = wait_until(
            lambda: [each for each in evaluations(one, slow) if each["state"] != "PENDING"],
            timeout_s=120,
            what="the evaluation that the killed server may have had",
        )
        assert [each["state"] for each in found] == ["TRIGGERED"], found
        wait_until(lambda: len(receiver.got) > len(often), what="the last message")
        assert len(receiver.got) == len(often) + 1


def test_an_evaluation_that_a_killed_server_was_at_is_done_by_the_next(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with receiving() as receiver, running_server(data, env=LOCAL_WEBHOOKS) as server:
        slow = make(server, receiver, SLOW, "0 0 0 1 1 ?")
        server.call("POST", f"/api/millpond/alerts/{slow}/evaluate")
        kill_tree(data)
        up(data, env=LOCAL_WEBHOOKS)
        again = server_of(data)
        found = wait_until(
            lambda: [each for each in evaluations(again, slow) if each["state"] != "PENDING"],
            timeout_s=120,
            what="the evaluation",
        )
        assert [each["state"] for each in found] == ["TRIGGERED"], found
        wait_until(lambda: receiver.got, what="the message")
        assert len(receiver.got) == 1


def test_a_server_stops_at_once_while_alerts_are_evaluated_and_leaves_them_to_the_next(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with receiving() as receiver, running_server(data, env=LOCAL_WEBHOOKS) as server:
        slow = [make(server, receiver, VERY_SLOW, "0 0 0 1 1 ?") for _ in range(4)]
        for each in slow:
            server.call("POST", f"/api/millpond/alerts/{each}/evaluate")

        def running() -> bool:
            found = server.call("GET", "/api/2.0/sql/history/queries")[1]
            return len([each for each in found.get("res", ()) if each["status"] == "RUNNING"]) == 4

        wait_until(running, timeout_s=60, what="four running statements")
        began = time.monotonic()
        run_cli("down", "--data-dir", str(data))
        assert time.monotonic() - began < 20
    database = Database(f"sqlite:///{data / 'millpond.db'}")
    with database.read() as connection:
        found = [store.find_under_way(connection, each) for each in slow]
    database.dispose()
    assert None not in found
    assert not receiver.got
