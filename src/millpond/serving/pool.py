"""The workers of one served entity: a queue before them, and somebody who replaces those that end or hang.

Today a pool runs one worker; a second one exists only while it takes the first one's place.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from millpond.kernel.errors import DeadlineExceeded, FailedPrecondition, MillpondError, ResourceExhausted, Unavailable
from millpond.kernel.logs import get_logger
from millpond.serving.domain import CREATING, Deployment, EntityState
from millpond.serving.worker_process import Answer, LoadFailed, NotSent, Question, WorkerLost, WorkerProcess

MAX_WAITING = 256
RECOVERY_PATIENCE_S = 5.0
"""How long a request waits for a worker that is being restarted, before it is told to come back."""
_LOOK_S = 0.5
_HEALTHY_S = 20.0
_LONGEST_PAUSE_S = 10.0
_FAILURES_TO_FAILED = 3

log = get_logger(__name__)


class WorkerPool:
    """Answers for one served entity as long as it lives; `launch` starts a worker or raises LoadFailed."""

    def __init__(
        self,
        *,
        name: str,
        launch: Callable[[], Awaitable[WorkerProcess]],
        persistent: bool,
        hangs_after_s: float,
        on_change: Callable[[], None],
        on_restart: Callable[[], None],
    ) -> None:
        self.name = name
        self.state: EntityState = CREATING
        self._launch = launch
        self._persistent = persistent  # a model that has answered before is tried again when it fails to load
        self._hangs_after_s = hangs_after_s
        self._on_change = on_change
        self._on_restart = on_restart
        self._worker: WorkerProcess | None = None
        self._retired: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._idle = asyncio.Event()
        self._users = 0
        self._closed = False
        self._supervision = asyncio.create_task(self._supervise(), name=f"supervise {name}")

    @property
    def worker(self) -> WorkerProcess | None:
        """The worker that takes requests now."""
        return self._worker

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Whoever has chosen this pool is answered by it: inside the block, draining waits."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._idle.set()

    async def ask(self, question: Question, *, timeout_s: float) -> Answer:
        """The answer of a worker.

        Raises DeadlineExceeded, ResourceExhausted (the queue is full), Unavailable (the worker is being restarted),
        FailedPrecondition (the model does not load), MillpondError (the worker ended over this request).
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            worker = await self._acquire(deadline, timeout_s)
            try:
                async with asyncio.timeout_at(deadline):
                    return await worker.ask(question)
            except NotSent:
                continue
            except TimeoutError as error:
                self._idle.set()
                raise DeadlineExceeded(f"The model did not answer within {timeout_s:g} s.") from error
            except WorkerLost as error:
                # not Unavailable: clients repeat that by themselves, and the request may be what ended the process
                raise MillpondError(f"The request was lost: {error}.") from error

    async def close(self, *, drain_s: float) -> None:
        """Let accepted requests finish, for at most `drain_s` seconds, then end every worker."""
        try:
            async with asyncio.timeout(drain_s):
                while self._users or self._waiting or (self._worker and self._worker.awaited):
                    self._idle.clear()
                    await self._idle.wait()
                if self._retired:
                    await asyncio.wait(self._retired)
        except TimeoutError:
            log.warning("requests were cut off", pool=self.name, waiting=len(self._waiting))
        finally:  # also of who is cancelled while requests drain, as the server is being stopped
            await self._end()

    async def _end(self) -> None:
        self._closed = True
        self._supervision.cancel()
        await asyncio.gather(self._supervision, return_exceptions=True)
        self._refuse_waiting(Unavailable("The model is being stopped."))
        if self._worker:
            await self._worker.stop()
        for task in self._retired:
            task.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)

    # The queue

    async def _acquire(self, deadline: float, timeout_s: float) -> WorkerProcess:
        """A worker with a thread reserved for this request."""
        if self._closed:
            raise Unavailable(f"Served model '{self.name}' has just been replaced; try again.")
        worker = self._worker
        if worker and worker.free and not self._waiting:
            worker.take()
            return worker
        if worker is None and self.state.deployment is Deployment.FAILED:
            raise FailedPrecondition(f"Served model '{self.name}' cannot be loaded; its state says why.")
        if len(self._waiting) >= MAX_WAITING:
            raise ResourceExhausted(f"{MAX_WAITING} requests are waiting for '{self.name}'; try again later.")
        loop = asyncio.get_running_loop()
        place: asyncio.Future[WorkerProcess] = loop.create_future()
        self._waiting.append(place)
        patience = deadline if worker else min(deadline, loop.time() + RECOVERY_PATIENCE_S)
        try:
            async with asyncio.timeout_at(patience):
                return await place
        except BaseException as error:
            self._leave(place)
            if isinstance(error, TimeoutError):
                self._give_up_waiting(timeout_s)
            raise

    def _leave(self, place: "asyncio.Future[WorkerProcess]") -> None:
        if place in self._waiting:
            self._waiting.remove(place)
        elif place.done() and not place.cancelled() and place.exception() is None:
            place.result().give_back()  # the thread was reserved just as the time ran out

    def _give_up_waiting(self, timeout_s: float) -> NoReturn:
        if self._worker is None:
            raise Unavailable(f"Served model '{self.name}' is being restarted; try again in a moment.") from None
        raise DeadlineExceeded(f"The request waited {timeout_s:g} s for the model to become free.") from None

    def _hand_out(self) -> None:
        """Give free threads to those who wait longest."""
        while self._waiting and self._worker and self._worker.free:
            place = self._waiting.popleft()
            if not place.done():
                self._worker.take()
                place.set_result(self._worker)
        self._idle.set()

    def _refuse_waiting(self, error: MillpondError) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_exception(error)
        self._idle.set()

    # The workers

    async def _supervise(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(_pause_s(failures))
            try:
                worker = await self._launch()
            except Exception as error:  # supervision is a boundary: what went wrong becomes the state
                failures += 1
                if self._failed(self._failure(error), failures):
                    return
                continue
            self._take_over(worker)
            failures = await self._watch(worker, failures)
            self._on_restart()

    def _failure(self, error: Exception) -> LoadFailed:
        if isinstance(error, LoadFailed):
            return error
        log.error("a worker could not be started", pool=self.name, exc_info=error)
        return LoadFailed(f"The server could not start the model ({type(error).__name__}); its log says more.")

    def _failed(self, failure: LoadFailed, failures: int) -> bool:
        """Record a failed start; whether it was the last try."""
        if self._worker and not self._worker.ended.done():
            return False  # the one that hangs still answers some requests
        self._worker = None
        if self._persistent and failures < _FAILURES_TO_FAILED:
            self._set(Deployment.RECOVERING, failure.message, failure.build_log)
            return False
        self._set(Deployment.FAILED, failure.message, failure.build_log)
        self._refuse_waiting(FailedPrecondition(f"Served model '{self.name}' cannot be loaded; its state says why."))
        return not self._persistent

    def _take_over(self, worker: WorkerProcess) -> None:
        """Send new requests to this worker; the one before it finishes what it has."""
        if self._worker:
            self._retire(self._worker)
        self._worker = worker
        self._persistent = True
        worker.on_free = self._hand_out
        self._set(Deployment.READY, worker.notes, worker.build_log)
        self._hand_out()

    async def _watch(self, worker: WorkerProcess, failures: int) -> int:
        """Wait until the worker has ended or hangs; returns how many failures there are now in a row."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while worker.oldest_s < self._hangs_after_s and not worker.ended.done():
            await asyncio.wait([worker.ended], timeout=_LOOK_S)
        if worker.ended.done():
            self._worker = None
            self._set(Deployment.RECOVERING, f"It is being restarted: {worker.ended.result()}.", worker.build_log)
            log.warning("worker ended", pool=self.name, reason=worker.ended.result())
        else:
            log.warning("worker hangs and will be replaced", pool=self.name, pid=worker.pid)
        return 1 if loop.time() - began > _HEALTHY_S else failures + 1

    def _retire(self, worker: WorkerProcess) -> None:
        task = asyncio.create_task(_end_when_idle(worker))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    def _set(self, deployment: Deployment, message: str, build_log: str = "") -> None:
        self.state = EntityState(deployment=deployment, message=message, build_log=build_log)
        self._on_change()


async def _end_when_idle(worker: WorkerProcess) -> None:
    """End a replaced worker when nobody waits for an answer of it any more."""
    try:
        await worker.drained()
    finally:
        await worker.stop()


def _pause_s(failures: int) -> float:
    """The pause before the next start: none after the first failure, then 0.5 s, doubling."""
    return 0.0 if failures < 2 else min(_LONGEST_PAUSE_S, 0.5 * 2.0 ** (failures - 2))
