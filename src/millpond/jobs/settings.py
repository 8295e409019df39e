"""A job's settings as the Jobs API writes them: checked, and read as tasks.

Settings are kept as they were sent. What Millpond does not have is refused by its name, at once.
Source: databricks-sdk 0.156, `databricks/sdk/service/jobs.py`.
"""

import shlex
from collections.abc import Mapping
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import Field

from millpond.compute.domain import Wanted
from millpond.jobs.bodies import (
    AlertInput,
    ConditionInput,
    DbtInput,
    MlflowProjectInput,
    NotebookInput,
    PipelineInput,
    PythonInput,
    RunJobInput,
    ScoringInput,
    SqlInput,
    SubscriptionInput,
    UpdateInput,
    WheelInput,
)
from millpond.jobs.domain import Kind, Need, RunIf, TaskSpec
from millpond.jobs.git_sources import checked_source
from millpond.jobs.inputs import Known as _Known
from millpond.jobs.inputs import Strict as _Strict
from millpond.jobs.inputs import Text as _Text
from millpond.jobs.notices import Noticed
from millpond.jobs.references import OPERATIONS
from millpond.jobs.triggers import ContinuousInput, CronInput, TriggerInput, check_triggers
from millpond.kernel.environments import clean_requirements
from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.kernel.shapes import validated

MOST_TASKS = 1000
_LONGEST_S = 10**8
"""Of a time: three years; added to now it is a date still."""
_Key = Annotated[str, Field(pattern=r"^[\w-]{1,100}$")]
_KINDS = tuple(kind for kind in Kind if kind is not Kind.UPDATE)
_PATHS = ("notebook_path", "python_file", "path", "project_directory", "uri")
_Path = Annotated[str, Field(pattern=r"^(dbfs:)?/[^\x00]+$")]


class ForEachInput(_Strict):
    """A task for each input."""

    inputs: _Text
    task: "TaskInput"
    concurrency: int = Field(default=1, ge=1, le=100)


class NeedInput(_Strict):
    """A task that another depends on."""

    task_key: _Key
    outcome: Literal["true", "false"] | None = None


class PyPiInput(_Strict):
    """A package."""

    package: str
    repo: None = None


class LibraryInput(_Known):
    """A package of the index, a wheel, or a file with packages of the index."""

    pypi: PyPiInput | None = None
    whl: _Path | None = None
    requirements: _Path | None = None


class TaskInput(Noticed):
    """A task."""

    task_key: _Key
    description: _Text | None = None
    depends_on: list[NeedInput] | None = None
    run_if: RunIf | None = None
    max_retries: int | None = Field(default=None, ge=-1)
    min_retry_interval_millis: int | None = Field(default=None, ge=0, le=_LONGEST_S * 1000)
    retry_on_timeout: bool | None = None
    timeout_seconds: int | None = Field(default=None, ge=0, le=_LONGEST_S)
    disabled: bool | None = None
    environment_key: str | None = None
    existing_cluster_id: _Text | None = None
    new_cluster: dict[str, Any] | None = None
    job_cluster_key: _Key | None = None
    libraries: list[LibraryInput] | None = None
    spark_python_task: PythonInput | None = None
    notebook_task: NotebookInput | None = None
    python_wheel_task: WheelInput | None = None
    sql_task: SqlInput | None = None
    alert_task: AlertInput | None = None
    model_scoring_task: ScoringInput | None = None
    dbt_task: DbtInput | None = None
    mlflow_project_task: MlflowProjectInput | None = None
    condition_task: ConditionInput | None = None
    for_each_task: ForEachInput | None = None
    run_job_task: RunJobInput | None = None
    pipeline_task: PipelineInput | None = None
    pipeline_update_task: UpdateInput | None = None


class EnvironmentSpecInput(_Known):
    """Packages."""

    client: str | None = None
    environment_version: str | None = None
    dependencies: list[str] | None = None


class EnvironmentInput(_Strict):
    """Packages under a name."""

    environment_key: str
    spec: EnvironmentSpecInput | None = None


class JobClusterInput(_Known):
    """A cluster that tasks of a run share."""

    job_cluster_key: _Key
    new_cluster: dict[str, Any] | None = None


class ParameterInput(_Strict):
    """A job parameter and its value where a run has no other."""

    name: Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")]
    default: _Text


class QueueInput(_Strict):
    """Whether runs wait for their turn."""

    enabled: bool


class GitInput(_Known):
    """A repository, and what of it."""

    git_url: str
    git_provider: str | None = None
    git_branch: str | None = None
    git_tag: str | None = None
    git_commit: str | None = None


class RunAsInput(_Known):
    """Whose rights the tasks have."""

    user_name: str | None = None
    service_principal_name: str | None = None


class SettingsInput(Noticed):
    """All settings of a job, or of tasks that are submitted once."""

    name: Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")] | None = None
    description: _Text | None = None
    tags: dict[_Text, _Text] | None = Field(default=None, max_length=25)
    tasks: list[TaskInput] | None = None
    environments: list[EnvironmentInput] | None = None
    job_clusters: list[JobClusterInput] | None = None
    parameters: list[ParameterInput] | None = None
    max_concurrent_runs: int | None = Field(default=None, ge=0, le=1000)
    timeout_seconds: int | None = Field(default=None, ge=0, le=_LONGEST_S)
    queue: QueueInput | None = None
    run_as: RunAsInput | None = None
    git_source: GitInput | None = None
    schedule: CronInput | None = None
    trigger: TriggerInput | None = None
    continuous: ContinuousInput | None = None


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, where they are whole. Raises InvalidArgument, NotImplementedHere."""
    found = validated(SettingsInput, settings)
    found.refuse_unknown("The job")
    found.check_notices("The job")
    for part in ("run_as", "git_source"):
        if (inner := getattr(found, part)) is not None:
            inner.refuse_unknown(part)
    check_triggers(found.schedule, found.trigger, found.continuous, found.max_concurrent_runs)
    for environment in found.environments or ():
        if environment.spec is not None:
            environment.spec.refuse_unknown(f"Environment '{environment.environment_key}'")
    for cluster in found.job_clusters or ():
        cluster.refuse_unknown(f"Job cluster '{cluster.job_cluster_key}'")
    names = [parameter.name for parameter in found.parameters or ()]
    if len(set(names)) < len(names):
        raise InvalidArgument("Two parameters of the job have one name.")
    kept = found.model_dump(mode="json", exclude_none=True, by_alias=True)
    if "git_source" in kept:
        checked_source(kept["git_source"])
    specs = specs_of(kept)
    for spec in specs:
        if (spec.nested or spec).kind is Kind.UPDATE:
            raise NotImplementedHere(f"Task '{spec.key}' has {Kind.UPDATE}, the server's own; give it a pipeline_task.")
    _check_graph(specs)
    return kept


def specs_of(settings: Mapping[str, Any]) -> tuple[TaskSpec, ...]:
    """The tasks of checked settings, as they stand there."""
    packages = {
        each["environment_key"]: tuple((each.get("spec") or {}).get("dependencies") or ())
        for each in settings.get("environments", ())
    }
    clusters = {each["job_cluster_key"]: each.get("new_cluster") or {} for each in settings.get("job_clusters", ())}
    has_git = "git_source" in settings
    tasks = (TaskInput.model_validate(task) for task in settings.get("tasks", ()))
    return tuple(_spec(task, packages, clusters, has_git) for task in tasks)


def clusters_of(settings: Mapping[str, Any]) -> list[Wanted]:
    """The clusters that tasks of checked settings name, those that are shared once."""
    found: list[Wanted] = []
    for spec in specs_of(settings):
        wanted = (spec.nested or spec).cluster
        found += [wanted] if wanted is not None and wanted not in found else []
    return found


def _spec(
    task: TaskInput, packages: Mapping[str, tuple[str, ...]], clusters: Mapping[str, Mapping[str, Any]], has_git: bool
) -> TaskSpec:
    task.refuse_unknown(f"Task '{task.task_key}'")
    task.check_notices(f"Task '{task.task_key}'")
    kinds = [kind for kind in Kind if getattr(task, kind.value) is not None]
    if len(kinds) != 1:
        raise InvalidArgument(f"Task '{task.task_key}' takes exactly one of {', '.join(_KINDS)}.")
    kind, nested = kinds[0], None
    if task.notebook_task is not None:
        task.notebook_task.refuse_unknown(f"The notebook of task '{task.task_key}'")
    body = getattr(task, kind.value).model_dump(exclude={"task"}, by_alias=True)
    if task.sql_task is not None:
        _check_sql(task.task_key, task.sql_task)
    if task.alert_task is not None:
        task.alert_task.refuse_unknown(f"The alert of task '{task.task_key}'")
        _check_subscriptions(task.task_key, task.alert_task.subscribers)
    if task.model_scoring_task is not None and (task.environment_key or task.libraries):
        raise NotImplementedHere(f"Task '{task.task_key}' has packages; a model that is scored has its own.")
    if task.for_each_task is not None:
        nested = _spec(task.for_each_task.task, packages, clusters, has_git)
        if nested.needs or nested.kind in (Kind.FOR_EACH, Kind.CONDITION):
            raise InvalidArgument(
                f"What '{task.task_key}' does for each input is one task that is no condition and no loop."
            )
    if task.dbt_task is not None:
        _check_dbt(task.task_key, task.dbt_task)
    if nested is not None and task.timeout_seconds:
        raise NotImplementedHere(f"'{task.task_key}' has timeout_seconds; give it to what is done for each input.")
    if kind is Kind.CONDITION and body["op"] not in OPERATIONS:
        raise InvalidArgument(f"Task '{task.task_key}': op is one of {', '.join(OPERATIONS)}.")
    return TaskSpec(
        key=task.task_key,
        kind=kind,
        from_git=_is_from_git(task, body, has_git),
        body=body,
        needs=tuple(Need(key=each.task_key, outcome=each.outcome or "") for each in task.depends_on or ()),
        run_if=task.run_if or RunIf.ALL_SUCCESS,
        max_retries=task.max_retries or 0,
        retry_pause=timedelta(milliseconds=task.min_retry_interval_millis or 0),
        retry_on_timeout=bool(task.retry_on_timeout),
        timeout_s=task.timeout_seconds or 0,
        disabled=bool(task.disabled),
        **_packages(task, packages),
        cluster=_cluster(task, kind, clusters),
        nested=nested,
    )


def _cluster(task: TaskInput, kind: Kind, clusters: Mapping[str, Mapping[str, Any]]) -> Wanted | None:
    """On which cluster it runs. Raises InvalidArgument."""
    fields = ("existing_cluster_id", "new_cluster", "job_cluster_key")
    given = [field for field in fields if getattr(task, field) is not None]
    if not given:
        return None
    if len(given) > 1 or task.environment_key is not None:
        raise InvalidArgument(f"Task '{task.task_key}' takes one of {', '.join(fields)} and environment_key.")
    if kind not in (Kind.PYTHON, Kind.NOTEBOOK, Kind.WHEEL):
        raise InvalidArgument(f"Task '{task.task_key}' has {given[0]}, and a {kind.value} does not run on a cluster.")
    if task.existing_cluster_id is not None:
        return Wanted(existing_id=task.existing_cluster_id)
    if task.new_cluster is not None:
        return Wanted(spec=task.new_cluster)
    key = task.job_cluster_key or ""
    if key not in clusters:
        raise InvalidArgument(f"Task '{task.task_key}' names job cluster '{key}', which the job has not.")
    return Wanted(spec=clusters[key], key=key)


def _check_sql(key: str, sql: SqlInput) -> None:
    """Raises InvalidArgument, NotImplementedHere."""
    sql.refuse_unknown(f"The SQL of task '{key}'")
    if sum(part is not None for part in (sql.query, sql.file, sql.alert)) != 1:
        raise InvalidArgument(f"The SQL of task '{key}' is one of query, file and alert.")
    if sql.alert is not None and sql.parameters:
        raise InvalidArgument(f"Task '{key}' has parameters; an alert asks with its own.")
    _check_subscriptions(key, sql.alert.subscriptions if sql.alert else None)


def _check_subscriptions(key: str, subscriptions: list[SubscriptionInput] | None) -> None:
    for each in subscriptions or ():
        if bool(each.user_name) is bool(each.destination_id):
            raise InvalidArgument(f"A subscription of task '{key}' is one of user_name and destination_id.")


def _check_dbt(key: str, dbt: DbtInput) -> None:
    """Raises InvalidArgument for what goes with a warehouse where there is none, and the other way round."""
    if dbt.warehouse_id is None and (dbt.catalog or dbt.schema_):
        raise InvalidArgument(f"Task '{key}' has catalog or schema, which go with a warehouse_id.")
    if dbt.warehouse_id is not None and dbt.profiles_directory:
        raise InvalidArgument(f"Task '{key}' has profiles_directory and warehouse_id; give one of them.")
    for command in dbt.commands:
        try:
            shlex.split(command)
        except ValueError as error:
            raise InvalidArgument(f"Task '{key}': the command '{command[:80]}' has {error}.") from error


def _is_from_git(task: TaskInput, body: Mapping[str, Any], has_git: bool) -> bool:
    """Whether its code is in the job's repository. Raises InvalidArgument for a path that is of neither place."""
    code = body.get("file") or body
    named = [name for name in _PATHS if name in code]
    if not named:
        return False
    path = code[named[0]] or ""
    is_git = code.get("source") == "GIT" or (has_git and code.get("source") is None)
    if is_git and not has_git:
        raise InvalidArgument(f"Task '{task.task_key}' has source GIT, and the job has no git_source.")
    is_whole = path.startswith(("/", "dbfs:/"))
    if is_whole is is_git and not (path.startswith("{{") and not is_git):
        where = "in the repository, without a / before it" if is_git else "from the root: /Users/..., /Volumes/..."
        raise InvalidArgument(f"Task '{task.task_key}': '{path[:80]}' is not the path of its code {where}.")
    return is_git


def _packages(task: TaskInput, packages: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Fields of the task's specification: packages of the index, files that name some, and wheels."""
    if task.environment_key is not None and task.environment_key not in packages:
        raise InvalidArgument(f"Task '{task.task_key}' names environment '{task.environment_key[:60]}', which is none.")
    lines = list(packages.get(task.environment_key or "", ()))
    files = [line[3:].strip() for line in lines if line.startswith("-r ")]
    wheels = [line for line in lines if _is_wheel(line)]
    names = [line for line in lines if not line.startswith("-r ") and not _is_wheel(line)]
    for library in task.libraries or ():
        library.refuse_unknown(f"A library of task '{task.task_key}'")
        names += [library.pypi.package] if library.pypi else []
        files += [library.requirements] if library.requirements else []
        wheels += [library.whl] if library.whl else []
    return {
        "requirements": clean_requirements(names), "requirement_files": tuple(files), "wheels": tuple(wheels),
    }  # fmt: skip


def _is_wheel(line: str) -> bool:
    return line.startswith(("/", "dbfs:/")) and line.endswith(".whl")


def _check_graph(specs: tuple[TaskSpec, ...]) -> None:
    keys = {spec.key for spec in specs}
    if len(keys) < len(specs) or len(specs) > MOST_TASKS:
        raise InvalidArgument(f"A job has at most {MOST_TASKS} tasks, each with a key of its own.")
    conditions = {spec.key for spec in specs if spec.kind is Kind.CONDITION}
    for spec in specs:
        for need in spec.needs:
            if need.key not in keys:
                raise InvalidArgument(f"Task '{spec.key}' depends on '{need.key}', which is no task of the job.")
            if need.outcome and need.key not in conditions:
                raise InvalidArgument(
                    f"Task '{spec.key}' depends on an outcome of '{need.key}', which is no condition."
                )
    try:
        TopologicalSorter({spec.key: {need.key for need in spec.needs} for spec in specs}).prepare()
    except CycleError as error:
        raise InvalidArgument(f"Tasks depend on each other in a circle: {' → '.join(error.args[1])}.") from error
