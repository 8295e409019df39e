"""Routes of captures, reproductions and pins: all our own."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument
from millpond.lineage.pins import Pin
from millpond.reproduction.captures import MOST_BYTES, Captures, Shown
from millpond.reproduction.pins import PinService
from millpond.reproduction.service import CLIENT, SERVER, ReproductionService, reproduction_json

_OURS = "/api/millpond"
_CHUNK = 1 << 20
_Me = Annotated[Principal, Depends(current_principal)]


class BeginBody(BaseModel):
    """Which run, and where."""

    model_config = ConfigDict(extra="forbid")

    run_id: str
    place: str = SERVER


def reproduction_router(captures: Captures, service: ReproductionService, pins: PinService) -> APIRouter:
    """All of them."""
    router = APIRouter()
    _add_captures(router, captures)
    _add_reproductions(router, service)

    @router.get(f"{_OURS}/pins")
    def list_pins(me: _Me, table: str | None = None) -> dict[str, Any]:
        return {"pins": [_pin_json(pin) for pin in pins.list(me, table)]}

    return router


def _add_captures(router: APIRouter, captures: Captures) -> None:
    @router.get(f"{_OURS}/captures")
    def takes(_: _Me) -> dict[str, int]:
        return {"captures": 1}

    @router.put(f"{_OURS}/captures/{{capture_id}}/{{part}}")
    async def keep(request: Request, me: _Me, capture_id: str, part: str) -> dict[str, Any]:
        with tempfile.NamedTemporaryFile(prefix="millpond-capture-") as file:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > MOST_BYTES:
                    raise InvalidArgument(f"A capture has at most {MOST_BYTES >> 20} MiB.")
                file.write(chunk)
            file.flush()
            await run_in_threadpool(captures.keep, me, capture_id, part, Path(file.name))
        return {}

    @router.get(f"{_OURS}/runs/{{run_id}}/capture")
    def show(me: _Me, run_id: str) -> dict[str, Any]:
        return capture_json(captures.of_run(me, run_id))

    @router.get(f"{_OURS}/runs/{{run_id}}/capture/bundle")
    def bundle(me: _Me, run_id: str, part: str = "start") -> StreamingResponse:
        pieces = _pieces(captures, me, run_id, part)
        first = next(pieces)  # so that an error comes before the answer begins
        return StreamingResponse(_with_first(first, pieces), media_type="application/zip")


def _pieces(captures: Captures, me: Principal, run_id: str, part: str) -> Iterator[bytes]:
    with captures.bundle(me, run_id, part) as path, path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _add_reproductions(router: APIRouter, service: ReproductionService) -> None:
    @router.post(f"{_OURS}/reproductions")
    def begin(me: _Me, body: BeginBody) -> dict[str, Any]:
        made = service.begin(me, body.run_id, body.place)
        token = {"token": service.token(me, made)} if body.place == CLIENT else {}
        return {"reproduction": reproduction_json(made), **token}

    @router.get(f"{_OURS}/reproductions")
    def of_run(me: _Me, run_id: str) -> dict[str, Any]:
        return {"reproductions": [reproduction_json(each) for each in service.of_run(me, run_id)]}

    @router.get(f"{_OURS}/reproductions/{{reproduction_id}}")
    def get(me: _Me, reproduction_id: str) -> dict[str, Any]:
        return {"reproduction": reproduction_json(service.get(me, reproduction_id))}

    @router.post(f"{_OURS}/reproductions/{{reproduction_id}}/verdict")
    def conclude(me: _Me, reproduction_id: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"reproduction": reproduction_json(service.conclude(me, reproduction_id, body))}


def capture_json(shown: Shown) -> dict[str, Any]:
    """What is known of how a run was made."""
    capture = shown.capture
    return {
        "id": shown.id,
        "capture": dict(capture.start) if capture else None,
        "end": dict(capture.end) if capture and capture.end else None,
        "missing": list(shown.missing),
        "lacks": list(shown.lacks),
        "tables": [vars(each) for each in shown.tables],
    }


def _pin_json(pin: Pin) -> Mapping[str, Any]:
    return {
        "table": pin.table,
        "table_version": pin.table_version,
        "model": pin.model,
        "model_version": pin.model_version,
        "run_id": pin.run_id,
        "since": epoch_ms(pin.since),
    }
