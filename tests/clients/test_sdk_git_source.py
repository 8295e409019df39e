"""The unmodified Databricks SDK on jobs whose code is in a git repository, at a branch, a tag or a commit."""

import subprocess
import uuid
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue
from databricks.sdk.service.jobs import (
    GitProvider,
    GitSource,
    NotebookTask,
    Run,
    RunLifeCycleState,
    Source,
    SparkPythonTask,
    SubmitTask,
    Task,
)

from tests.servers import Server, wait_until

GIT = GitProvider.GIT_HUB


def git(place: Path, *words: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@x.org")
    return subprocess.run(["git", *who, *words], cwd=place, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    (root / "jobs").mkdir(parents=True)
    git(tmp_path, "init", "-q", "-b", "main", str(root))
    (root / "shared.py").write_text("WORD = 'one'\n")
    (root / "jobs" / "s.py").write_text("import sys, shared\nprint(shared.WORD, sys.argv[1])\n")
    (root / "jobs" / "other.py").write_text("# Databricks notebook source\nother = 'o'\n")
    text = "# Databricks notebook source\n# MAGIC %run ./other\n\n# COMMAND ----------\n\nimport shared\n"
    (root / "jobs" / "nb.py").write_text(text + "dbutils.notebook.exit(shared.WORD + other)\n")
    (root / "out").symlink_to("/etc/passwd")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    git(root, "tag", "-a", "v1", "-m", "v1")
    (root / "shared.py").write_text("WORD = 'two'\n")
    git(root, "commit", "-q", "-a", "-m", "two")
    return root


def done(w: WorkspaceClient, *tasks: SubmitTask, source: GitSource) -> Run:
    run_id = w.jobs.submit(tasks=list(tasks), git_source=source).run_id
    ended = RunLifeCycleState.TERMINATED
    return wait_until(
        lambda: run if (run := w.jobs.get_run(run_id)).state.life_cycle_state is ended else None, timeout_s=120
    )


def test_code_of_a_repository_runs_at_the_commit_that_its_run_has(any_server: Server, repository: Path) -> None:
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")
    url, head = f"file://{repository}", git(repository, "rev-parse", "HEAD")
    script = SubmitTask("s", spark_python_task=SparkPythonTask("jobs/s.py", parameters=["x"]))
    notebook = SubmitTask("n", notebook_task=NotebookTask("jobs/nb", source=Source.GIT))
    link = SubmitTask("l", spark_python_task=SparkPythonTask("out"))
    run = done(w, script, notebook, link, source=GitSource(url, GIT, git_branch="main"))
    outputs = {task.task_key: w.jobs.get_run_output(task.run_id) for task in run.tasks}
    assert run.git_source.git_snapshot.used_commit == head
    assert outputs["s"].logs == "two x\n", outputs["s"].error_trace
    assert outputs["n"].notebook_output.result == "twoo", outputs["n"].error_trace
    assert "root:" not in outputs["l"].logs + outputs["l"].error
    for source in (
        GitSource(url, GIT, git_tag="v1"),
        GitSource(url, GIT, git_commit=git(repository, "rev-parse", "v1^0")),
    ):
        run = done(w, script, source=source)
        assert w.jobs.get_run_output(run.tasks[0].run_id).logs == "one x\n"
    run = done(w, script, source=GitSource(url, GIT, git_branch="none"))
    assert "cannot be fetched" in run.tasks[0].state.state_message
    (repository / "shared.py").write_text("WORD = 'three'\n")
    git(repository, "commit", "-q", "-a", "-m", "three")
    first = done(w, script, SubmitTask("b", spark_python_task=SparkPythonTask("none.py")),
                 source=GitSource(url, GIT, git_branch="main"))  # fmt: skip
    (repository / "shared.py").write_text("WORD = 'four'\n")
    git(repository, "commit", "-q", "-a", "-m", "four")
    w.jobs.repair_run(first.run_id, rerun_tasks=["s"])
    again = wait_until(
        lambda: [task for task in w.jobs.get_run(first.run_id).tasks if task.attempt_number == 1 and task.end_time],
        timeout_s=60,
    )
    assert w.jobs.get_run_output(again[0].run_id).logs == "three x\n"


def test_only_what_the_operator_allows_is_fetched(any_server: Server) -> None:
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")
    script = SubmitTask("s", spark_python_task=SparkPythonTask("s.py"))
    for url in ("file:///etc", "https://github.com.evil.example/x", f"https://{uuid.uuid4().hex}.example/x"):
        run = done(w, script, source=GitSource(url, GIT, git_branch="main"))
        assert "not allowed here" in run.tasks[0].state.state_message
    for url in ("file:///tmp/../etc", "ssh://x/y", "https://me:key@github.com/x/y", "--upload-pack=x", "ext::sh -c x"):
        with pytest.raises(InvalidParameterValue, match="git_url"):
            w.jobs.submit(tasks=[script], git_source=GitSource(url, GIT, git_branch="main"))
    for wrong in ({"git_branch": "--all"}, {"git_branch": "a", "git_tag": "b"}, {"git_commit": "HEAD"}, {}):
        with pytest.raises(InvalidParameterValue, match="git_"):
            w.jobs.submit(tasks=[script], git_source=GitSource("https://github.com/x/y", GIT, **wrong))
    with pytest.raises(InvalidParameterValue, match="no git_source"):
        w.jobs.create(tasks=[Task("a", notebook_task=NotebookTask("x", source=Source.GIT))])
    outside = [SubmitTask("s", notebook_task=NotebookTask("/Users/x"))]
    with pytest.raises(InvalidParameterValue, match="in the repository"):
        w.jobs.submit(tasks=outside, git_source=GitSource("https://github.com/x/y", GIT, git_branch="main"))
