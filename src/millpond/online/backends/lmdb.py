"""The embedded online store: a directory of LMDB files, one for each table, read by many processes at once.

A reader's transaction sees one moment. The pages of a generation that was dropped are used again. An environment may
be opened once in a process and not be taken across a fork, so each process opens its own when it first reads.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock

import lmdb

from millpond.kernel.asides import aside_unless
from millpond.kernel.errors import ResourceExhausted
from millpond.online.backends.port import Change
from millpond.online.domain import Published, decoded

LARGEST_BYTES = 64 << 30
"""Of one table's file: what it may grow to. Addresses are set aside for it, not memory or disk."""
_AT_ONCE = 20_000
_FEW = 20
_READERS = 1024
_STATE = b"published"


class LmdbBackend:
    """Online tables below a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, lmdb.Environment] = {}
        self._lock = Lock()
        self._process = os.getpid()

    def published(self, table: str) -> Published | None:
        """What was published last."""
        return self.read(table, [])[0]

    def write(self, table: str, generation: int, changes: Iterable[Change]) -> int:
        """Set and take away rows, a portion in each transaction."""
        prefix, rest, written = _prefix(generation), iter(changes), 0
        while portion := list(islice(rest, _AT_ONCE)):
            with self._writing(table) as transaction:
                for key, row in portion:
                    if row is None:
                        transaction.delete(prefix + key)
                    else:
                        transaction.put(prefix + key, row)
            written += len(portion)
        return written

    def publish(self, table: str, state: Published) -> None:
        """Note the state, durably."""
        with self._writing(table) as transaction:
            transaction.put(_STATE, state.encoded())

    def drop(self, table: str, generation: int | None = None) -> None:
        """Take away a generation's rows, or the table's files."""
        if generation is None:
            with self._lock:
                if (environment := self._open.pop(table, None)) is not None:
                    environment.close()
                shutil.rmtree(self._root / table, ignore_errors=True)
        elif self._environment(table, create=False) is not None:
            while self._drop_some(table, _prefix(generation)):
                pass

    def _drop_some(self, table: str, prefix: bytes) -> bool:
        """Take away a portion of rows; false when none is left."""
        with self._writing(table) as transaction, transaction.cursor() as cursor:
            found = cursor.set_range(prefix)
            for _ in range(_AT_ONCE):
                if not found or not bytes(cursor.key()).startswith(prefix):
                    return False
                found = cursor.delete()
        return True

    def read(self, table: str, keys: Sequence[bytes]) -> tuple[Published | None, list[bytes | None]]:
        """One transaction for all keys."""
        environment = self._environment(table, create=False)
        if environment is None:
            return None, [None] * len(keys)
        with environment.begin() as transaction:
            state = transaction.get(_STATE)
            if state is None:
                return None, [None] * len(keys)
            published = decoded(state)
            prefix = _prefix(published.generation)
            return published, [transaction.get(prefix + key) for key in keys]

    async def read_async(self, table: str, keys: Sequence[bytes]) -> tuple[Published | None, list[bytes | None]]:
        """A few keys at once, which takes less time than to ask a thread."""
        return await aside_unless(len(keys) <= _FEW, partial(self.read, table, keys))

    async def aclose(self) -> None:
        """Nothing is an event loop's."""

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for environment in self._open.values():
                environment.close()
            self._open.clear()

    @contextmanager
    def _writing(self, table: str) -> Iterator[lmdb.Transaction]:
        environment = self._environment(table, create=True)
        assert environment is not None
        try:
            with environment.begin(write=True) as transaction:
                yield transaction
        except lmdb.MapFullError as error:
            raise ResourceExhausted(
                f"The online table is larger than {LARGEST_BYTES >> 30} GiB, which the embedded store keeps; "
                "publish it to an online store in Redis or PostgreSQL."
            ) from error

    def _environment(self, table: str, *, create: bool) -> lmdb.Environment | None:
        if self._process != os.getpid():  # a fork: the parent's environments are not ours to use or close
            self._open, self._lock, self._process = {}, Lock(), os.getpid()
        found = self._open.get(table)
        return found if found is not None else self._opened(table, create=create)

    def _opened(self, table: str, *, create: bool) -> lmdb.Environment | None:
        path = self._root / table
        with self._lock:
            if table not in self._open:
                if not create and not (path / "data.mdb").exists():
                    return None
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._open[table] = lmdb.open(
                    str(path), map_size=LARGEST_BYTES, max_readers=_READERS, max_spare_txns=64, mode=0o600
                )
                self._open[table].reader_check()  # readers that were killed would keep old pages for ever
            return self._open[table]


def _prefix(generation: int) -> bytes:
    return b"r" + generation.to_bytes(7, "big")
