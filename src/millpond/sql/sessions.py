"""Sessions: what clients keep between statements, and the ones that statements without a session run in.

They live in the gateway; here is who has which. All end with the server, and their clients open new ones.
"""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from millpond.engine.sql_client import SESSION_LOST, SqlClient, SqlError, SqlSession
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, NotFound, ResourceExhausted
from millpond.kernel.ids import new_id
from millpond.sql.domain import StatementRequest, leaves_session_alone

IDLE_S = 8 * 3600.0
MAX_SESSIONS = 500
"""Of one user; a client that forgets to close its sessions is told so."""
_KEPT_SHARED = 1000
_SETTINGS = {"timezone": "spark.sql.session.timeZone", "ansi_mode": "spark.sql.ansi.enabled"}
_ACCEPTED = frozenset({
    "enable_photon", "legacy_time_parser_policy", "max_file_partition_bytes", "query_tags",
    "read_only_external_metastore", "use_cached_result",
})  # fmt: skip
"""Parameters of the vendor's engine that change no result here."""


@dataclass
class Opened:
    """A session that a client has opened."""

    id: str
    principal: Principal
    warehouse_id: str
    spark: SqlSession
    statement_timeout_s: int = 0
    last_used: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A Spark session for one statement."""

    spark: SqlSession
    key: tuple[str, str | None, str | None] | None = None
    """Of a session that several statements share, none of which changes it."""


class Sessions:
    """The sessions of this server. Thread-safe."""

    def __init__(self, sql: SqlClient) -> None:
        self._sql = sql
        self._lock = threading.Lock()
        self._opened: dict[str, Opened] = {}
        self._shared: dict[tuple[str, str | None, str | None], SqlSession] = {}

    def open(
        self,
        principal: Principal,
        warehouse_id: str,
        *,
        catalog: str | None,
        schema: str | None,
        settings: Mapping[str, str],
    ) -> Opened:
        """A new session. Raises InvalidArgument for an unknown setting, SqlError, ResourceExhausted."""
        spark_settings, timeout_s = _read_settings(settings)
        with self._lock:
            if sum(one.principal.id == principal.id for one in self._opened.values()) >= MAX_SESSIONS:
                raise ResourceExhausted(f"You have {MAX_SESSIONS} open sessions; close those that you do not use.")
        spark = self._sql.open_session(principal, catalog=catalog, schema=schema, settings=spark_settings)
        opened = Opened(
            id=new_id(),
            principal=principal,
            warehouse_id=warehouse_id,
            spark=spark,
            statement_timeout_s=timeout_s,
        )
        with self._lock:
            self._opened[opened.id] = opened
        return opened

    def get(self, principal: Principal, session_id: str) -> Opened:
        """The principal's session. Raises NotFound, for another's too."""
        with self._lock:
            opened = self._opened.get(session_id)
            if opened is None or opened.principal.id != principal.id:
                raise NotFound(f"Session {session_id[:80]} does not exist or has ended; open another.")
            opened.last_used = time.monotonic()
            return opened

    def close(self, principal: Principal, session_id: str) -> None:
        """End a session. Raises NotFound."""
        opened = self.get(principal, session_id)
        self._forget(opened)

    def close_idle(self) -> None:
        """End what nobody has used for IDLE_S."""
        limit = time.monotonic() - IDLE_S
        for opened in self._listed():
            if opened.last_used < limit:
                self._forget(opened)

    def close_all_of(self, warehouse_id: str) -> None:
        """End the sessions of a warehouse that stops."""
        for opened in self._listed():
            if opened.warehouse_id == warehouse_id:
                self._forget(opened)

    def count(self, warehouse_id: str) -> int:
        """Open sessions of a warehouse."""
        return sum(opened.warehouse_id == warehouse_id for opened in self._listed())

    @contextmanager
    def lease(self, principal: Principal, request: StatementRequest, kind: str) -> Iterator[Lease]:
        """The Spark session in which a statement runs: the client's, a shared one, or one of its own.

        Raises NotFound, SqlError.
        """
        if request.session_id is not None:
            yield Lease(spark=self.get(principal, request.session_id).spark)
        elif leaves_session_alone(kind):
            key = (principal.id, request.catalog, request.schema)
            yield Lease(spark=self._share(principal, key), key=key)
        else:
            spark = self._sql.open_session(principal, catalog=request.catalog, schema=request.schema)
            try:
                yield Lease(spark=spark)
            finally:
                self._sql.close_session(principal, spark)

    def is_lost(self, lease: Lease, error: SqlError, request: StatementRequest) -> bool:
        """Whether an error says that the gateway has lost the session; then it is forgotten here.

        True only where the statement can simply be tried in another session.
        """
        if error.error_class != SESSION_LOST:
            return False
        with self._lock:
            if lease.key is not None and self._shared.get(lease.key) == lease.spark:
                del self._shared[lease.key]
            if request.session_id is not None:
                self._opened.pop(request.session_id, None)
        return lease.key is not None

    def _share(self, principal: Principal, key: tuple[str, str | None, str | None]) -> SqlSession:
        with self._lock:
            found = self._shared.get(key)
        if found is not None:
            return found
        made = self._sql.open_session(principal, catalog=key[1], schema=key[2])
        with self._lock:
            if len(self._shared) >= _KEPT_SHARED:
                del self._shared[next(iter(self._shared))]  # the gateway forgets it when it is idle
            return self._shared.setdefault(key, made)

    def _listed(self) -> list[Opened]:
        with self._lock:
            return list(self._opened.values())

    def _forget(self, opened: Opened) -> None:
        with self._lock:
            self._opened.pop(opened.id, None)
        self._sql.close_session(opened.principal, opened.spark)


def _read_settings(settings: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """Spark's settings and the statement timeout that a session asks for. Raises InvalidArgument."""
    spark, timeout_s = {}, 0
    for name, value in settings.items():
        key = name.lower()
        if key in _SETTINGS:
            spark[_SETTINGS[key]] = value
        elif key == "statement_timeout":
            if not re.fullmatch(r"\d{1,9}", value):
                raise InvalidArgument(f"statement_timeout is '{value[:40]}'; give seconds.")
            timeout_s = int(value)
        elif key not in _ACCEPTED:
            raise InvalidArgument(f"The session parameter '{name[:80]}' is not known here.")
    return spark, timeout_s
