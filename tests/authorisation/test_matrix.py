"""Each route of the server is tried in each role: what may not be done is refused, and no route is forgotten."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from millpond.engine.dml import Statement, parse_statement
from millpond.engine.statements import parse_command
from millpond.engine.syntax.model import AlterAction, AlterTable, Command
from millpond.tracking.embed import ALONE
from tests.authorisation.commands import COMMANDS, STREAMS
from tests.authorisation.matrix import ALIASES, CASES, ELSEWHERE, Case
from tests.authorisation.world import FUNCTION, ROLES, World, build, endpoint_body, executed, feature_body, make
from tests.servers import Server

_LETTERS = {401: "x", 403: "f", 404: "h", 501: "n", 302: "r", 303: "r", 307: "r"}
_SOON = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    with httpx.Client(timeout=60) as client:
        yield build(server, client)


def tried(world: World, case: Case) -> str:
    """The outcome of a case, a letter for each role."""
    return "".join(_letter(_asked(world, case, role)) for role in ROLES)


def _asked(world: World, case: Case, role: str) -> httpx.Response:
    names = {"soon": _SOON, "new": f"n{time.monotonic_ns():x}"}
    if case.own is not None:
        names["own"] = make(world, case.own, "o" + names["new"])
    route = case.route
    for key, value in case.path.items():
        route = route.replace(f"{{{key}:path}}", value).replace(f"{{{key}}}", value)
    query = "?" + case.query if case.query else ""
    bodies = {
        "function": {"function_info": {"name": "$new", "catalog_name": "$cat", "schema_name": "s", **FUNCTION}},
        "feature": feature_body(world, names["new"]),
        "endpoint": endpoint_body(world, names["new"]),
        "entities": {"served_entities": endpoint_body(world, "")["config"]["served_entities"]},
    }
    body = bodies[case.body] if isinstance(case.body, str) else case.body
    return world.ask(role, case.method, world.filled(route + query, names), world.filled(body, names))


def _letter(answer: httpx.Response) -> str:
    if answer.is_success:
        return "y"
    return _LETTERS.get(answer.status_code) or ("b" if answer.is_client_error or answer.status_code == 503 else "s")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_route_does_for_each_role_what_the_matrix_says(world: World, case: Case) -> None:
    assert re.fullmatch(case.outcome, told := tried(world, case)), told


@pytest.mark.parametrize(("outcome", "example"), COMMANDS, ids=lambda text: text)
def test_a_command_does_for_each_role_what_the_matrix_says(world: World, outcome: str, example: str) -> None:
    assert "".join(_outcome(world, example, role) for role in ROLES[1:]) == outcome


def _outcome(world: World, example: str, role: str) -> str:
    text, _, kind = example.partition("; ")
    names = {"new": f"n{time.monotonic_ns():x}"}
    if kind:
        names["own"] = make(world, kind, "o" + names["new"])
    status = executed(world, role, world.filled(text, names))["status"]
    error = status.get("error", {}).get("message", "")
    if status["state"] == "SUCCEEDED":
        return "y"
    hidden = "_NOT_FOUND" in error or "UNRESOLVED_ROUTINE" in error
    return "f" if "INSUFFICIENT_PERMISSIONS" in error else "h" if hidden else "b"


@pytest.fixture(scope="module")
def sessions(world: World) -> Iterator[dict[str, SparkSession]]:
    """A Spark session of each role that has a token."""
    remotes = {role: world.server.spark_remote.replace(world.server.token, world.tokens[role]) for role in ROLES[1:]}
    made = {role: SparkSession.builder.remote(remote).create() for role, remote in remotes.items()}
    yield made
    for session in made.values():
        session.stop()


@pytest.mark.parametrize(("outcome", "example"), STREAMS, ids=lambda text: text)
def test_a_stream_does_for_each_role_what_the_matrix_says(
    world: World, sessions: dict[str, SparkSession], outcome: str, example: str
) -> None:
    assert "".join(_streamed(world, sessions[role], example) for role in ROLES[1:]) == outcome


def _streamed(world: World, session: SparkSession, example: str) -> str:
    text, _, kind = example.partition("; ")
    names = {"new": f"n{time.monotonic_ns():x}"}
    if kind:
        names["own"] = make(world, kind, "o" + names["new"])
    source, arrow, target = world.filled(text, names).split(" ")
    place = "/Volumes/" + world.names["volume"].replace(".", "/") + "/" + names["new"]
    sink = "millpond.merge" if arrow == "=>" else "delta"
    try:
        writer = session.readStream.table(source).writeStream.format(sink).option("checkpointLocation", place)
        writer.trigger(availableNow=True).toTable(target).awaitTermination()
    except PySparkException as error:
        return "f" if "INSUFFICIENT_PERMISSIONS" in str(error) else "h" if "_NOT_FOUND" in str(error) else "b"
    return "y"


def test_every_command_is_in_the_matrix() -> None:
    """A kind of command, or of a change to a table, needs an example there."""
    known = {*Command.__subclasses__(), *get_args(AlterAction), *get_args(Statement)}
    found = [_parsed(example) for _, example in COMMANDS]
    kinds = {type(command.action) if isinstance(command, AlterTable) else type(command) for command in found}
    assert known - kinds == {AlterTable}


def _parsed(example: str) -> Command | Statement | None:
    text, _, kind = example.partition("; ")
    names = {
        "cat": "c",
        "new": "n",
        "schema": "c.s",
        "own": {"catalog": "c", "schema": "c.s", "policy": "p"}.get(kind, "c.s.t"),
    }
    text = re.sub(r"\$(\w+)", lambda found: names.get(found[1], "c.s.t"), text)
    return parse_command(text) or parse_statement(text)


def test_every_route_is_in_the_matrix(tmp_path: Path) -> None:
    """A new route needs a line there, which says who may use it; a line needs a route."""
    printed = subprocess.run(
        [sys.executable, "-m", "tests.authorisation.routes", str(tmp_path)], capture_output=True, text=True, check=True
    )
    routes = {_plain(route) for route in json.loads(printed.stdout)} - ELSEWHERE
    assert routes == {case.id for case in CASES}
    hidden = {route for route in routes if route.partition(" ")[2].startswith(ALONE)}
    assert not hidden, "MLflow is asked for these before any other route"


def _plain(route: str) -> str:
    """The route with the beginning under which it is tried, or the address alone where no method matters."""
    method, path = route.split(" ", 1)
    if path in {address.split(" ")[1] for address in ELSEWHERE}:
        return f"* {path}"
    known = next((start for start in ALIASES if path.startswith(start)), "")
    return f"{method} {ALIASES.get(known, '')}{path.removeprefix(known)}"
