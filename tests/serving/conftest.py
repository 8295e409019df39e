"""Models to serve, and servers that serve them."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import BACKENDS, Databases
from tests.serving.harness import ServingServer, serving_server

MAKE_MODELS = Path(__file__).with_name("make_models.py")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of models, by name; made once for all workers of a run."""
    of_worker = tmp_path_factory.getbasetemp()
    directory = (of_worker.parent if "PYTEST_XDIST_WORKER" in os.environ else of_worker) / "models"
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            making = directory.with_suffix(".making")
            making.mkdir()
            done = subprocess.run([sys.executable, str(MAKE_MODELS), str(making)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            making.rename(directory)
    return directory


@pytest.fixture(scope="module", params=BACKENDS)
def serving(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory, models: Path
) -> Iterator[ServingServer]:
    """A server for the tests of one module, once on SQLite and once on PostgreSQL; each test names its endpoints."""
    directory = tmp_path_factory.mktemp("serving")
    with databases.new(request.param, directory) as database, serving_server(database, directory, models) as server:
        yield server
