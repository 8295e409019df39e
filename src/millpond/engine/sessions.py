"""What the gateway remembers of a Spark session: names, views, functions and settings.

The engine's process holds no state that cannot be rebuilt: temporary views live here, and functions, settings and
uploaded files are given again to a fresh engine. A session belongs to one principal for ever.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from millpond.engine.errors import AnalysisError
from millpond.engine.needs import Needs
from millpond.engine.operations import Operation
from millpond.engine.slices import Slice
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, PermissionDenied

DEFAULT_CATALOG = "main"
DEFAULT_SCHEMA = "default"
_MAX_SESSIONS = 10_000
_KEPT_TEXTS = 50


@dataclass
class Session:
    """One session of one principal."""

    id: str
    principal: Principal
    current_catalog: str = DEFAULT_CATALOG
    current_schema: str = DEFAULT_SCHEMA
    temp_views: dict[str, bytes] = field(default_factory=dict)
    """Serialised relations by lower-case name; names of tables in them are absolute."""
    functions: dict[str, bytes] = field(default_factory=dict)
    """Serialised register commands by lower-case name, for a fresh engine."""
    table_functions: set[str] = field(default_factory=set)
    settings: dict[str, str] = field(default_factory=dict)
    remote_relations: dict[str, Needs] = field(default_factory=dict)
    """Checkpoints that this session made in the engine, by id, each with what it was made of."""
    operations: dict[str, Operation] = field(default_factory=dict)
    answers: dict[bytes, bytes] = field(default_factory=dict)
    """Questions about settings with the engine's answers, until a setting changes."""
    written: dict[str, str] = field(default_factory=dict)
    """Texts of queries as their user wrote them, by what the client was given in their place."""
    server_id: str = ""
    """What the engine calls the session; the client insists that every answer says the same."""
    engine_id: str | None = None
    """The engine process that has this session's state."""
    cluster_id: str = ""
    """Of the cluster that its client named, if it did."""
    slice: Slice | None = None
    """What that gives it."""
    client: str = ""
    """The user agent of its client."""
    pinned: dict[str, dict[str, int]] = field(default_factory=dict)
    """By process whose reads are repeated: versions by table id."""
    read_at: set[tuple[str, int]] = field(default_factory=set)
    """Tables and versions of which was noted that the session read them."""
    last_used: float = field(default_factory=time.monotonic)
    closed: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def remember_text(self, bound: str, written: str) -> None:
        """What the user wrote where the client runs a text with its names made absolute."""
        if bound != written:
            while len(self.written) >= _KEPT_TEXTS:
                del self.written[next(iter(self.written))]
            self.written[bound] = written

    def setting(self, key: str) -> str | None:
        """A setting that the user has made."""
        return self.settings.get(key)


class Sessions:
    """All sessions of this gateway, each bound to its principal."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._global_views: dict[str, dict[str, bytes]] = {}

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, principal: Principal, session_id: str) -> Session:
        """The principal's session with this id, made when there is none.

        Raises PermissionDenied for another's session id, which is therefore no way to find out that it exists: ids
        are random, and who knows one was told it.
        """
        session = self._sessions.get(session_id)
        if session is None:
            session = self._open(principal, session_id)
        if session.principal.id != principal.id:
            raise PermissionDenied(f"Session {session_id} belongs to somebody else; start a session of your own.")
        if session.closed:
            raise AnalysisError(
                "INVALID_HANDLE.SESSION_CLOSED",
                f"The handle {session_id} is invalid. Session was closed.",
                sql_state="HY000",
                parameters={"handle": session_id},
            )
        session.principal = principal  # rights may have changed since the session began
        session.last_used = time.monotonic()
        return session

    def exists(self, session_id: str) -> bool:
        """Whether there is a session with this id, whoever's."""
        return session_id in self._sessions

    def global_views(self, principal: Principal) -> dict[str, bytes]:
        """The principal's views in `global_temp`, shared by all of the principal's sessions."""
        return self._global_views.setdefault(principal.id, {})

    def close(self, session: Session) -> None:
        """End a session; its id stays bound to its principal for a while."""
        session.closed = True
        session.temp_views.clear()
        session.functions.clear()
        session.operations.clear()

    def forget(self, older_than_s: float) -> list[Session]:
        """Drop sessions unused for so long that run nothing; returns them."""
        limit = time.monotonic() - older_than_s
        gone = [s for s in self if s.last_used < limit and not any(not op.done for op in s.operations.values())]
        for session in gone:
            del self._sessions[session.id]
        return gone

    def _open(self, principal: Principal, session_id: str) -> Session:
        if not 8 <= len(session_id) <= 64:
            raise InvalidArgument("The session id must be a UUID.")
        if len(self._sessions) >= _MAX_SESSIONS:
            oldest = min(self._sessions.values(), key=lambda s: (not s.closed, s.last_used))
            del self._sessions[oldest.id]
        session = self._sessions[session_id] = Session(id=session_id, principal=principal)
        return session
