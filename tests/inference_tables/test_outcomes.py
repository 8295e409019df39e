"""Requests of a real server are in the table whatever became of them; and none is answered that cannot be kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from millpond.kernel.settings import ServingSettings
from tests.inference_tables.conftest import Captured
from tests.servers import wait_until
from tests.serving.conftest import models
from tests.serving.harness import Answer, serving_server

__all__ = ["models"]
CAPTURE = {"catalog_name": "main", "schema_name": "default", "table_name_prefix": "obedient"}
OUTCOMES = {"list": 200, "raise": 400, "exit:3": 500, "hang": 504}
NOT_GONE_ON = (
    "Encountered an unexpected error while evaluating the model. Verify that the input is compatible with the model "
    "for inference. Error: 'ValueError: and not gone on'"
)
IN_PARTS: dict[str, tuple[int, Any]] = {
    "unicode": (200, {"predictions": ["größe", "雪", "\u2028"]}),
    "begin": (
        400,
        {
            "predictions": ["begun"],
            "error": {"error_code": "BAD_REQUEST", "message": NOT_GONE_ON, "details": []},
        },
    ),
}


@pytest.mark.parametrize("captured", ["sqlite"], indirect=True)
def test_each_outcome_has_a_row_and_a_full_log_refuses(captured: Captured, models: Path) -> None:
    log = captured.log()
    captures = captured.captures(log, limit_bytes=4000)
    quick = ServingSettings(request_timeout_s=2)
    with serving_server(captured.database, captured.data_dir, models, serving=quick, captures=captures) as server:

        def ask(order: str) -> Answer:
            return server.ask("obedient", order)

        def ask_in_parts(order: str) -> None:
            body = {"dataframe_records": [{"do": order}], "stream": True}
            answer = server.call("POST", "/serving-endpoints/obedient/invocations", body)
            assert answer.body.endswith(b"data: [DONE]\n\n")

        entity = {"entity_name": "obedient", "entity_version": "1", "name": "it"}
        body: dict[str, Any] = {"served_entities": [entity], "auto_capture_config": CAPTURE}
        assert server.call("POST", "/api/2.0/serving-endpoints", {"name": "obedient", "config": body}).status == 200
        told = server.settled("obedient")["config"]["auto_capture_config"]
        assert told["state"]["payload_table"]["status"] == "ACTIVE"
        answers = {}
        for order, status in OUTCOMES.items():
            wait_until(lambda: server.get("obedient")["state"]["ready"] == "READY", what="the model being back")
            answers[order] = ask(order)
            assert answers[order].status == status
        server.ready("obedient")
        for order in IN_PARTS:
            ask_in_parts(order)
        captured.committer(log).run_once()
        kept = server.runtime.find("obedient").config.capture  # type: ignore[union-attr]
        assert kept is not None
        rows = {row["request"].split('"do": "')[1].split('"')[0]: row for row in captured.rows(kept)}
        told = {order: row["status_code"] for order, row in rows.items()}
        assert told == OUTCOMES | {order: status for order, (status, _) in IN_PARTS.items()}
        assert {order: rows[order]["response"].encode() for order in OUTCOMES} == {
            order: answer.body for order, answer in answers.items()
        }
        assert {order: json.loads(rows[order]["response"]) for order in IN_PARTS} == {
            order: parts for order, (_, parts) in IN_PARTS.items()
        }
        assert rows["unicode"]["predictions"] == ["größe", "雪", "\u2028"]
        assert rows["hang"]["total_ms"] > 1900, "until its deadline"

        server.ready("obedient")
        while (answer := ask("list")).status == 200:
            assert log.waiting_bytes(kept.table_id) < 5000
        assert (answer.status, answer.json["error_code"]) == (507, "RESOURCE_EXHAUSTED")
        captured.committer(log).run_once()
        assert ask("list").status == 200, "there is room again"
