"""Fixtures that every room's tests share: real databases and a real server."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from millpond.kernel.database import Database
from millpond.kernel.migrations import ensure_schema
from tests.postgres import fresh_database, postgres_server
from tests.servers import Server, running_server

settings.register_profile("millpond", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("millpond")  # a busy machine is no failure

# structlog's own way to print a traceback shows every variable of every frame: ten seconds where one is an upload
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

BACKENDS = ("sqlite", "postgresql")

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when a test imports mlflow; its thread races with the test's


def pytest_sessionfinish() -> None:
    """Let the process end: a PySpark client that was not stopped asks its server, now gone, for ten minutes."""
    core = sys.modules.get("pyspark.sql.connect.client.core")
    if core is not None:
        core.SparkConnectClient._cleanup_ml_cache = lambda _client: None


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server in which we may create databases."""
    with postgres_server() as url:
        yield url


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with our schema, once on SQLite and once on PostgreSQL."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / 'millpond.db'}"
        else:
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres_url")))
        database = Database(url)
        ensure_schema(database)
        yield database
        database.dispose()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running server on SQLite for all tests of a session; a test makes catalogs and users of its own."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="session", params=BACKENDS)
def any_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running server for each kind of database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("server")
        return
    with (
        fresh_database(request.getfixturevalue("postgres_url")) as url,
        running_server(tmp_path_factory.mktemp("server-pg") / "data", "--database-url", url) as running,
    ):
        yield running
