"""The drain: reads the notes that the gateways of this machine have written, and records what they tell.

Any number may run; an observation's id keeps it from being recorded twice.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy.exc import DataError

from millpond.journal.spools import SpoolReader
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds
from millpond.lineage.domain import Observation
from millpond.lineage.pins import VersionRead, read_of_note
from millpond.lineage.service import LineageService

log = get_logger(__name__)
_PIECE_BYTES = 16 << 20
"""More than the longest note has."""
_AT_ONCE = 50
"""Observations of one transaction, for which other writers of SQLite wait."""
Read = Callable[[Mapping[str, Any]], Observation]


class LineageDrain:
    """Records what waits. Thread-safe; each round may be cut off at any point and run again."""

    def __init__(
        self,
        lineage: LineageService,
        spools: Path,
        read: Callable[[], Read],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """`read` gives the reader of notes, which is loaded when there is one; `after` is called after each round."""
        self._lineage = lineage
        self._spools = SpoolReader(spools)
        self._read = read
        self._after = after
        self._lock = threading.Lock()

    def run_once(self) -> int:
        """Everything that waits now; how many observations were new."""
        with self._lock:
            recorded = 0
            for piece in self._spools.pieces(_PIECE_BYTES):
                for start in range(0, len(piece.lines), _AT_ONCE):
                    told = self._told(piece.lines[start : start + _AT_ONCE])
                    self._lineage.record_reads([each for each in told if isinstance(each, VersionRead)])
                    recorded += self._record([each for each in told if isinstance(each, Observation)])
                self._spools.done(piece)
            return recorded

    def _record(self, observations: Sequence[Observation]) -> int:
        """Record them together; where one of them cannot be, each by itself without it."""
        try:
            return self._lineage.record(observations)
        except DataError as error:
            if len(observations) == 1:
                log.error("lineage cannot be recorded", observation=observations[0].id, error=str(error.orig)[:300])
                return 0
            return sum(self._record([each]) for each in observations)

    def _told(self, lines: Sequence[bytes]) -> list[Observation | VersionRead]:
        read = self._read()
        return [found for line in lines if (found := _told(read, line)) is not None]

    def at_work(self, *, interval_s: float = 1.0) -> AbstractContextManager[None]:
        """Rounds in a thread of its own while the block runs, and one after it."""
        return rounds(
            self._round,
            name="lineage-drain",
            interval_s=interval_s,
            log=log,
            failure="the lineage drain failed",
            last=True,
        )

    def _round(self) -> None:
        self.run_once()
        self._after()


def _told(read: Read, line: bytes) -> Observation | VersionRead | None:
    """What a line tells; None for one that is torn, which says nothing."""
    try:
        note = orjson.loads(line)
        return read_of_note(note) if "read_at" in note else read(note)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("a note of lineage cannot be read", error=repr(error)[:300])
        return None
