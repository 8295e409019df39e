"""What is answered before MLflow's handlers is what they answer, and what is not plain is theirs."""

import io
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec
import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.protos import model_registry_pb2, service_pb2
from mlflow.server import handlers
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from werkzeug.test import Client

from millpond.tracking import plain_reads
from millpond.tracking.embed import Stores, mlflow_database
from millpond.tracking.mlflow_routes import flask_app
from millpond.tracking.plain_reads import PlainReads
from millpond.tracking.stores.models import ModelReads
from millpond.tracking.stores.tracking import OwnedTrackingStore
from tests.databases import BACKENDS, Databases
from tests.tracking.conftest import person
from tests.tracking.model_stores import fill, store_on

_JSON = {"Content-Type": "application/json"}


class Both:
    """The same application twice, with and without plain reads before it."""

    def __init__(self, stores: Stores) -> None:
        app = flask_app(cast("Any", None))
        self.theirs = Client(_bridged(app))
        self.passed_on: list[str] = []
        self.ours = Client(_bridged(PlainReads(self._noting(app), stores)))

    def _noting(self, app: Any) -> Any:
        def note(environ: dict[str, Any], start_response: Any) -> Any:
            self.passed_on.append(environ["PATH_INFO"])
            return app(environ, start_response)

        return note


def _bridged(app: Any) -> Any:
    """Requests as the server's bridge hands them over."""

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        body = environ["wsgi.input"].read()
        return app(environ | {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}, start_response)

    return call


@pytest.fixture(scope="module", params=BACKENDS)
def both(request: Any, tracking_databases: Databases, tmp_path_factory: Any) -> Iterator[Both]:
    """On a database with models and runs, as its administrator."""
    with (
        tracking_databases.new(request.param, tmp_path_factory.mktemp("plain")) as database,
        pytest.MonkeyPatch.context() as patch,
    ):
        own = mlflow_database(database)
        fill(store_on(SqlAlchemyStore, own))
        tracking = OwnedTrackingStore(own, lambda: person("ann", is_admin=True))
        for number in range(3):
            run_id = tracking.create_run("0", "ann", number, [RunTag("t", str(number))], f"run-{number}").info.run_id
            tracking.log_batch(run_id, [Metric("m", number, 1, 1)], [Param("p", "1")], [])
        stores = Stores(tracking=tracking, registry=cast("Any", store_on(ModelReads, own)))
        patch.setattr(handlers, "_tracking_store", stores.tracking)
        patch.setattr(handlers, "_model_registry_store", stores.registry)
        yield Both(stores)
        own.dispose()


def _compare(both: Both, method: str, path: str, **asked: Any) -> tuple[int, Any]:
    both.passed_on.clear()
    ours, theirs = (client.open(path, method=method, **asked) for client in (both.ours, both.theirs))
    assert (ours.status_code, ours.mimetype, _ordered(ours.json)) == (
        theirs.status_code, theirs.mimetype, _ordered(theirs.json),
    )  # fmt: skip
    return ours.status_code, ours.json


def _ordered(answer: Any) -> Any:
    """An answer with the lists inside its items in a fixed order: MLflow's have none."""
    if not isinstance(answer, dict):
        return answer
    return {
        name: [_fixed(each) for each in value] if isinstance(value, list) else _fixed(value)
        for name, value in answer.items()
    }


def _fixed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _fixed(each) for name, each in value.items()}
    return sorted(map(_fixed, value), key=str) if isinstance(value, list) else value


PLAIN = [
    "registered-models/get?name=model-4",
    "registered-models/search",
    "registered-models/search?max_results=2&order_by=name%20DESC",
    "registered-models/search?filter=tags.team%20%3D%20%27a%27&unknown=1",
    "registered-models/search?filter=tags.%27team%27%20%3D%20%27a%27",
    "registered-models/search?filter=tag.mlflow.prompt.is_prompt%20%3D%20%27true%27",
    "model-versions/search?filter=tag.%60mlflow.prompt.is_prompt%60%20%3D%20%27true%27",
    "registered-models/alias?name=model-4&alias=champion",
    "model-versions/get?name=model-4&version=2",
    "model-versions/get?name=model-4&name=model-3&version=2",
    "model-versions/search?filter=name%3D%27model-4%27&max_results=2",
    "model-versions/search?order_by=name%20ASC&order_by=version_number%20DESC",
    "model-versions/search?filter=run_id%3D%27r%C3%BCn%27&page_token=",
    "model-versions/search?filter=colour%3D%27red%27",
    "model-versions/search?page_token=nonsense",
    "model-versions/get?name=model-4&version=two",
    "runs/get?run_id=0123",
]
OTHERS = [
    "registered-models/get",
    "registered-models/get?name=",
    "registered-models/get?name=nobody",
    "registered-models/alias?name=model-4&alias=nothing",
    "model-versions/get?name=model-4&version=1",
    "model-versions/search?max_results=many",
    "model-versions/search?max_results=0",
    "model-versions/search?max_results=2.0",
    "registered-models/search?max_results=1e1",
    "model-versions/search?max_results=200001",
    "registered-models/search?max_results=1001",
    "model-versions/search?filter=name%3D%27%FF%27",
    "runs/get?run_uuid=0123",
]
PLAIN_SEARCHES: list[dict[str, Any]] = [
    {},
    {"experiment_ids": ["0"]},
    {"experiment_ids": ["0"], "max_results": 2, "order_by": ["metrics.m DESC"], "page_token": None},
    {"experiment_ids": ["0"], "filter": "params.p = '1' and tags.t = '2'", "run_view_type": "ALL"},
    {"experiment_ids": ["0"], "run_view_type": "DELETED_ONLY"},
    {"experiment_ids": ["0"], "filter": "nonsense"},
    {"experiment_ids": ["zero"]},
]
OTHER_SEARCHES: list[Any] = [
    {"experiment_ids": [0]},
    {"experimentIds": ["0"]},
    {"experiment_ids": ["0"], "max_results": 50_001},
    {"experiment_ids": ["0"], "max_results": "2"},
    {"experiment_ids": ["0"], "run_view_type": 3},
    {"experiment_ids": ["0"], "run_view_type": "SOME"},
    {"experiment_ids": ["0"], "order_by": "metrics.m"},
    '{"experiment_ids": ["0"]}',
    [],
]


@pytest.mark.parametrize("path", PLAIN)
def test_plain_reads_are_mlflows(both: Both, path: str) -> None:
    for prefix in ("api", "ajax-api"):
        _compare(both, "GET", f"/{prefix}/2.0/mlflow/{path}")
        assert not both.passed_on


@pytest.mark.parametrize("path", OTHERS)
def test_other_reads_are_left_to_mlflow(both: Both, path: str) -> None:
    _compare(both, "GET", f"/api/2.0/mlflow/{path}")
    assert both.passed_on


@pytest.mark.parametrize("body", PLAIN_SEARCHES, ids=str)
def test_plain_searches_of_runs_are_mlflows(both: Both, body: Mapping[str, Any]) -> None:
    status, found = _compare(both, "POST", "/api/2.0/mlflow/runs/search", json=body)
    assert not both.passed_on
    if status == 200:
        for run in found.get("runs", ()):
            _compare(both, "GET", f"/api/2.0/mlflow/runs/get?run_id={run['info']['run_id']}")
            assert not both.passed_on


@pytest.mark.parametrize("body", OTHER_SEARCHES, ids=str)
def test_other_searches_of_runs_are_left_to_mlflow(both: Both, body: Any) -> None:
    _compare(both, "POST", "/api/2.0/mlflow/runs/search", json=body)
    assert both.passed_on


def test_a_body_that_is_no_json_is_left_to_mlflow(both: Both) -> None:
    path = "/api/2.0/mlflow/runs/search"
    assert _compare(both, "POST", path, data="{", headers=_JSON)[0] == 400
    assert _compare(both, "POST", path, data="{}", headers={"Content-Type": "text/plain"})[0] == 400
    assert (
        _compare(both, "GET", "/api/2.0/mlflow/registered-models/get", data='{"name": "model-4"}', headers=_JSON)[0]
        == 200
    )
    assert _compare(both, "DELETE", "/api/2.0/mlflow/registered-models/alias?name=model-4&alias=nothing")[0] != 500


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (plain_reads.ModelAsked, model_registry_pb2.GetRegisteredModel()),
        (plain_reads.VersionAsked, model_registry_pb2.GetModelVersion()),
        (plain_reads.AliasAsked, model_registry_pb2.GetModelVersionByAlias()),
        (plain_reads.VersionsAsked, model_registry_pb2.SearchModelVersions()),
        (plain_reads.ModelsAsked, model_registry_pb2.SearchRegisteredModels()),
        (plain_reads.RunsAsked, service_pb2.SearchRuns()),
    ],
)
def test_parameters_and_their_defaults_are_mlflows(asked: type[msgspec.Struct], message: Any) -> None:
    fields = msgspec.structs.fields(asked)
    assert {field.name for field in fields} == {field.name for field in message.DESCRIPTOR.fields}
    for field in fields:
        if field.name == "max_results":
            assert field.default == message.max_results
