"""The Jobs API, as `databricks-sdk` calls it: 2.2, and 2.1 as older clients do."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Response
from pydantic import ValidationError

from millpond.identity.domain import Principal
from millpond.identity.grants import Change
from millpond.identity.middleware import current_principal
from millpond.identity.wire.permissions import PermissionsInput
from millpond.jobs.outputs import Shown
from millpond.jobs.service import JobService
from millpond.jobs.viewing import JobViews
from millpond.jobs.wire import (
    CancelAllInput,
    JobInput,
    RepairInput,
    ResetInput,
    RunInput,
    RunNowInput,
    UpdateInput,
    export_json,
    job_json,
    output_json,
    run_json,
    task_run_json,
)
from millpond.jobs.wire_beside import delivery_json, triggers_json, use_json
from millpond.kernel.clock import from_epoch_ms
from millpond.kernel.errors import InvalidArgument, NotImplementedHere

_VERSIONS = ("2.1", "2.2")
_MOST_JOBS, _MOST_RUNS = 100, 25
_Me = Annotated[Principal, Depends(current_principal)]
_Any = Annotated[dict[str, Any], Body()]
_Named = Annotated[RunInput | None, Body()]


def jobs_router(
    service: JobService, views: JobViews, usage_of: Callable[[Principal, int], list[dict[str, Any]]], *, base_url: str
) -> APIRouter:
    """All of it; `usage_of` says what a run has used."""
    router = APIRouter()
    for version in _VERSIONS:
        _add_jobs(router, service, f"/api/{version}/jobs")
        _add_runs(router, service, f"/api/{version}/jobs", base_url)
        _add_acts(router, service, f"/api/{version}/jobs")

    @router.get("/api/millpond/jobs/runs/notebook")
    def notebook(me: _Me, run_id: int) -> dict[str, Any]:
        return service.notebook(me, run_id)

    @router.get("/api/millpond/jobs/runs/artifacts")
    def artifacts(me: _Me, run_id: int) -> Response:
        return Response(service.artifacts(me, run_id), media_type="application/gzip")

    @router.get("/api/millpond/jobs/runs/{run_id}/notifications")
    def notifications(me: _Me, run_id: int) -> dict[str, Any]:
        return {"notifications": [delivery_json(each) for each in service.told_about(me, run_id)]}

    @router.get("/api/millpond/jobs/runs/{run_id}/usage")
    def usage(me: _Me, run_id: int) -> dict[str, Any]:
        return {"usage": usage_of(me, run_id)}

    @router.get("/api/millpond/jobs/runs/{run_id}/lineage")
    def lineage(me: _Me, run_id: int) -> dict[str, Any]:
        found, is_cut = views.lineage(me, run_id)
        return {"lineage": [use_json(each) for each in found], "truncated": is_cut}

    return router


def _add_jobs(router: APIRouter, service: JobService, path: str) -> None:
    @router.post(f"{path}/create")
    def create(me: _Me, body: _Any) -> dict[str, Any]:
        return {"job_id": service.create(me, body, _access(body)).id}

    @router.get(f"{path}/get")
    def get(me: _Me, job_id: int, include_trigger_state: bool = False) -> dict[str, Any]:
        job = service.get(me, job_id)
        triggers = triggers_json(job, service.watch_of(job)) if include_trigger_state else {}
        return job_json(job, whole=True) | triggers

    @router.get(f"{path}/list")
    def list_all(
        me: _Me, name: str | None = None, expand_tasks: bool = False, limit: int = 20, page_token: str | None = None,
        offset: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        page = service.list(me, name=name, page_token=page_token, limit=_bounded(limit, _MOST_JOBS, offset))
        told = [job_json(job, whole=expand_tasks) for job in page.items]
        return {"jobs": told, "has_more": page.next_page_token is not None, "next_page_token": page.next_page_token}

    @router.post(f"{path}/reset")
    def reset(me: _Me, body: ResetInput) -> dict[str, Any]:
        service.reset(me, body.job_id, body.new_settings, _access(body.new_settings))
        return {}

    @router.post(f"{path}/update")
    def update(me: _Me, body: UpdateInput) -> dict[str, Any]:
        service.update(me, body.job_id, body.new_settings, body.fields_to_remove)
        return {}

    @router.post(f"{path}/delete")
    def delete(me: _Me, body: JobInput) -> dict[str, Any]:
        service.delete(me, body.job_id)
        return {}


def _add_runs(router: APIRouter, service: JobService, path: str, base_url: str) -> None:
    @router.get(f"{path}/runs/get")
    def get_run(
        me: _Me, run_id: int | None = None, include_history: bool = False, body: _Named = None
    ) -> dict[str, Any]:
        run_id = _run_id(run_id, body)
        shown = service.get_run(me, run_id)
        if shown.run.id == run_id:
            return run_json(shown, base_url, history=include_history)
        return task_run_json(shown, base_url)

    @router.get(f"{path}/runs/list")
    def list_runs(
        me: _Me, job_id: int | None = None, active_only: bool = False, completed_only: bool = False,
        expand_tasks: bool = False, limit: int = 20, offset: int = 0, page_token: str | None = None,
        run_type: str | None = None, start_time_from: int | None = None, start_time_to: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        if active_only and completed_only:
            raise InvalidArgument("active_only and completed_only leave nothing; give one of them.")
        page = service.list_runs(
            me, job_id=job_id, active=True if active_only else False if completed_only else None,
            since=None if start_time_from is None else from_epoch_ms(start_time_from),
            until=None if start_time_to is None else from_epoch_ms(start_time_to),
            submitted=None if run_type is None else run_type == "SUBMIT_RUN",
            page_token=page_token, limit=_bounded(limit, _MOST_RUNS, offset),
        )  # fmt: skip
        tasks = service.tasks_of(page.items)
        told = [run_json(Shown(run=run, tasks=tasks[run.id]), base_url, tasks=expand_tasks) for run in page.items]
        return {"runs": told, "has_more": page.next_page_token is not None, "next_page_token": page.next_page_token}

    @router.get(f"{path}/runs/get-output")
    def output(me: _Me, run_id: int | None = None, body: _Named = None) -> dict[str, Any]:
        return output_json(service.output(me, _run_id(run_id, body)), base_url)

    @router.get(f"{path}/runs/export")
    def export(me: _Me, run_id: int, views_to_export: str = "CODE") -> dict[str, Any]:
        if views_to_export == "DASHBOARDS":
            raise NotImplementedHere("Notebooks have no dashboards here; export CODE or ALL.")
        return export_json(service.get_run(me, run_id), service.notebook(me, run_id))


def _add_acts(router: APIRouter, service: JobService, path: str) -> None:
    @router.post(f"{path}/run-now")
    def run_now(me: _Me, body: RunNowInput) -> dict[str, Any]:
        body.check()
        run_id = service.run_now(
            me, body.job_id, parameters=body.job_parameters, python_params=body.python_params, only=body.only,
            notebook_params=body.notebook_params, python_named_params=body.python_named_params,
            sql_params=body.sql_params, pipeline_params=body.pipeline,
            dbt_commands=body.dbt_commands,
            queue=None if body.queue is None else body.queue.get("enabled"), token=body.idempotency_token,
        )  # fmt: skip
        return {"run_id": run_id, "number_in_job": run_id}

    @router.post(f"{path}/runs/submit")
    def submit(me: _Me, body: _Any) -> dict[str, Any]:
        if body.pop("access_control_list", None):
            raise NotImplementedHere("submit has access_control_list; a run without a job is its creator's.")
        token = body.pop("idempotency_token", None)
        return {"run_id": service.submit(me, body, None if token is None else str(token)[:64])}

    @router.post(f"{path}/runs/cancel")
    def cancel(me: _Me, body: RunInput) -> dict[str, Any]:
        service.cancel(me, body.run_id)
        return {}

    @router.post(f"{path}/runs/cancel-all")
    def cancel_all(me: _Me, body: CancelAllInput) -> dict[str, Any]:
        service.cancel_all(me, body.job_id, queued_only=body.all_queued_runs)
        return {}

    @router.post(f"{path}/runs/delete")
    def delete_run(me: _Me, body: RunInput) -> dict[str, Any]:
        service.delete_run(me, body.run_id)
        return {}

    @router.post(f"{path}/runs/repair")
    def repair(me: _Me, body: RepairInput) -> dict[str, Any]:
        body.check()
        repair_id = service.repair(
            me, body.run_id, tasks=body.rerun_tasks or [], all_failed=body.rerun_all_failed_tasks,
            dependents=body.rerun_dependent_tasks, latest_repair_id=body.latest_repair_id,
            parameters=body.job_parameters, python_params=body.python_params, notebook_params=body.notebook_params,
            python_named_params=body.python_named_params, sql_params=body.sql_params, pipeline_params=body.pipeline,
            dbt_commands=body.dbt_commands,
        )  # fmt: skip
        return {"repair_id": repair_id}


def _run_id(given: int | None, body: RunInput | None) -> int:
    """The run that a query names, or the body of a GET, in which Airflow's deferred operators send it."""
    if given is not None:
        return given
    if body is None:
        raise InvalidArgument("run_id is missing; give it in the query.")
    return body.run_id


def _access(settings: dict[str, Any]) -> list[Change]:
    """The levels that stand among settings, taken out of them."""
    try:
        given = PermissionsInput(access_control_list=settings.pop("access_control_list", None) or [])
    except ValidationError as error:
        raise InvalidArgument(f"access_control_list: {error.errors()[0]['msg']}.") from error
    return [entry.change for entry in given.access_control_list]


def _bounded(limit: int, most: int, offset: int) -> int:
    """A page's length. Raises InvalidArgument; also for `offset`, which clients gave up for tokens."""
    if offset:
        raise InvalidArgument("offset is not taken here; go on with next_page_token.")
    if not 0 <= limit <= most:
        raise InvalidArgument(f"limit is {limit}; it is 1 to {most}.")
    return limit or most
