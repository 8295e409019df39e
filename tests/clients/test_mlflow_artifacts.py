"""Artifacts stream through the server to the store, and their paths cannot escape."""

import os
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import mlflow
import psutil
import pytest
from mlflow import MlflowClient

from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours

MIB = 1 << 20


@pytest.fixture
def client(server: Server):
    with signed_in(server) as client:
        yield client


@pytest.fixture
def run(client: MlflowClient) -> mlflow.entities.Run:
    return client.create_run(client.create_experiment(f"artifacts-{uuid.uuid4().hex}"))


def test_files_and_directories_go_up_and_come_down(
    client: MlflowClient, run: mlflow.entities.Run, tmp_path: Path
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    contents = {"a.txt": b"a", "deep/größe ✓.bin": os.urandom(100_000), "deep/er/it's 100%.txt": b"", "deep/b": b"b"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    client.log_artifacts(run.info.run_id, str(tmp_path), "up")
    down = Path(client.download_artifacts(run.info.run_id, "up"))
    assert {str(f.relative_to(down)): f.read_bytes() for f in down.rglob("*") if f.is_file()} == contents
    listed = {item.path: item.file_size for item in client.list_artifacts(run.info.run_id, "up/deep")}
    assert listed == {"up/deep/er": None, "up/deep/größe ✓.bin": 100_000, "up/deep/b": 1}


def test_an_artifact_is_replaced_whole(client: MlflowClient, run: mlflow.entities.Run) -> None:
    for text in ("first", "second, longer"):
        client.log_text(run.info.run_id, text, "note.txt")
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt") == text


PATHS = (
    "../secret.key", "%2e%2e/secret.key", "..%2fsecret.key", "%252e%252e%252fsecret.key", "{run}/../../x", "{run}/./x",
    "{run}//x", "/etc/passwd", "{run}/artifacts/..%5c..%5cx", "{run}/artifacts/%00", "{run}/artifacts/a%0ab",
    "{run}/artifacts/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret.key", "secret.key", "-1/x/y", "0001/x/y", "%E0%A5%A7/x", "",
)  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
def test_paths_cannot_escape(server: Server, run: mlflow.entities.Run, method: str, path: str) -> None:
    place = f"{run.info.experiment_id}/{run.info.run_id}"
    request = urllib.request.Request(
        f"{server.url}/api/2.0/mlflow-artifacts/artifacts/{path.format(run=place)}",
        method=method,
        data=b"evil" if method == "PUT" else None,
        headers={"Authorization": f"Bearer {server.token}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value as error:
        assert error.code in {400, 404, 405}
    assert (server.data_dir / "secret.key").read_bytes() != b"evil"


def test_what_users_wrote_never_runs_as_a_page(client: MlflowClient, run: mlflow.entities.Run, server: Server) -> None:
    client.log_text(run.info.run_id, "<script>alert(1)</script>", "page.html")
    for path in (
        f"/get-artifact?run_uuid={run.info.run_id}&path=page.html",
        f"/api/2.0/mlflow-artifacts/artifacts/{run.info.experiment_id}/{run.info.run_id}/artifacts/page.html",
    ):
        request = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {server.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.headers["Content-Disposition"].startswith("attachment")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.long
@pytest.mark.slow
def test_a_gigabyte_goes_up_and_down_without_living_in_memory(
    client: MlflowClient, run: mlflow.entities.Run, server: Server, tmp_path: Path
) -> None:
    size = 1024 * MIB
    block = os.urandom(MIB)
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)
    before = _peak_bytes(server)
    client.log_artifact(run.info.run_id, str(big))
    big.unlink()
    down = Path(client.download_artifacts(run.info.run_id, "big.bin", str(tmp_path)))
    assert down.stat().st_size == size
    with down.open("rb") as file:
        assert all(file.read(MIB) == block for _ in range(size // MIB))
    assert _peak_bytes(server) - before < 150 * MIB


def _peak_bytes(server: Server) -> int:
    """The sum over the server's processes of the most memory that each ever held."""
    supervisor = psutil.Process(server.state["pid"])
    total = 0
    for process in [supervisor, *supervisor.children(recursive=True)]:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)  # one has ended
    return total
