"""What goes on beside the answers to requests while the server runs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, aclosing, asynccontextmanager
from typing import Protocol

from fastapi import FastAPI

from millpond.kernel.database import Database
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds
from millpond.online.reading import OnlineTables
from millpond.serving.runtime import ServingRuntime
from millpond.tracking.embed import MlflowApp

log = get_logger(__name__)


class WorksBeside(Protocol):
    """What does something beside the answers to requests."""

    def at_work(self) -> AbstractContextManager[None]:
        """Do it while the block runs."""


def lifespan_of(
    database: Database,
    mlflow: MlflowApp,
    serving: ServingRuntime,
    online: OnlineTables,
    rooms: Sequence[WorksBeside],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What FastAPI does from its start to its end: the work of all rooms goes on meanwhile."""

    @asynccontextmanager
    async def run(_app: FastAPI) -> AsyncIterator[None]:
        mlflow.start()  # loads in the background; its requests wait for it
        tended = rounds(database.tend, name="database", interval_s=60, log=log, failure="the database was not tended")
        with tended, ExitStack() as stack:
            for room in rooms:
                stack.enter_context(room.at_work())
            async with aclosing(online), serving:
                yield
            await asyncio.to_thread(stack.close)  # they wait for their threads, of which one may need this loop

    return run
