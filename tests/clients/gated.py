"""What tests of gates share: policies, versions without a model in them, and statements."""

from typing import Any

from mlflow import MlflowClient

from tests.servers import Server

OURS = "/api/millpond/registry"


def call(server: Server, path: str, *, token: str | None = None, **body: Any) -> tuple[int, Any]:
    """One call of our own API."""
    return server.call("POST", f"{OURS}/{path}", body, token=token)


def put_policy(server: Server, kind: str, name: str, policy: str, *, token: str | None = None) -> None:
    """The policy of a model, schema or catalog."""
    status, body = call(server, "policies", token=token, securable_type=kind, name=name, policy=policy)
    assert status == 200, body


def plain_version(client: MlflowClient, name: str) -> None:
    """A version whose model nobody loads."""
    run = client.create_run("0").info.run_id
    client.create_model_version(name, f"runs:/{run}/model", run)


def run_sql(server: Server, *statements: str, token: str | None = None) -> list[list[Any]]:
    """The rows of the last statement; all have to succeed."""
    for statement in statements:
        body = {"statement": statement, "warehouse_id": "starter", "wait_timeout": "50s"}
        answer = server.call("POST", "/api/2.0/sql/statements", body, token=token)[1]
        assert answer["status"]["state"] == "SUCCEEDED", answer
    return answer.get("result", {}).get("data_array", [])
