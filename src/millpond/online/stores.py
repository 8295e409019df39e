"""The backends of all online stores, each opened when it is first needed."""

from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from millpond.kernel.errors import FailedPrecondition
from millpond.kernel.settings import OnlineStoreSettings
from millpond.online.backends.port import ServingBackend
from millpond.online.tables import StoreKind


class Backends:
    """By kind and name; the embedded stores share one directory, as each table has files of its own."""

    def __init__(self, root: Path, configured: Mapping[str, OnlineStoreSettings]) -> None:
        self._root = root
        self._configured = configured
        self._open: dict[str, ServingBackend] = {}
        self._lock = Lock()

    def kind_of(self, store: str) -> StoreKind:
        """What the settings say of a store; embedded when they say nothing."""
        found = self._configured.get(store)
        return StoreKind.EMBEDDED if found is None else StoreKind(found.kind.replace("rediss", "redis"))

    def of(self, kind: StoreKind, store: str) -> ServingBackend:
        """Raises FailedPrecondition when the settings name the store no more, or name another kind."""
        if kind is not StoreKind.EMBEDDED and self.kind_of(store) is not kind:
            raise FailedPrecondition(f"Online store '{store}' is kept in {kind}, and the settings do not say where.")
        name = "" if kind is StoreKind.EMBEDDED else store
        with self._lock:
            if name not in self._open:
                self._open[name] = self._opened(kind, store)
            return self._open[name]

    def _opened(self, kind: StoreKind, store: str) -> ServingBackend:
        if kind is StoreKind.EMBEDDED:
            from millpond.online.backends.lmdb import LmdbBackend

            return LmdbBackend(self._root)
        url = self._configured[store].full_url
        if kind is StoreKind.REDIS:
            try:
                from millpond.online.backends.redis import RedisBackend  # an extra that not everybody installs
            except ImportError as error:
                raise FailedPrecondition("Online stores in Redis need its client: 'millpond[redis]'.") from error
            return RedisBackend(url)
        from millpond.online.backends.postgres import PostgresBackend

        return PostgresBackend(url)

    async def aclose(self) -> None:
        """Let go of the connections of the event loop in which this runs."""
        for backend in list(self._open.values()):
            await backend.aclose()

    def close(self) -> None:
        """Let go of files, and of connections that are no event loop's."""
        with self._lock:
            for backend in self._open.values():
                backend.close()
            self._open.clear()
