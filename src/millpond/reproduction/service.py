"""Reproductions: asked for, carried out beside the server, and their verdicts kept."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from millpond.home import socket_address
from millpond.identity import acts
from millpond.identity.domain import Principal
from millpond.identity.service import IdentityService, begin_loan, end_loan
from millpond.kernel import work
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.database import Database
from millpond.kernel.doors import Doors
from millpond.kernel.environments import Environments
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from millpond.kernel.ids import new_id
from millpond.kernel.process import ChildSpec, end_of, spawn
from millpond.reproduction import store
from millpond.reproduction.captures import Captures
from millpond.reproduction.domain import HIDDEN, TOLERANCE, Outcome, State, Verdict
from millpond.reproduction.engine import Ended, Reproducer, Task, keep_verdict, mark_interrupted, verdict_json
from millpond.reproduction.server import Server
from millpond.reproduction.store import Reproduction

WORK = "reproduction"
SERVER, CLIENT = "server", "client"
_MODULE = "millpond.reproduction.confined"
_SLACK_S = 1800.0
"""For building the environment and comparing."""
ATTEMPTS = 5
"""While the package index is away; and so often the server may end in the middle."""
_READY_S = 300.0
"""For the server to load MLflow and to open Spark's port, after which its own work may ask it."""
_MOST_VERDICT = 4 << 20
_LOG_BYTES = 8000
CODE_PATHS = (
    *(f"/api/2.0/mlflow/{part}" for part in (
        "runs", "experiments", "metrics", "logged-models", "artifacts", "traces", "model-versions/get",
        "model-versions/get-download-uri", "model-versions/search", "registered-models/get", "registered-models/search",
    )),
    "/api/2.0/mlflow-artifacts", "/api/3.0/mlflow/traces", "/v1/traces", "/version", "/api/millpond/captures",
    "/spark.connect.SparkConnectService",
)  # fmt: skip
"""All that the code of a reproduction may call: it writes runs, and reads models and tables."""
_ENGINE_PATHS = ("/api/2.0/mlflow", "/api/2.0/mlflow-artifacts", "/api/millpond/runs")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one reproduction."""

    memory_bytes: int
    timeout_s: float


class ReproductionService:
    """Makes runs again for whoever may read them, as whoever asks."""

    def __init__(
        self,
        database: Database,
        captures: Captures,
        environments: Environments,
        *,
        doors: Doors,
        scratch: Path,
        identity: IdentityService,
        server: str,
        limits: Limits,
    ) -> None:
        self._database = database
        self.captures = captures
        self._environments = environments
        self._doors = doors
        self._scratch = scratch
        self._identity = identity
        self._server = server
        self._limits = limits

    @property
    def _longest_s(self) -> float:
        return self._limits.timeout_s + _SLACK_S

    def tidy(self) -> None:
        """Remove what a server that was killed left behind; before anything is carried out."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    # -- asking -------------------------------------------------------------------------------------------------

    def begin(self, principal: Principal, run_id: str, place: str = SERVER) -> Reproduction:
        """Ask for a reproduction, of a run that one may read. Raises NotFound, FailedPrecondition."""
        if place not in (SERVER, CLIENT):
            raise InvalidArgument(f"A run is reproduced by the {SERVER} or by the {CLIENT}, not by '{place[:20]}'.")
        shown = self.captures.of_run(principal, run_id)
        if shown.capture is None:
            raise FailedPrecondition(f"Run '{run_id}' cannot be reproduced. {' '.join(shown.missing)}")
        made = Reproduction(
            id=new_id(), run_id=run_id, new_run_id="", requester=principal.name, place=place,
            state=State.QUEUED if place == SERVER else State.RUNNING, outcome="", verdict={}, created_at=utc_now(),
            ended_at=None,
        )  # fmt: skip
        with self._database.write() as connection:
            store.add(connection, made)
            if place == SERVER:
                work.enqueue(connection, WORK, {"reproduction": made.id})
            acts.changed(connection, principal.name, "reproduce", "run", run_id, object_id=run_id, place=place)
        return made

    def token(self, principal: Principal, reproduction: Reproduction) -> str:
        """A credential for the code of a reproduction on its requester's machine, until that is concluded."""
        if principal.name != reproduction.requester:
            raise PermissionDenied("Only whoever asked for a reproduction runs it.")
        with self._database.write() as connection:
            begin_loan(connection, principal.id, reproduction.id, by=WORK, ttl_s=self._longest_s)
        return self._identity.borrowed(principal, self._longest_s, paths=CODE_PATHS, loan=reproduction.id)

    def get(self, principal: Principal, reproduction_id: str) -> Reproduction:
        """One, of a run that one may read. Raises NotFound."""
        with self._database.read() as connection:
            found = store.find(connection, reproduction_id)
        if found is None:
            raise NotFound(f"There is no reproduction '{reproduction_id[:40]}'.")
        self.captures.run(principal, found.run_id)
        return as_seen(found, self._longest_s, utc_now())

    def of_run(self, principal: Principal, run_id: str) -> Sequence[Reproduction]:
        """Those of a run, newest first. Raises NotFound."""
        self.captures.run(principal, run_id)
        with self._database.read() as connection:
            return [as_seen(found, self._longest_s, utc_now()) for found in store.of_run(connection, run_id)]

    def conclude(self, principal: Principal, reproduction_id: str, verdict: Mapping[str, Any]) -> Reproduction:
        """Keep the verdict of one that its requester has carried out. Raises NotFound, PermissionDenied."""
        found = self.get(principal, reproduction_id)
        if found.requester != principal.name or found.place != CLIENT:
            raise PermissionDenied(f"Reproduction '{found.id}' is not one that you carry out.")
        if len(json.dumps(verdict)) > _MOST_VERDICT:
            raise InvalidArgument("The verdict is too large.")
        try:
            outcome = Outcome(str(verdict["outcome"]))
        except (KeyError, ValueError) as error:
            raise InvalidArgument(f"A verdict has an outcome: {', '.join(Outcome)}.") from error
        self._end(found.id, outcome, str(verdict.get("new_run_id", ""))[:64], verdict)
        return self.get(principal, found.id)

    def _end(self, reproduction_id: str, outcome: Outcome, new_run_id: str, verdict: Mapping[str, Any]) -> None:
        with self._database.write() as connection:
            store.change(
                connection, reproduction_id, state=State.DONE, outcome=outcome.value, verdict=dict(verdict),
                new_run_id=new_run_id, ended_at=utc_now(),
            )  # fmt: skip
            end_loan(connection, reproduction_id)

    # -- carrying out -------------------------------------------------------------------------------------------

    def run_item(self, item: work.Item) -> None:
        """Carry out one that waits. It may be a second time: what earlier attempts began is marked as interrupted."""
        with self._database.write() as connection:
            found = store.find(connection, item.payload["reproduction"])
            if found is None or found.state == State.DONE:
                return
            store.change(connection, found.id, state=State.RUNNING)
        try:
            verdict = self._reproduced(found, item.attempt)
        except Exception as error:
            if item.is_last or not isinstance(error, Unavailable):
                why = f"the server could not carry it out: {error}"[:2000]
                failed = Verdict(outcome=Outcome.IMPOSSIBLE, missing=(why,))
                self._end(found.id, failed.outcome, "", verdict_json(failed))
            raise
        self._end(found.id, verdict.outcome, verdict.new_run_id, verdict_json(verdict))

    def _reproduced(self, found: Reproduction, attempt: int) -> Verdict:
        principal = self._identity.active_principal(found.requester)
        name = f"{found.id}.{attempt}"
        directory = self._scratch / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)
        lent = partial(self._identity.lent, principal, self._longest_s, by=self._server)
        try:
            with (
                lent(paths=CODE_PATHS) as code_token,
                lent(paths=_ENGINE_PATHS) as token,
                self._client(token) as client,
            ):
                server = Server(client)
                server.wait_ready(_READY_S)
                mark_interrupted(server, found.run_id, found.id)
                if attempt > ATTEMPTS:
                    why = f"the server ended {ATTEMPTS} times before a verdict: does the run take all of its memory?"
                    return Verdict(outcome=Outcome.IMPOSSIBLE, missing=(why,))
                reproducer = Reproducer(
                    server, lambda task: self._launch(task, code_token), self._environments, tolerance=TOLERANCE
                )
                verdict = reproducer.reproduce(found.run_id, name, directory)
                keep_verdict(server, verdict)
                return verdict
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def _client(self, token: str) -> Iterator[httpx.Client]:
        """This server's own API, as whoever has the token."""
        with socket_address(self._doors.api_socket) as address:
            transport = httpx.HTTPTransport(uds=address)
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url="http://millpond", transport=transport, headers=headers, timeout=120) as client:
                yield client

    def _launch(self, task: Task, token: str) -> Ended:
        """Run a program of the run's in a confined child, which reaches this server and nothing else."""
        with_server = "MILLPOND_REPRODUCES" in task.variables
        doors = self._doors.ways_out if with_server else ()
        variables = {**(self._doors.variables(token) if with_server else {}), **task.variables}
        told = task.directory / "variables.json"
        told.write_text(json.dumps(variables))
        told.chmod(0o600)
        child = spawn(
            ChildSpec(
                module=_MODULE,
                args=(str(task.script), str(task.order), str(told), *doors),
                env=_environment(task.directory),
                log_path=task.directory / "log",
                memory_bytes=self._limits.memory_bytes,
                sandbox=True,
                readable=(*task.interpreter.readable, *task.readable),
                writable=(task.directory,),
                own_network=True,
                unix_sockets=True,
                python=task.interpreter.python,
                cwd=task.directory,
                nice=5,
            )
        )
        try:
            ok, why = child.wait_ready(self._limits.timeout_s).get("code") == 0, ""
        except Unavailable as error:
            ok, why = False, error.message
        finally:
            child.kill()
        printed = task.directory / "log"  # where the program may have put something else
        log = why or (end_of(printed, _LOG_BYTES) if printed.is_file() else "")
        return Ended(ok=ok, log=log.replace(token, HIDDEN))


def as_seen(found: Reproduction, longest_s: float, now: datetime) -> Reproduction:
    """With an end, where its requester's machine cannot tell of one any more: its credential has ended."""
    if found.place != CLIENT or found.state == State.DONE or now < found.created_at + timedelta(seconds=longest_s):
        return found
    why = "the machine that carried it out did not tell how it ended"
    verdict = verdict_json(Verdict(outcome=Outcome.IMPOSSIBLE, missing=(why,)))
    return replace(found, state=State.DONE, outcome=Outcome.IMPOSSIBLE, verdict=verdict)


def _environment(directory: Path) -> dict[str, str]:
    place = str(directory)
    return {"HOME": place, "TMPDIR": place, "MPLCONFIGDIR": place, "PYTHONUNBUFFERED": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # fmt: skip


def reproduction_json(reproduction: Reproduction) -> dict[str, Any]:
    """As the API shows it."""
    shown = vars(reproduction) | {
        "created_at": epoch_ms(reproduction.created_at),
        "ended_at": epoch_ms(reproduction.ended_at) if reproduction.ended_at else None,
    }
    return dict(shown)
