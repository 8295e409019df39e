"""What workers call, and administrators; Millpond's own API."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import Field

from millpond.billing.domain import Resource
from millpond.identity.domain import Principal
from millpond.identity.middleware import client_address, current_principal
from millpond.jobs.domain import Result
from millpond.jobs.inputs import Strict, Text
from millpond.jobs.task_files import ended_of
from millpond.jobs.workers.domain import Worker
from millpond.jobs.workers.service import Arrival, WorkerService
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.storable import storable

_WORKER, _WORKERS = "/api/millpond/worker", "/api/millpond/workers"
MOST_WAIT_S = 5.0
_LOOK_S = 0.05
_BLOCK_BYTES = 1 << 20
_MOST_HELD = 1000
_CODE_AT_ONCE, _LIVES_AT_ONCE = 8, 16
"""Threads for code, which may have to be fetched first, and for claims and beats: neither waits for the other, and what
else the server does for none of them."""


async def _me() -> Principal:
    """Without a thread."""
    return current_principal()


_Me = Annotated[Principal, Depends(_me)]
_Id = Annotated[str, Field(pattern=r"^[0-9a-f-]{32,36}$")]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_IdInQuery = Annotated[str, Query(pattern=r"^[0-9a-f-]{32,36}$")]


class RegisterInput(Strict):
    """A worker that begins."""

    worker_id: _Id
    name: Text = Field(min_length=1, max_length=100)
    slots: int = Field(ge=1, le=1000)
    version: str
    python: str


class WorkerInput(Strict):
    """A worker."""

    worker_id: _Id


class ClaimInput(WorkerInput):
    """One with room for a task."""

    lease: _Id
    wait_s: float = Field(default=0, ge=0)


class BeatInput(WorkerInput):
    """One that lives, and what it holds."""

    leases: list[_Id] = Field(max_length=_MOST_HELD)


class LeaseInput(WorkerInput):
    """A task that it holds."""

    lease: _Id


class EndInput(LeaseInput):
    """How that ended."""

    result: Literal["SUCCESS", "FAILED", "CANCELED", "TIMEDOUT"]
    message: str = ""
    error: str = ""
    values: dict[str, Any] = Field(default_factory=dict)
    used: dict[Literal["CPU", "MEMORY", "GPU"], _Amount] = Field(default_factory=dict)


def workers_router(service: WorkerService) -> APIRouter:
    """All of it."""
    router = APIRouter()
    _add_lives(router, service, CapacityLimiter(_LIVES_AT_ONCE))
    _add_tasks(router, service, CapacityLimiter(_CODE_AT_ONCE))
    _add_administration(router, service)
    return router


def _add_lives(router: APIRouter, service: WorkerService, threads: CapacityLimiter) -> None:
    @router.post(f"{_WORKER}/register")
    def register(me: _Me, body: RegisterInput, request: Request) -> dict[str, Any]:
        arrival = Arrival(
            id=body.worker_id, name=body.name, slots=body.slots, version=body.version, python=body.python,
            address=client_address(request),
        )  # fmt: skip
        service.register(me, arrival)
        spark = {"spark_port": service.spark.port, "spark_tls": service.spark.tls}
        return {"lease_s": service.lease.total_seconds(), **spark}

    @router.post(f"{_WORKER}/claim")
    async def claim(me: _Me, body: ClaimInput, request: Request) -> dict[str, Any]:
        came = time.monotonic()
        until = came + min(body.wait_s, MOST_WAIT_S)
        while True:
            before, waited_s = service.changes, time.monotonic() - came
            task, worker = await to_thread.run_sync(service.claim, me, body.worker_id, body.lease, limiter=threads)
            if task is not None or worker.draining or time.monotonic() >= until:
                told = None if task is None else {"task_run_id": task.id, "run_id": task.run_id, "task_key": task.key}
                return {"task": told, "waited_s": waited_s, "draining": worker.draining}
            await asyncio.sleep(_LOOK_S)  # in any case, however much goes on
            while service.changes == before and time.monotonic() < until:
                await asyncio.sleep(_LOOK_S)
            if await request.is_disconnected():  # what is claimed now would be lost for as long as a lease
                return {"task": None, "waited_s": 0, "draining": False}

    @router.post(f"{_WORKER}/beat")
    async def beat(me: _Me, body: BeatInput) -> dict[str, Any]:
        ends, worker = await to_thread.run_sync(service.heard, me, body.worker_id, body.leases, limiter=threads)
        return {"ends": ends, "draining": worker.draining}

    @router.post(f"{_WORKER}/leave")
    def leave(me: _Me, body: WorkerInput) -> dict[str, Any]:
        service.leave(me, body.worker_id)
        return {}


def _add_tasks(router: APIRouter, service: WorkerService, threads: CapacityLimiter) -> None:
    @router.post(f"{_WORKER}/code")
    async def code(me: _Me, body: LeaseInput) -> StreamingResponse:
        archive = await to_thread.run_sync(service.code, me, body.worker_id, body.lease, limiter=threads)
        return StreamingResponse(_blocks(archive), media_type="application/x-tar")

    @router.post(f"{_WORKER}/begin")
    def begin(me: _Me, body: LeaseInput) -> dict[str, Any]:
        service.begin(me, body.worker_id, body.lease)
        return {}

    @router.put(f"{_WORKER}/output")
    async def output(
        me: _Me, request: Request, worker_id: _IdInQuery, lease: _IdInQuery, name: str, start: int, more: bool = False
    ) -> dict[str, Any]:
        data = await request.body()
        return {"next": await run_in_threadpool(service.tell, me, worker_id, lease, name, start, data, more=more)}

    @router.post(f"{_WORKER}/end")
    def end(me: _Me, body: EndInput) -> dict[str, Any]:
        try:
            told = ended_of(storable({"message": body.message, "error": body.error, "values": body.values}))
        except RecursionError as error:
            raise InvalidArgument("values are nested too deep to be kept.") from error
        used = {Resource(name): amount for name, amount in body.used.items()}
        service.end(me, body.worker_id, body.lease, replace(told, result=Result(body.result), used=used))
        return {}

    @router.post(f"{_WORKER}/give-back")
    def give_back(me: _Me, body: LeaseInput) -> dict[str, Any]:
        service.give_back(me, body.worker_id, body.lease)
        return {}


def _add_administration(router: APIRouter, service: WorkerService) -> None:
    @router.get(_WORKERS)
    def list_all(me: _Me) -> dict[str, Any]:
        return {"workers": [_worker_json(service, worker, running) for worker, running in service.list_all(me)]}

    @router.post(_WORKERS + "/{worker_id}/drain")
    def drain(me: _Me, worker_id: str) -> dict[str, Any]:
        service.drain(me, worker_id)
        return {}

    @router.delete(_WORKERS + "/{worker_id}")
    def remove(me: _Me, worker_id: str) -> dict[str, Any]:
        service.remove(me, worker_id)
        return {}


def _worker_json(service: WorkerService, worker: Worker, running: int) -> dict[str, Any]:
    return {
        "id": worker.id, "name": worker.name, "account": worker.account, "slots": worker.slots, "running": running,
        "version": worker.version, "address": worker.address, "draining": worker.draining,
        "is_heard_of": service.is_heard_of(worker), "came_at": epoch_ms(worker.came_at),
        "seen_at": epoch_ms(worker.seen_at),
    }  # fmt: skip


def _blocks(archive: IO[bytes]) -> Iterator[bytes]:
    with archive:
        while block := archive.read(_BLOCK_BYTES):
            yield block
