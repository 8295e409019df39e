"""Two people and a CI service principal bring a model from development to production, through unmodified clients."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, PermissionDenied
from databricks.sdk.service import iam, ml, sql
from sklearn.linear_model import LogisticRegression

from millpond.kernel.clock import rfc3339, utc_now
from tests.clients.mlflow_session import signed_in
from tests.conftest import LOCAL_WEBHOOKS
from tests.receivers import listening
from tests.servers import Server, run_cli, running_server, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours

MODEL, TABLE, SECRET = "churn", "main.default.churn_evaluation", "between us"
POLICY = f"""targets: ['stage:Production']
checks:
  - tags: {{required: [team]}}
  - reviewers: {{approvals: 1}}
  - signature
  - predicts: {{calls: 5}}
  - metric: {{table: {TABLE}, table_version: 1, label: churned, name: accuracy, minimum: 0.7, margin: 0.0}}
  - slices: {{table: {TABLE}, table_version: 1, label: churned, name: accuracy, by: [region], floor: 0.7}}
"""


@dataclass
class Receiver:
    """Somebody on this machine who is told; away for the first two calls."""

    url: str = ""
    got: list[tuple[str, bytes]] = field(default_factory=list)
    refused: int = 0


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            if state.refused < 2:
                state.refused += 1
                self.send_response(503)
            else:
                state.got.append((self.headers["X-Databricks-Signature"], raw))
                self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    with listening(Handler) as url:
        state.url = url
        yield state


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("registry-story") / "data", env=LOCAL_WEBHOOKS) as server:
        yield server


def sdk(server: Server, token: str) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=token, auth_type="pat")


def divided(limit: float) -> Any:
    """A model that says who leaves: those whose `x` is at least the limit."""
    x = limit + np.arange(-2.9, 3, 0.2)
    return LogisticRegression(C=100).fit(pd.DataFrame({"x": x}), (x >= limit).astype(int))


def trained(server: Server, token: str, limit: float) -> str:
    """A version that Ben makes."""
    with signed_in(server, token):
        mlflow.set_experiment("/Users/ben@pond.org/churn")
        with mlflow.start_run():
            mlflow.log_param("limit", limit)
            info = mlflow.sklearn.log_model(
                divided(limit), name="model", input_example=pd.DataFrame({"x": [1.0, 2.0]}),
                pip_requirements=["scikit-learn"],
            )  # fmt: skip
        return str(mlflow.register_model(info.model_uri, MODEL).version)


@pytest.mark.slow
@pytest.mark.timeout(600)  # six models are loaded in clean processes
def test_the_story(site: Server, receiver: Receiver, tmp_path: Path) -> None:
    admin = sdk(site, site.token)
    ada_token, ben_token = (site.new_user(f"{name}@pond.org") for name in ("ada", "ben"))
    ada, ben = sdk(site, ada_token), sdk(site, ben_token)
    robot = admin.service_principals.create(display_name="ci")
    key = admin.service_principal_secrets_proxy.create(robot.id)
    ci = WorkspaceClient(host=site.url, client_id=robot.application_id, client_secret=key.secret, auth_type="oauth-m2m")

    # Ben has a model, and says who may do what; Ada's rules are the administrator's to set
    first = trained(site, ben_token, 5.0)
    of_model = ben.model_registry.get_model(MODEL).registered_model_databricks.id
    ben.permissions.update("registered-models", of_model, access_control_list=[
        iam.AccessControlRequest(user_name="ada@pond.org",
                                 permission_level=iam.PermissionLevel.CAN_MANAGE_PRODUCTION_VERSIONS),
        iam.AccessControlRequest(service_principal_name=robot.application_id,
                                 permission_level=iam.PermissionLevel.CAN_MANAGE_STAGING_VERSIONS),
    ])  # fmt: skip
    ben.model_registry.create_webhook(
        [ml.RegistryWebhookEvent.MODEL_VERSION_TRANSITIONED_TO_PRODUCTION], model_name=MODEL,
        http_url_spec=ml.HttpUrlSpec(url=receiver.url, secret=SECRET),
    )  # fmt: skip
    evaluation_table(admin)
    (tmp_path / "policy.yaml").write_text(POLICY)
    run_cli(
        "registry",
        "policy",
        MODEL,
        "--type",
        "model",
        "--set",
        str(tmp_path / "policy.yaml"),
        "--data-dir",
        str(site.data_dir),
    )

    # CI takes the first version to staging and asks; it may not decide, and the gate holds Ada back
    promoted(ci, ben, first)
    with pytest.raises(PermissionDenied):
        ci.model_registry.transition_stage(MODEL, first, "Production", True)
    with pytest.raises(BadRequest, match=r"slices: accuracy misses the floor of 0.7 by region for south: 0.5"):
        ada.model_registry.approve_transition_request(MODEL, first, "Production", True, comment="let us see")
    assert stage(ada, first) == "Staging"

    # better ones pass
    second = trained(site, ben_token, 3.0)
    promoted(ci, ben, second)
    ada.model_registry.approve_transition_request(MODEL, second, "Production", True, comment="holds everywhere now")
    assert stage(ada, second) == "Production"
    meanwhile = utc_now()
    third = trained(site, ben_token, 3.2)
    promoted(ci, ben, third)
    ada.model_registry.approve_transition_request(MODEL, third, "Production", True, comment="the new one")
    assert (stage(ada, second), stage(ada, third)) == ("Archived", "Production")

    # what was live, on what grounds
    told = history(site, "--at", rfc3339(meanwhile))
    assert f"stage:Production = version {second}" in told
    assert "moved by ada@pond.org" in told
    assert "approved by ada@pond.org" in told
    assert f"stage:Production = version {third}" in history(site)
    run_cli("registry", "rollback", MODEL, "--stage", "Production", "--reason", "complaints from the south",
            "--data-dir", str(site.data_dir))  # fmt: skip
    assert (stage(ada, second), stage(ada, third)) == ("Production", "Archived")

    # the receiver was away twice, and has heard of all three moves, signed
    bodies = wait_until(lambda: len(receiver.got) >= 3 and receiver.got, timeout_s=60)
    assert receiver.refused == 2
    for signature, raw in bodies:
        assert hmac.compare_digest(signature, hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest())
    assert sorted(json.loads(raw)["version"] for _, raw in bodies) == sorted([second, third, second])


def promoted(ci: WorkspaceClient, ben: WorkspaceClient, version: str) -> None:
    """What CI does with a version that Ben has tagged; it lets the gates look, so that nobody has to wait for them."""
    ben.model_registry.set_model_version_tag(MODEL, version, "team", "retention")
    ci.model_registry.transition_stage(MODEL, version, "Staging", False, comment="built and tested")
    ci.model_registry.create_transition_request(MODEL, version, "Production", comment="all green")
    asked = {"name": MODEL, "version": version, "stage": "Production"}
    (run,) = ci.api_client.do("POST", "/api/millpond/registry/gates/run", body=asked)["runs"]
    runs = "/api/millpond/registry/gates"

    def ended() -> bool:
        found = ci.api_client.do("GET", runs, query={"name": MODEL, "version": version})["runs"]
        return any(each["id"] == run["id"] and each["state"] in {"passed", "failed"} for each in found)

    wait_until(ended, timeout_s=250, what=f"a verdict about version {version}")


def stage(w: WorkspaceClient, version: str) -> str:
    return str(w.model_registry.get_model_version(MODEL, version).model_version.current_stage)


def history(server: Server, *options: str) -> str:
    return run_cli("registry", "history", MODEL, *options, "--data-dir", str(server.data_dir)).stdout


def evaluation_table(w: WorkspaceClient) -> None:
    rows = [("north", 1.0, 0), ("north", 2.0, 0), ("north", 8.0, 1), ("north", 9.0, 1),
            ("south", 1.0, 0), ("south", 3.6, 1), ("south", 4.0, 1), ("south", 2.0, 0)]  # fmt: skip
    values = ", ".join(f"('{region}', CAST({x} AS DOUBLE), {churned})" for region, x, churned in rows)
    create = f"CREATE TABLE {TABLE} (region STRING, x DOUBLE, churned INT)"
    for statement in (create, f"INSERT INTO {TABLE} VALUES {values}"):
        done = w.statement_execution.execute_statement(statement, "starter", wait_timeout="50s")
        assert done.status.state is sql.StatementState.SUCCEEDED, done.status
