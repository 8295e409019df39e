"""The recorded schema is the one that MLflow's own migrations make."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.db.utils import _get_latest_schema_revision, _initialize_tables
from sqlalchemy import Engine, create_engine, inspect, text

from millpond.kernel.database import Database, driver_url
from millpond.tracking import mlflow_schema
from tests.databases import BACKENDS, Databases
from tests.postgres import fresh_database


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind, without MLflow's tables."""
    with databases.new(request.param, tmp_path) as database:
        yield database


@contextmanager
def migrated(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database that MLflow has built its way."""
    if backend == "sqlite":
        engine = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
        _initialize_tables(engine)
        yield engine
        engine.dispose()
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        engine = create_engine(driver_url(url))
        _initialize_tables(engine)
        yield engine
        engine.dispose()


@pytest.mark.filterwarnings("ignore")  # MLflow's migrations warn
def test_the_record_is_what_the_migrations_make(
    database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mlflow_schema.ensure_mlflow_schema(database)
    with migrated(database.engine.dialect.name, tmp_path, request) as engine:
        expected = shape_of(engine)
    recorded = {name: table for name, table in shape_of(database.engine).items() if name in expected}
    assert recorded == expected
    assert _get_latest_schema_revision() == mlflow_schema.RECORDED_REVISION


def shape_of(engine: Engine) -> dict[str, Any]:
    """Columns, keys and indexes of each table."""
    found = inspect(engine)
    return {
        table: {
            "columns": [
                (c["name"], str(c["type"]), c["nullable"], str(c["default"])) for c in found.get_columns(table)
            ],
            "key": found.get_pk_constraint(table)["constrained_columns"],
            "indexes": sorted(
                (str(i["name"]), tuple(map(str, i["column_names"])), bool(i["unique"]))
                for i in found.get_indexes(table)
                if not str(i["name"]).startswith("millpond_")
            ),
            "foreign": sorted(
                (tuple(f["constrained_columns"]), f["referred_table"], str(sorted(f["options"].items())))
                for f in found.get_foreign_keys(table)
            ),
            "unique": sorted(tuple(u["column_names"]) for u in found.get_unique_constraints(table)),
        }
        for table in found.get_table_names()
    }


def test_several_processes_may_build_it_together(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_ensure, [database.url] * 4))
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
        assert connection.execute(text("SELECT name FROM experiments")).scalars().all() == ["Default"]


def _ensure(url: str) -> None:
    starting = Database(url)
    try:
        mlflow_schema.ensure_mlflow_schema(starting)
    finally:
        starting.dispose()
