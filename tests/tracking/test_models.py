"""Models and versions read by our SQL are what MLflow's store reads from the same database, in the same JSON."""

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.proto_json_utils import message_to_json

from millpond.kernel.database import Database
from millpond.tracking.embed import mlflow_database
from millpond.tracking.stores.model_records import model_json, version_json
from millpond.tracking.stores.models import ModelReads
from tests.databases import BACKENDS, Databases
from tests.tracking.model_stores import fill, store_on


@pytest.fixture(scope="module", params=BACKENDS)
def own(request: Any, tracking_databases: Databases, tmp_path_factory: Any) -> Iterator[Database]:
    """A database with MLflow's tables and the functions that our server gives it for MLflow; tests only read it."""
    with tracking_databases.new(request.param, tmp_path_factory.mktemp("models")) as database:
        own = mlflow_database(database)
        yield own
        own.dispose()


@pytest.fixture(scope="module")
def theirs(own: Database) -> SqlAlchemyStore:
    """MLflow's store with models of all kinds."""
    store = store_on(SqlAlchemyStore, own)
    fill(store)
    return store


@pytest.fixture(scope="module")
def ours(own: Database, theirs: SqlAlchemyStore) -> ModelReads:
    """Our reads on the same database."""
    return cast("ModelReads", store_on(ModelReads, own))


VERSION_SEARCHES: dict[str, dict[str, Any]] = {
    "all": {},
    "first page": {"max_results": 2},
    "of a model": {"filter_string": "name = 'model-4'"},
    "of another": {"filter_string": "name = 'model-3'"},
    "of a name with quotes": {"filter_string": "tag.of = \"'model-4'\""},
    "of a text in pieces": {"filter_string": "name IN ('model' '-4')"},
    "of no name": {"filter_string": "name = ''"},
    "of a run": {"filter_string": "run_id = 'run1'"},
    "of a number as a text": {"filter_string": "version_number = '2'"},
    "of a number that is none": {"filter_string": "version_number = 'two'"},
    "of runs": {"filter_string": "run_id IN ('run1', 'run2')"},
    "by tag": {"filter_string": "tag.q = '1'"},
    "by two": {"filter_string": "tag.q = '1' and name LIKE 'model-%' and version_number > 1"},
    "by two tags": {"filter_string": "tag.q = '1' and tag.of LIKE '%model-_%'"},
    "by one tag twice": {"filter_string": "tag.q != '0' and tag.q LIKE '%1%'"},
    "by a tag that none has": {"filter_string": "tag.q = '1' and tag.colour != 'red'"},
    "by tag, page by page": {"filter_string": "tag.q ILIKE '1'", "max_results": 1},
    "prompts": {"filter_string": "tag.`mlflow.prompt.is_prompt` = 'true'"},
    "no prompts": {"filter_string": "tag.`mlflow.prompt.is_prompt` = 'false' and tag.q = '1'"},
    "ordered": {"order_by": ["version_number ASC", "name DESC"]},
    "newest": {"order_by": ["last_updated_timestamp DESC"]},
    "none": {"filter_string": "name = 'nobody'"},
    "a wrong filter": {"filter_string": "colour = 'red'"},
    "a wrong order": {"order_by": ["colour ASC"]},
    "a wrong token": {"page_token": "nonsense"},
}
MODEL_SEARCHES: dict[str, dict[str, Any]] = {
    "all": {},
    "first page": {"max_results": 2},
    "by name": {"filter_string": "name ILIKE 'MODEL-%'"},
    "by tag": {"filter_string": "tags.team = 'a'"},
    "by two tags": {"filter_string": "tags.team != 'b' and tags.empty = ''"},
    "by tag, page by page": {"filter_string": "tags.team LIKE 'a%'", "max_results": 1},
    "no prompts": {"filter_string": "tags.`mlflow.prompt.is_prompt` != 'true' and tags.team = 'a'"},
    "ordered": {"order_by": ["name DESC"]},
    "prompts": {"filter_string": "tags.`mlflow.prompt.is_prompt` = 'true'"},
    "a wrong filter": {"filter_string": "colour = 'red'"},
    "a wrong order": {"order_by": ["colour ASC"]},
}


@pytest.mark.parametrize("search", VERSION_SEARCHES.values(), ids=VERSION_SEARCHES.keys())
def test_versions_found_are_mlflows(ours: ModelReads, theirs: SqlAlchemyStore, search: dict[str, Any]) -> None:
    found = _pages(lambda asked: ours.search_version_records(**asked), version_json, search)
    assert found == _pages(lambda asked: _with_token(theirs.search_model_versions(**asked)), _json, search)


@pytest.mark.parametrize("search", MODEL_SEARCHES.values(), ids=MODEL_SEARCHES.keys())
def test_models_found_are_mlflows(ours: ModelReads, theirs: SqlAlchemyStore, search: dict[str, Any]) -> None:
    found = _pages(lambda asked: ours.search_model_records(**asked), model_json, search)
    assert found == _pages(lambda asked: _with_token(theirs.search_registered_models(**asked)), _json, search)


def _with_token(page: Any) -> tuple[Any, Any]:
    return page, page.token


def _pages(search: Any, to_json: Any, wanted: dict[str, Any]) -> Any:
    """Everything that a search answers, page by page."""
    asked = {"filter_string": "", "max_results": 100, "order_by": [], "page_token": None} | wanted
    pages = []
    try:
        while True:
            items, token = search(asked)
            pages.append([_ordered(to_json(item)) for item in items])
            if not token:
                return pages
            asked["page_token"] = token if isinstance(token, str) else token.decode()
    except MlflowException as error:
        return error.error_code, error.message


def _json(entity: Any) -> dict[str, Any]:
    return dict(json.loads(message_to_json(entity.to_proto())))


def _ordered(item: dict[str, Any]) -> dict[str, Any]:
    """An item's JSON with its lists in a fixed order: MLflow's has none."""
    lists = {name: sorted(map(_comparable, value)) for name, value in item.items() if isinstance(value, list)}
    return item | lists


def _comparable(value: Any) -> str:
    return json.dumps(_ordered(value) if isinstance(value, dict) else value, sort_keys=True)


def test_single_reads_are_mlflows(ours: ModelReads, theirs: SqlAlchemyStore) -> None:
    model, version, aliased = (
        ours.model_record("model-4"), ours.version_record("model-4", "2"), ours.alias_record("model-4", "candidate"),
    )  # fmt: skip
    untagged = ours.version_record("a-prompt", "2")
    assert untagged is not None
    assert version_json(untagged) == _json(theirs.get_model_version("a-prompt", "2")), "no tags and no aliases"
    assert model is not None
    assert version is not None
    assert aliased is not None
    assert _ordered(model_json(model)) == _ordered(_json(theirs.get_registered_model("model-4")))
    assert _ordered(version_json(version)) == _ordered(_json(theirs.get_model_version("model-4", "2")))
    expected = theirs.get_model_version_by_alias("model-4", "candidate")
    assert _ordered(version_json(aliased)) == _ordered(_json(expected))
    assert json.loads(json.dumps(version_json(version)))["aliases"]


def test_what_is_not_there_is_nothing(ours: ModelReads) -> None:
    assert ours.model_record("nobody") is None
    assert ours.version_record("model-4", "1") is None, "it was deleted"
    assert ours.alias_record("model-4", "nothing") is None
