"""Workers: they run what a server would, lose nothing when they are killed, and may do nothing else."""

import io
import json
import os
import signal
import tarfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.workspace import ImportFormat, Language

from tests.audit.test_server import events
from tests.browser.test_single_sign_on import make_certificate
from tests.robustness.test_jobs_recovery import JOBS, put, run_of
from tests.robustness.test_tree import _child
from tests.servers import Server, running_server, wait_until
from tests.workers import WORKER, StandIn, new_worker_token, running_worker

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads processes from /proc")
VOLUME = "/Volumes/main/default/v"
LEASE_S = 10
SCRIPT = """
import beside, os, subprocess, sys, time
print("attempt", sys.argv[1], beside.WORD, os.getcwd(), flush=True)
dbutils.jobs.taskValues.set("where", os.getcwd())
if sys.argv[1] in sys.argv[2:]:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    print("pids", os.getpid(), child.pid, flush=True)
    time.sleep(600)
"""
SLOW = """
import glob, time
print("begun", flush=True)
time.sleep(3)

def read(path):
    try:
        return open(path, "rb").read()
    except OSError:
        return b""

print("stolen", [path for path in glob.glob("/proc/[0-9]*/environ") if b"MILLPOND_TOKEN" in read(path)])
"""


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A server that runs no scripts itself, and an account for workers."""

    server: Server
    token: str

    def submit(self, *hangs_in: int, **more: Any) -> int:
        """A run of one task, which hangs in some of its attempts."""
        parameters = ["{{task.execution_count}}", *map(str, hangs_in)]
        script = {"python_file": f"{VOLUME}/s.py", "parameters": parameters}
        body = {"tasks": [{"task_key": "a", "spark_python_task": script, **more}]}
        return self.server.call("POST", f"{JOBS}/runs/submit", body)[1]["run_id"]

    def attempts(self, run_id: int) -> list[dict[str, Any]]:
        return sorted(run_of(self.server, run_id)["tasks"], key=lambda each: each["attempt_number"])

    def output(self, run_id: int, attempt: int = 0) -> dict[str, Any]:
        task = self.attempts(run_id)[attempt]
        return self.server.call("GET", f"{JOBS}/runs/get-output?run_id={task['run_id']}")[1]

    def printed(self, run_id: int, text: str, attempt: int = 0) -> str:
        """The first line with a text that an attempt prints, once it has."""

        def find() -> str:
            if len(self.attempts(run_id)) <= attempt:
                return ""
            lines = self.output(run_id, attempt)["logs"].splitlines()
            return next((line for line in lines if text in line), "")

        return wait_until(find, timeout_s=60, what=f"'{text}' in the log")

    def result(self, run_id: int) -> str:
        """How a run ends."""
        return wait_until(
            lambda: run_of(self.server, run_id)["state"].get("result_state"), timeout_s=60, what="the run's end"
        )


@pytest.fixture(scope="module", params=["sqlite"])
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    env = {"MILLPOND_JOBS__TASKS_AT_ONCE": "0", "MILLPOND_JOBS__WORKER_LEASE_S": str(LEASE_S)}
    with running_server(tmp_path_factory.mktemp("server") / "data", env=env) as server:
        volume = {"catalog_name": "main", "schema_name": "default", "name": "v", "volume_type": "MANAGED"}
        assert server.call("POST", "/api/2.1/unity-catalog/volumes", volume)[0] == 200
        put(server, f"{VOLUME}/s.py", SCRIPT)
        put(server, f"{VOLUME}/beside.py", "WORD = 'found'")
        yield Shop(server=server, token=new_worker_token(server))


def test_tasks_run_on_workers_and_go_on_elsewhere_when_one_is_killed(shop: Shop, tmp_path: Path) -> None:
    server = shop.server
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(running_worker(server, tmp_path / name, token=shop.token)) for name in ("one", "two")
        )
        hangs = shop.submit(1, max_retries=1)
        pids = [int(pid) for pid in shop.printed(hangs, "pids").split()[1:]]
        first = one if str(one.data_dir) in shop.printed(hangs, "attempt 1") else two
        assert workers(server) == {"one": int(first is one), "two": int(first is two)}
        first.kill()
        assert shop.result(hangs) == "SUCCESS"
        assert not exists(pids[0])
        assert "worker that ran the task is gone" in shop.attempts(hangs)[0]["state"]["state_message"]
        assert "attempt 2 found" in shop.output(hangs, 1)["logs"]
        used = {
            each["sku_name"]: each for each in server.call("GET", f"/api/millpond/jobs/runs/{hangs}/usage")[1]["usage"]
        }
        assert 0 < used["JOBS_CPU"]["usage_quantity"] < 60  # of the attempt that ended
        first = stack.enter_context(running_worker(server, first.data_dir, token=shop.token))
        assert not exists(pids[1])  # it had a session of its own, so that its worker ended it only now
        stopped = shop.submit(1)
        pids = [int(pid) for pid in shop.printed(stopped, "pids").split()[1:]]
        server.call("POST", f"{JOBS}/runs/cancel", {"run_id": stopped})
        wait_until(lambda: not any(map(exists, pids)), what="all that the task started to end")
        assert shop.result(stopped) == "CANCELED"
        second = two if first.data_dir == one.data_dir else one
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(20) == 0
        assert second.data_dir.name not in workers(server)


def test_a_notebook_on_a_worker_reads_with_spark_and_is_kept(shop: Shop, tmp_path: Path) -> None:
    run_notebook(shop, tmp_path / "one")


@pytest.mark.long
def test_a_worker_speaks_tls_with_a_server_that_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path)
    flags = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, str(certificate))
    with running_server(tmp_path / "data", *flags, env={"MILLPOND_JOBS__TASKS_AT_ONCE": "0"}) as server:
        shop = Shop(server=server, token=new_worker_token(server))
        run_notebook(shop, tmp_path / "one", "--ca-file", str(certificate))


def run_notebook(shop: Shop, place: Path, *flags: str) -> None:
    """Run one on a worker, with Spark, and look at what is kept of it."""
    w = WorkspaceClient(host=shop.server.url, token=shop.server.token, auth_type="pat")
    path = f"/Users/{shop.server.user}/on-a-worker"
    source = "x = spark.sql('SELECT 20 + 22 AS a').collect()[0].a\nprint('sum', x)\n"
    text = f"# Databricks notebook source\n{source}\n# COMMAND ----------\ndbutils.notebook.exit(str(x))"
    w.workspace.mkdirs(f"/Users/{shop.server.user}")
    w.workspace.upload(path, text.encode(), format=ImportFormat.SOURCE, language=Language.PYTHON, overwrite=True)
    with running_worker(shop.server, place, *flags, token=shop.token):
        task = {"task_key": "a", "notebook_task": {"notebook_path": path}}
        run_id = shop.server.call("POST", f"{JOBS}/runs/submit", {"tasks": [task]})[1]["run_id"]
        assert shop.result(run_id) == "SUCCESS", shop.output(run_id)
    output = shop.output(run_id)
    assert output["notebook_output"]["result"] == "42"
    assert "sum 42" in output["logs"]
    number = shop.attempts(run_id)[0]["run_id"]
    kept = shop.server.call("GET", f"/api/millpond/jobs/runs/notebook?run_id={number}")[1]
    assert "".join(kept["cells"][0]["outputs"][0]["text"]) == "sum 42\n"


@pytest.mark.long
def test_a_task_has_ended_when_the_server_gives_it_up(shop: Shop, tmp_path: Path) -> None:
    """A server that stands still takes connections, and answers none."""
    with running_worker(shop.server, tmp_path / "one", token=shop.token):
        run_id = shop.submit(1, max_retries=0)
        pids = [int(pid) for pid in shop.printed(run_id, "pids").split()[1:]]
        server = _child(shop.server.state["pid"], "millpond.server_process")
        assert server is not None
        os.kill(server, signal.SIGSTOP)
        try:
            wait_until(lambda: not any(map(exists, pids)), timeout_s=LEASE_S, what="the task to end")
        finally:
            os.kill(server, signal.SIGCONT)
        assert shop.result(run_id) == "FAILED"


def test_what_a_worker_says_counts_while_it_holds_the_task(shop: Shop) -> None:
    """One that is cut off from the server loses its tasks, and what it says of them later is refused."""
    worker, other = (StandIn(server=shop.server, token=shop.token) for _ in range(2))
    for each in (worker, other):
        assert each.register()[0] == 200
    not_begun, begun = shop.submit(), shop.submit(max_retries=0)
    leases = [worker.claim() for _ in range(2)]
    assert worker.ask("claim", lease=leases[0])[1]["task"]["run_id"] == not_begun
    assert worker.ask("begin", lease=leases[1])[0] == 200
    assert worker.ask("give-back", lease=leases[1])[0] == 409
    assert worker.ask("end", lease=leases[0], result="SUCCESS")[0] == 409
    for act in ("code", "begin", "end", "give-back"):
        more = {"result": "SUCCESS"} if act == "end" else {}
        assert other.ask(act, lease=leases[1], **more)[0] == 409
    assert shop.result(begun) == "FAILED"
    assert "worker that ran the task is gone" in shop.attempts(begun)[0]["state"]["state_message"]
    assert worker.ask("end", lease=leases[1], result="SUCCESS")[0] == 409
    assert worker.ask("beat", leases=leases)[1]["ends"] == dict.fromkeys(leases, "LOST")
    again = other.claim()
    assert other.ask("begin", lease=again)[0] == 200
    assert worker.ask("begin", lease=leases[0])[0] == 409
    assert tell(other, again, "log", 0, b"half a ")[0] == 200
    assert tell(other, again, "log", 7, b"line\n")[1]["next"] == 12
    assert tell(other, again, "log", 0, b"half a ")[1]["next"] == 12
    assert tell(other, again, "log", 99, b"x")[0] == 400
    assert tell(other, again, "../../x", 0, b"x")[0] == 400
    values = {"key": float(1), "\0": "\ud800"}
    assert other.ask("end", lease=again, result="SUCCESS", values=values)[0] == 200
    assert shop.result(not_begun) == "SUCCESS"
    assert shop.output(not_begun)["logs"] == "half a line\n"
    for each in (worker, other):
        assert each.ask("leave")[0] == 200


def test_a_worker_may_nothing_else_and_nobody_else_is_one(shop: Shop) -> None:
    server, worker = shop.server, StandIn(server=shop.server, token=shop.token)
    assert worker.register()[0] == 200
    for path in ("/api/2.1/unity-catalog/catalogs", f"{JOBS}/list", "/api/2.0/token/list", "/api/millpond/workers",
                 "/api/millpond/worker/../workers", "/api/2.0/preview/scim/v2/Me"):  # fmt: skip
        status, told = server.call("GET", path, token=shop.token)
        assert status == 403, (path, told)
    assert server.call("POST", "/api/2.0/token/create", {}, token=shop.token)[0] == 403
    for stranger in (server.new_user(f"{uuid.uuid4().hex}@x.org"), server.token, "dapi" + "0" * 64):
        status = StandIn(server=server, token=stranger, id=worker.id).ask("claim", lease=str(uuid.uuid4()))[0]
        assert status in (401, 403)
    colleague = StandIn(server=server, token=new_worker_token(server, "others"), id=worker.id)
    assert colleague.register()[0] == 403
    assert colleague.ask("claim", lease=str(uuid.uuid4()))[0] == 404
    run_id = shop.submit()
    lease = worker.claim()
    assert colleague.ask("code", lease=lease)[0] == 404
    assert b"travel.json" in code_of(worker, lease)[:512]
    [claimed] = wait_until(lambda: claims(server, run_id), what="the claim in the audit")
    assert claimed["request_params"]["worker"] == "stand-in"
    assert server.call("DELETE", f"/api/millpond/workers/{worker.id}")[0] == 200
    assert worker.ask("begin", lease=lease)[0] == 404
    server.call("POST", f"{JOBS}/runs/cancel", {"run_id": run_id})
    assert shop.result(run_id) == "CANCELED"
    assert worker.register(version="0.0.0")[0] == 400


def code_of(worker: StandIn, lease: str) -> bytes:
    """The archive of a task."""
    request = urllib.request.Request(f"{worker.server.url}{WORKER}/code", method="POST")
    request.add_header("Authorization", f"Bearer {worker.token}")
    request.add_header("Content-Type", "application/json")
    body = f'{{"worker_id": "{worker.id}", "lease": "{lease}"}}'.encode()
    with urllib.request.urlopen(request, body, timeout=60) as answer:
        return bytes(answer.read())


def test_a_tasks_token_is_good_while_a_worker_holds_the_task(shop: Shop) -> None:
    worker = StandIn(server=shop.server, token=shop.token)
    assert worker.register()[0] == 200
    run_id = shop.submit(max_retries=0)

    def token_of(lease: str) -> str:
        with tarfile.open(fileobj=io.BytesIO(code_of(worker, lease))) as tar:
            stream = tar.extractfile("travel.json")
            assert stream is not None
            return str(json.loads(stream.read())["order"]["token"])

    def status(token: str) -> int:
        return shop.server.call("GET", "/api/2.0/preview/scim/v2/Me", token=token)[0]

    lease = worker.claim()
    given_back = token_of(lease)
    assert status(given_back) == 200
    assert worker.ask("give-back", lease=lease)[0] == 200
    assert status(given_back) == 401
    lease = worker.claim()
    token = token_of(lease)
    assert worker.ask("begin", lease=lease)[0] == 200
    assert (status(token), status(given_back)) == (200, 401)
    assert worker.ask("end", lease=lease, result="SUCCESS")[0] == 200
    assert status(token) == 401
    assert shop.result(run_id) == "SUCCESS"
    assert worker.ask("leave")[0] == 200


def test_a_worker_that_is_told_to_end_finishes_what_has_begun(shop: Shop, tmp_path: Path) -> None:
    put(shop.server, f"{VOLUME}/slow.py", SLOW)
    script = {"python_file": f"{VOLUME}/slow.py"}
    body = {"tasks": [{"task_key": "a", "spark_python_task": script}]}
    run_id = shop.server.call("POST", f"{JOBS}/runs/submit", body)[1]["run_id"]
    with running_worker(shop.server, tmp_path / "one", token=shop.token) as worker:
        shop.printed(run_id, "begun")
        began = time.monotonic()
        every = shop.server.call("GET", "/api/millpond/workers")[1]["workers"]
        [about] = [each for each in every if each["running"]]
        assert (about["name"], about["running"], about["slots"]) == ("one", 1, 1)
        assert shop.server.call("POST", f"/api/millpond/workers/{about['id']}/drain")[0] == 200
        assert worker.process.wait(30) == 0
        assert time.monotonic() - began > 1
    assert shop.result(run_id) == "SUCCESS"
    assert shop.output(run_id)["logs"] == "begun\nstolen []\n"


def tell(worker: StandIn, lease: str, name: str, start: int, data: bytes) -> tuple[int, Any]:
    query = f"worker_id={worker.id}&lease={lease}&name={name}&start={start}"
    request = urllib.request.Request(f"{worker.server.url}{WORKER}/output?{query}", data=data, method="PUT")
    request.add_header("Authorization", f"Bearer {worker.token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def claims(server: Server, run_id: int) -> list[dict[str, Any]]:
    """What the audit has of claims of a run's tasks."""
    found = events(server, action_name="runClaimed", service_name="jobs")
    return [each for each in found if each["request_params"].get("run_id") == str(run_id)]


def workers(server: Server) -> dict[str, int]:
    """Workers that are heard of, with how many tasks each has."""
    found = server.call("GET", "/api/millpond/workers")[1]["workers"]
    return {each["name"]: each["running"] for each in found if each["is_heard_of"]}


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
