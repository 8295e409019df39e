"""The worker's own process: takes tasks from a server and runs them as that would, until it is told to end."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from millpond import __version__
from millpond.billing.domain import Product, Subject
from millpond.billing.metering import Looks
from millpond.home import Home
from millpond.jobs.carrying import Carrier
from millpond.jobs.costs import TaskMeter
from millpond.jobs.domain import Result
from millpond.jobs.task_files import Ended, TaskFiles
from millpond.jobs.workers import travel
from millpond.jobs.workers.client import ServerClient
from millpond.jobs.workers.domain import LOG, LONGEST_PART, MOST_LOG_BYTES, PYTHON
from millpond.jobs.workers.relay import Target, open_doors
from millpond.kernel.environments import Environments
from millpond.kernel.errors import Conflict, FailedPrecondition, MillpondError, NotFound, PermissionDenied, Unavailable
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds
from millpond.kernel.settings import EnvironmentSettings
from millpond.supervisor import end_tree

_WAIT_S = 5.0
_PAUSE_S = 1.0
_BEAT_S = 1.0
_TELL_S = 1.0
_LEFT_S = 30.0
"""So long what grows, as a notebook does with its outputs, is not told again whole."""
_MARGIN = 0.6
"""A task whose lease was not renewed for this share of it is ended, well before the server gives it up."""
_MOST_FAILURES = 5
_SUBJECT = Subject(product=Product.JOBS, run_as="")
"""For whom tasks run is the server's to know."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What a worker is told."""

    data_dir: Path
    name: str
    slots: int
    environments: EnvironmentSettings


@dataclass
class _Held:
    """A task that this worker holds."""

    lease: str
    renewed_s: float
    """When the server was last asked, that said we hold it."""
    why: Result | None = Result.NONE
    """As what it is to end; None where it is lost."""
    has_begun: bool = False
    told: int = 0
    """Bytes of its log that the server has."""
    left_s: float = field(default_factory=time.monotonic)
    """When it was last looked what it has left."""
    left: dict[str, int] = field(default_factory=dict)
    """A hash of each of what it has left, that the server has."""


class Worker:
    """Runs tasks of one server."""

    def __init__(self, client: ServerClient, options: WorkerOptions) -> None:
        self._client = client
        self._options = options
        self._home = Home(options.data_dir)
        self._files = TaskFiles(options.data_dir)
        self._looks = Looks()
        self._held: dict[str, _Held] = {}
        self._next_lease = new_id()
        self._lock = threading.Lock()
        self._room = threading.Semaphore(options.slots)
        self._draining = threading.Event()
        self._ended = threading.Event()
        """Whatever runs is to end now."""
        self._failures = 0
        """Tasks in a row that this machine could not carry out."""
        self.failure: MillpondError | None = None
        """Why it cannot go on, if it cannot."""

    @property
    def is_draining(self) -> bool:
        """Whether it takes no more."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Finish what runs, take no more, and end."""
        self._draining.set()

    def end(self) -> None:
        """End what runs, and all."""
        self._draining.set()
        self._ended.set()

    def run(self, ready: Callable[[], object]) -> None:
        """Take tasks until told to end. Blocks. `ready` is called once the server knows this worker.

        Raises MillpondError where the server does not take it, or has removed it.
        """
        self._home.prepare()
        with self._alone():
            self._id = self._home.server_name()
            os.environ["MILLPOND_TREE"] = str(self._home.root)
            end_tree(self._home, spare=os.getpid())
            for left in self._files.directories():
                self._files.forget(left)
            told = self._registered()
            if told is None:
                return
            self._lease_s = float(told["lease_s"])
            with open_doors(self._home.run, api=self._target(self._client.port, self._client.is_tls, "http/1.1"),
                            spark=self._target(told["spark_port"], told["spark_tls"], "h2")) as doors:  # fmt: skip
                environments = Environments(self._home.environments, self._options.environments)
                self._carrier = Carrier(self._files, environments, doors, self._home.logs / "jobs.log")
                ready()
                try:
                    self._work()
                finally:
                    self._carrier.close()
        if self.failure is not None:
            raise self.failure

    def _target(self, port: int, tls: bool, protocol: str) -> Target:
        return Target(host=self._client.host, port=port, trust=self._client.trust(protocol) if tls else None)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._home.lock_file.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FailedPrecondition(
                    f"Another worker uses {self._home.root}; give this one a --data-dir of its own."
                ) from error
            yield

    def _registered(self) -> dict[str, Any] | None:
        """What the server says to this worker; None where it is told to end before."""
        about = {"name": self._options.name, "slots": self._options.slots, "version": __version__, "python": PYTHON}
        while not self._draining.is_set():
            try:
                return self._client.ask("register", worker_id=self._id, **about)
            except Unavailable as error:
                log.warning("the server does not answer yet", reason=error.message)
                self._draining.wait(_PAUSE_S)
        return None

    def _work(self) -> None:
        beats = rounds(self._beat, name="beat", interval_s=_BEAT_S, log=log, failure="the server was not told")
        with beats:
            while not self._draining.is_set():
                if not self._room.acquire(timeout=_PAUSE_S):
                    continue
                if self._draining.wait(_PAUSE_S * (2**self._failures - 1)):
                    self._room.release()
                else:
                    self._take()
            for _ in range(self._options.slots):  # all that run have ended then
                self._room.acquire()
        with suppress(MillpondError):
            self._client.ask("leave", worker_id=self._id)

    def _take(self) -> None:
        """Claim a task, and begin with it; the room that was taken for it is free again once it has ended."""
        held = _Held(lease=self._next_lease, renewed_s=time.monotonic())
        task = self._claimed(held)
        if task is None:
            self._room.release()
            return
        with self._lock:
            self._held[held.lease] = held
        threading.Thread(target=self._carry, args=(task, held), name=f"task-{task}", daemon=True).start()

    def _claimed(self, held: _Held) -> int | None:
        try:
            told = self._client.ask("claim", worker_id=self._id, lease=held.lease, wait_s=_WAIT_S)
        except MillpondError as error:  # then it is asked for with the same lease again, as it may be ours
            self._failed(error)
            return None
        held.renewed_s += told["waited_s"]
        self._next_lease = new_id()
        if told["draining"]:
            self._draining.set()
        return None if told["task"] is None else int(told["task"]["task_run_id"])

    def _failed(self, error: MillpondError) -> None:
        """The server did not do what it was asked for; where it never will, this worker ends."""
        if isinstance(error, NotFound | PermissionDenied):
            self.failure = error
            self.end()
        else:
            log.warning("the server does not answer", reason=error.message)
            self._draining.wait(_PAUSE_S)

    def _beat(self) -> None:
        with self._lock:
            held = dict(self._held)
        asked_s = time.monotonic()
        try:
            told = self._client.ask("beat", worker_id=self._id, leases=[*held])
        except MillpondError as error:
            self._failed(error)
            return
        if told["draining"]:
            self._draining.set()
        for lease, why in told["ends"].items():
            if lease in held:
                held[lease].why = None if why == "LOST" else Result(why)
                held[lease].renewed_s = asked_s

    # -- one task ---------------------------------------------------------------------------------------------------

    def _carry(self, task_id: int, held: _Held) -> None:
        try:
            self._do(task_id, held)
        except Conflict as error:  # it is somebody else's, or has ended
            log.warning("a task was lost", task=task_id, reason=error.message)
        except Exception as error:  # the boundary of a work item
            log.error("a task was not carried out", task=task_id, exc_info=error)
            with suppress(MillpondError):  # if it has begun, its lease runs out
                self._client.ask("give-back", worker_id=self._id, lease=held.lease)
            if not isinstance(error, MillpondError):
                self._is_broken(error)
        finally:
            with self._lock:
                self._held.pop(held.lease, None)
            self._files.forget(task_id)
            self._files.forget_log(task_id)
            self._room.release()

    def _is_broken(self, error: Exception) -> None:
        """This machine did not do its part. It takes tasks less often, and after some in a row no more, as it would
        take all and do none."""
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            self.failure = FailedPrecondition(
                f"{self._failures} tasks in a row could not be carried out on this machine, the last for: {error}. "
                "The log above says more; see to it, and start the worker again."
            )
            self.drain()

    def _do(self, task_id: int, held: _Held) -> None:
        ask = partial(self._client.ask, worker_id=self._id, lease=held.lease)
        if self._draining.is_set():
            ask("give-back")
            return
        directory = self._files.fresh(task_id)
        with self._client.download("code", worker_id=self._id, lease=held.lease) as archive:
            order = travel.unpacked(archive, directory)

        def begins() -> bool:
            if self._draining.is_set():
                return False
            self._surely(held, begin)
            held.has_begun = True
            return not self._is_old(held)

        def begin() -> None:
            asked_s = time.monotonic()
            ask("begin")
            held.renewed_s = max(asked_s, held.renewed_s)

        meter = TaskMeter(looks=self._looks, subject=_SUBJECT, task_id=task_id)
        telling = rounds(
            lambda: self._tell_on(task_id, held), name=f"tell-{task_id}", interval_s=_TELL_S, log=log,
            failure="the server was not told what a task has printed",
        )  # fmt: skip
        try:
            with telling:
                ended = self._carrier.run(task_id, order, stop=lambda: self._stop(held), meter=meter, begins=begins)
        except Conflict:
            raise
        except MillpondError as error:
            ended = Ended(result=Result.FAILED, message=error.message)
        except OSError as error:
            if not held.has_begun:
                raise
            ended = Ended(result=Result.FAILED, message=f"The task could not be started: {error.strerror}.")
            self._is_broken(error)
        else:
            self._failures = 0
        if ended is not None:
            self._report(task_id, held, ended)
        elif not held.has_begun:
            ask("give-back")
        else:
            log.warning("a task was ended, as the server does not say any more that it is ours", task=task_id)

    def _stop(self, held: _Held) -> Result | None:
        """Why a task is to end. Waits for nothing, so that it ends in time where the server does not answer."""
        if held.why is not Result.NONE or self._is_old(held):
            return held.why or None
        return None if self._ended.is_set() else Result.NONE

    def _is_old(self, held: _Held) -> bool:
        return time.monotonic() - held.renewed_s > _MARGIN * self._lease_s

    def _tell_on(self, task_id: int, held: _Held) -> None:
        """Tell what a task has printed, while it runs."""
        if held.has_begun:
            try:
                self._tell(task_id, held)
            except Unavailable:
                pass  # it is told later
            except Conflict:
                held.why = None

    def _tell(self, task_id: int, held: _Held, *, last: bool = False) -> None:
        """Tell what a task has printed since, and at the end or after a while what it has left, if that is other than
        before."""
        path = self._files.log_path(task_id)
        with suppress(FileNotFoundError), path.open("rb") as stream:
            while True:
                stream.seek(held.told)  # the server may have more than we know, where an answer of it was lost
                data = stream.read(min(LONGEST_PART, MOST_LOG_BYTES - held.told))
                if not data:
                    break
                held.told = self._part(held, LOG, held.told, data)
        if not last and time.monotonic() - held.left_s < _LEFT_S:
            return
        held.left_s = time.monotonic()
        for name, data in self._files.left(task_id):
            if held.left.get(name) != hash(data):
                for start in range(0, len(data), LONGEST_PART):
                    self._part(held, name, start, data[start:])
                held.left[name] = hash(data)

    def _part(self, held: _Held, name: str, start: int, data: bytes) -> int:
        more = int(name != LOG and len(data) > LONGEST_PART)
        return self._client.tell(data, worker_id=self._id, lease=held.lease, name=name, start=start, more=more)

    def _report(self, task_id: int, held: _Held, ended: Ended) -> None:
        told = {
            "result": ended.result.value, "message": ended.message, "error": ended.error, "values": dict(ended.values),
            "used": dict(ended.used),
        }  # fmt: skip

        def report() -> None:
            self._tell(task_id, held, last=True)
            self._client.ask("end", worker_id=self._id, lease=held.lease, **told)

        self._surely(held, report)

    def _surely(self, held: _Held, act: Callable[[], object]) -> None:
        """Do something as soon as the server answers. Raises Conflict where the task is not ours any more."""
        while True:
            try:
                act()
                return
            except Unavailable as error:
                if held.why is None or self._ended.is_set():
                    raise Conflict(error.message) from error
                time.sleep(_PAUSE_S)
