"""Fixtures that every room's tests share: real databases and a real server."""

import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from zlib import crc32

import pytest
import structlog
from hypothesis import HealthCheck, settings

from millpond.identity import credentials
from millpond.kernel.database import Database
from tests.databases import BACKENDS, Databases
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

os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"  # our lock is not the models' that tests log, nor what is installed
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when a test imports mlflow; its thread races with the test's
os.environ["MILLPOND_CAPTURE"] = "off"  # this process is no user's; what tests start captures
if "PYTEST_XDIST_WORKER" in os.environ:  # has no main module, which PySpark takes for a run of its own doctests
    sys.modules["__main__"].__spec__ = find_spec("pytest.__main__")


SHARED = ("browser", "any_server", "server", "gateway")
"""Fixtures of the session that cost seconds to make: the tests of one kind of database that share one go to one
worker. All others go by file."""
DRIVEN = ("any_server", "serving", "database_flags")
"""Fixtures that make a server on each kind of database."""
LOCAL_WEBHOOKS = {"MILLPOND_REGISTRY__WEBHOOK_NETWORKS": '["127.0.0.0/8"]'}
"""Where the receivers of tests are."""
LOCAL_REPOSITORIES = {"MILLPOND_JOBS__GIT_SOURCES": f'["https://github.com/", "file://{tempfile.gettempdir()}/"]'}
"""And the repositories."""
QUICK = {"MILLPOND_JOBS__TRIGGER_POLL_S": "0.3", "MILLPOND_INFERENCE_TABLES__COMMIT_INTERVAL_S": "0.5"}
"""Nobody waits longer than has to be."""
FOR_TESTS = LOCAL_WEBHOOKS | LOCAL_REPOSITORIES | QUICK
LONGEST_FIRST = ("engine/test_gateway_remote", "test_house", "serving", "clients", "journeys", "browser", "robustness")
"""Where the tests are that take long, so that no worker begins with them when the others are nearly done."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker more than cores, as tests often wait for processes; none for single files, which start sooner so."""
    return (os.cpu_count() or 1) + 1 if _is_of_rooms(config) else 0


def _is_of_rooms(config: pytest.Config) -> bool:
    return any((config.invocation_params.dir / argument).is_dir() for argument in config.args)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Say which tests belong together, and begin with what takes longest."""
    if _is_of_rooms(config) and "MILLPOND_TEST_ALL" not in os.environ:
        left_out = [item for item in items if item.get_closest_marker("long") or _is_for_the_other_database(item)]
        kept = set(items).difference(left_out)
        items[:] = [item for item in items if item in kept]
        config.hook.pytest_deselected(items=left_out)
    items.sort(key=_rank)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to scatter tests that belong together, which would only show as slowness and odd failures."""
    if "PYTEST_XDIST_WORKER" in os.environ and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("This pytest-xdist does not group tests under this pytest; see docs/decisions/0002.")


def _is_for_the_other_database(item: pytest.Function) -> bool:
    """Of a file whose tests drive a server, only those on one kind of database run with many others: which, its name
    decides, so that both kinds have half of them. Alone a file runs on both, and all do with MILLPOND_TEST_ALL=1."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    given = next((params[name] for name in DRIVEN if name in params), None)
    chosen = any("any_server" in marker.args for marker in item.iter_markers("parametrize"))
    return given is not None and not chosen and given != BACKENDS[crc32(_place(item).encode()) % 2]


def _rank(item: pytest.Function) -> int:
    return next(
        (rank for rank, start in enumerate(LONGEST_FIRST) if _place(item).startswith(start)), len(LONGEST_FIRST)
    )


def _group(item: pytest.Function) -> str:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    backend = next((value for value in parameters if value in BACKENDS), BACKENDS[0])
    shared = next((name for name in SHARED if name in item.fixturenames), _place(item))
    return f"{shared.removeprefix('any_')} on {backend}"


def _place(item: pytest.Function) -> str:
    return str(item.path.relative_to(Path(__file__).parent).with_suffix(""))


def pytest_sessionfinish() -> None:
    """Let the process end: a PySpark client that was not stopped asks its server, now gone, for ten minutes."""
    core = sys.modules.get("pyspark.sql.connect.client.core")
    if core is not None:
        core.SparkConnectClient._cleanup_ml_cache = lambda _client: None


@pytest.fixture(autouse=True)
def _leaves_the_process_as_it_was() -> Iterator[None]:
    """Fails a test that leaves its environment or working directory to the next one."""
    directory, before = os.getcwd(), dict(os.environ)
    yield
    changed = {name for name, _ in before.items() ^ os.environ.items() if not name.startswith("PYTEST_")}
    changed.discard("SPARK_CONNECT_MODE_ENABLED")  # PySpark sets it with the first session, for good
    assert (changed, os.getcwd()) == (set(), directory)


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """New hashes at a small cost, which each carries with it, so that tests do not wait for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credentials, "_COST", {"n": 16, "r": 8, "p": 1})
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server in which we may create databases."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def databases(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Makes empty databases with our schema."""
    with Databases(tmp_path_factory.mktemp("template"), postgres_url) as made:
        yield made


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[Database]:
    """An empty database with our schema, once on SQLite and once on PostgreSQL."""
    with databases.new(request.param, tmp_path) as database:
        yield database


@pytest.fixture(params=BACKENDS)
def database_flags(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Flags for a server on each kind of database."""
    if request.param == "sqlite":
        yield []
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        yield ["--database-url", url]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running server on SQLite for all tests of a session; a test makes catalogs and users of its own."""
    with running_server(tmp_path_factory.mktemp("server") / "data", env=FOR_TESTS) as running:
        yield running


@pytest.fixture(scope="session", params=BACKENDS)
def any_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running server for each kind of database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("server")
        return
    with (
        fresh_database(request.getfixturevalue("postgres_url")) as url,
        running_server(tmp_path_factory.mktemp("server-pg") / "data", "--database-url", url, env=FOR_TESTS) as running,
    ):
        yield running
