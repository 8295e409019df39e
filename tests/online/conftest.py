"""Online stores of each kind, empty."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from millpond.kernel.ids import new_id
from millpond.online.backends.lmdb import LmdbBackend
from millpond.online.backends.port import Backend, ServingBackend
from millpond.online.backends.postgres import PostgresBackend
from millpond.online.backends.redis import RedisBackend
from millpond.online.domain import Published
from tests.postgres import fresh_database
from tests.redis_server import redis_server

KINDS = ("lmdb", "redis", "postgresql")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis of the tests' own."""
    with redis_server() as url:
        yield url


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], ServingBackend]]:
    """Opens the same empty store again and again, as another process would."""
    if request.param == "lmdb":
        yield lambda: LmdbBackend(tmp_path / "online")
    elif request.param == "redis":
        prefix, url = new_id(), request.getfixturevalue("redis_url")
        yield lambda: RedisBackend(url, prefix=prefix)
    else:
        with fresh_database(request.getfixturevalue("postgres_url")) as url:
            yield lambda: PostgresBackend(url)


class OnLoop:
    """A backend that is read on an event loop, as the server reads it, whatever thread asks."""

    def __init__(self, backend: ServingBackend) -> None:
        self._backend = backend
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.published, self.write = backend.published, backend.write
        self.publish, self.drop = backend.publish, backend.drop

    def read(self, table: str, keys: Sequence[bytes]) -> tuple[Published | None, list[bytes | None]]:
        return self.reading(table, keys).result(timeout=60)

    def reading(self, table: str, keys: Sequence[bytes]) -> "Future[tuple[Published | None, list[bytes | None]]]":
        """A read that has begun."""
        return asyncio.run_coroutine_threadsafe(self._backend.read_async(table, keys), self._loop)

    def pause(self) -> None:
        """Return when what has begun waits for an answer."""

        async def turns() -> None:
            for _ in range(100):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(turns(), self._loop).result(timeout=60)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._backend.aclose(), self._loop).result(timeout=60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._backend.close()


@pytest.fixture
def backend(opened: Callable[[], Backend]) -> Iterator[Backend]:
    """An empty store."""
    backend = opened()
    yield backend
    backend.close()
