"""Environment variables that refer to secrets: read with their author's rights, at each start, shown to nobody."""

import os
import signal
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest

from millpond.journal import calls
from millpond.secrets.domain import Permission
from tests.servers import wait_until
from tests.serving.harness import ServingServer

VALUE = "s3cr3t-of-the-model-ü"

pytestmark = pytest.mark.parametrize("serving", ["sqlite"], indirect=True)


@pytest.fixture
def scope(serving: ServingServer) -> str:
    """A scope of the administrator's with the secret `token`."""
    name = f"scope-{uuid.uuid4().hex[:8]}"
    serving.secrets.create_scope(serving.admin, name)
    serving.secrets.put_secret(serving.admin, name, "token", VALUE.encode())
    return name


def environment(scope: str) -> dict[str, str]:
    return {"URL": f"https://user:{{{{secrets/{scope}/token}}}}@host", "TOKEN": f"{{{{secrets/{scope}/token}}}}"}


def entity(serving: ServingServer, name: str) -> dict[str, Any]:
    found = serving.get(name)
    return (found.get("pending_config") or found["config"])["served_entities"][0]


def create(serving: ServingServer, name: str, variables: dict[str, str], token: str) -> Any:
    served = {"entity_name": "obedient", "entity_version": "1", "environment_vars": variables}
    body = {"name": name, "config": {"served_entities": [served]}}
    return serving.call("POST", "/api/2.0/serving-endpoints", body, token=token)


def test_a_model_gets_the_value_and_everybody_else_the_reference(serving: ServingServer, scope: str) -> None:
    """In no answer of the API, no log, no error, no process's environment; the model's own answer is its own."""
    serving.create("told", "obedient", environment_vars=environment(scope))
    assert entity(serving, "told")["environment_vars"] == environment(scope)
    assert serving.ask("told", "tell:TOKEN").json["predictions"] == [VALUE]
    assert serving.ask("told", "tell:URL").json["predictions"] == [f"https://user:{VALUE}@host"]
    refused = serving.ask("told", "raise_variable:TOKEN")
    assert (refused.status, "cannot connect with [REDACTED]" in refused.json["message"]) == (400, True)

    logs = "/api/2.0/serving-endpoints/told/served-models/obedient/logs"
    wait_until(lambda: serving.call("GET", logs).json["logs"].count("told ") == 2, what="the model's output")
    said = serving.call("GET", logs).json["logs"]
    assert said.count("[REDACTED]") >= 8
    pid = serving.worker_pid("told")
    places = [path.read_bytes() for path in serving.data_dir.rglob("*") if path.is_file()]
    places += [Path(f"/proc/{pid}/{what}").read_bytes() for what in ("environ", "cmdline")]
    assert not any(VALUE.encode() in data for data in places)


def test_each_start_that_reads_a_secret_leaves_a_trace(serving: ServingServer, scope: str, tmp_path: Path) -> None:
    """Nobody calls then, so the event names the account with whose rights it was read."""
    calls.open_spool(tmp_path)
    try:
        serving.create("traced", "obedient", environment_vars=environment(scope))
    finally:
        calls.close_spool()
    lines = [line for path in tmp_path.rglob("*") if path.is_file() for line in path.read_bytes().splitlines()]
    told = [event for event in map(orjson.loads, lines) if ["read", "secret", f"{scope}/token"] in event["objects"]]
    assert [(event["act"], event["actor"], event["status"]) for event in told] == [("start", serving.admin.name, 200)]
    assert VALUE.encode() not in b"".join(lines)


def test_a_secret_is_read_with_the_rights_of_who_makes_the_configuration(serving: ServingServer, scope: str) -> None:
    """Not there, not theirs, or no reference at all: refused when it is made, in one line."""
    eve = serving.user(f"eve-{scope}@example.com")
    serving.source.owner = "users"  # so that Eve may serve the model
    try:
        hidden = create(serving, "eves", environment(scope), eve)
        absent = create(serving, "eves", {"TOKEN": "{{secrets/no-such/token}}"}, eve)
        malformed = create(serving, "eves", {"TOKEN": "{{secrets/no slash}}"}, eve)
        no_key = create(serving, "mine", {"TOKEN": f"{{{{secrets/{scope}/none}}}}"}, serving.token)
    finally:
        serving.source.owner = "admin@example.com"
    assert (hidden.status, absent.status, no_key.status) == (404, 404, 404)
    assert hidden.json["message"] == f"environment_vars: URL: Secret scope '{scope}' does not exist."
    assert (malformed.status, malformed.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_a_new_value_and_a_lost_right_count_from_the_next_start(serving: ServingServer, scope: str) -> None:
    """The state says what is missing and for whom; with the right back, the model comes back by itself."""
    ann_name = f"ann-{scope}@example.com"
    ann = serving.user(ann_name)
    name = f"of-{scope}"
    serving.secrets.put_acl(serving.admin, scope, ann_name, Permission.READ)
    serving.source.owner = ann_name
    try:
        assert create(serving, name, {"TOKEN": f"{{{{secrets/{scope}/token}}}}"}, ann).status == 200
    finally:
        serving.source.owner = "admin@example.com"
    serving.settled(name)
    serving.secrets.put_secret(serving.admin, scope, "token", b"another value")
    assert serving.ask(name, "tell:TOKEN").json["predictions"] == [VALUE]
    os.kill(serving.worker_pid(name), signal.SIGKILL)
    wait_until(
        lambda: serving.ask(name, "tell:TOKEN").body == b'{"predictions": ["another value"]}', what="the restart"
    )

    serving.secrets.delete_acl(serving.admin, scope, ann_name)
    assert serving.ask(name, "tell:TOKEN").status == 200
    os.kill(serving.worker_pid(name), signal.SIGKILL)
    wait_until(lambda: ann_name in entity(serving, name)["state"]["deployment_state_message"], what="the reason")
    message = entity(serving, name)["state"]["deployment_state_message"]
    assert f"Secret scope '{scope}' does not exist" in message
    assert "Give that account READ permission" in message
    serving.secrets.put_acl(serving.admin, scope, ann_name, Permission.READ)
    wait_until(lambda: serving.ask(name, "tell:TOKEN").status == 200, timeout_s=60, what="the model being back")


def test_a_value_that_no_variable_can_hold_is_named(serving: ServingServer, scope: str) -> None:
    serving.secrets.put_secret(serving.admin, scope, "token", b"a\0b")
    state = serving.create(f"nul-{scope}", "obedient", environment_vars=environment(scope))
    assert "NUL" in state["pending_config"]["served_entities"][0]["state"]["deployment_state_message"]
