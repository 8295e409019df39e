"""Stores on an empty database, as somebody."""

import warnings
from collections.abc import Callable

import pytest

from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.database import Database
from millpond.tracking.embed import mlflow_database
from millpond.tracking.mlflow_schema import ensure_mlflow_schema

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


@pytest.fixture
def ours(database: Database, asker: Callable[[], Principal]):
    """Our tracking store."""
    own = mlflow_database(database)
    ensure_mlflow_schema(own)
    yield OwnedTrackingStore(own, asker)
    own.dispose()


@pytest.fixture
def theirs(ours: OwnedTrackingStore):
    """MLflow's own tracking store, on the same database."""
    store = SqlAlchemyStore(ours.db_uri, "mlflow-artifacts:/")
    yield store
    store._dispose_engine()
    SqlAlchemyStore._engine_map.clear()
