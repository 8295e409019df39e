"""What each kind of task is told, as the Jobs API writes it: models of its body.

Source: databricks-sdk 0.156, `databricks/sdk/service/jobs.py`.
"""

from typing import Annotated, Literal

from pydantic import Field

from millpond.jobs.inputs import Known as _Known
from millpond.jobs.inputs import Strict as _Strict
from millpond.jobs.inputs import Text as _Text

LARGEST_ID = 2**63 - 1
_Name = Annotated[str, Field(pattern=r"^[^\s.`/\x00]+$", max_length=255)]


class PythonInput(_Strict):
    """A script, by its path."""

    python_file: str
    parameters: list[_Text] = Field(default_factory=list)
    source: Literal["WORKSPACE", "GIT"] | None = None


class NotebookInput(_Known):
    """A notebook, by its path in the workspace or a volume."""

    notebook_path: str = Field(pattern=r"^[^\x00]+$")
    base_parameters: dict[_Text, _Text] | None = None
    source: Literal["WORKSPACE", "GIT"] | None = None


class WheelInput(_Strict):
    """A function of a package, by the name of its entry point."""

    package_name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    entry_point: str = Field(pattern=r"^[\w.:-]+$")
    parameters: list[_Text] | None = None
    named_parameters: dict[_Text, _Text] | None = None


class SqlFileInput(_Strict):
    """A file of SQL."""

    path: str = Field(pattern=r"^[^\x00]+$")
    source: Literal["WORKSPACE", "GIT"] | None = None


class SqlQueryInput(_Strict):
    """A saved query."""

    query_id: str


class SubscriptionInput(_Strict):
    """Somebody who is told of an alert: a user, or a notification destination."""

    user_name: _Text | None = None
    destination_id: _Text | None = None


class SqlAlertInput(_Strict):
    """An alert."""

    alert_id: str
    subscriptions: list[SubscriptionInput] | None = Field(default=None, max_length=100)
    pause_subscriptions: bool | None = None


class AlertInput(_Known):
    """An alert, perhaps with other parameters and on another warehouse than its own."""

    alert_id: str
    warehouse_id: _Text | None = None
    subscribers: list[SubscriptionInput] | None = Field(default=None, max_length=100)
    parameters: dict[Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")], _Text] | None = None


class SqlInput(_Known):
    """A saved query, a file, or an alert, on a warehouse."""

    warehouse_id: str
    query: SqlQueryInput | None = None
    file: SqlFileInput | None = None
    alert: SqlAlertInput | None = None
    parameters: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$", max_length=255)], _Text] | None = None


class ScoringInput(_Strict):
    """Rows of a table that are new, for a model; see `millpond.sdk.scoring.score_table`."""

    source_table: _Text
    target_table: _Text
    model: _Text
    keys: list[_Text] | None = None
    columns: list[_Text] | None = None
    return_type: _Text | None = None
    on_new_version: Literal["continue", "rescore"] | None = None


class DbtInput(_Strict):
    """Commands of dbt in a project, on a warehouse or with the project's own profile."""

    commands: list[Annotated[str, Field(pattern=r"^dbt [^\x00]+$")]] = Field(min_length=1, max_length=10)
    project_directory: _Text | None = None
    source: Literal["WORKSPACE", "GIT"] | None = None
    warehouse_id: _Text | None = None
    catalog: _Name | None = None
    schema_: _Name | None = Field(default=None, alias="schema", serialization_alias="schema")
    profiles_directory: _Text | None = None


class MlflowProjectInput(_Strict):
    """An entry point of an MLflow project."""

    uri: _Text
    entry_point: Annotated[str, Field(pattern=r"^[\w.-]+$")] = "main"
    parameters: dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], _Text] | None = None
    experiment_name: _Text | None = None
    experiment_id: _Text | None = None
    source: Literal["WORKSPACE", "GIT"] | None = None


class ConditionInput(_Strict):
    """A comparison of two texts or numbers."""

    op: str
    left: _Text
    right: _Text


class RunJobInput(_Strict):
    """Another job."""

    job_id: int = Field(ge=0, le=LARGEST_ID)
    job_parameters: dict[str, _Text] = Field(default_factory=dict)


class PipelineInput(_Strict):
    """An update of a pipeline."""

    pipeline_id: _Text
    full_refresh: bool | None = None
    full_refresh_selection: list[_Text] | None = Field(default=None, max_length=1000)
    refresh_selection: list[_Text] | None = Field(default=None, max_length=1000)
    parameters: dict[_Text, _Text] | None = None


class UpdateInput(_Strict):
    """An update that has begun; the server's own."""

    update_id: _Text
