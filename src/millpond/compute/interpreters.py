"""All contexts that run on this server, carried on as their rows say."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from millpond.compute.contexts import TOKEN_S, ContextProcess, Runner, begin
from millpond.compute.domain import Command, CommandState, Context, ContextState
from millpond.compute.drivers import Placement
from millpond.compute.libraries import WAITING
from millpond.compute.store import clusters as cluster_rows
from millpond.compute.store import contexts as rows
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError
from millpond.kernel.logs import get_logger

log = get_logger(__name__)

_PAUSES_S = (0.2, 1.0, 5.0)
"""Between attempts to write what became of a command."""
Beside = Callable[..., None]


class Interpreters:
    """Contexts by their ids. Rounds call it; so do lines to processes, from threads of their own."""

    def __init__(
        self, database: Database, runner: Runner, *, directory: Path, logs: Path,
        principal_named: Callable[[str], Principal],
    ) -> None:  # fmt: skip
        self._database = database
        self._runner = runner
        self._directory = directory
        self._logs = logs
        self._principal_named = principal_named
        self._lock = threading.Lock()
        self._open: dict[str, ContextProcess] = {}
        self.wake: Callable[[], None] = lambda: None

    def works(self, cluster_id: str) -> bool:
        """Whether a command runs on a cluster."""
        with self._lock:
            return any(each.running and each.context.cluster_id == cluster_id for each in self._open.values())

    def round(self, places: Mapping[str, Placement], beside: Beside) -> None:
        """Carry on the contexts of clusters that run here, and their commands."""
        if not places:
            return
        with self._database.read() as connection:
            contexts = rows.of_clusters(connection, places)
            commands = rows.open_commands(connection, places)
            libraries = cluster_rows.libraries_of(connection, *places)
        waiting = {each.cluster_id for each in libraries if each.status in WAITING}
        for context in contexts:
            if context.ending:
                self._destroy(context)
            elif context.state is ContextState.PENDING:
                if context.cluster_id in waiting:
                    continue
                beside(context.id, self._begin, context, places[context.cluster_id])
            elif (process := self._open.get(context.id)) is not None:
                mine = [each for each in commands if each.context_id == context.id]
                self._carry(process, mine)
            elif context.state is ContextState.RUNNING:  # its end could not be written when it came
                with self._database.write() as connection:
                    rows.end(connection, context.id, "The context's process is gone; make another context.")

    def end_all_of(self, cluster_id: str) -> None:
        """End the contexts of a cluster."""
        with self._lock:
            mine = [each for each in self._open.values() if each.context.cluster_id == cluster_id]
        for each in mine:
            each.close()

    def _begin(self, context: Context, placement: Placement) -> None:
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            owner = self._principal_named(context.owner)
            root = self._directory / context.cluster_id / "contexts"
            log_path = self._logs / f"{context.id}.log"
            process = begin(self._runner, placement, context, owner, root, log_path, self._told, self._ended)
        except (MillpondError, OSError) as error:
            message = error.message if isinstance(error, MillpondError) else "The context could not be started."
            log.warning("a context could not be started", context=context.id, error=str(error))
            with self._database.write() as connection:
                rows.end(connection, context.id, message)
            return
        with self._lock:
            self._open[context.id] = process
        try:
            with self._database.write() as connection:
                wanted = rows.begun(connection, context.id)
        except BaseException:
            process.close()
            raise
        if not wanted:  # it was destroyed meanwhile, or its cluster has ended
            process.close()
        if not process.child.running:
            self._ended(context.id)
        self.wake()

    def _carry(self, process: ContextProcess, commands: list[Command]) -> None:
        """Send it the next command, or interrupt the one that it works on."""
        for command in commands:
            if command.state is CommandState.CANCELLING:
                if process.running == command.id:
                    process.interrupt()
                else:  # it ended just now, or never began
                    self._told(command.id, CommandState.CANCELLED, {})
        if process.running is not None or not process.child.running:
            return
        for command in commands:
            if command.state is CommandState.QUEUED:
                with self._database.write() as connection:
                    queued = CommandState.QUEUED
                    taken = rows.move_command(connection, command.id, queued, state=CommandState.RUNNING)
                    cluster_rows.use(connection, command.cluster_id, utc_now())
                if taken:
                    process.send(command)
                    return

    def _told(self, command_id: str, state: str, results: Mapping[str, Any]) -> None:
        """What became of a command. One that was to be cancelled is, also where it ended just before."""
        ended = {each.value for each in CommandState if each.ended}
        values = {"state": state if state in ended else CommandState.ERROR.value, "results": dict(results)}
        for pause_s in _PAUSES_S:
            try:
                self._write_told(command_id, values)
                break
            except SQLAlchemyError as error:
                log.warning("what became of a command could not be written", command=command_id, error=str(error))
                time.sleep(pause_s)
        else:
            self._write_told(command_id, values)
        self.wake()

    def _write_told(self, command_id: str, values: Mapping[str, Any]) -> None:
        with self._database.write() as connection:
            if not rows.move_command(connection, command_id, CommandState.RUNNING, **values):
                cancelled = CommandState.CANCELLED
                rows.move_command(connection, command_id, CommandState.CANCELLING, state=cancelled)

    def _ended(self, context_id: str) -> None:
        """An interpreter is no more, for whatever reason."""
        process = self._open.get(context_id)
        if process is None:
            return
        code = process.child.process.poll()
        how = "for lack of memory, perhaps, or" if code == -9 else f"with code {code},"
        message = f"The context's process ended {how} by its own code; make another context."
        try:
            with self._database.write() as connection:
                rows.end(connection, context_id, message)
        finally:  # where it could not be written, the next round does
            with self._lock:
                self._open.pop(context_id, None)
            self.wake()

    def _destroy(self, context: Context) -> None:
        with self._lock:
            process = self._open.pop(context.id, None)
        if process is not None:
            process.close()
        (self._logs / f"{context.id}.log").unlink(missing_ok=True)
        with self._database.write() as connection:
            rows.remove(connection, context.id)

    def end_old(self, now_s: float) -> None:
        """End contexts whose tokens have ended."""
        with self._lock:
            old = [each for each in self._open.values() if now_s - each.opened_s > TOKEN_S]
        for each in old:
            each.close()
