"""`mlflow run`: projects of a directory and of a git repository, with entry points and parameters, against a server."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uv

from tests.servers import Server, run_cli

_MLPROJECT = """
name: line
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      slope: {type: float, default: 2}
      name: string
    command: "python train.py {slope} {name}"
  check:
    command: "python train.py 0 checked"
"""
_TRAIN = """
import sys

import mlflow

with mlflow.start_run():
    mlflow.log_metric("slope_seen", float(sys.argv[1]))
    mlflow.set_tag("name", sys.argv[2])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's directory."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "MLproject").write_text(_MLPROJECT)
    (root / "train.py").write_text(_TRAIN)
    version = ".".join(map(str, sys.version_info[:3]))
    needs = f"python: '{version}'\nbuild_dependencies: []\ndependencies: [mlflow-skinny==3.17.2]\n"
    (root / "python_env.yaml").write_text(needs)
    return root


def _git(directory: Path, *words: str) -> str:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    done = subprocess.run(["git", "-C", str(directory), *who, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _mlflow_run(server: Server, uri: str, experiment: str, *options: str, home: Path) -> dict[str, Any]:
    """`mlflow run` as a user at a shell; the run that came of it."""
    tools = f"{Path(sys.executable).parent}:{Path(uv.find_uv_bin()).parent}"
    env = server.client_env()
    env |= {"PATH": f"{tools}:{env['PATH']}", "MLFLOW_ENV_ROOT": str(home / "environments")}
    env |= {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}  # whom the machine trusts
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "run", uri, "--experiment-name", experiment, *options],
        env=env, cwd=home, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    _, found = server.call("GET", f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}")
    _, runs = server.call(
        "POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": [found["experiment"]["experiment_id"]]}
    )
    run: dict[str, Any] = runs["runs"][0]
    return run


def _values(run: dict[str, Any], kind: str) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in run["data"].get(kind, ())}


@pytest.mark.long
def test_a_directory(server: Server, project: Path, tmp_path: Path) -> None:
    run = _mlflow_run(
        server, str(project), "/Shared/project-directory", "-P", "slope=3.5", "-P", "name=one", "--env-manager",
        "local", home=tmp_path,
    )  # fmt: skip
    assert _values(run, "params") == {"slope": "3.5", "name": "one"}
    assert _values(run, "metrics") == {"slope_seen": 3.5}
    tags = _values(run, "tags")
    assert (tags["mlflow.source.type"], tags["mlflow.project.entryPoint"], tags["name"]) == ("PROJECT", "main", "one")
    assert run["info"]["status"] == "FINISHED"


@pytest.mark.long
def test_a_git_repository_at_a_commit_and_another_entry_point(server: Server, project: Path, tmp_path: Path) -> None:
    _git(project, "init", "-q", "-b", "main")
    _git(project, "add", "-A")
    _git(project, "commit", "-q", "-m", "first")
    commit = _git(project, "rev-parse", "HEAD")
    (project / "train.py").write_text("raise SystemExit('the newest commit is broken')\n")
    _git(project, "commit", "-q", "-a", "-m", "broken")
    run = _mlflow_run(
        server, f"file://{project}", "/Shared/project-git", "-e", "check", "-v", commit, "--env-manager", "local",
        home=tmp_path,
    )  # fmt: skip
    tags = _values(run, "tags")
    assert (tags["mlflow.source.git.commit"], tags["mlflow.project.entryPoint"]) == (commit, "check")
    assert tags["mlflow.source.name"].endswith("/project")
    assert _values(run, "metrics") == {"slope_seen": 0.0}


@pytest.mark.long
def test_an_environment_of_its_own(server: Server, project: Path, tmp_path: Path) -> None:
    run = _mlflow_run(
        server, str(project), "/Shared/project-environment", "-P", "name=own", "--env-manager", "uv", home=tmp_path
    )
    assert _values(run, "metrics") == {"slope_seen": 2.0}
    assert _values(run, "tags")["mlflow.project.env"] == "uv"
    assert list((tmp_path / "environments").rglob("mlflow_skinny*"))


@pytest.mark.long
def test_a_project_is_captured_and_comes_out_the_same(server: Server, project: Path, tmp_path: Path) -> None:
    run = _mlflow_run(
        server, str(project), "/Shared/project-again", "-P", "slope=4", "-P", "name=two", "--env-manager", "local",
        home=tmp_path,
    )  # fmt: skip
    where = ("--python", sys.executable, "--data-dir", str(server.data_dir))
    done = run_cli("reproduce", run["info"]["run_id"], *where, timeout_s=280)
    assert done.stdout.startswith("bit-identical"), done.stdout
