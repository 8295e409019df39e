"""The Databricks SDK's workspace model registry and MLflow's client: comments, requests, history, rollback."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, PermissionDenied
from databricks.sdk.service import ml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.clients.mlflow_session import signed_in
from tests.servers import Server, run_cli, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours

OURS = "/api/millpond/registry"


@dataclass(frozen=True)
class People:
    """Who makes versions, who may promote them, and who only reads."""

    author: str
    author_name: str
    lead: str
    lead_name: str
    reader: str
    reader_name: str


@pytest.fixture(scope="module")
def people(any_server: Server) -> People:
    tail = uuid.uuid4().hex[:8]
    names = [f"{role}-{tail}@registry.org" for role in ("author", "lead", "reader")]
    tokens = [any_server.new_user(name) for name in names]
    return People(tokens[0], names[0], tokens[1], names[1], tokens[2], names[2])


def sdk(server: Server, token: str) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=token, auth_type="pat")


@pytest.fixture(scope="module")
def author(any_server: Server, people: People) -> Iterator[MlflowClient]:
    with signed_in(any_server, people.author) as client:
        yield client


def new_model(server: Server, client: MlflowClient, people: People, versions: int = 2) -> str:
    """A model of the workspace with versions; the lead may promote, the reader read."""
    name = f"model-{uuid.uuid4().hex[:12]}"
    client.create_registered_model(name)
    run = client.create_run("0").info.run_id
    for _ in range(versions):
        client.create_model_version(name, f"runs:/{run}/model", run)
    levels = [
        {"user_name": people.lead_name, "permission_level": "CAN_MANAGE_PRODUCTION_VERSIONS"},
        {"user_name": people.reader_name, "permission_level": "CAN_READ"},
    ]
    path = f"/api/2.0/permissions/registered-models/{name}"
    status, body = server.call("PATCH", path, {"access_control_list": levels}, token=people.author)
    assert status == 200, body
    return name


@pytest.fixture
def model(any_server: Server, author: MlflowClient, people: People) -> str:
    return new_model(any_server, author, people)


def history(server: Server, name: str, at: str = "", token: str | None = None) -> Any:
    status, body = server.call("GET", f"{OURS}/history?name={name}" + (f"&at={at}" if at else ""), token=token)
    assert status == 200, body
    return body


def live(record: Any) -> dict[str, str]:
    return {each["target"]: each["version"] for each in record["live"]}


def test_comments_are_made_changed_and_removed_by_whom_they_are(any_server: Server, people: People, model: str) -> None:
    reader, lead = (sdk(any_server, token).model_registry for token in (people.reader, people.lead))
    made = reader.create_comment(model, "1", "looks good").comment
    assert (made.user_id, made.comment) == (people.reader_name, "looks good")
    assert reader.update_comment(made.id, "looks very good").comment.comment == "looks very good"
    with pytest.raises(PermissionDenied):
        lead.update_comment(made.id, "no")
    with pytest.raises(PermissionDenied):
        lead.delete_comment(made.id)
    sdk(any_server, people.author).model_registry.delete_comment(made.id)  # the owner's right
    with pytest.raises(NotFound):
        reader.update_comment(made.id, "again")
    with pytest.raises(NotFound, match="does not exist"):
        sdk(any_server, any_server.new_user(f"x-{uuid.uuid4().hex}@registry.org")).model_registry.create_comment(
            model, "1", "hello"
        )


def test_a_request_is_made_seen_approved_and_moves_the_version(any_server: Server, people: People, model: str) -> None:
    reader, lead = (sdk(any_server, token).model_registry for token in (people.reader, people.lead))
    asked = reader.create_transition_request(model, "1", "Production", comment="please").request
    assert (asked.user_id, asked.to_stage, asked.comment) == (people.reader_name, "Production", "please")
    assert asked.available_actions == [ml.ActivityAction.CANCEL_TRANSITION_REQUEST]
    found = list(lead.list_transition_requests(model, "1"))
    assert [(each.user_id, each.to_stage) for each in found] == [(people.reader_name, "Production")]
    with pytest.raises(PermissionDenied):
        reader.approve_transition_request(model, "1", "Production", False)
    done = lead.approve_transition_request(model, "1", "Production", False, comment="go").activity
    assert (done.activity_type, done.user_id) == (ml.ActivityType.APPROVED_REQUEST, people.lead_name)
    assert lead.get_model(model).registered_model_databricks.latest_versions[0].current_stage in {"Production", "None"}
    assert lead.get_model_version(model, "1").model_version.current_stage == "Production"
    assert list(lead.list_transition_requests(model, "1")) == []
    move = history(any_server, model, token=people.reader)["moves"][0]
    assert (move["evidence"]["requested_by"], move["evidence"]["approved_by"]) == (
        [people.reader_name],
        [people.lead_name],
    )
    with pytest.raises(NotFound):
        lead.approve_transition_request(model, "1", "Production", False)


def test_a_request_is_rejected_or_taken_back(any_server: Server, people: People, model: str) -> None:
    reader, lead = (sdk(any_server, token).model_registry for token in (people.reader, people.lead))
    reader.create_transition_request(model, "1", "Staging")
    assert lead.reject_transition_request(model, "1", "Staging", comment="no").activity.activity_type is (
        ml.ActivityType.REJECTED_REQUEST
    )
    reader.create_transition_request(model, "1", "Staging")
    with pytest.raises(PermissionDenied):
        lead.delete_transition_request(model, "1", "Staging", people.reader_name)
    reader.delete_transition_request(model, "1", "Staging", people.reader_name)
    assert list(reader.list_transition_requests(model, "1")) == []
    with pytest.raises(InvalidParameterValue, match="is no stage"):
        reader.create_transition_request(model, "1", "Nowhere")
    path = f"{OURS}/activities?name={model}&version=1"
    found = any_server.call("GET", path, token=people.reader)[1]["activities"]
    assert [each["activity_type"] for each in found] == [
        "CANCELLED_REQUEST",
        "REQUESTED_TRANSITION",
        "REJECTED_REQUEST",
        "REQUESTED_TRANSITION",
    ]


def test_whoever_moves_a_version_is_told_who_asks_for_another_move(
    any_server: Server, people: People, model: str
) -> None:
    reader, lead = (sdk(any_server, token).model_registry for token in (people.reader, people.lead))
    reader.create_transition_request(model, "1", "Production", comment="please")
    moved = lead.transition_stage(model, "1", "Staging", False).model_version_databricks
    (asked,) = moved.open_requests
    assert (asked.user_id, asked.to_stage, asked.comment) == (people.reader_name, "Production", "please")
    moved = lead.transition_stage(model, "1", "Production", False).model_version_databricks
    assert not moved.open_requests


def test_what_is_in_use_is_not_deleted(any_server: Server, people: People, author: MlflowClient, model: str) -> None:
    lead, owner = (sdk(any_server, token).model_registry for token in (people.lead, people.author))
    lead.transition_stage(model, "1", "Production", False)
    with pytest.raises(PermissionDenied):
        lead.delete_model(model)
    with pytest.raises(BadRequest, match=r"Version 1 .* is in Production"):
        owner.delete_model_version(model, "1")
    with pytest.raises(MlflowException, match=r"Version 1 .* is in Production"):
        author.delete_registered_model(model)
    lead.transition_stage(model, "1", "Archived", False)
    owner.delete_model_version(model, "1")
    author.delete_registered_model(model)
    with pytest.raises(NotFound):
        owner.get_model(model)


def test_two_approvers_make_one_move(any_server: Server, people: People, model: str) -> None:
    reader = sdk(any_server, people.reader).model_registry
    reader.create_transition_request(model, "2", "Production")
    approvers = [sdk(any_server, token).model_registry for token in (people.lead, people.author)]

    def approve(who: Any) -> str:
        try:
            return str(who.approve_transition_request(model, "2", "Production", True).activity.activity_type.value)
        except NotFound:
            return "late"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(approve, approvers))
    assert "APPROVED_REQUEST" in outcomes
    moves = [m for m in history(any_server, model)["moves"] if m["to_stage"] == "Production"]
    assert len(moves) == 1


def test_every_door_is_in_the_history_with_what_was_where_when(
    any_server: Server, people: People, author: MlflowClient, model: str
) -> None:
    lead = sdk(any_server, people.lead).model_registry
    lead.transition_stage(model, "1", "Production", False, comment="the first")
    author.set_registered_model_alias(model, "champion", "1")
    before = time.time()
    time_before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before)) + f".{int(before % 1 * 1e6):06d}Z"
    author.transition_model_version_stage(model, "2", "Production", archive_existing_versions=True)
    author.set_registered_model_alias(model, "champion", "2")
    author.set_registered_model_alias(model, "champion", "2")  # no move
    assert live(history(any_server, model)) == {"alias:champion": "2", "stage:Production": "2"}
    assert live(history(any_server, model, time_before)) == {"alias:champion": "1", "stage:Production": "1"}
    moves = history(any_server, model, token=people.reader)["moves"]
    told = [(m["activity_type"], m["version"], m["user_id"], m["comment"]) for m in moves]
    assert told == [
        ("ALIAS_SET", "2", people.author_name, ""),
        ("APPLIED_TRANSITION", "2", people.author_name, ""),
        ("SYSTEM_TRANSITION", "1", people.author_name, ""),
        ("ALIAS_SET", "1", people.author_name, ""),
        ("APPLIED_TRANSITION", "1", people.lead_name, "the first"),
    ] or sorted(told[1:3]) == [
        ("APPLIED_TRANSITION", "2", people.author_name, ""),
        ("SYSTEM_TRANSITION", "1", people.author_name, ""),
    ]
    assert moves[0]["client"].startswith("mlflow")
    author.rename_registered_model(model, f"{model}-renamed")
    assert live(history(any_server, f"{model}-renamed"))["alias:champion"] == "2"
    author.transition_model_version_stage(f"{model}-renamed", "2", "Archived")
    author.delete_model_version(f"{model}-renamed", "2")
    assert live(history(any_server, f"{model}-renamed")) == {}
    author.delete_registered_model(f"{model}-renamed")
    author.create_registered_model(f"{model}-renamed")
    assert history(any_server, f"{model}-renamed")["moves"] == []


def test_a_rollback_brings_back_the_last_live_version(any_server: Server, people: People, author: MlflowClient) -> None:
    model = new_model(any_server, author, people, versions=3)
    for version in "123":
        author.set_registered_model_alias(model, "champion", version)
    for expected in ("2", "1"):
        body = {"name": model, "alias": "champion", "reason": "it fails"}
        status, answer = any_server.call("POST", f"{OURS}/rollback", body, token=people.author)
        assert (status, answer["activity"]["version"]) == (200, expected), answer
        assert author.get_model_version_by_alias(model, "champion").version == expected
    status, answer = any_server.call("POST", f"{OURS}/rollback", body, token=people.author)
    assert (status, answer["error_code"]) == (400, "INVALID_STATE")
    assert any_server.call("POST", f"{OURS}/rollback", body, token=people.reader)[0] == 403
    env = any_server.client_env(token=people.reader)
    said = run_cli("registry", "history", model, env=env).stdout
    assert "alias:champion = version 1, since" in said
    assert "version 1 by " + people.author_name + " (it fails)" in said


def test_models_of_the_catalog_have_a_history_by_every_door(any_server: Server, author: MlflowClient) -> None:
    schema = f"main.reg_{uuid.uuid4().hex[:10]}"
    any_server.call("POST", "/api/2.1/unity-catalog/schemas", {"name": schema.split(".")[1], "catalog_name": "main"})
    with signed_in(any_server) as client:
        client.create_registered_model(f"{schema}.m")
        run = client.create_run("0").info.run_id
        for _ in range(2):
            client.create_model_version(f"{schema}.m", f"runs:/{run}/model", run)
    w = sdk(any_server, any_server.token)
    w.registered_models.set_alias(f"{schema}.m", "prod", 1)
    w.registered_models.set_alias(f"{schema}.m", "prod", 2)
    w.registered_models.update(f"{schema}.m", new_name="n")
    record = history(any_server, f"{schema}.n")
    assert live(record) == {"alias:prod": "2"}
    statement = "SELECT version, previous, moved_by, target FROM system.mlops.model_history WHERE model_name = "
    body = {"statement": f"{statement} '{schema}.m' ORDER BY sequence", "warehouse_id": "starter",
            "wait_timeout": "50s"}  # fmt: skip
    rows = any_server.call("POST", "/api/2.0/sql/statements", body)[1]["result"]["data_array"]
    assert rows == [["1", "", any_server.user, "prod"], ["2", "1", any_server.user, "prod"]]
    assert [m["from_version"] for m in record["moves"]] == ["1", ""]
    body = {"name": f"{schema}.n", "version": "1", "alias": "prod", "comment": "back, please"}
    assert any_server.call("POST", f"{OURS}/requests/create", body)[0] == 200
    assert any_server.call("POST", f"{OURS}/requests/approve", body)[0] == 200
    assert live(history(any_server, f"{schema}.n")) == {"alias:prod": "1"}
    w.registered_models.delete_alias(f"{schema}.n", "prod")
    assert live(history(any_server, f"{schema}.n")) == {}
    w.registered_models.set_alias(f"{schema}.n", "prod", 2)
    w.schemas.delete(schema, force=True)
    last = f"SELECT action, previous, moved_by FROM system.mlops.model_history WHERE model_name = '{schema}.n'"
    query = {"statement": f"{last} ORDER BY sequence DESC LIMIT 1", "warehouse_id": "starter", "wait_timeout": "50s"}
    ended = [["ALIAS_REMOVED", "2", any_server.user]]
    wait_until(lambda: rows_of(any_server, query) == ended, timeout_s=10, what="the end in the history")


def rows_of(server: Server, query: dict[str, str]) -> Any:
    return server.call("POST", "/api/2.0/sql/statements", query)[1]["result"].get("data_array")


def test_fifty_registrations_at_once_give_fifty_numbers(
    any_server: Server, people: People, author: MlflowClient
) -> None:
    model = new_model(any_server, author, people, versions=0)
    run = author.create_run("0").info.run_id
    body = {"name": model, "source": f"runs:/{run}/model", "run_id": run}

    def register(_: int) -> int:
        status, answer = any_server.call("POST", "/api/2.0/mlflow/model-versions/create", body, token=people.author)
        assert status == 200, answer
        return int(answer["model_version"]["version"])

    with ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(register, range(50))) == list(range(1, 51))


def test_an_alias_is_always_somewhere_while_it_moves(any_server: Server, author: MlflowClient, model: str) -> None:
    author.set_registered_model_alias(model, "a", "1")

    def move(turn: int) -> None:
        author.set_registered_model_alias(model, "a", str(1 + turn % 2))

    with ThreadPoolExecutor(4) as pool:
        moving = [pool.submit(move, turn) for turn in range(12)]
        seen = {author.get_model_version_by_alias(model, "a").version for _ in range(20)}
        [each.result() for each in moving]
    assert seen <= {"1", "2"}
    last = live(history(any_server, model))["alias:a"]
    assert author.get_model_version_by_alias(model, "a").version == last


def test_a_copy_into_another_catalog_keeps_its_run(any_server: Server) -> None:
    tail = uuid.uuid4().hex[:8]
    for catalog in (f"dev_{tail}", f"prod_{tail}"):
        any_server.call("POST", "/api/2.1/unity-catalog/catalogs", {"name": catalog})
        body = {"name": "s", "catalog_name": catalog}
        assert any_server.call("POST", "/api/2.1/unity-catalog/schemas", body)[0] == 200
    promoter_name = f"ci-{tail}@registry.org"
    promoter = any_server.new_user(promoter_name)
    reads, writes = ["USE CATALOG", "USE SCHEMA", "EXECUTE"], ["CREATE MODEL", "CREATE MODEL VERSION"]
    for catalog, privileges in ((f"dev_{tail}", reads), (f"prod_{tail}", reads + writes)):
        path = f"/api/2.1/unity-catalog/permissions/catalog/{catalog}"
        body = {"changes": [{"principal": promoter_name, "add": privileges}]}
        assert any_server.call("PATCH", path, body)[0] == 200
    with signed_in(any_server) as client:
        experiment = client.create_experiment(f"copy-{tail}")
        run = client.create_run(experiment).info.run_id
        client.create_registered_model(f"dev_{tail}.s.m")
        client.create_model_version(f"dev_{tail}.s.m", f"runs:/{run}/model", run)
    with signed_in(any_server, promoter) as client:
        with pytest.raises(MlflowException):
            client.get_run(run)
        copied = client.copy_model_version(f"models:/dev_{tail}.s.m/1", f"prod_{tail}.s.m")
        assert (copied.version, copied.run_id, copied.source) == ("1", run, f"models:/dev_{tail}.s.m/1")
