"""Children that are confined, limited, and gone when their parent is."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from millpond.kernel.errors import Unavailable
from millpond.kernel.process import Child, ChildSpec, spawn
from millpond.kernel.sandbox import landlock_abi
from tests.servers import wait_until

confined = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock; `doctor` says so to users")


def run_code(tmp_path: Path, code: str, **options: object) -> Child:
    """A child that runs a text of Python, as a module of its own."""
    module = tmp_path / "module"
    module.mkdir(exist_ok=True)
    (module / "child_code.py").write_text("from millpond.kernel.child import report_ready\n" + code)
    return spawn(
        ChildSpec(
            module="child_code",
            env={"PYTHONPATH": str(module)},
            log_path=tmp_path / "child.log",
            **options,  # type: ignore[arg-type]
        )
    )


def test_a_child_reports_and_ends(tmp_path: Path) -> None:
    """The parent gets the message; `terminate` ends a child that would wait for ever."""
    child = run_code(tmp_path, "import time\nreport_ready({'answer': 42})\ntime.sleep(600)")
    assert child.wait_ready(30) == {"answer": 42}
    assert child.running
    child.terminate(grace_s=5)
    assert not child.running


def test_a_child_that_dies_first_shows_its_log(tmp_path: Path) -> None:
    """The error carries the traceback of the child."""
    child = run_code(tmp_path, "raise ValueError('the reason')")
    with pytest.raises(Unavailable, match="ValueError: the reason"):
        child.wait_ready(30)


def test_a_child_that_hangs_is_killed_at_its_deadline(tmp_path: Path) -> None:
    """A child that never reports is not left behind."""
    child = run_code(tmp_path, "import time\ntime.sleep(600)")
    with pytest.raises(Unavailable, match="not ready within"):
        child.wait_ready(0.5)
    assert not child.running


def test_our_environment_does_not_reach_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in the server's environment are not in the child's."""
    monkeypatch.setenv("MILLPOND_DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    child = run_code(tmp_path, "import os\nreport_ready(dict(os.environ))")
    environment = child.wait_ready(30)
    child.kill()
    assert "secret" not in json.dumps(environment)


@confined
def test_a_sandboxed_child_reads_and_writes_only_what_it_was_given(tmp_path: Path) -> None:
    """Files beside its own are denied, as is writing to what it may read."""
    for name in ("secret", "input", "work"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    code = f"""
def attempt(act):
    try:
        return act()
    except OSError as error:
        return type(error).__name__
base = {str(tmp_path)!r}
report_ready({{
    "secret": attempt(lambda: open(base + "/secret/file").read()),
    "listing": attempt(lambda: __import__("os").listdir(base)),
    "input": attempt(lambda: open(base + "/input/file").read()),
    "overwrite": attempt(lambda: open(base + "/input/file", "w").write("x")),
    "work": attempt(lambda: open(base + "/work/new", "w").write("x")),
    "link": attempt(lambda: __import__("os").symlink(base + "/secret/file", base + "/work/link")),
    "child": attempt(lambda: __import__("subprocess").run(["cat", base + "/secret/file"]).returncode),
    "parent": attempt(lambda: open(f"/proc/{os.getpid()}/environ").read() and "read"),
}})
"""
    child = run_code(
        tmp_path,
        code,
        sandbox=True,
        readable=(tmp_path / "input", tmp_path / "module"),
        writable=(tmp_path / "work",),
    )
    seen = child.wait_ready(30)
    child.kill()
    assert seen == {
        "secret": "PermissionError",
        "listing": "PermissionError",
        "input": "input",
        "overwrite": "PermissionError",
        "work": 1,
        "link": "PermissionError",
        "child": 1,
        "parent": "PermissionError",
    }


def test_memory_is_limited(tmp_path: Path) -> None:
    """An allocation past the limit raises MemoryError in the child; nothing else suffers."""
    code = """
try:
    bytearray(1 << 30)
    report_ready({"result": "allocated"})
except MemoryError:
    report_ready({"result": "refused"})
"""
    child = run_code(tmp_path, code, memory_bytes=512 << 20)
    assert child.wait_ready(30) == {"result": "refused"}
    child.kill()


def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """kill -9 of the parent ends the child, and the child's own child with the process group's lifeline."""
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from tests.kernel.test_process import run_code
child = run_code(Path({str(tmp_path)!r}), "import time; report_ready({{}}); time.sleep(600)")
child.wait_ready(30)
print(child.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not _alive(child_pid), what="the child's end")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
