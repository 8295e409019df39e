"""The `millpond` command, as a user types it."""

import json
import socket
import stat
from pathlib import Path

import pytest

from tests.servers import Server, run_cli


def test_doctor_finds_this_machine_well(tmp_path: Path) -> None:
    """Every check has a line, the engine really starts, and the exit code is 0."""
    done = run_cli("doctor", "--data-dir", str(tmp_path / "data"), env=_free_ports())
    checks = [line.split()[1] for line in done.stdout.splitlines()]
    assert checks == [
        "version", "packages", "data", "disk", "server", "ports", "database", "secrets", "engine", "sandbox",
    ]  # fmt: skip
    assert "Sail" in done.stdout


def test_doctor_says_how_to_mend(tmp_path: Path) -> None:
    """A taken port, an unreachable database and a readable key are named with their remedy; the exit code is 1."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "secret.key").write_text("x")
    (data_dir / "secret.key").chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = _free_ports() | {
            "MILLPOND_PORT": str(taken.getsockname()[1]),
            "MILLPOND_DATABASE_URL": "postgresql://nobody:hidden@127.0.0.1:1/none",
        }
        done = run_cli("doctor", "--data-dir", str(data_dir), env=env, check=False)
    assert done.returncode == 1
    assert f"chmod 600 {data_dir / 'secret.key'}" in done.stdout
    assert f"{env['MILLPOND_PORT']} in use" in done.stdout
    assert "Check --database-url" in done.stdout
    assert "hidden" not in done.stdout


def test_env_prints_what_clients_need(server: Server) -> None:
    """Exactly the five variables, ready for a shell's eval."""
    lines = run_cli("env", "--data-dir", str(server.data_dir)).stdout.splitlines()
    names = [line.removeprefix("export ").partition("=")[0] for line in lines]
    assert names == [
        "DATABRICKS_HOST", "DATABRICKS_TOKEN", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "SPARK_REMOTE",
    ]  # fmt: skip
    assert all(line.startswith("export ") for line in lines)


def test_env_without_a_server_says_how_to_start_one(tmp_path: Path) -> None:
    """One line, exit code 1."""
    done = run_cli("env", "--data-dir", str(tmp_path), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"millpond up --data-dir {tmp_path}" in done.stderr


def test_login_writes_a_profile_for_the_sdk(server: Server, tmp_path: Path) -> None:
    """The file is private, other profiles and comments stay, and the SDK signs in with it."""
    profile = tmp_path / "databrickscfg"
    profile.write_text("# mine\n[other]\nhost = https://example.com\n")
    done = run_cli("login", "--host", server.url, "--token", server.token, "--file", str(profile))
    assert f"Signed in as {server.user}" in done.stdout
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600
    assert profile.read_text().startswith("# mine\n[other]\nhost = https://example.com\n")

    from databricks.sdk import WorkspaceClient

    client = WorkspaceClient(profile="millpond", config_file=str(profile))
    assert client.current_user.me().user_name == server.user


def test_login_refuses_a_wrong_token(server: Server, tmp_path: Path) -> None:
    """Nothing is written."""
    profile = tmp_path / "databrickscfg"
    done = run_cli("login", "--host", server.url, "--token", "dapi0", "--file", str(profile), check=False)
    assert done.returncode == 1
    assert "refused the token" in done.stderr
    assert not profile.exists()


def test_status_shows_each_part(server: Server) -> None:
    """Address and health of a running server; exit code 3 without one."""
    shown = run_cli("status", "--data-dir", str(server.data_dir)).stdout
    assert server.url in shown
    assert shown.count(" ok") >= 3


def test_status_without_a_server(tmp_path: Path) -> None:
    """Exit code 3, and how to start one."""
    done = run_cli("status", "--data-dir", str(tmp_path), check=False)
    assert done.returncode == 3
    assert "millpond up" in done.stdout


@pytest.mark.parametrize("process", ["server", "gateway"])
def test_logs_are_json_without_secrets(server: Server, process: str) -> None:
    """Each line is an object; the administrator's token is in none."""
    text = run_cli("logs", "--data-dir", str(server.data_dir), "--process", process, "-n", "1000").stdout
    assert text
    for line in text.splitlines():
        json.loads(line)
    assert server.token not in text


def test_credentials_are_private(server: Server) -> None:
    """Neither the first administrator's secrets nor the signing key can be read by others."""
    for name in ("credentials.json", "secret.key"):
        assert stat.S_IMODE((server.data_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700


def _free_ports() -> dict[str, str]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return {"MILLPOND_PORT": str(one.getsockname()[1]), "MILLPOND_SPARK_PORT": str(other.getsockname()[1])}
