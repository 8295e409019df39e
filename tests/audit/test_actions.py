"""Which names of Databricks an act gets. Source: its "Audit log reference"."""

# ruff: noqa: E501 - a table

import pytest

from millpond.audit.actions import change, request


@pytest.mark.parametrize(
    ("method", "path", "service", "action", "kind", "name"),
    [
        ("GET", "/api/2.1/unity-catalog/tables/main.s.t", "unityCatalog", "getTable", "table", "main.s.t"),
        ("GET", "/api/2.1/unity-catalog/catalogs", "unityCatalog", "listCatalogs", "catalog", ""),
        ("POST", "/api/2.1/unity-catalog/schemas", "unityCatalog", "createSchema", "schema", ""),
        ("DELETE", "/api/2.1/unity-catalog/volumes/main.s.v", "unityCatalog", "deleteVolume", "volume", "main.s.v"),
        ("PATCH", "/api/2.1/unity-catalog/models/m.s.m/versions/3", "unityCatalog", "updateModelVersion", "model", "m.s.m/3"),
        ("POST", "/api/2.1/unity-catalog/temporary-table-credentials", "unityCatalog", "generateTemporaryTableCredential", "path", ""),
        ("POST", "/api/2.0/mlflow/experiments/create", "mlflowExperiment", "createMlflowExperiment", "path", ""),
        ("POST", "/ml/ajax-api/2.0/mlflow/runs/search", "mlflowExperiment", "searchMlflowRun", "path", ""),
        ("POST", "/api/2.0/mlflow/runs/log-metric", "mlflowExperiment", "logMlflowRunMetric", "path", ""),
        ("GET", "/api/2.0/mlflow/registered-models/get", "modelRegistry", "getRegisteredModel", "path", ""),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/x", "mlflowExperiment", "putMlflowArtifact", "path", ""),
        ("GET", "/api/2.0/fs/files/Volumes/a/b/c/d%20e.csv", "filesystem", "getFile", "file", "/Volumes/a/b/c/d e.csv"),
        ("POST", "/api/2.0/fs/create-upload-url", "filesystem", "createUploadUrl", "path", ""),
        ("POST", "/serving-endpoints/churn/invocations", "serverlessRealTimeInference", "queryServingEndpoint", "endpoint", "churn"),
        ("PUT", "/api/2.0/serving-endpoints/churn/config", "serverlessRealTimeInference", "putServingEndpointConfig", "endpoint", "churn"),
        ("GET", "/api/2.0/serving-endpoints", "serverlessRealTimeInference", "listServingEndpoints", "endpoint", ""),
        ("DELETE", "/api/2.0/preview/scim/v2/Users/7", "accounts", "delete", "user", "7"),
        ("POST", "/api/2.0/preview/scim/v2/Groups", "accounts", "createGroup", "group", ""),
        ("GET", "/api/2.0/token/list", "accounts", "listTokens", "token", ""),
        ("POST", "/sign-in", "accounts", "login", "path", ""),
        ("GET", "/catalog/main", "workspace", "viewPage", "path", ""),
        ("GET", "/api/9.9/no-such", "workspace", "getApi", "path", ""),
    ],
)  # fmt: skip
def test_a_request_is_named(method: str, path: str, service: str, action: str, kind: str, name: str) -> None:
    """By its method and path alone."""
    named = request(method, path)
    assert (named.service, named.action, named.kind, named.name) == (service, action, kind, name)
    assert named.params["path"] == path


@pytest.mark.parametrize(
    ("kind", "act", "service", "action"),
    [
        ("table", "drop", "unityCatalog", "deleteTable"),
        ("model", "create", "unityCatalog", "createRegisteredModel"),
        ("user", "create", "accounts", "add"),
        ("user", "sign in", "accounts", "login"),
        ("token", "create", "accounts", "generateDbToken"),
        ("group", "change", "accounts", "updateGroup"),
        ("endpoint", "create", "serverlessRealTimeInference", "createServingEndpoint"),
        ("job", "run", "jobs", "runNow"),
        ("job", "trigger", "jobs", "runTriggered"),
        ("task run", "fail", "jobs", "runFailed"),
        ("pipeline", "start", "deltaPipelines", "startUpdate"),
        ("something new", "turn", "workspace", "turnSomethingNew"),
    ],
)
def test_a_change_is_named(kind: str, act: str, service: str, action: str) -> None:
    """By what was done to what; a kind that nobody knows yet gets a name all the same."""
    named = change(kind, act)
    assert (named.service, named.action) == (service, action)
