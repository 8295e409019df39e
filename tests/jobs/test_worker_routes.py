"""Workers are heard while others have code fetched for them."""

import asyncio
import threading
import uuid
from types import SimpleNamespace
from typing import Any

import anyio
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from millpond.identity.middleware import acting_as
from millpond.jobs.workers.routes import workers_router
from tests.jobs.test_workers import ME

ASKS = 60


class _SlowCode:
    """Whose code comes from a repository that does not answer."""

    changes = 0

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = threading.Semaphore(0)

    def code(self, *_: Any) -> Any:
        self.asked.release()
        assert self.answers.wait(60)
        raise RuntimeError("no code")

    def heard(self, *_: Any) -> Any:
        return {}, SimpleNamespace(draining=False)

    def claim(self, *_: Any) -> Any:
        return None, SimpleNamespace(draining=False)


async def _ask(service: Any) -> list[int]:
    app = FastAPI()
    app.include_router(workers_router(service))
    body = {"worker_id": str(uuid.uuid4()), "lease": str(uuid.uuid4())}
    beat = {"worker_id": body["worker_id"], "leases": []}
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://x/api/millpond/worker") as client:
        slow = [asyncio.create_task(client.post("/code", json=body)) for _ in range(ASKS)]
        try:
            await asyncio.to_thread(service.asked.acquire)
            with anyio.fail_after(20):
                told = [await client.post("/beat", json=beat), await client.post("/claim", json=body)]
                await anyio.to_thread.run_sync(lambda: None)  # as any other handler
        finally:
            service.answers.set()
            await asyncio.gather(*slow)
    return [each.status_code for each in told]


def test_a_server_that_fetches_code_answers_all_else() -> None:
    with acting_as(ME):
        assert asyncio.run(_ask(_SlowCode())) == [200, 200]
