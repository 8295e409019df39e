"""Contexts and their commands, as their rows say and as their processes are."""

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from millpond.compute.contexts import Runner
from millpond.compute.domain import Cluster, Command, CommandState, Context, ContextState, Source, State
from millpond.compute.drivers import Placement
from millpond.compute.interpreters import Interpreters
from millpond.compute.store import contexts as rows
from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.environments import Environments
from millpond.kernel.process import Child, ChildSpec, spawn
from tests.compute import FINDS_TESTS
from tests.servers import wait_until

_NOW = utc_now()
CLUSTER = Cluster(
    id="k", name="k", creator="ann", source=Source.API, spec={}, state=State.RUNNING, created_at=_NOW, used_at=_NOW
)
CONTEXT = Context(
    id="c", cluster_id="k", owner="ann", language="python", state=ContextState.PENDING, created_at=_NOW, used_at=_NOW
)
RUNNER = Runner(
    module="tests.compute.context_process", preload=(), paths=(), file_bytes=0, ways_out=(),
    variables=lambda _token: {"SPARK_REMOTE": "sc://localhost"}, lend=lambda *_, **__: nullcontext(""),
)  # fmt: skip
ANSWER = '{"id": "%s", "state": "Finished", "results": {"data": "a\\u0000b"}}\n'


class World:
    """Contexts of one cluster on a database, whose rounds the test makes."""

    def __init__(self, database: Database, tmp_path: Path) -> None:
        self.database = database
        self.children: list[Child] = []
        self.before_spawn: Callable[[], None] = lambda: None
        principal = Principal(id="1", name="ann", kind=PrincipalKind.USER, is_admin=False)
        self.interpreters = Interpreters(
            database, RUNNER, directory=tmp_path, logs=tmp_path / "logs", principal_named=lambda _: principal
        )
        self.place = Placement(
            cluster=CLUSTER, spawn=self._spawn, memory_bytes=1 << 30, variables={}, secrets=(), lock=(), libraries=(),
            wheels=(), environments=Environments(tmp_path / "environments"),
        )  # fmt: skip

    def _spawn(self, spec: ChildSpec) -> Child:
        self.before_spawn()
        env = {**spec.env, **FINDS_TESTS}
        self.children.append(
            spawn(replace(spec, sandbox=False, own_network=False, memory_bytes=None, cwd=None, env=env))
        )
        return self.children[-1]

    def round(self) -> None:
        """Carry on, and wait for it."""
        self.interpreters.round({"k": self.place}, lambda _key, act, *given: act(*given))

    def context(self) -> Context | None:
        """The context as its row has it."""
        with self.database.read() as connection:
            return rows.find(connection, "c")

    def send(self, name: str, text: str) -> None:
        """Have a command wait."""
        command = Command(
            id=name, context_id="c", cluster_id="k", language="python", text=text, state=CommandState.QUEUED,
            created_at=_NOW,
        )  # fmt: skip
        with self.database.write() as connection:
            rows.add_command(connection, command)

    def command(self, name: str) -> Command:
        """A command as its row has it."""
        with self.database.read() as connection:
            found = rows.find_command(connection, name)
        assert found is not None
        return found


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    with database.write() as connection:
        rows.add(connection, CONTEXT)
    made = World(database, tmp_path)
    yield made
    made.interpreters.end_all_of("k")
    for thread in threading.enumerate():
        if thread.name == "context":
            thread.join(30)


def test_what_a_command_put_out_is_kept_whatever_it_is(world: World) -> None:
    world.round()
    world.send("m", f"line.sendall({ANSWER % 'm'!r}.encode())")
    world.round()
    wait_until(lambda: world.command("m").state.ended, timeout_s=30)
    assert world.command("m").state is CommandState.FINISHED
    assert world.command("m").results == {"data": "a\ufffdb"}


@pytest.mark.parametrize("destroyed", [False, True])
def test_a_context_that_ends_while_it_begins_has_no_process(world: World, destroyed: bool) -> None:
    def end() -> None:
        with world.database.write() as connection:
            if destroyed:
                rows.remove(connection, "c")
            else:
                rows.end_all_of(connection, "k", "The cluster ended.")

    world.before_spawn = end
    world.round()
    wait_until(lambda: not world.children[0].running, timeout_s=30)
    found = world.context()
    assert found is None if destroyed else found is not None and found.message == "The cluster ended."


def test_a_context_whose_end_could_not_be_written_ends_in_the_next_round(world: World) -> None:
    world.round()
    world.send("m", "os.kill(os.getpid(), signal.SIGSTOP)")
    world.round()
    assert world.command("m").state is CommandState.RUNNING
    world.interpreters._open.clear()
    world.round()
    found = world.context()
    assert found is not None
    assert found.state is ContextState.ERROR
    assert world.command("m").state is CommandState.ERROR
    world.children[0].kill()
