"""Online stores of each kind, empty."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millpond.kernel.ids import new_id
from millpond.online.backends.lmdb import LmdbBackend
from millpond.online.backends.port import Backend
from millpond.online.backends.postgres import PostgresBackend
from millpond.online.backends.redis import RedisBackend
from tests.postgres import fresh_database
from tests.redis_server import redis_server

KINDS = ("lmdb", "redis", "postgresql")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis of the tests' own."""
    with redis_server() as url:
        yield url


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Backend]]:
    """Opens the same empty store again and again, as another process would."""
    if request.param == "lmdb":
        yield lambda: LmdbBackend(tmp_path / "online")
    elif request.param == "redis":
        prefix, url = new_id(), request.getfixturevalue("redis_url")
        yield lambda: RedisBackend(url, prefix=prefix)
    else:
        with fresh_database(request.getfixturevalue("postgres_url")) as url:
            yield lambda: PostgresBackend(url)


@pytest.fixture
def backend(opened: Callable[[], Backend]) -> Iterator[Backend]:
    """An empty store."""
    backend = opened()
    yield backend
    backend.close()
