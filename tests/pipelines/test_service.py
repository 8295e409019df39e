"""Who may do what at once with a pipeline, and what is refused before it is kept; on both databases."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from millpond.identity.domain import Principal, PrincipalKind
from millpond.jobs import store as jobs_store
from millpond.jobs.settings import specs_of
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import Conflict, InvalidArgument, NotFound, PermissionDenied
from millpond.pipelines import store, viewing
from millpond.pipelines.domain import Asked, Cause, Pipeline
from millpond.pipelines.events import made
from millpond.pipelines.service import PipelineService
from millpond.pipelines.settings import checked, requirements
from millpond.pipelines.sources import Sources
from millpond.pipelines.updates import check_given
from millpond.pipelines.viewing import PipelineViews

ANN = Principal(id="1", name="ann@x.org", kind=PrincipalKind.USER, is_admin=False)
SETTINGS = {"name": "p", "catalog": "main", "schema": "s", "libraries": [{"file": {"path": "/Users/ann@x.org/a.py"}}]}


@pytest.fixture
def service(database: Database) -> PipelineService:
    def unused(*_: Any) -> Any:
        return None

    return PipelineService(database, unused, check_target=unused, principal_named=unused, moved=unused)


@pytest.mark.parametrize("value", ["a\0", "\ud800", {"a\0": 1}], ids=["nul", "half", "in a name"])
def test_what_no_database_takes_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^clusters "):
        checked({**SETTINGS, "clusters": [{"custom": value}]})


def test_ids_that_are_none_are_not_found(service: PipelineService) -> None:
    pipeline = service.create(ANN, SETTINGS)
    with pytest.raises(NotFound):
        service.get(ANN, "\0")
    with pytest.raises(NotFound):
        service.get_update(ANN, pipeline.id, "\0")


def test_wheels_among_dependencies_come_with_an_update(service: PipelineService, database: Database) -> None:
    lines = ["six==1.17.0", "/Volumes/main/s/v/a-1-py3-none-any.whl", "-r /Users/ann@x.org/r.txt"]
    settings = {**SETTINGS, "environment": {"dependencies": lines}}
    pipeline = service.create(ANN, settings)
    update = service.start_update(ANN, pipeline.id, Asked(), Cause.API_CALL)
    with database.read() as connection:
        run = jobs_store.find_run(connection, update.run_id)
    assert run is not None
    [spec] = specs_of(run.settings)
    assert spec.wheels == (lines[1],)
    assert requirements(update.settings) == (lines[:1], ["/Users/ann@x.org/r.txt"])
    with pytest.raises(InvalidArgument, match="no requirement"):
        checked({**SETTINGS, "environment": {"dependencies": ["-e /Users/ann@x.org"]}})


def test_a_pipeline_that_was_started_meanwhile_is_not_deleted(
    service: PipelineService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = service.create(ANN, SETTINGS)
    find, started = store.find, []

    def slow(connection: Connection, pipeline_id: str, *, lock: bool = False) -> Pipeline | None:
        if lock and not started and not database.is_sqlite:  # which has one writer
            started.append(True)
            service.start_update(ANN, pipeline.id, Asked(), Cause.API_CALL)
        return find(connection, pipeline_id, lock=lock)

    monkeypatch.setattr(store, "find", slow)
    with nullcontext() if database.is_sqlite else pytest.raises(Conflict, match="meanwhile"):
        service.delete(ANN, pipeline.id)


@pytest.mark.parametrize(
    ("name", "value", "is_taken"),
    [
        ("day", "2026-01-31", True),
        ("day", "x' UNION ALL SELECT * FROM secret", False),
        ("day", "1--", False),
        ("day", "(SELECT/**/1)", False),
        ("table", "main.s.t", False),
        ("pipelines.trigger.interval", "1", False),
    ],
)
def test_who_may_only_run_a_pipeline_writes_no_code_by_parameters(name: str, value: str, is_taken: bool) -> None:
    now = utc_now()
    settings = {**SETTINGS, "configuration": {"table": "main.s.mine"}}
    pipeline = Pipeline(
        id="p1", name="p", creator=ANN.name, run_as=ANN.name, settings=settings, created_at=now, changed_at=now
    )
    asked = Asked(parameters={name: value})
    check_given(ANN, pipeline, asked)
    with nullcontext() if is_taken else pytest.raises(PermissionDenied, match=name):
        check_given(replace(ANN, id="2", name="bob@x.org"), pipeline, asked)


def test_the_graph_knows_what_was_declared_however_much_came_after(
    service: PipelineService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewing, "_MOST_EVENTS", 3)
    pipeline = service.create(ANN, SETTINGS)
    update = service.start_update(ANN, pipeline.id, Asked(), Cause.API_CALL)

    def told(event_type: str, **details: Any) -> dict[str, Any]:
        event = made(pipeline, event_type, "m", details, update_id=update.id)
        return {**event, "body": {**event["body"], "origin": {"dataset_name": "m.s.sums"}}}

    with database.write() as connection:
        store.add_events(connection, pipeline.id, [
            told("dataset_definition", dataset_type="MATERIALIZED_VIEW"),
            told("flow_definition", input_datasets=["m.s.raw"]),
            *(told("flow_progress", status="RUNNING", metrics={"num_output_rows": rows}) for rows in range(5)),
        ])  # fmt: skip
    [sums] = PipelineViews(service).graph(ANN, update).made
    assert (sums.kind, sums.needs, sums.rows) == ("MATERIALIZED_VIEW", ("m.s.raw",), 4)


@pytest.mark.parametrize("root", ["/Users", "//Users/", "/Workspace//Shared", "/"])
def test_sources_are_not_looked_for_where_anybody_may_make_files(root: str) -> None:
    nothing: Any = None
    sources = Sources(code=nothing, files=nothing, workspace=nothing, references=nothing)
    settings = {"libraries": [{"glob": {"include": f"{root}/**"}}]}
    with pytest.raises(InvalidArgument, match="anybody may make files"):
        list(sources._paths(ANN, settings))
