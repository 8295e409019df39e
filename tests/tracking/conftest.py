"""Stores on an empty database, as somebody."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.database import Database
from millpond.kernel.migrations import ensure_schema
from millpond.tracking.embed import mlflow_database
from millpond.tracking.mlflow_schema import ensure_mlflow_schema
from tests.databases import BACKENDS, Databases

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's own warnings while it is imported
    import mlflow  # noqa: F401 - whole, as the tests' other users of mlflow need it, before anything leaner

    from millpond.tracking.loading import load_mlflow

    load_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from millpond.tracking.stores.tracking import OwnedTrackingStore


def person(name: str, *, is_admin: bool = False, groups: frozenset[str] = frozenset()) -> Principal:
    """A user."""
    return Principal(id=name, name=name, kind=PrincipalKind.USER, is_admin=is_admin, groups=groups)


class Asker:
    """Whoever asks now."""

    def __init__(self) -> None:
        self.principal = person("ann")

    def __call__(self) -> Principal:
        return self.principal


@pytest.fixture
def asker() -> Asker:
    return Asker()


def _prepare(database: Database) -> None:
    ensure_schema(database)
    ensure_mlflow_schema(database)


@pytest.fixture(scope="session")
def tracking_databases(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Makes databases that have MLflow's tables too."""
    with Databases(tmp_path_factory.mktemp("tracking"), postgres_url, _prepare) as made:
        yield made


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tracking_databases: Databases, tmp_path: Path) -> Iterator[Database]:
    """An empty database with MLflow's tables beside ours, once on SQLite and once on PostgreSQL."""
    with tracking_databases.new(request.param, tmp_path) as database:
        yield database


@pytest.fixture
def ours(database: Database, asker: Callable[[], Principal]) -> Iterator[OwnedTrackingStore]:
    """Our tracking store."""
    own = mlflow_database(database)
    yield OwnedTrackingStore(own, asker)
    own.dispose()


@pytest.fixture
def theirs(ours: OwnedTrackingStore):
    """MLflow's own tracking store, on the same database."""
    store = SqlAlchemyStore(ours.db_uri, "mlflow-artifacts:/")
    yield store
    store._dispose_engine()
    SqlAlchemyStore._engine_map.clear()
