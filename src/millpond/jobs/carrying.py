"""A task's process, on a server or on a worker: what it is told, its limits, and how it ended."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from millpond.compute.drivers import Placement
from millpond.jobs.costs import TaskMeter
from millpond.jobs.domain import Result
from millpond.jobs.task_files import Ended, TaskFiles
from millpond.kernel.doors import Doors
from millpond.kernel.environments import Environments
from millpond.kernel.packages import Packages, held
from millpond.kernel.process import Child, ChildSpec, spawn
from millpond.kernel.process_tree import kill_below
from millpond.kernel.zygote import Zygote, available

_MODULE = "millpond.jobs.task_process"
PRELOADED = (
    "millpond.engine.forwarder",
    "millpond.kernel.redaction",
    "millpond.kernel.process_tree",
    "millpond.jobs.notebook_run",
    "millpond.jobs.nested",
    "IPython.core.completerlib",
    "IPython.core.crashhandler",
    "IPython.core.magics",
    "logging",
)
"""What the module imports, but not the module itself, which is to run as `__main__`."""
_LOOK_S = 0.5
_PACKAGE = Path(__file__).parents[1]
_PATHS, _LISTS_OF_PATHS = ("script", "modules", "project", "path"), ("wheels", "beside")
"""Where an order names files."""
Stop = Callable[[], Result | None]
"""Asked twice a second, it says why a task is to end; None where somebody else has the task, or we end: then nothing
is known of it."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """All that is needed to run a task's code, besides its files."""

    code: Mapping[str, Any] = field(repr=False)
    """What its process is told to run; with secrets, perhaps."""
    own: Sequence[str]
    """The packages of its environment; none where it has those of whoever runs it."""
    more: Sequence[str]
    """Packages that it needs besides."""
    notebook: bool
    token: str = field(repr=False)
    context: Mapping[str, str]
    """Variables that say which task it is."""
    memory_bytes: int
    file_bytes: int
    timeout_s: float

    def moved(self, before: Path, package: Path, to: Path) -> "Order":
        """The same where the task's files, and Millpond's own, are elsewhere now."""
        places = {str(before): str(to), str(package): str(_PACKAGE)}

        def now(path: str) -> str:
            mark = "file:" if path.startswith("file:") else ""
            plain = path.removeprefix(mark)
            for old, new in places.items():
                if plain == old or plain.startswith(old + "/"):
                    return mark + new + plain[len(old) :]
            return path

        changed: dict[str, Any] = {name: now(self.code[name]) for name in _PATHS if self.code.get(name)}
        changed |= {name: [now(each) for each in self.code[name]] for name in _LISTS_OF_PATHS if name in self.code}
        return replace(self, code={**self.code, **changed})


class Carrier:
    """Runs code in confined children."""

    def __init__(self, files: TaskFiles, environments: Environments, doors: Doors, log_path: Path) -> None:
        self._files = files
        self._environments = environments
        self._doors = doors
        self._zygote = Zygote(PRELOADED, env={}, log_path=log_path) if available() else None

    def close(self) -> None:
        """End what tasks are started with, and all tasks."""
        if self._zygote is not None:
            self._zygote.close()

    def run(
        self, task_id: int, order: Order, *, stop: Stop, meter: TaskMeter, place: Placement | None = None,
        begins: Callable[[], bool] = lambda: True,
    ) -> Ended | None:  # fmt: skip
        """Run the code, whose files lie in the task's directory, to its end. Blocks. It begins only if `begins` says
        so; nothing is known of it then, as where `stop` says None.

        Raises MillpondError for packages that cannot be had.
        """
        directory = self._files.directory(task_id)
        with self._packages(order, place) as packages:
            write_order(directory, order, packages, place, self._doors)
            if (why := stop()) is not Result.NONE:
                return None if why is None else Ended(result=why)
            if not begins():
                return None
            child = self._start(task_id, order, packages, place)
            try:
                ended = self._watch(task_id, child, time.monotonic() + order.timeout_s, stop, meter)
            finally:
                kill_tree(child)
                meter.end(child)
            return None if ended is None else replace(ended, used=meter.used)

    def _packages(self, order: Order, place: Placement | None) -> AbstractContextManager[Packages]:
        """On a cluster what its runtime and libraries have, and what the task asks for besides."""
        if place is not None:
            return place.packages([*order.own, *order.more])
        return held(self._environments, own=order.own, more=order.more, notebook=order.notebook)

    def _start(self, task_id: int, order: Order, packages: Packages, place: Placement | None) -> Child:
        directory = self._files.directory(task_id)
        home = str(directory)
        spec = ChildSpec(
            module=_MODULE,
            args=(home, *self._doors.ways_out),
            env={
                "HOME": home,
                "TMPDIR": home,
                "MPLCONFIGDIR": home,
                "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait for each other by turning take the cores from all
                "PYTHONUNBUFFERED": "1",
                "MILLPOND_CAPTURE": "off",
            },
            log_path=self._files.log_path(task_id),
            memory_bytes=place.memory_bytes if place else order.memory_bytes,
            sandbox=True,
            readable=packages.readable,
            writable=(directory,),
            own_network=True,
            unix_sockets=True,  # with which data loaders and managers of processes work
            python=packages.python,
            cwd=directory,
            nice=5,
        )
        if place is not None:
            return place.spawn(spec)
        return self._zygote.spawn(spec) if self._zygote else spawn(spec)

    def _watch(self, task_id: int, child: Child, deadline: float, stop: Stop, meter: TaskMeter) -> Ended | None:
        looked = time.monotonic()
        while child.running:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(min(_LOOK_S, max(0.0, deadline - time.monotonic())))
            now = time.monotonic()
            if now > deadline:
                return Ended(result=Result.TIMED_OUT, message="The task took longer than it may.")
            meter.look(child)
            if now - looked > _LOOK_S:
                looked = now
                if (why := stop()) is not Result.NONE:
                    return None if why is None else Ended(result=why)
        if stop() is None:  # so that a child that ended with its server is not taken for one that failed
            return None
        code = child.process.poll()
        died = Ended(result=Result.FAILED, message=f"The task's process was ended with code {code}.")
        return self._files.told(task_id) or died


def write_order(directory: Path, order: Order, packages: Packages, place: Placement | None, doors: Doors) -> None:
    """Write down what a task's process is told."""
    variables = {**doors.variables(order.token), **order.context}
    if place is not None:
        variables = {**place.variables, **variables, "SPARK_REMOTE": place.remote(variables["SPARK_REMOTE"])}
    told = {
        **order.code, "token": order.token, "variables": variables,
        "secrets": [*order.code.get("secrets", ()), *(place.secrets if place else ())],
        "file_bytes": order.file_bytes,
        "paths": [*order.code.get("beside", ()), *packages.paths],
        "wheels": [*order.code["wheels"], *(place.copied_wheels(directory) if place else ())],
    }  # fmt: skip
    (directory / "order.json").write_text(json.dumps(told))


def kill_tree(child: Child) -> None:
    """End a task's process and all that it started, also what made a session of its own: that is below it still."""
    if child.running:
        kill_below(child.pid)
    child.kill()
