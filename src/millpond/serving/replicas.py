"""One place of a pool: a worker runs in it, and another one takes over where it ends or hangs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from millpond.kernel.logs import get_logger
from millpond.serving.domain import CREATING, Deployment, EntityState
from millpond.serving.worker_process import LoadFailed, WorkerProcess

_LOOK_S = 0.5
_HEALTHY_S = 20.0
_LONGEST_PAUSE_S = 10.0
_FAILURES_TO_FAILED = 3
ASLEEP = "Scaled to zero; the next request starts it."
WAKING = "It was scaled to zero, and is being started."

Say = Callable[[str, str], None]
"""Takes what goes on before a worker starts, and the build log so far."""
Launch = Callable[[int, Say], Awaitable[WorkerProcess]]
"""Starts a worker for the place with a number, or raises LoadFailed."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all places of a pool have in common."""

    name: str
    launch: Launch
    hangs_after_s: float
    """A worker that has had a request for so long is replaced."""
    persists: Callable[[], bool]
    """Whether to try again what fails to load: it has answered before."""
    on_change: Callable[[], None]
    on_free: Callable[[], None]
    """A thread of a worker has become free."""
    tell: Callable[[str, str], None]
    """Takes what kind of thing happened, and what exactly."""


class Replica:
    """Keeps one worker running until it is retired or closed."""

    def __init__(self, number: int, around: Surroundings) -> None:
        self.number = number
        self.worker: WorkerProcess | None = None
        """The one that takes requests now."""
        self.failure: LoadFailed | None = None
        """Why the last start failed, if it did."""
        self.ended = ""
        """How the last worker ended, while there is no other."""
        self.doing: EntityState = CREATING
        """What is being done to have one."""
        self._failures = 0
        self._around = around
        self.going: set[asyncio.Task[None]] = set()
        """Workers that were replaced and still answer what they have."""
        self._life = asyncio.create_task(self._live(), name=f"replica {number} of {around.name}")

    @property
    def given_up(self) -> bool:
        """Whether it does not load, by all that was tried."""
        tries = _FAILURES_TO_FAILED if self._around.persists() else 1
        return self.worker is None and self.failure is not None and self._failures >= tries

    @property
    def trouble(self) -> str:
        """Why there is no worker, or that it is being started."""
        return self.failure.message if self.failure else f"It is being restarted: {self.ended}." if self.ended else ""

    async def retire(self) -> None:
        """Take no more requests, and end the worker when nobody waits for an answer of it any more."""
        await self._stop_living()
        if self.worker is not None:
            self._let_go(self.worker)
            self.worker = None
        if self.going:
            await asyncio.wait(self.going)

    async def close(self) -> None:
        """End every worker now."""
        await self._stop_living()
        if self.worker is not None:
            await self.worker.stop()
        for task in self.going:
            task.cancel()
        await asyncio.gather(*self.going, return_exceptions=True)

    async def _stop_living(self) -> None:
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(_pause_s(self._failures))
            worker = await self._start()
            if worker is not None:
                self._take_over(worker)
                await self._watch(worker)
            elif not self._around.persists():
                return

    async def _start(self) -> WorkerProcess | None:
        try:
            return await self._around.launch(self.number, self._say)
        except Exception as error:  # supervision is a boundary: what went wrong becomes the state
            self._failures += 1
            failure = self._failure(error)
        if self.worker and not self.worker.ended.done():
            return None  # the one that hangs still answers some requests
        self.worker, self.failure = None, failure
        self._around.tell("failed to load", failure.message)
        self._around.on_change()
        return None

    def _say(self, message: str, build_log: str) -> None:
        self.doing = EntityState(deployment=Deployment.CREATING, message=message, build_log=build_log)
        self._around.tell("building", message)
        self._around.on_change()

    def _failure(self, error: Exception) -> LoadFailed:
        if isinstance(error, LoadFailed):
            return error
        log.error("a worker could not be started", pool=self._around.name, exc_info=error)
        return LoadFailed(f"The server could not start the model ({type(error).__name__}); its log says more.")

    def _take_over(self, worker: WorkerProcess) -> None:
        """Send new requests to this worker; the one before it finishes what it has."""
        if self.worker:
            self._let_go(self.worker)
        self.worker, self.failure, self.ended, self.doing = worker, None, "", CREATING
        worker.on_free = self._around.on_free
        self._around.tell("started", f"Replica {self.number} answers, as process {worker.pid}.")
        self._around.on_change()
        self._around.on_free()

    async def _watch(self, worker: WorkerProcess) -> None:
        """Wait until the worker has ended or hangs."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while worker.oldest_s < self._around.hangs_after_s and not worker.ended.done():
            await asyncio.wait([worker.ended], timeout=_LOOK_S)
        if worker.ended.done():
            self.worker, self.ended = None, worker.ended.result()
            log.warning("worker ended", pool=self._around.name, replica=self.number, reason=self.ended)
            self._around.tell("ended", f"Replica {self.number} is being restarted: {self.ended}.")
            self._around.on_change()
        else:
            log.warning("worker hangs and will be replaced", pool=self._around.name, pid=worker.pid)
            self._around.tell("hangs", f"Replica {self.number} has had a request for too long and is being replaced.")
        self._failures = 1 if loop.time() - began > _HEALTHY_S else self._failures + 1

    def _let_go(self, worker: WorkerProcess) -> None:
        task = asyncio.create_task(_end_when_idle(worker))
        self.going.add(task)
        task.add_done_callback(self.going.discard)


def state_of(replicas: Sequence[Replica], *, answered: bool, waking: bool) -> EntityState:
    """How a pool is doing; `answered` tells whether it ever did, `waking` that it has no worker as none was needed.

    It is ready when all of its first workers are, and then for as long as one is.
    """
    ready = [each.worker for each in replicas if each.worker]
    troubled = [each for each in replicas if each.trouble]
    if not replicas:
        return EntityState(deployment=Deployment.READY, message=ASLEEP)
    if ready and (answered or len(ready) == len(replicas)):
        message = "\n".join(filter(None, [ready[0].notes, _partly(replicas, troubled)]))
        return EntityState(deployment=Deployment.READY, message=message, build_log=ready[0].build_log)
    given_up = [each for each in troubled if each.given_up]
    if given_up and (not answered or len(given_up) == len(replicas)):
        return _with_failure(Deployment.FAILED, given_up[0])
    if answered and troubled:
        return _with_failure(Deployment.RECOVERING, troubled[0])
    if waking:
        return EntityState(deployment=Deployment.READY, message=WAKING)
    return next((each.doing for each in replicas if each.doing is not CREATING), CREATING)


def _partly(replicas: Sequence[Replica], troubled: Sequence[Replica]) -> str:
    return f"{len(troubled)} of {len(replicas)} replicas do not answer. {troubled[0].trouble}" if troubled else ""


def _with_failure(deployment: Deployment, replica: Replica) -> EntityState:
    log_text = replica.failure.build_log if replica.failure else ""
    return EntityState(deployment=deployment, message=replica.trouble, build_log=log_text)


async def _end_when_idle(worker: WorkerProcess) -> None:
    """End a replaced worker when nobody waits for an answer of it any more."""
    try:
        await worker.drained()
    finally:
        await worker.stop()


def _pause_s(failures: int) -> float:
    """The pause before the next start: none after the first failure, then 0.5 s, doubling."""
    return 0.0 if failures < 2 else min(_LONGEST_PAUSE_S, 0.5 * 2.0 ** (failures - 2))
