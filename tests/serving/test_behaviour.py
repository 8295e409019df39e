"""What models do to themselves and to others: crash, hang, hoard, print, look around."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millpond.kernel.sandbox import landlock_abi
from millpond.kernel.settings import ServingSettings
from millpond.serving import launcher
from tests.databases import Databases
from tests.servers import wait_until
from tests.serving.harness import ServingServer, serving_server
from tests.serving.test_endpoints import API, process_exists

TIMEOUT_S = 6.0
needs_landlock = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock to confine with")


@pytest.fixture(scope="module")
def serving(databases: Databases, tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[ServingServer]:
    """A server with little patience, with the obedient model and, as its neighbour, the churn model."""
    directory = tmp_path_factory.mktemp("behaviour")
    (directory / "secret.key").write_text("the server's secret")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    patience = ServingSettings(request_timeout_s=TIMEOUT_S, start_timeout_s=60, memory_limit_bytes=1 << 30)
    with (
        databases.new("sqlite", directory) as database,
        serving_server(database, directory, models, serving=patience) as server,
    ):
        server.create("obedient", "obedient", wait=False)
        server.create("neighbour", "churn", wait=False)
        server.ready("obedient")
        server.ready("neighbour")
        yield server
    monkeypatch.undo()


@pytest.fixture(autouse=True)
def _neighbour_is_untouched(serving: ServingServer) -> Iterator[None]:
    """Whatever a test does to the obedient model, its neighbour goes on in the same process."""
    serving.ready("obedient")
    pid = serving.worker_pid("neighbour")
    yield
    assert serving.worker_pid("neighbour") == pid
    rows = [{"tenure": 1, "monthly_charges": 90.0, "contract": "month"}]
    answer = serving.call("POST", "/serving-endpoints/neighbour/invocations", {"dataframe_records": rows})
    assert answer.json == {"predictions": [1]}
    serving.ready("obedient")


def wait_for_another(serving: ServingServer, pid: int) -> None:
    wait_until(
        lambda: serving.ask("obedient", "pid").json.get("predictions", [pid]) != [pid],
        timeout_s=120,
        what="another worker",
    )
    wait_until(lambda: not process_exists(pid), what="the old worker being gone")


@pytest.mark.parametrize("order", ["exit:3", "segfault"])
def test_a_crash_fails_its_request_and_restarts_the_worker(serving: ServingServer, order: str) -> None:
    pid = serving.worker_pid("obedient")
    answer = serving.ask("obedient", order)
    assert (answer.status, answer.json["error_code"]) == (500, "INTERNAL_ERROR")
    assert "the model's process" in answer.json["message"]
    wait_for_another(serving, pid)


def test_requests_wait_while_a_killed_worker_is_restarted(serving: ServingServer) -> None:
    pid = serving.worker_pid("obedient")
    with ThreadPoolExecutor(8) as pool:
        os.kill(pid, signal.SIGKILL)
        answers = list(pool.map(lambda _: serving.ask("obedient", "pid"), range(8)))
    for answer in answers:
        assert answer.status in {200, 500, 503, 504}
        if answer.status == 503:
            assert answer.headers["retry-after"] == "1"
    wait_for_another(serving, pid)


def test_a_killed_worker_costs_its_neighbour_nothing_under_load(serving: ServingServer) -> None:
    rows = [{"tenure": 1, "monthly_charges": 90.0, "contract": "month"}]

    def ask_neighbour(_: int) -> bool:
        body = {"dataframe_records": rows}
        answer = serving.call("POST", "/serving-endpoints/neighbour/invocations", body)
        return answer.status == 200 and answer.json == {"predictions": [1]}

    pid = serving.worker_pid("obedient")
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(ask_neighbour, range(120))
        os.kill(pid, signal.SIGKILL)
        assert all(answers)
    wait_for_another(serving, pid)


def test_the_endpoint_tells_that_it_recovers(serving: ServingServer) -> None:
    os.kill(serving.worker_pid("obedient"), signal.SIGKILL)
    state = wait_until(
        lambda: (
            (entity := serving.get("obedient")["config"]["served_entities"][0])["state"]["deployment"]
            == "DEPLOYMENT_RECOVERING"
            and entity["state"]
        ),
        what="the endpoint recovering",
    )
    assert "killed by signal 9" in state["deployment_state_message"] or "signal 9" in state["deployment_state_message"]
    assert serving.ready("obedient")["config"]["served_entities"][0]["state"]["deployment_state_message"] == ""


def test_a_hanging_request_times_out_and_its_worker_is_replaced(serving: ServingServer) -> None:
    pid = serving.worker_pid("obedient")
    began = time.monotonic()
    answer = serving.ask("obedient", "hang")
    assert (answer.status, answer.json["error_code"]) == (504, "DEADLINE_EXCEEDED")
    assert time.monotonic() - began < TIMEOUT_S + 10
    assert serving.ask("obedient", "pid").json == {"predictions": [pid]}  # its other threads still answer
    wait_for_another(serving, pid)


def test_a_leaking_model_is_restarted(serving: ServingServer) -> None:
    pid = serving.worker_pid("obedient")
    statuses = []
    while serving.worker_pid_or_none("obedient") == pid and len(statuses) < 40:
        answer = serving.ask("obedient", f"leak:{100 << 20}")
        statuses.append(answer.status)
        if answer.status == 500:
            assert "out of memory" in answer.json["message"]
            break
    assert statuses[0] == 200
    assert statuses[-1] == 500
    wait_for_another(serving, pid)


def test_an_exception_is_told_without_the_servers_paths(serving: ServingServer) -> None:
    pid = serving.worker_pid("obedient")
    answer = serving.ask("obedient", "raise")
    assert (answer.status, answer.json["error_code"]) == (400, "BAD_REQUEST")
    assert "ValueError: no luck in <model>" in answer.json["message"]
    assert str(serving.data_dir) not in answer.json["message"]
    assert serving.ask("obedient", "sys_exit").status == 400
    assert serving.worker_pid("obedient") == pid
    logs = serving.call("GET", f"{API}/obedient/served-models/obedient/logs").json["logs"]
    assert "ValueError: no luck" in logs


@pytest.mark.parametrize(
    ("order", "status", "said"),
    [
        ("generator", 501, "returned a generator"),
        ("set", 500, "returned a set that cannot be written as JSON"),
        (f"huge:{65 << 20}", 500, "at most 67108864 are sent"),
    ],
)
def test_what_cannot_be_answered_is_refused(serving: ServingServer, order: str, status: int, said: str) -> None:
    answer = serving.ask("obedient", order)
    assert answer.status == status
    assert said in answer.json["message"]


def test_much_output_is_kept_in_bounds(serving: ServingServer) -> None:
    answer = serving.ask("obedient", f"print:{20 << 10}")  # 20 MiB
    assert answer.status == 200
    logs = list((serving.data_dir / "logs" / "serving").glob("*/*.log"))
    wait_until(lambda: all(path.stat().st_size <= launcher.MAX_LOG_BYTES for path in logs), what="the log being cut")
    text = serving.call("GET", f"{API}/obedient/served-models/obedient/logs").json["logs"]
    assert 0 < len(text) <= 256 << 10
    assert text.endswith("y\n")


def test_fifty_requests_at_once(serving: ServingServer) -> None:
    def ask(number: int) -> bool:
        body = {"dataframe_records": [{"do": "echo", "n": number}]}
        answer = serving.call("POST", "/serving-endpoints/obedient/invocations", body)
        return answer.status == 200 and answer.json == {"predictions": [{"do": "echo", "n": number}]}

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(ask, range(500)))


def test_what_a_model_starts_ends_with_it(serving: ServingServer) -> None:
    (child,) = serving.ask("obedient", "child").json["predictions"]
    assert process_exists(child)
    serving.ask("obedient", "exit:3")
    wait_until(lambda: not process_exists(child), what="the model's own child being gone")


# What a model may see


def test_a_model_has_none_of_the_servers_environment(serving: ServingServer) -> None:
    told = lambda: serving.ask("obedient", "environ").json.get("predictions")  # noqa: E731
    environ = wait_until(told, what="another process, as the last test has ended one")
    assert "very secret" not in environ.values()
    assert not [name for name in environ if "TOKEN" in name or "SECRET" in name or "DATABASE" in name]
    assert environ["HOME"] == environ["TMPDIR"]


@needs_landlock
def test_a_model_reads_nothing_of_the_servers_data(serving: ServingServer, models: Path) -> None:
    cached = (serving.data_dir / "serving" / "models").iterdir()
    (churns,) = [path for path in cached if (path / "model.pkl").exists()]
    for path in (
        serving.data_dir / "secret.key",
        serving.data_dir / "millpond.db",
        churns / "MLmodel",
        models / "churn" / "MLmodel",
        Path("/etc/shadow"),
        Path(f"/proc/{os.getpid()}/environ"),
    ):
        answer = serving.ask("obedient", f"read:{path}")
        assert answer.status == 400, (path, answer.body)
        assert "PermissionError" in answer.json["message"]
        assert str(serving.data_dir) not in answer.json["message"] or str(path) in answer.json["message"]
    assert "PermissionError" in serving.ask("obedient", "parent_environ").json["message"]
    assert "PermissionError" in serving.ask("obedient", f"list_files:{serving.data_dir}").json["message"]


@needs_landlock
def test_a_model_writes_only_to_its_own_directory(serving: ServingServer) -> None:
    assert serving.ask("obedient", "write:own.txt").json == {"predictions": ["written"]}
    for path in (serving.data_dir / "taken", Path("/tmp/millpond-taken"), Path(__file__).with_name("taken")):
        answer = serving.ask("obedient", f"write:{path}")
        assert answer.status == 400
        assert "PermissionError" in answer.json["message"]
        assert not path.exists()


@pytest.mark.skipif(landlock_abi() < 6, reason="Landlock confines signals since ABI 6")
def test_a_model_cannot_signal_the_server(serving: ServingServer) -> None:
    assert "PermissionError" in serving.ask("obedient", "signal_parent").json["message"]


def test_a_model_holds_no_file_of_the_server(serving: ServingServer) -> None:
    held = serving.ask("obedient", "descriptors").json["predictions"]
    ours = [name for name in held if name.startswith("/")]
    allowed = ("/dev/", "/proc/", str(serving.data_dir / "logs" / "serving"))
    assert all(name.startswith(allowed) for name in ours), ours
