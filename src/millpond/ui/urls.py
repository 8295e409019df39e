"""Addresses of pages: the one place that knows how they are written."""

from urllib.parse import quote

from millpond.catalog.domain import ObjectName, SchemaName

HOME = "/"
CATALOG = "/catalog"
EXPERIMENTS = "/experiments"
FEATURES = "/features"
MODELS = "/models"
SERVING = "/serving"
SQL = "/sql"
JOBS = "/jobs"
NEW_JOB = "/jobs/new"
PIPELINES = "/pipelines"
COMPUTE = "/compute"
RUNS_OF_JOBS = "/jobs?tab=runs"
WAREHOUSES = "/sql/warehouses"
ALERTS = "/sql/alerts"
NEW_ALERT = "/sql/alerts/new"
USERS = "/users"
AUDIT = "/audit"
SECRETS = "/secrets"
COST = "/cost"


def catalog_url(catalog: str) -> str:
    """A catalog's page."""
    return f"{CATALOG}/{_part(catalog)}"


def schema_url(name: SchemaName) -> str:
    """A schema's page."""
    return f"{catalog_url(name.catalog)}/{_part(name.schema)}"


def object_url(kind: str, name: ObjectName, tab: str | None = None) -> str:
    """The page of a table, volume, function or model of the catalog; `kind` is one of those words."""
    if kind == "model":
        return model_url(str(name))
    base = f"{schema_url(name.schema_name)}/{kind}s/{_part(name.name)}"
    return f"{base}?tab={tab}" if tab else base


def files_url(volume: ObjectName, path: str) -> str:
    """A directory of a volume, by its path within the volume."""
    base = object_url("volume", volume)
    return f"{base}?path={quote(path, safe='/')}" if path else base


def files_api_url(volume: ObjectName, path: str) -> str:
    """Where the Files API reads and writes a file of a volume."""
    full = f"/Volumes/{volume.catalog}/{volume.schema}/{volume.name}/{path}"
    return "/api/2.0/fs/files" + quote(full, safe="/")


def experiment_url(experiment_id: str) -> str:
    """An experiment's page."""
    return f"{EXPERIMENTS}/{_part(experiment_id)}"


def run_url(run_id: str) -> str:
    """How a run was made, and whether it comes out the same again."""
    return f"/runs/{_part(run_id)}"


def model_url(name: str, version: str | None = None) -> str:
    """A registered model's page, at one of its versions."""
    base = f"{MODELS}/{_part(name)}"
    return f"{base}?version={_part(version)}" if version else base


def parity_url(check_id: str) -> str:
    """A parity check's page."""
    return f"/parity/{_part(check_id)}"


def endpoint_url(name: str) -> str:
    """A serving endpoint's page."""
    return f"{SERVING}/{_part(name)}"


def job_url(job_id: int) -> str:
    """A job's page."""
    return f"{JOBS}/{job_id}"


def job_run_url(run_id: int) -> str:
    """The page of a run of a job."""
    return f"{JOBS}/runs/{run_id}"


def pipeline_url(pipeline_id: str, update_id: str | None = None) -> str:
    """A pipeline's page, at one of its updates."""
    base = f"{PIPELINES}/{_part(pipeline_id)}"
    return f"{base}?update={_part(update_id)}" if update_id else base


def cluster_url(cluster_id: str) -> str:
    """A cluster's page."""
    return f"{COMPUTE}/{_part(cluster_id)}"


def cluster_policy_url(policy_id: str) -> str:
    """The page of a cluster policy."""
    return f"{COMPUTE}/policies/{_part(policy_id)}"


def task_url(run_id: int, key: str, attempt_id: int | None = None) -> str:
    """The page of a task of a run, at one of its attempts."""
    base = f"{job_run_url(run_id)}/tasks/{_part(key)}"
    return f"{base}?attempt={attempt_id}" if attempt_id else base


def statement_url(statement_id: str) -> str:
    """A statement in the editor, with its result."""
    return f"{SQL}?statement={_part(statement_id)}"


def saved_query_url(query_id: str) -> str:
    """A saved query in the editor."""
    return f"{SQL}?query={_part(query_id)}"


def query_page_url(query_id: str) -> str:
    """A saved query's own page: its text and who may do what with it."""
    return f"{SQL}/queries/{_part(query_id)}"


def alert_url(alert_id: str) -> str:
    """An alert's page."""
    return f"{ALERTS}/{_part(alert_id)}"


def warehouse_url(warehouse_id: str) -> str:
    """A warehouse's page."""
    return f"{WAREHOUSES}/{_part(warehouse_id)}"


def statement_csv_url(statement_id: str) -> str:
    """Where the whole result of a statement is read as CSV."""
    return f"/api/millpond/sql/statements/{_part(statement_id)}/csv"


def account_url(account_id: str) -> str:
    """The page of a user, service principal or group."""
    return f"{USERS}/{_part(account_id)}"


def audit_entry_url(sequence: int) -> str:
    """An entry of the audit by its place in the chain."""
    return f"{AUDIT}/{sequence}"


def scope_url(name: str) -> str:
    """A secret scope's page."""
    return f"{SECRETS}/{_part(name)}"


def found_url(kind: str, full_name: str) -> str:
    """The page of a catalog object of any kind by its dotted name."""
    if kind == "catalog":
        return catalog_url(full_name)
    if kind == "schema":
        return schema_url(SchemaName.of_full_name(full_name))
    return object_url(kind, ObjectName.of_full_name(full_name))


def search_url(text: str) -> str:
    """What is found for a text."""
    return f"/search?q={_part(text)}"


# MLflow's own pages, served below /ml by the tracking room


def mlflow_experiment_url(experiment_id: str) -> str:
    """An experiment in MLflow's pages."""
    return f"/ml/#/experiments/{_part(experiment_id)}"


def mlflow_run_url(experiment_id: str, run_id: str) -> str:
    """A run in MLflow's pages."""
    return f"{mlflow_experiment_url(experiment_id)}/runs/{_part(run_id)}"


def _part(text: str) -> str:
    return quote(text, safe="")
