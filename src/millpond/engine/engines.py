"""Engine processes: one for each user who runs something, started on demand, stopped when idle, replaced when dead.

An engine may read and write only what its user may reach. What that is can grow (a new table of somebody else) or
shrink (a grant is revoked): then a fresh engine takes over, and the old one ends with its last running query.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import grpc
from grpc import aio

from millpond.catalog import locations
from millpond.engine import proto
from millpond.engine.errors import ExecutionError
from millpond.engine.needs import Needs
from millpond.engine.relays import start_relay
from millpond.engine.slices import Slice, forget_engine, key_of, note_engine
from millpond.identity.domain import Principal
from millpond.kernel import metrics
from millpond.kernel.errors import Unavailable
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger
from millpond.kernel.process import Child, ChildSpec, spawn

START_TIMEOUT_S = 60.0
CREDENTIAL_TTL_S = 7 * 24 * 3600.0
_log = get_logger(__name__)

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Sail compresses each result for whoever accepts it, at 20 MB/s: accept nothing but identity
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.enable_http_proxy", 0),
    # over a Unix socket the authority would be its path, which Sail's HTTP/2 refuses
    ("grpc.default_authority", "localhost"),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.lookahead_bytes", 16 << 20),
)
_STILL_AT_WORK_SHARE = 0.05
"""Of one processor: an engine that has nothing to do uses much less."""
_STILL_AT_WORK_AFTER_S = 0.5
_ABOUT_TO_BE_USED_S = 5.0
"""An engine that was started or used so short a time ago may be about to be used."""
_UNARY = ("AnalyzePlan", "Config", "Interrupt", "ArtifactStatus", "ReleaseExecute", "ReleaseSession",
          "FetchErrorDetails",
          "CloneSession", "GetStatus")  # fmt: skip
_STREAMS = ("ExecutePlan", "ReattachExecute")


@dataclass(eq=False)
class Engine:
    """A Spark Connect server behind the gateway, as raw bytes in and out."""

    id: str
    channel: aio.Channel
    child: Child | None = None
    relay: Child | None = None
    """Its way to the object store, where data is on one."""
    directory: Path | None = None
    socket_directory: int | None = None
    """Descriptor through which the engine's socket is reached."""
    readable: frozenset[str] = frozenset()
    writable: frozenset[str] = frozenset()
    everything: bool = False
    """Whether it may reach all places (a remote engine has its own files)."""
    slice: Slice | None = None
    """Of which cluster it is."""
    principal: Principal | None = None
    """For whom, with which grants, its reach was last found right."""
    user: str | None = None
    """Whose it is; stays when their grants change."""
    running: int = 0
    last_used: float = field(default_factory=time.monotonic)
    cut_off: tuple[float, float] | None = None
    """Since when, and at which processor time, it has nothing to do, if a call was cut off before."""
    retired: bool = False
    stopped: bool = False
    calls: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        prefix = f"/{proto.SERVICE}/"
        self.calls |= {name: self.channel.unary_unary(prefix + name) for name in _UNARY}
        self.calls |= {name: self.channel.unary_stream(prefix + name) for name in _STREAMS}
        self.calls["AddArtifacts"] = self.channel.stream_unary(prefix + "AddArtifacts")

    @property
    def uploads(self) -> Path | None:
        """Where files for the user's functions go; None for a remote engine, which takes them itself."""
        return self.directory / "uploads" if self.directory else None

    @property
    def alive(self) -> bool:
        """Whether its process runs; a remote engine is thought to."""
        return self.child is None or self.child.running

    def covers(self, needs: Needs) -> bool:
        """Whether it may reach all these places."""
        if self.everything:
            return True
        return all(_covered(place, self.readable | self.writable) for place in needs.readable) and all(
            _covered(place, self.writable) for place in needs.writable
        )

    @contextmanager
    def in_use(self) -> Iterator["Engine"]:
        """Keep it from being stopped while something runs on it."""
        self.running += 1
        cut_off = False
        try:
            yield self
        except asyncio.CancelledError:
            cut_off = True
            raise
        finally:
            self.running -= 1
            self.last_used = time.monotonic()
            if cut_off or self.cut_off is not None:
                self.cut_off = (self.last_used, self._processor_s())

    def works_for_nobody(self) -> bool:
        """Whether it goes on with a query that was cut off. Sail 0.7 does not stop a query that nobody waits for."""
        if self.cut_off is None or self.running:
            return False
        since, before = self.cut_off
        elapsed = time.monotonic() - since
        if elapsed < _STILL_AT_WORK_AFTER_S:
            return False
        if self._processor_s() - before > _STILL_AT_WORK_SHARE * elapsed:
            return True
        self.cut_off = None
        return False

    def _processor_s(self) -> float:
        return self.child.processor_s() if self.child is not None else 0.0

    def death(self) -> ExecutionError:
        """The error for a query that was running when the process ended."""
        code = self.child.process.poll() if self.child else None
        how = "by the kernel or by itself, perhaps for lack of memory" if code == -9 else f"with code {code}"
        return ExecutionError(
            "ENGINE_ENDED",
            f"The engine process ended {how} while this query ran. A user-defined function may have ended it. "
            "The next query starts a fresh engine; temporary views and functions are kept.",
            sql_state="XX000",
        )


class Reach(Protocol):
    """What the catalog says about places. Both methods block."""

    def homes(self, principal: Principal) -> frozenset[str]:
        """The places where a principal's own tables and volumes are."""

    def may_reach(self, principal: Principal, location: str, *, write: bool) -> bool:
        """Whether a place lies in a table or volume that the principal may read (or write)."""


class Mint(Protocol):
    """Makes a token that is good for some paths of the API."""

    def __call__(self, principal: Principal, ttl_s: float, *, paths: tuple[str, ...]) -> str: ...


@dataclass(frozen=True, kw_only=True)
class ApiDoor:
    """The way from an engine to this Millpond's own API, for users' functions that load models, as their user."""

    socket_path: Path
    """Unix socket on which the server answers HTTP."""
    port: int
    """Port of the API, under which the engine finds it on its own loopback device."""
    mint: Mint
    paths: tuple[str, ...]
    """Of the API, to which an engine's token is good."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What engines are made with."""

    run_dir: Path
    log_dir: Path
    remote: str | None = None
    idle_timeout_s: float = 900
    memory_limit_bytes: int | None = None
    store: Mapping[str, str] | None = None
    """Access to the object store, where data is on one. The relays have it, never an engine."""
    readable: tuple[Path, ...] = ()
    api: ApiDoor | None = None
    given: Callable[[Principal], frozenset[str]] = lambda _principal: frozenset()
    """Places that each engine may read besides, whatever the catalog says. Blocks."""
    idle_at_most: int | None = None
    """How many engines that have nothing to do are kept; None for all, until they time out."""


class Engines:
    """All engines of this gateway. Its methods run on one event loop."""

    def __init__(self, options: EngineOptions, reach: Reach) -> None:
        self._options = options
        self._reach = reach
        self._current: dict[str, Engine] = {}
        self._retired: list[Engine] = []
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        self._remote = _remote_engine(options.remote) if options.remote else None
        shutil.rmtree(options.run_dir, ignore_errors=True)
        options.run_dir.mkdir(parents=True, mode=0o700)
        os.chmod(options.run_dir, 0o700)

    @property
    def is_remote(self) -> bool:
        """Whether one engine elsewhere serves all."""
        return self._remote is not None

    async def get(self, principal: Principal, needs: Needs, slice_: Slice | None = None) -> Engine:
        """The principal's engine (on a slice), which may reach what is needed; started or replaced if it must be.

        Raises Unavailable when none can be started.
        """
        if self._remote is not None:
            return self._remote
        key = key_of(principal, slice_)
        engine = self._current.get(key)
        if _serves(engine, principal, needs):
            return engine
        async with self._locks.setdefault(key, asyncio.Lock()):
            engine = self._current.get(key)
            if engine is not None and engine.principal != principal:
                engine.principal = principal if await asyncio.to_thread(self._is_right, engine, principal) else None
            if _serves(engine, principal, needs):
                return engine
            return await self._replace(principal, engine, needs, slice_)

    def all_here(self) -> list[Engine]:
        """Those that run on this machine, from any thread."""
        return [*self._current.values(), *self._retired]

    def find(self, principal: Principal, engine_id: str | None, slice_: Slice | None = None) -> Engine | None:
        """The engine with an id, if it is still there."""
        if self._remote is not None:
            return self._remote
        mine = (self._current.get(key_of(principal, slice_)), *self._retired)
        return next((each for each in mine if each is not None and each.id == engine_id and each.alive), None)

    async def _replace(self, principal: Principal, old: Engine | None, needs: Needs, slice_: Slice | None) -> Engine:
        key = key_of(principal, slice_)
        readable, writable = await asyncio.to_thread(self._places, principal, key, needs)
        memory_bytes = slice_.memory_bytes if slice_ else self._options.memory_limit_bytes
        started = await asyncio.to_thread(self._start, principal, readable, writable, memory_bytes)
        fresh = _connected(started, readable, writable)
        fresh.principal, fresh.user, fresh.slice = principal, principal.name, slice_
        if slice_ is not None and fresh.child is not None:
            note_engine(slice_, fresh.child.pid)
        self._current[key] = fresh
        self._wanted[key] = (readable, writable)
        if old is not None:
            old.retired = True
            self._retired.append(old)
            await self.reap()
        if self._options.idle_at_most is not None:
            await self.reap()
        _log.info(
            "engine started", principal=principal.name, engine=fresh.id, pid=fresh.child.pid if fresh.child else None
        )
        return fresh

    def _is_right(self, engine: Engine, principal: Principal) -> bool:
        """Whether the principal may still reach all that an engine can. Blocks."""
        homes = self._reach.homes(principal) | self._options.given(principal)
        return all(
            _covered(place, homes) or self._reach.may_reach(principal, place, write=write)
            for places, write in ((engine.readable, False), (engine.writable, True))
            for place in places
        )

    def _places(self, principal: Principal, key: str, needs: Needs) -> tuple[frozenset[str], frozenset[str]]:
        """What the engine before could reach and still may, what is needed now, and the user's own. Blocks."""
        homes = self._reach.homes(principal)
        readable, writable = self._wanted.get(key, (frozenset(), frozenset()))
        readable = frozenset(place for place in readable if self._reach.may_reach(principal, place, write=False))
        writable = frozenset(place for place in writable if self._reach.may_reach(principal, place, write=True))
        readable |= {_container(place, homes) for place in needs.readable} | self._options.given(principal)
        return readable, writable | {_container(place, homes) for place in needs.writable} | homes

    def _start(
        self, principal: Principal, readable: frozenset[str], writable: frozenset[str], memory_bytes: int | None
    ) -> "_Started":
        """Start a process, with its relay to the object store, and wait until it listens. Blocks."""
        directory = self._options.run_dir / new_id()
        for name in ("", "tmp", "uploads", "socket", "checkpoints"):
            (directory / name).mkdir(mode=0o700)
        local = [place for place in writable if locations.is_local(place)]
        for place in local:
            locations.local_path(place).mkdir(parents=True, exist_ok=True)
        log_path = self._options.log_dir / "engine.log"
        store = self._options.store
        relay = start_relay(store, directory, log_path, readable=readable, writable=writable) if store else None
        ways_out = (*self._api_arguments(), *(relay.way_out if relay else ()))
        in_place_of_key = dict(relay.variables) if relay else {}
        child = spawn(
            ChildSpec(
                module="millpond.engine.sail_process",
                args=(str(directory / "socket" / "s"), str(directory / "uploads"), *ways_out),
                env=_environment(directory, memory_bytes) | in_place_of_key | self._credential(principal),
                log_path=log_path,
                memory_bytes=memory_bytes,
                sandbox=True,
                readable=(*self._options.readable, *_local_paths(readable)),
                writable=(directory, *map(locations.local_path, local)),
                cwd=directory / "tmp",
                own_network=True,
                unix_sockets=True,  # until its forwarder has its own
            )
        )
        try:
            ready = child.wait_ready(START_TIMEOUT_S)
        except Unavailable:
            if relay is not None:
                relay.child.kill()
            shutil.rmtree(directory, ignore_errors=True)
            raise
        if not ready["own_network"]:
            _log.warning("engine shares the loopback network", reason="user namespaces are not available")
        metrics.ENGINES.inc()
        return _Started(directory, child, relay.child if relay else None, ready["target"])

    def _api_arguments(self) -> tuple[str, ...]:
        api = self._options.api
        return (str(api.socket_path), str(api.port)) if api else ()

    def _credential(self, principal: Principal) -> dict[str, str]:
        """What MLflow's client in a user's function needs to act as that user, whichever address it was given."""
        api = self._options.api
        if api is None:
            return {}
        token = api.mint(principal, CREDENTIAL_TTL_S, paths=api.paths)
        return {
            "MLFLOW_TRACKING_TOKEN": token,
            "DATABRICKS_HOST": f"http://127.0.0.1:{api.port}",
            "DATABRICKS_TOKEN": token,
        }

    async def reap(self) -> None:
        """Stop engines that are retired and done, dead, idle for long, or at work for nobody. Called now and then."""
        limit = time.monotonic() - self._options.idle_timeout_s
        spare = {engine.id for engine in self._spare()}
        for key, engine in list(self._current.items()):
            idle = engine.id in spare or (engine.running == 0 and engine.last_used < limit)
            if not engine.alive or idle or engine.works_for_nobody():
                del self._current[key]
                engine.retired = True
                self._retired.append(engine)
                if self._options.idle_at_most is not None:
                    self._wanted.pop(key, None)
        done = [engine for engine in self._retired if engine.running == 0 or not engine.alive]
        self._retired = [engine for engine in self._retired if engine not in done]
        for engine in done:
            await self._stop(engine)

    def _spare(self) -> list[Engine]:
        """Engines without work beyond those that are kept, the longest unused ones."""
        if self._options.idle_at_most is None:
            return []
        lately = time.monotonic() - _ABOUT_TO_BE_USED_S
        engines = (each for each in self._current.values() if not each.running and each.last_used < lately)
        idle = sorted(engines, key=lambda each: each.last_used)
        return idle[: max(0, len(idle) - self._options.idle_at_most)]

    async def _stop(self, engine: Engine) -> None:
        if engine.stopped:  # found dead by who replaces it and by housekeeping at once; a descriptor is closed once
            return
        engine.stopped = True
        await engine.channel.close()
        if engine.child is not None:
            await asyncio.to_thread(engine.child.kill)
            if engine.slice is not None:
                forget_engine(engine.slice, engine.child.pid)
            metrics.ENGINES.dec()
        if engine.relay is not None:
            await asyncio.to_thread(engine.relay.kill)
        if engine.socket_directory is not None:
            os.close(engine.socket_directory)
        if engine.directory is not None:
            await asyncio.to_thread(shutil.rmtree, engine.directory, ignore_errors=True)

    async def close(self) -> None:
        """Stop all."""
        engines = [*self._current.values(), *self._retired, *([self._remote] if self._remote else [])]
        self._current.clear()
        self._retired.clear()
        await asyncio.gather(*(self._stop(engine) for engine in engines))


def _environment(directory: Path, memory: int | None) -> dict[str, str]:
    pool = (
        {
            "SAIL_RUNTIME__MEMORY_POOL__TYPE": "fair",
            "SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE": str(memory * 6 // 10),
        }
        if memory
        else {}
    )
    return {
        **pool,
        "HOME": str(directory / "tmp"),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # there is no network to wait for
        "TMPDIR": str(directory / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "RUST_LOG": "warn",
        "SAIL_EXECUTION__COLLECT_STATISTICS": "false",  # of Parquet files, which leave NaN out
        "SAIL_SPARK__SESSION_TIMEOUT_SECS": "604800",
        "SAIL_EXECUTION__CHECKPOINT__PATH": (directory / "checkpoints").as_uri(),
        "SAIL_TELEMETRY__EXPORT_LOGS": "false",
    }


def _serves(engine: Engine | None, principal: Principal, needs: Needs) -> TypeGuard[Engine]:
    if engine is None or not engine.alive or engine.works_for_nobody():
        return False
    return engine.principal == principal and engine.covers(needs)


def _container(place: str, homes: frozenset[str]) -> str:
    """The directory that the engine is let into for a place: all of the user's own tables together."""
    head, _, _ = place.rpartition("/")
    return head if head in homes else place


def _covered(place: str, granted: frozenset[str]) -> bool:
    return any(locations.lies_in(place, container) for container in granted)


def _local_paths(places: frozenset[str]) -> tuple[Path, ...]:
    """Of what leads elsewhere, none: the engine would be let into there."""
    return tuple(locations.local_path(at) for at in places if locations.is_local(at) and not locations.is_link(at))


@dataclass(frozen=True)
class _Started:
    """A process that listens."""

    directory: Path
    child: Child
    relay: Child | None
    target: str


def _connected(started: _Started, readable: frozenset[str], writable: frozenset[str]) -> Engine:
    """The engine behind a process that listens; made on the event loop that will use it."""
    socket_directory = os.open(started.directory / "socket", os.O_PATH | os.O_CLOEXEC)
    return Engine(
        id=started.directory.name,
        channel=aio.insecure_channel(_target(started.target, socket_directory), options=_CHANNEL_OPTIONS),
        socket_directory=socket_directory,
        child=started.child,
        relay=started.relay,
        directory=started.directory,
        readable=readable,
        writable=writable,
    )


def _target(target: str, socket_directory: int) -> str:
    """The engine's address. The path of a Unix socket may be too long for one, so it goes through a descriptor."""
    if not target.startswith("unix:"):
        return target
    return f"unix:/proc/self/fd/{socket_directory}/{target.rpartition('/')[2]}"


def _remote_engine(address: str) -> Engine:
    """The engine at an `sc://host:port/;token=...;use_ssl=true` address."""
    host, _, parameters = address.removeprefix("sc://").rstrip("/").partition("/")
    options = dict(part.split("=", 1) for part in parameters.strip(";").split(";") if "=" in part)
    host = host if ":" in host.rpartition("]")[2] else f"{host}:15002"
    channel_options = [option for option in _CHANNEL_OPTIONS if option[0] != "grpc.default_authority"]
    if options.get("use_ssl", "").lower() == "true":
        credentials = grpc.ssl_channel_credentials()
        if "token" in options:
            credentials = grpc.composite_channel_credentials(
                credentials, grpc.access_token_call_credentials(options["token"])
            )
        channel = aio.secure_channel(host, credentials, options=channel_options)
    elif "token" in options:
        credentials = grpc.composite_channel_credentials(
            grpc.local_channel_credentials(), grpc.access_token_call_credentials(options["token"])
        )
        channel = aio.secure_channel(host, credentials, options=channel_options)
    else:
        channel = aio.insecure_channel(host, options=channel_options)
    return Engine(id="remote", channel=channel, everything=True)
