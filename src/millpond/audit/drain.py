"""The drain: moves events from the outbox and from the spools of this machine into the chain.

Any number may run, in the server, in the gateway, in a command: the row of the chain's ends, locked for each batch, is
what they take turns by, and an event's id keeps it from being chained twice. A lease on the whole would not do: each
machine of a shared database has spools that only it can read.
"""

import hashlib
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path

import orjson
from sqlalchemy import Connection

from millpond.audit import chain, store
from millpond.audit.actions import entry_of_event
from millpond.audit.domain import Entry
from millpond.journal.domain import Event
from millpond.journal.spools import Piece, SpoolReader
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds
from millpond.kernel.turns import Turns

log = get_logger(__name__)
_BATCH = 300
_PIECE_BYTES = 128 << 10
"""Some 300 events: other writers of SQLite wait as long as a batch takes."""
_PRUNE_EVERY_S = 3600.0


class Drain:
    """Moves what waits. Thread-safe; each round may be cut off at any point and run again."""

    def __init__(self, database: Database, spools: Path, *, retention_days: int | None = None) -> None:
        self._database = database
        self._spools = SpoolReader(spools)
        self._retention_days = retention_days
        self._lock = threading.Lock()
        self._until_prune_s = 0.0

    def run_once(self) -> int:
        """Everything that waits now; how many events it was."""
        with self._lock:
            moved, turns = self._empty_outbox(), Turns()
            return moved + sum(self._take(piece, turns) for piece in self._spools.pieces(_PIECE_BYTES))

    def prune(self) -> int:
        """Remove what is older than the retention; how many links went."""
        if self._retention_days is None:
            return 0
        return chain.prune(self._database, utc_now() - timedelta(days=self._retention_days))

    def at_work(self, *, interval_s: float = 1.0) -> AbstractContextManager[None]:
        """Rounds in a thread of its own while the block runs, and one after it."""
        work = partial(self._round, interval_s)
        return rounds(
            work, name="audit-drain", interval_s=interval_s, log=log, failure="the audit's drain failed", last=True
        )

    def _round(self, interval_s: float) -> None:
        self.run_once()
        self._prune_now_and_then(interval_s)

    def _prune_now_and_then(self, interval_s: float) -> None:
        self._until_prune_s -= interval_s
        if self._until_prune_s <= 0:
            self._until_prune_s = _PRUNE_EVERY_S
            self.prune()

    def _empty_outbox(self) -> int:
        moved = 0
        while True:
            with self._database.read() as connection:
                if not store.waiting(connection, 1):
                    return moved
            with self._database.write() as connection:
                store.head(connection, lock=True)  # before the look, so that no other drain sees the same rows
                rows = store.waiting(connection, _BATCH)
                if not rows:
                    return moved
                moved += _chain(connection, [_read(row.event, "outbox") for row in rows])
                store.remove_waiting(connection, [row.id for row in rows])

    def _take(self, piece: Piece, turns: Turns) -> int:
        entries = [_read(line, piece.path.name) for line in turns.of(piece.lines)]
        with self._database.write() as connection:
            moved = _chain(connection, entries)
        self._spools.done(piece)
        return moved


def _chain(connection: Connection, entries: Sequence[Entry]) -> int:
    """Chain those that are not in the chain; how many they were."""
    store.head(connection, lock=True)  # before the look at what is known
    found = {entry.id: entry for entry in entries}
    known = store.known_ids(connection, found)
    fresh = [entry for entry in found.values() if entry.id not in known]
    chain.extend(connection, fresh)
    return len(fresh)


def _read(line: str | bytes, origin: str) -> Entry:
    """The entry of a line; for one that is torn, the entry that says so."""
    try:
        return entry_of_event(orjson.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("an event cannot be read", origin=origin, error=str(error))
        data = line if isinstance(line, bytes) else line.encode()
        torn = Event(act="lose", kind="audit", name=origin, actor_id="0", actor="system", status=500, error="TORN")
        torn.id = hashlib.sha256(data).hexdigest()[:36]  # the same whenever it is read again
        return entry_of_event(orjson.loads(torn.line()))
