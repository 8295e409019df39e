"""To the tracking server, with the credentials of MLflow's own client."""

from typing import Any

PATH = "/api/millpond/captures"
_ASK_S, _SEND_S = 5, 30


def takes_captures() -> bool:
    """Whether the tracking server is a Millpond."""
    try:
        answer = _call("GET", PATH, None, _ASK_S)
        return bool(answer.status_code == 200 and answer.json().get("captures") == 1)
    except Exception:  # whatever another server answers, it is none of ours
        return False


def put(name: str, part: str, data: bytes) -> None:
    """Send a part of a capture. Raises when the server does not take it."""
    _call("PUT", f"{PATH}/{name}/{part}", data, _SEND_S).raise_for_status()


def set_tag(run_id: str, key: str, value: str) -> None:
    """Set a tag of a run."""
    from mlflow import MlflowClient

    MlflowClient().set_tag(run_id, key, value)


def _call(method: str, path: str, data: bytes | None, timeout_s: float) -> Any:
    import requests  # MLflow's own client is built on it
    from mlflow.tracking._tracking_service.utils import _get_store

    creds = _get_store().get_host_creds()
    verify = creds.server_cert_path or not creds.ignore_tls_verification
    headers = {"Content-Type": "application/zip", **_authorization(creds)}
    basic = (creds.username, creds.password) if creds.username and creds.password else None
    return requests.request(
        method, creds.host.rstrip("/") + path, data=data, headers=headers, auth=basic, timeout=timeout_s,
        verify=verify, allow_redirects=False,
    )  # fmt: skip


def _authorization(creds: Any) -> dict[str, str]:
    if creds.token:
        return {"Authorization": f"Bearer {creds.token}"}
    if getattr(creds, "use_databricks_sdk", False):
        from databricks.sdk import WorkspaceClient

        found: dict[str, str] = WorkspaceClient(profile=creds.databricks_auth_profile).config.authenticate()
        return found
    return {}
