"""Publishing: an online table is brought to a version of its Delta table.

It follows the log from the version that was published last, and needs no notes of its own: rows are written first and
the mark last, each may be written again, and after a crash the same difference is worked out anew. Where the log no
longer reaches back, or the table's shape changed, all rows are written as a new generation beside the old one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
from deltalake.exceptions import DeltaError

from millpond.kernel.logs import get_logger
from millpond.online import source as src
from millpond.online.backends.port import Backend, Change
from millpond.online.domain import Published, Shape, Wanted
from millpond.online.source import Snapshot, Source

log = get_logger(__name__)

_AT_ONCE = 20_000


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a round of publishing did."""

    version: int
    committed_ms: int
    """When that version was committed."""
    changed: int
    """Rows set or taken away."""
    anew: bool
    """Whether all rows were written as a new generation."""


def publish(source: Source, wanted: Wanted, backend: Backend, table: str, *, anew: bool = False) -> Outcome:
    """Bring an online table to its source's newest version. Only one publisher of a table may be at work."""
    snapshot = source.at(source.version())
    shape, state = snapshot.shape(wanted), backend.published(table)
    if state is not None and state.shape == shape and not anew:
        if state.version == snapshot.version:
            return Outcome(version=state.version, committed_ms=state.committed_ms, changed=0, anew=False)
        if (before := _before(source, state.version)) is not None:
            return _follow(before, snapshot, state, backend, table)
    return _all(snapshot, shape, state, backend, table)


def _before(source: Source, version: int) -> Snapshot | None:
    try:
        return source.at(version)
    except DeltaError as error:
        log.info("the log no longer reaches back; the table is published anew", version=version, error=str(error))
        return None


def _all(snapshot: Snapshot, shape: Shape, state: Published | None, backend: Backend, table: str) -> Outcome:
    generation = 1 if state is None else state.generation + 1
    for interrupted in (generation, generation - 2):  # what a round that did not come to its end left
        if interrupted > 0:
            backend.drop(table, interrupted)
    rows = src.newest(snapshot.rows(shape), shape).collect(engine="streaming")
    written = backend.write(table, generation, src.encoded(rows, shape))
    _mark(snapshot, shape, generation, backend, table)
    if state is not None:
        backend.drop(table, state.generation)
    return Outcome(version=snapshot.version, committed_ms=snapshot.committed_ms, changed=written, anew=True)


def _follow(before: Snapshot, snapshot: Snapshot, state: Published, backend: Backend, table: str) -> Outcome:
    shape, old, new = state.shape, before.files(), snapshot.files()
    added, removed = snapshot.rows(shape, new - old), before.rows(shape, old - new)
    try:
        come = src.without(added, removed, shape) if old - new else added
        gone = src.keys_of(src.without(removed, added, shape), shape).collect()
        changes = _newer if shape.time else _replaced
        written = backend.write(table, state.generation, changes(_Round(snapshot, shape, backend, table), come, gone))
    except FileNotFoundError as error:
        log.info("files of the last version are gone; the table is published anew", error=str(error))
        return _all(snapshot, shape, state, backend, table)
    _mark(snapshot, shape, state.generation, backend, table)
    return Outcome(version=snapshot.version, committed_ms=snapshot.committed_ms, changed=written, anew=False)


@dataclass(frozen=True)
class _Round:
    snapshot: Snapshot
    shape: Shape
    backend: Backend
    table: str


def _replaced(now: _Round, come: pl.LazyFrame, gone: pl.DataFrame) -> Iterator[Change]:
    """Each key has one row: what came is the truth, and keys of which only something went are no more."""
    rows = come.collect()
    yield from src.encoded(rows, now.shape)
    missing = src.not_among(gone.lazy(), rows.lazy(), now.shape).collect()
    yield from ((key, None) for key in src.encoded_keys(missing, now.shape))


def _newer(now: _Round, come: pl.LazyFrame, gone: pl.DataFrame) -> Iterator[Change]:
    """Keys have rows of several times: a row that came counts if it is newer than the one that is online.

    Of keys that lost a row the table itself is asked, as it is of two rows of one time.
    """
    rows = src.newest(src.not_among(come, gone.lazy(), now.shape), now.shape).collect()
    open_questions = [gone]
    for start in range(0, rows.height, _AT_ONCE):
        portion = rows.slice(start, _AT_ONCE)
        entries = list(src.encoded(portion, now.shape))
        _state, online = now.backend.read(now.table, [key for key, _row in entries])
        verdicts = [_is_newer(row, old) for (_key, row), old in zip(entries, online, strict=True)]
        yield from (entry for entry, newer in zip(entries, verdicts, strict=True) if newer)
        ties = pl.Series([newer is None for newer in verdicts], dtype=pl.Boolean)
        open_questions.append(src.keys_of(portion.filter(ties).lazy(), now.shape).collect())
    yield from _asked(now, pl.concat(open_questions))


def _is_newer(row: bytes, online: bytes | None) -> bool | None:
    """None when both are of the same time and differ."""
    if online is None:
        return True
    at, known = Shape.time_of(row), Shape.time_of(online)
    assert at is not None
    assert known is not None
    return at > known if at != known else (False if row == online else None)


def _asked(now: _Round, keys: pl.DataFrame) -> Iterator[Change]:
    """What the table says of some keys."""
    if keys.is_empty():
        return
    found = src.newest(src.of_keys(now.snapshot.rows(now.shape), keys.lazy(), now.shape), now.shape).collect()
    yield from src.encoded(found, now.shape)
    missing = src.not_among(keys.lazy(), found.lazy(), now.shape).collect()
    yield from ((key, None) for key in src.encoded_keys(missing, now.shape))


def _mark(snapshot: Snapshot, shape: Shape, generation: int, backend: Backend, table: str) -> None:
    state = Published(generation=generation, version=snapshot.version, committed_ms=snapshot.committed_ms, shape=shape)
    backend.publish(table, state)
