"""MLflow's own tables in our database, beside ours; their version table is MLflow's `alembic_version`.

MLflow builds an empty database by running each of its 60 migrations, which takes seconds. What they lead to was
recorded once for each database (`sqlite.sql`, `postgresql.sql`; one statement to a line, made by `record.py`), so an
empty database is built in one short transaction. A database of an older MLflow is migrated by MLflow itself, and a
newer MLflow than the recorded one builds its tables its own way. Some indexes for searches are ours.
"""

from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.database import Database

RECORDED_MLFLOW = "3.17.2"
RECORDED_REVISION = "dc11669786a5"

DEFAULT_EXPERIMENT_ID = "0"
_ADVISORY_LOCK = 0x6D6C666C  # "mlfl"
_DIRECTORY = Path(__file__).parent
LONGEST_INDEXED = 300
"""Longer values of tags and params are in no index: PostgreSQL takes 2,704 bytes."""
_SHORT = f"(key, value, run_uuid) WHERE length(value) <= {LONGEST_INDEXED}"
_INDEXES = {
    "millpond_runs_by_start": "runs (experiment_id, lifecycle_stage, start_time DESC, run_uuid)",
    "millpond_latest_metrics": "latest_metrics (key, run_uuid, value, is_nan)",
    "millpond_tags_by_value": f"tags {_SHORT}",
    "millpond_params_by_value": f"params {_SHORT}",
    "millpond_newest_versions": "model_versions (workspace, last_updated_time DESC, name, version DESC)",
    "millpond_versions_by_run": "model_versions (run_id)",
}
_INDEXES_OF_POSTGRESQL = _INDEXES | {
    "millpond_runs_by_time": "runs (start_time DESC, run_uuid)",
    "millpond_metrics_by_value": "latest_metrics (key, value, run_uuid, is_nan)",
}
"""SQLite's planner knows no distributions of values: it would take these where they make a search slower."""

_FORMER_INDEXES = ("millpond_versions_by_update", "millpond_version_tags", "millpond_model_tags")
"""MLflow's own serve where a search names its workspace, which these did not begin with."""


def ensure_mlflow_schema(database: Database) -> None:
    """Bring MLflow's tables to the installed MLflow's revision; safe when several processes start together."""
    if version("mlflow") != RECORDED_MLFLOW:
        _upgrade(database)
    elif revision(database) is None:
        with database.write() as connection:
            _lock(connection)
            if _revision(connection) is None:
                _create(connection, "sqlite" if database.is_sqlite else "postgresql")
    if version("mlflow") == RECORDED_MLFLOW and revision(database) != RECORDED_REVISION:
        _upgrade(database)
    _ensure_indexes(database)
    _ensure_default_experiment(database)


def revision(database: Database) -> str | None:
    """The revision of MLflow's tables; None when there are none."""
    with database.read() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return row[0] if row else None


def _lock(connection: Connection) -> None:
    """One builder at a time; on SQLite the write transaction is the lock."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def _create(connection: Connection, dialect: str) -> None:
    for statement in (_DIRECTORY / f"{dialect}.sql").read_text().splitlines():
        if statement and not statement.startswith("--"):
            connection.exec_driver_sql(statement)
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": RECORDED_REVISION})
    connection.execute(
        text("INSERT INTO workspaces (name, description) VALUES (:name, :description)"),
        {"name": "default", "description": "Default workspace for legacy resources"},
    )


def _upgrade(database: Database) -> None:
    from mlflow.store.db import utils  # slow to import, and seldom needed before the server loads it
    from sqlalchemy import create_engine

    engine = create_engine(database.url)  # MLflow's migrations expect a driver that begins transactions by itself
    try:
        if utils._all_tables_exist(engine):
            utils._upgrade_db(engine)
        else:
            utils._initialize_tables(engine)
    finally:
        engine.dispose()


def _ensure_indexes(database: Database) -> None:
    names = "SELECT name FROM sqlite_master" if database.is_sqlite else "SELECT indexname FROM pg_indexes"
    indexes = _INDEXES if database.is_sqlite else _INDEXES_OF_POSTGRESQL
    with database.read() as connection:
        there = set(connection.execute(text(names)).scalars())
    missing, former = indexes.keys() - there, there.intersection(_FORMER_INDEXES)
    if missing or former:
        with database.write() as connection:
            _lock(connection)
            for name in sorted(missing):
                connection.exec_driver_sql(f"CREATE INDEX IF NOT EXISTS {name} ON {indexes[name]}")
            for name in sorted(former):
                connection.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")


def _ensure_default_experiment(database: Database) -> None:
    """MLflow's clients log to experiment 0 when no experiment was chosen."""
    with database.read() as connection:
        if connection.execute(text("SELECT 1 FROM experiments WHERE experiment_id = 0")).first():
            return
    with database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, "
                "last_update_time, workspace) VALUES (0, 'Default', 'mlflow-artifacts:/0', 'active', :now, :now, "
                "'default') ON CONFLICT DO NOTHING"
            ),
            {"now": epoch_ms(utc_now())},
        )
