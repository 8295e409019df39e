"""Rows that an engine of the gateway's has computed, as files for the engine of the user who may have them.

Such an engine runs only what is made of texts of the catalog, never a function of the user's, and reads only the places
that this one part needs: so a text in which our parser has overlooked something reads no more. What it computes is kept
by what was asked and the versions of the Delta tables that it read, so that it is computed once for as long as nothing
changes. A bound plan names a directory of its own, into which the kept files are linked when the plan is about to run,
and which goes with it.

    PRINCIPAL/read         what the user's own engine can reach
    PRINCIPAL/inner        what further parts are computed from; it may be more than the user may see
    PRINCIPAL-PLACES/kept  the files themselves, as the engine for these places writes them
"""

import asyncio
import hashlib
import os
import re
import shutil
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millpond.catalog import locations
from millpond.engine import proto, semantics
from millpond.engine.errors import ExecutionError, SparkError
from millpond.engine.needs import Needs
from millpond.engine.sessions import Session
from millpond.identity.domain import Principal
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger

if TYPE_CHECKING:
    from millpond.engine.upstream import Upstream

_KEPT_RESULTS = 200
_KEPT_BYTES = 4 << 30
_KEPT_SESSIONS = 1000
_SAVE_ERROR = 3
_VOLATILE = re.compile(
    rb"\b(?:now|rand|randn|random|uuid|shuffle|randstr|uniform|current_date|curdate|current_time|current_timestamp"
    rb"|localtimestamp|unix_timestamp|from_unixtime|monotonically_increasing_id|spark_partition_id|sample)\b",
    re.IGNORECASE,
)
"""What may answer otherwise the next time."""
_COMMIT = re.compile(r"(\d{20})(?:\.checkpoint.*|\.json)\Z")
_TOLD = re.compile(
    r"ENGINE_(?:ENDED|UNAVAILABLE)|DISK_FULL|OUT_OF_MEMORY|UNRESOLVED_(?:COLUMN|ROUTINE).*|TABLE_OR_VIEW_NOT_FOUND"
    r"|DELTA_\w*NOT_FOUND|RESULT_OF_OTHERS_FAILED"
)
"""Errors whose text holds no value of a row."""
_log = get_logger(__name__)


@dataclass(eq=False)
class Part:
    """A part of a plan that is computed here, and where the rest of the plan finds it."""

    location: str
    relation: Any
    needs: Needs
    shown: str
    """What it is, for errors."""
    principal: Principal
    """Whoever asks."""
    digest: str
    """Equal for parts that ask the same."""
    filled: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class _Result:
    directory: Path
    size_bytes: int
    used: float = field(default_factory=time.monotonic)


class Spools:
    """All results of one gateway. Its methods run on one event loop, but for `part`."""

    def __init__(self, root: Path, storage_options: Mapping[str, str]) -> None:
        """`root` is the gateway's own, and emptied."""
        self._root = root
        self._storage_options = storage_options
        self._results: OrderedDict[str, _Result] = OrderedDict()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._sessions: dict[str, Session] = {}
        self._upstream: Upstream | None = None
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True, mode=0o700)

    def compute_with(self, upstream: "Upstream") -> None:
        """Say which engines compute."""
        self._upstream = upstream

    def readable(self, principal: Principal) -> frozenset[str]:
        """What the principal's own engine may read."""
        return frozenset({self._place(principal, "read")})

    def stream_home(self, principal: Principal, run_id: str, *, guarded: bool) -> str:
        """Where a run of a principal's streaming query lays out its batches for the engine that reads them first."""
        place = locations.join(self._place(principal, "inner" if guarded else "read"), f"stream-{run_id}")
        locations.local_path(place).mkdir(exist_ok=True, mode=0o700)
        return place

    # -- reach of the engines that compute ----------------------------------------------------------------------

    def homes(self, principal: Principal) -> frozenset[str]:
        """Where an engine that computes writes; it is nobody's but that of a `_worker`."""
        return frozenset({self._place(principal, "kept")})

    def may_reach(self, _principal: Principal, _location: str, *, write: bool) -> bool:
        """It may read whatever a plan names, because rights were asked when the plan was bound."""
        return not write

    def _place(self, principal: Principal, *names: str) -> str:
        place = locations.join(locations.canonical(str(self._root)), principal.id, *names)
        locations.local_path(place).mkdir(parents=True, exist_ok=True, mode=0o700)
        return place

    # -- parts --------------------------------------------------------------------------------------------------

    def part(self, principal: Principal, relation: Any, needs: Needs, *, shown: str, inner: bool) -> Part:
        """A relation that is bound to be computed here; `inner` when what reads it is computed here too."""
        digest = hashlib.sha256(semantics.canonical(relation)).hexdigest()[:32]
        place = self._place(principal, "inner" if inner else "read")
        location = locations.join(place, f"{digest}-{uuid.uuid4().hex}")
        return Part(location, relation, needs, shown, principal, digest)

    async def fill(self, parts: Iterable[Part]) -> None:
        """Put rows where the parts are read."""
        for part in parts:
            async with part.lock:
                if not part.filled:
                    await self._fill(part)

    async def _fill(self, part: Part) -> None:
        upstream = self._computing()
        await upstream.refresh(_places(part))
        key = await asyncio.to_thread(self._key, part)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self._results:
                self._results[key] = await self._computed(part)
            result = self._results[key]
            self._results.move_to_end(key)
            result.used = time.monotonic()
            _link(result.directory, part)
        part.filled = True
        await self._make_room()

    def _key(self, part: Part) -> str:
        """Equal where the rows must be. Blocks."""
        state = [part.principal.id, part.digest]
        for place in sorted(_places(part)):
            state.append(f"{place}@{_version(place, self._storage_options)}")
        if _is_volatile(part) or any(each.endswith("@None") for each in state):
            state.append(new_id())
        return hashlib.sha256("\n".join(state).encode()).hexdigest()

    async def _computed(self, part: Part) -> _Result:
        worker, needs = _worker(part)
        directory = locations.local_path(self._place(worker, "kept")) / new_id()
        session = self._session(worker)
        command = proto.commands.Command()
        command.write_operation.input.CopyFrom(part.relation)
        command.write_operation.source = "parquet"
        command.write_operation.path = locations.canonical(str(directory))
        command.write_operation.mode = _SAVE_ERROR
        try:
            await self._computing().run(session, proto.base.Plan(command=command), needs)
            if not directory.is_dir() or not any(directory.iterdir()):
                schema = await self._computing().schema(session, part.relation, needs)
                await asyncio.to_thread(_write_no_rows, directory, schema)
        except SparkError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise _told(part, error) from None
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return _Result(directory, sum(file.stat().st_size for file in directory.iterdir()))

    def _session(self, principal: Principal) -> Session:
        """The one session of an engine that computes, which has no state: no settings, views or functions."""
        session = self._sessions.get(principal.id)
        if session is None:
            if len(self._sessions) > _KEPT_SESSIONS:
                self._sessions.clear()
            session = self._sessions[principal.id] = Session(id=str(uuid.uuid4()), principal=principal)
        session.principal = principal
        return session

    def _computing(self) -> "Upstream":
        if self._upstream is None:
            raise RuntimeError("no engines to compute with")
        return self._upstream

    # -- room ---------------------------------------------------------------------------------------------------

    async def _make_room(self, idle_s: float | None = None) -> None:
        oldest = -1.0 if idle_s is None else time.monotonic() - idle_s
        total = sum(result.size_bytes for result in self._results.values())
        gone: list[Path] = []
        for key, result in list(self._results.items())[: -1 if idle_s is None else None]:
            if total <= _KEPT_BYTES and len(self._results) <= _KEPT_RESULTS and result.used >= oldest:
                break
            total -= result.size_bytes
            gone.append(self._results.pop(key).directory)
        if gone:
            await asyncio.to_thread(_remove, gone)

    async def tidy(self, idle_s: float) -> None:
        """Forget what nobody has read for so long. Called now and then."""
        await self._make_room(idle_s)


def _worker(part: Part) -> tuple[Principal, Needs]:
    """Whose engine computes a part: one for the user and exactly the places that are read."""
    places = part.needs.readable | {inner.location for inner in part.needs.parts}
    digest = hashlib.sha256("\n".join(sorted(places)).encode()).hexdigest()[:24]
    needs = Needs(readable=places, names=dict(part.needs.names), parts=part.needs.parts)
    return replace(part.principal, id=f"{part.principal.id}-{digest}"), needs


def _places(part: Part) -> set[str]:
    """All that a part is computed from, in the end."""
    return part.needs.readable.union(*(_places(inner) for inner in part.needs.parts))


def _is_volatile(part: Part) -> bool:
    text = semantics.canonical(part.relation)
    return _VOLATILE.search(text) is not None or any(map(_is_volatile, part.needs.parts))


def _version(place: str, storage_options: Mapping[str, str]) -> int | None:
    """The version of the Delta table at a place; None where that is not to be known. Blocks."""
    if locations.is_local(place):
        return max(_versions(locations.local_path(place) / "_delta_log"), default=None)
    from millpond.engine.delta.table import Storage, open_table

    try:
        return int(open_table(Storage(url=place, options=storage_options)).version())
    except SparkError:
        return None


def _versions(log: Path) -> Iterator[int]:
    try:
        names = os.listdir(log)
    except OSError:
        return
    for name in names:
        if found := _COMMIT.match(name):
            yield int(found[1])


def _link(directory: Path, part: Part) -> None:
    target = locations.local_path(part.location)
    target.mkdir(mode=0o700)
    weakref.finalize(part, shutil.rmtree, target, ignore_errors=True)
    for file in directory.iterdir():
        os.link(file, target / file.name)


def _remove(directories: Iterable[Path]) -> None:
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def _write_no_rows(directory: Path, schema: Any) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    from millpond.engine.shaping import fields_of_schema
    from millpond.engine.types import arrow_type

    fields = [
        pa.field(each["name"], pa.null() if each["type"] == "void" else arrow_type(each["type"]))
        for each in fields_of_schema(schema)
    ]
    directory.mkdir(exist_ok=True, mode=0o700)
    parquet.write_table(pa.schema(fields).empty_table(), directory / "none.parquet")


def _told(part: Part, error: SparkError) -> SparkError:
    """The error without what it may say about rows that whoever asks may not see."""
    if _TOLD.fullmatch(error.error_class):
        return error
    _log.info("rows could not be computed", what=part.shown, error_class=error.error_class)
    return ExecutionError(
        "RESULT_OF_OTHERS_FAILED",
        f"The rows of {part.shown} cannot be computed: its row filter, a column mask or its query fails with "
        f"{error.error_class}. Its owner can see why by running it.",
        sql_state="XX000",
    )
