"""The workers of one served entity: a queue before them, and as many of them as the load needs.

Requests wait in one queue, and the worker with the fewest gets the next. How many workers there are is decided in
`scaling.py`, what becomes of one that ends or hangs in `replicas.py`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import NoReturn

from millpond.kernel.errors import DeadlineExceeded, FailedPrecondition, MillpondError, ResourceExhausted, Unavailable
from millpond.kernel.logs import get_logger
from millpond.serving.domain import CREATING, Deployment, EntityState
from millpond.serving.overload import Overload
from millpond.serving.replicas import ASLEEP, Launch, Replica, Surroundings, state_of
from millpond.serving.scaling import LOOK_S, Look, Meter, Scale, recent, wanted
from millpond.serving.worker_process import MOST_AT_ONCE, Answer, NotSent, Question, WorkerLost, WorkerProcess

MAX_WAITING = 256
RECOVERY_PATIENCE_S = 5.0
"""How long a request waits for a worker that is being restarted, before it is told to come back."""

_TOO_LONG = "The answer took longer than all of a streamed answer may take."

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """In the queue."""

    question: Question
    worker: "asyncio.Future[WorkerProcess]"


class _Use:
    """Counts the requests for which a pool is in use."""

    def __init__(self, meter: Meter, idle: asyncio.Event) -> None:
        self._meter = meter
        self._idle = idle
        self._clock = asyncio.get_running_loop().time

    def __enter__(self) -> None:
        self._meter.change(1, self._clock())

    def __exit__(self, *_raised: object) -> None:
        self._meter.change(-1, self._clock())
        self._idle.set()


def no_time(name: str, wait_s: float) -> ResourceExhausted:
    """What is said to a request for which there is no time."""
    return ResourceExhausted(
        f"More requests come for '{name}' than it can answer; try again later.", retry_after_s=max(1, round(wait_s))
    )


class WorkerPool:
    """Answers for one served entity as long as it lives; `launch` starts a worker or raises LoadFailed."""

    def __init__(
        self,
        *,
        name: str,
        launch: Launch,
        scale: Scale,
        replicas: int,
        persistent: bool,
        hangs_after_s: float,
        on_change: Callable[[], None],
        tell: Callable[[str, str], None],
        on_cold_start: Callable[[float], None],
        patience: float = 0.0,
    ) -> None:
        """`patience` is that of `Overload`.

        `replicas` is with how many it begins. `tell` takes what kind of thing happened, and what exactly;
        `on_cold_start` how many seconds a request waited that found no process."""
        self.name = name
        self.state: EntityState = CREATING
        self.replicas: list[Replica] = []
        self._scale = scale
        self._serving = False
        self._answered = persistent  # a model that has answered before is tried again when it fails to load
        self._woken_at: float | None = None
        """Since when there ought to be a worker again, until there is."""
        self._on_cold_start = on_cold_start
        self._on_change = on_change
        self._tell = tell
        self._around = Surroundings(
            name=name,
            launch=launch,
            hangs_after_s=hangs_after_s,
            persists=lambda: self._answered,
            on_change=self._look_at_replicas,
            on_free=self._hand_out,
            tell=tell,
        )
        self._waiting: deque[_Place] = deque()
        self._overload = Overload(patience)
        self._expected = 0
        """Requests of which the router says that they come, or have come."""
        self._idle = asyncio.Event()
        self._meter = Meter(asyncio.get_running_loop().time())
        self._use = _Use(self._meter, self._idle)
        self._looks: list[Look] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False
        self._resize(scale.bound(replicas))
        self._scaling = asyncio.create_task(self._keep_scale(), name=f"scale {name}")

    @property
    def workers(self) -> list[WorkerProcess]:
        """The workers that take requests now."""
        return [replica.worker for replica in self.replicas if replica.worker]

    @property
    def waiting(self) -> int:
        """Requests for which no worker is free."""
        return len(self._waiting)

    @property
    def is_asked(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._meter.requests or self._waiting)

    @property
    def pids(self) -> dict[int, int | None]:
        """The process of each replica, by its number; None of one that is being started."""
        return {each.number: each.worker.pid if each.worker else None for each in self.replicas}

    def expect(self) -> float | None:
        """A request is about to come, and is ahead of others until `arrived`; or after how many seconds to come back,
        where more come than can be answered."""
        wait_s = self._refuses(max(self._overload.asking, self._expected))
        if wait_s is None:
            self._expected += 1
        return wait_s

    def arrived(self) -> None:
        """A request that was expected is answered, or does not come."""
        self._expected -= 1

    def _refuses(self, ahead: int) -> float | None:
        if not self.workers or len(self.replicas) < self._scale.maximum:
            return None
        most = MAX_WAITING + MOST_AT_ONCE * len(self.replicas)
        return self._overload.refuses(ahead, most, asyncio.get_running_loop().time())

    def serve(self, scale: Scale) -> None:
        """Answer from now on, with between so many workers. Before, none goes because nothing is asked."""
        if not self._serving:
            self._serving = True
            self._meter.change(0, asyncio.get_running_loop().time())
        if scale != self._scale:
            self._scale = scale
            if self.replicas:
                self._resize(scale.bound(len(self.replicas)))

    def in_use(self) -> "_Use":
        """Whoever has chosen this pool is answered by it: inside the block, draining waits."""
        return self._use

    async def ask(self, question: Question, *, timeout_s: float) -> Answer:
        """The answer of a worker.

        Raises DeadlineExceeded, ResourceExhausted (the queue is full), Unavailable (the worker is being restarted),
        FailedPrecondition (the model does not load), MillpondError (the worker ended over this request).
        """
        clock = asyncio.get_running_loop().time
        self._overload.enter(began := clock())
        try:
            return await self._ask(question, began + timeout_s, timeout_s)
        finally:
            self._overload.leave(began, clock())

    async def _ask(self, question: Question, deadline: float, timeout_s: float) -> Answer:
        while True:
            worker = await self._acquire(question, deadline, timeout_s)
            was_alone = worker.bears(worker.busy - 1)
            try:
                answer = await worker.ask(question, deadline)
                own_s = answer.model_s if was_alone and worker.bears(worker.busy) else None
                self._overload.answered(own_s, asyncio.get_running_loop().time())
                return answer
            except NotSent:
                continue
            except TimeoutError as error:
                self._idle.set()
                raise DeadlineExceeded(f"The model did not answer within {timeout_s:g} s.") from error
            except WorkerLost as error:
                # not Unavailable: clients repeat that by themselves, and the request may be what ended the process
                raise MillpondError(f"The request was lost: {error}.") from error

    async def stream(
        self, question: Question, *, chunk_s: float, ends_at: float
    ) -> AsyncGenerator[bytes | Answer, None]:
        """The parts of a worker's answer as they come, and last how it ended; each within `chunk_s`, all of them by
        `ends_at` in the loop's time. Raises as `ask`, in the midst of the answer too."""
        clock = asyncio.get_running_loop().time
        while True:
            worker = await self._acquire(question, min(clock() + chunk_s, ends_at), chunk_s)
            async with aclosing(worker.stream(question)) as parts:
                try:
                    while True:
                        async with asyncio.timeout_at(min(clock() + chunk_s, ends_at)):
                            part = await anext(parts, None)
                        if part is None:
                            return
                        yield part
                except NotSent:
                    continue
                except TimeoutError as error:
                    self._idle.set()
                    late = f"The model did not go on within {chunk_s:g} s." if clock() < ends_at else _TOO_LONG
                    raise DeadlineExceeded(late) from error
                except WorkerLost as error:
                    raise MillpondError(f"The answer was lost: {error}.") from error

    async def close(self, *, drain_s: float) -> None:
        """Let accepted requests finish, for at most `drain_s` seconds, then end every worker."""
        try:
            async with asyncio.timeout(drain_s):
                while self._meter.requests or self._waiting or any(worker.awaited for worker in self.workers):
                    self._idle.clear()
                    await self._idle.wait()
                going = {*self._leaving, *(task for replica in self.replicas for task in replica.going)}
                if going:
                    await asyncio.wait(going)
        except TimeoutError:
            log.warning("requests were cut off", pool=self.name, waiting=len(self._waiting))
        finally:  # also of who is cancelled while requests drain, as the server is being stopped
            await self._end()

    async def _end(self) -> None:
        self._closed = True
        self._scaling.cancel()
        await asyncio.gather(self._scaling, return_exceptions=True)
        self._refuse_waiting(Unavailable("The model is being stopped."))
        await asyncio.gather(*(replica.close() for replica in self.replicas))
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    # The queue

    async def _acquire(self, question: Question, deadline: float, timeout_s: float) -> WorkerProcess:
        """A worker with a thread reserved for this request."""
        if self._closed:
            raise Unavailable(f"Served model '{self.name}' has just been replaced; try again.")
        wait_s = self._refuses(max(self._overload.asking, self._expected) - 1)
        if wait_s is not None:
            raise no_time(self.name, wait_s)
        worker = None if self._waiting else self._freest(question)
        if worker is not None:
            worker.take()
            return worker
        if not self.replicas:
            self._wake()
        self._check_queue()
        place = _Place(question=question, worker=asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            async with asyncio.timeout_at(self._patience(deadline)):
                return await place.worker
        except BaseException as error:
            self._leave(place)
            if isinstance(error, TimeoutError):
                self._give_up_waiting(timeout_s)
            raise

    def _check_queue(self) -> None:
        """Pass if another request may wait."""
        if not self.workers and self.state.deployment is Deployment.FAILED:
            raise FailedPrecondition(f"Served model '{self.name}' cannot be loaded; its state says why.")
        if len(self._waiting) >= MAX_WAITING:
            self._overload.refused()
            raise ResourceExhausted(f"{MAX_WAITING} requests are waiting for '{self.name}'; try again later.")

    def _patience(self, deadline: float) -> float:
        """Until when to wait: for a worker that ended, others are asked sooner than for one that is busy or starts."""
        if self.workers or self._woken_at is not None:
            return deadline
        return min(deadline, asyncio.get_running_loop().time() + RECOVERY_PATIENCE_S)

    def _freest(self, question: Question) -> WorkerProcess | None:
        free = [worker for worker in self.workers if worker.takes(question)]
        return min(free, key=lambda worker: worker.busy) if free else None

    def _leave(self, place: _Place) -> None:
        given = place.worker
        if place in self._waiting:
            self._waiting.remove(place)
            self._hand_out()  # who is next may need less
        elif given.done() and not given.cancelled() and given.exception() is None:
            given.result().give_back()  # the thread was reserved just as the time ran out

    def _give_up_waiting(self, timeout_s: float) -> NoReturn:
        if not self.workers:
            raise Unavailable(f"Served model '{self.name}' is being restarted; try again in a moment.") from None
        raise DeadlineExceeded(f"The request waited {timeout_s:g} s for the model to become free.") from None

    def _hand_out(self) -> None:
        """Give free threads to those who wait longest."""
        while self._waiting and (worker := self._freest(self._waiting[0].question)):
            place = self._waiting.popleft()
            if not place.worker.done():
                worker.take()
                place.worker.set_result(worker)
        self._idle.set()

    def _refuse_waiting(self, error: MillpondError) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.worker.done():
                place.worker.set_exception(error)
        self._idle.set()

    # The workers

    async def _keep_scale(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(LOOK_S)
            if not (self._serving and self._scale.moves and self.workers):
                continue
            self._looks = recent([*self._looks, self._meter.look(clock())], self._scale)
            idle_for_s = self._meter.idle_for_s(clock())
            target = wanted(self._scale, self._looks, replicas=len(self.replicas), idle_for_s=idle_for_s)
            if target != len(self.replicas):
                self._tell("scaled", f"{len(self.replicas)} to {target} replicas.")
                self._resize(target)

    def _wake(self) -> None:
        self._woken_at = asyncio.get_running_loop().time()
        self._looks.clear()
        self._tell("woken", f"A request starts {self._scale.minimum} replicas.")
        self._resize(self._scale.minimum)

    def _awake(self) -> None:
        if self._woken_at is not None:
            took_s = asyncio.get_running_loop().time() - self._woken_at
            self._woken_at = None
            self._on_cold_start(took_s)

    def _resize(self, target: int) -> None:
        """Begin to have so many workers. Those with the fewest requests go, when they have answered them."""
        numbers = {replica.number for replica in self.replicas}
        free = (number for number in range(1, target + 1) if number not in numbers)
        while len(self.replicas) < target:
            self.replicas.append(Replica(next(free), self._around))
        by_load = sorted(self.replicas, key=lambda each: each.worker.busy if each.worker else -1)
        for replica in by_load[: max(0, len(self.replicas) - target)]:
            self.replicas.remove(replica)
            task = asyncio.create_task(replica.retire())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        self.replicas.sort(key=lambda replica: replica.number)
        self._look_at_replicas()

    def _look_at_replicas(self) -> None:
        """What has become of them becomes the pool's state."""
        state = state_of(self.replicas, answered=self._answered, waking=self._woken_at is not None)
        if state.deployment is Deployment.READY and self.workers:
            self._answered = True
            self._awake()
        if state.deployment is Deployment.FAILED:
            text = f"Served model '{self.name}' cannot be loaded; its state says why."
            self._refuse_waiting(FailedPrecondition(text))
        if state.deployment is Deployment.READY and not self.replicas:
            state = EntityState(deployment=state.deployment, message=ASLEEP, build_log=self.state.build_log)
        if state != self.state:
            self.state = state
            self._on_change()
