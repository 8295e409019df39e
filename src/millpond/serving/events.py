"""What happened to endpoints, for their owners to look at: kept in memory for a moment, then in the database."""

from collections import deque
from datetime import datetime

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.serving import store
from millpond.serving.domain import Event, storable

_MOST_WAITING = 10_000
_LONGEST_MESSAGE = 2000


class EventLog:
    """Takes events from the server's loop, and writes them when there is time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[tuple[str, Event]] = deque(maxlen=_MOST_WAITING)

    def note(self, endpoint_id: str, entity: str, kind: str, message: str) -> None:
        """Something has happened to an entity's processes."""
        self._waiting.append((endpoint_id, event(entity, kind, message)))

    def flush(self) -> None:
        """Write what waits. Blocks."""
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not taken:
            return
        try:
            with self._database.write() as connection:
                store.add_events(connection, taken)
        except BaseException:
            room = _MOST_WAITING - len(self._waiting)
            self._waiting.extendleft(reversed(taken[-room:] if room else []))
            raise

    def prune(self) -> None:
        """Forget what is long ago, and what deleted endpoints left. Blocks."""
        with self._database.write() as connection:
            store.prune_events(connection)


def event(entity: str, kind: str, message: str, at: datetime | None = None) -> Event:
    """An event of now; a long message keeps its end, where a traceback says what went wrong."""
    return Event(at=at or utc_now(), entity=entity, kind=kind, message=storable(message)[-_LONGEST_MESSAGE:])
