"""What one can do with contexts and the commands that they run."""

from collections.abc import Callable

from millpond.compute.clusters import ClusterService
from millpond.compute.domain import Command, CommandState, Context, ContextState
from millpond.compute.store import clusters as cluster_rows
from millpond.compute.store import contexts as rows
from millpond.identity import acts
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, LimitExceeded, NotFound, NotImplementedHere
from millpond.kernel.ids import new_id

LANGUAGES = ("python", "sql")
MOST_CONTEXTS = 50
"""Of a cluster."""
_MOST_COMMANDS = 1000
"""That wait or run on a cluster."""
_LONGEST_COMMAND = 1 << 20


class CommandService:
    """Contexts and commands, for users; each sees their own alone."""

    def __init__(self, database: Database, clusters: ClusterService, wake: Callable[[], None]) -> None:
        self._database = database
        self._clusters = clusters
        self._wake = wake

    def create(self, principal: Principal, cluster_id: str, language: str) -> Context:
        """Open a context on a cluster that runs. Raises NotFound, FailedPrecondition, NotImplementedHere."""
        cluster = self._clusters.require_running(principal, cluster_id)
        now = utc_now()
        context = Context(
            id=new_id(), cluster_id=cluster_id, owner=principal.name, language=_language(language),
            state=ContextState.PENDING, created_at=now, used_at=now,
        )  # fmt: skip
        with self._database.write() as connection:
            there = rows.of_clusters(connection, [cluster_id])
            if sum(each.state is not ContextState.ERROR for each in there) >= MOST_CONTEXTS:
                raise LimitExceeded(f"Cluster '{cluster_id}' has {MOST_CONTEXTS} contexts; destroy one.")
            rows.add(connection, context)
            cluster_rows.use(connection, cluster_id, now)
            acts.changed(connection, principal.name, "attach to", "cluster", cluster.name, object_id=cluster_id)
        self._wake()
        return context

    def get(self, principal: Principal, cluster_id: str, context_id: str) -> Context:
        """A context. Raises NotFound."""
        with self._database.read() as connection:
            context = rows.find(connection, context_id)
        if context is None or context.owner != principal.name or context.cluster_id != cluster_id or context.ending:
            raise NotFound(f"Context '{context_id[:80]}' does not exist on cluster '{cluster_id[:80]}'.")
        return context

    def destroy(self, principal: Principal, cluster_id: str, context_id: str) -> None:
        """End a context, and what it runs. Raises NotFound."""
        context = self.get(principal, cluster_id, context_id)
        with self._database.write() as connection:
            if context.state is ContextState.ERROR:
                rows.remove(connection, context_id)
            else:
                rows.change(connection, context_id, ending=True)
        self._wake()

    def execute(self, principal: Principal, cluster_id: str, context_id: str, language: str, text: str) -> Command:
        """Have a context run a cell, after those that it was sent before.

        Raises NotFound, FailedPrecondition, InvalidArgument, NotImplementedHere, LimitExceeded.
        """
        cluster = self._clusters.require_running(principal, cluster_id)
        context = self.get(principal, cluster_id, context_id)
        if context.state is ContextState.ERROR:
            raise FailedPrecondition(f"Context '{context_id}' has ended: {context.message}")
        if len(text) > _LONGEST_COMMAND or "\0" in text:
            raise InvalidArgument(f"A command has at most {_LONGEST_COMMAND} characters, and no zero among them.")
        now = utc_now()
        command = Command(
            id=new_id(), context_id=context_id, cluster_id=cluster_id, language=_language(language or context.language),
            text=text, state=CommandState.QUEUED, created_at=now,
        )  # fmt: skip
        with self._database.write() as connection:
            if len(rows.open_commands(connection, [cluster_id])) >= _MOST_COMMANDS:
                raise LimitExceeded(f"{_MOST_COMMANDS} commands wait on cluster '{cluster_id}'.")
            rows.add_command(connection, command)
            rows.change(connection, context_id, used_at=now)
            acts.changed(connection, principal.name, "run a command on", "cluster", cluster.name, object_id=cluster_id)
        self._wake()
        return command

    def status(self, principal: Principal, cluster_id: str, context_id: str, command_id: str) -> Command:
        """A command, with its results when it has ended. Raises NotFound."""
        self.get(principal, cluster_id, context_id)
        with self._database.read() as connection:
            command = rows.find_command(connection, command_id)
        if command is None or command.context_id != context_id:
            raise NotFound(f"Command '{command_id[:80]}' does not exist in context '{context_id[:80]}'.")
        return command

    def cancel(self, principal: Principal, cluster_id: str, context_id: str, command_id: str) -> None:
        """Interrupt a command; harmless when it has ended. Raises NotFound."""
        self.status(principal, cluster_id, context_id, command_id)
        with self._database.write() as connection:
            cancelled, cancelling = CommandState.CANCELLED, CommandState.CANCELLING
            if not rows.move_command(connection, command_id, CommandState.QUEUED, state=cancelled):
                rows.move_command(connection, command_id, CommandState.RUNNING, state=cancelling)
        self._wake()


def _language(text: str) -> str:
    if text in LANGUAGES:
        return text
    if text in ("scala", "r"):
        raise NotImplementedHere(f"Contexts in {text.capitalize()} do not run here; Python and SQL do.")
    raise InvalidArgument(f"'{text[:40]}' is no language of a context; python and sql are.")
