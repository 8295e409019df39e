"""Children that are forked: as those that are started, only sooner."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from millpond.kernel.errors import Unavailable
from millpond.kernel.process import Child, ChildSpec
from millpond.kernel.sandbox import landlock_abi
from millpond.kernel.zygote import Zygote, available
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(not available(), reason="children are forked on Linux only")

FOR_EVER = "import time; time.sleep(600)"
CODE = """
import json, os, random, sys, tempfile
from millpond.kernel.child import report_ready
import preloaded
print("written to the log", flush=True)
passed = int(sys.argv[1])
try:
    seen = open(sys.argv[2]).read()
except PermissionError:
    seen = None
report_ready({
    "loaded_in": preloaded.PID, "parent": os.getppid(), "argv": sys.argv, "cwd": os.getcwd(), "seen": seen,
    "env": dict(os.environ), "passed": os.read(passed, 5).decode(), "random": random.random(),
    "tmp": tempfile.gettempdir(),
    "group": os.getpgid(0) == os.getpid(), "open": sorted(int(n) for n in os.listdir("/proc/self/fd")),
})
exec(os.read(passed, 1000))
"""


@pytest.fixture
def zygote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zygote]:
    """One that has imported a module of the test's."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "child_code.py").write_text(CODE)
    (modules / "preloaded.py").write_text("import os, tempfile\nPID = os.getpid()\ntempfile.gettempdir()\n")
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "hunter2")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made = Zygote(["preloaded"], env={"PYTHONPATH": str(modules)}, log_path=tmp_path / "zygote.log")
    yield made
    made.close()


def fork(zygote: Zygote, tmp_path: Path, text: bytes = b"hello", code: str = FOR_EVER, **options: object) -> Child:
    """A child that reads five bytes from a descriptor, tells what it sees, and then runs the code that comes behind."""
    read, write = os.pipe()
    os.write(write, text + code.encode())
    os.close(write)
    (tmp_path / "tmp").mkdir(exist_ok=True)
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    (tmp_path / "elsewhere" / "hidden").write_text("hidden")
    arguments = (str(read), str(tmp_path / "elsewhere" / "hidden"))
    env = {"TMPDIR": str(tmp_path / "tmp"), "ONE": "1"}
    try:
        return zygote.spawn(
            ChildSpec(
                module="child_code", args=arguments, env=env, pass_fds=(read,),
                log_path=tmp_path / "child.log", cwd=tmp_path / "tmp", **options,  # type: ignore[arg-type]
            )
        )  # fmt: skip
    finally:
        os.close(read)


def test_a_forked_child_is_what_was_asked_for(zygote: Zygote, tmp_path: Path) -> None:
    """Its own arguments, environment, directory, descriptors, group and random numbers; the imports are shared."""
    one, other = fork(zygote, tmp_path), fork(zygote, tmp_path, b"other")
    told, others = one.wait_ready(30), other.wait_ready(30)
    assert told["loaded_in"] == told["parent"] == others["parent"]
    assert (told["passed"], others["passed"]) == ("hello", "other")
    assert told["argv"][2] == str(tmp_path / "elsewhere" / "hidden")
    assert told["env"]["ONE"] == "1"
    assert "SECRET_OF_THE_SERVER" not in told["env"]
    assert told["cwd"] == told["tmp"] == str(tmp_path / "tmp")
    assert told["group"]
    assert told["random"] != others["random"]
    assert len(told["open"]) <= 6  # standard ones, the one that was passed, the answer's, the listing's
    assert "written to the log" in (tmp_path / "child.log").read_text()
    for child in (one, other):
        child.kill()


@pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock; `doctor` says so to users")
def test_a_forked_child_is_confined(zygote: Zygote, tmp_path: Path) -> None:
    child = fork(zygote, tmp_path, sandbox=True, writable=(tmp_path / "tmp",))
    assert child.wait_ready(30)["seen"] is None
    child.kill()


@pytest.mark.parametrize(
    ("code", "expected"),
    [("pass", 0), ("raise SystemExit(7)", 7), ("raise ValueError('why')", 1), ("os.kill(os.getpid(), 9)", -9)],
)
def test_how_it_ended_is_told(zygote: Zygote, tmp_path: Path, code: str, expected: int) -> None:
    child = fork(zygote, tmp_path, code=code)
    child.wait_ready(30)
    assert child.process.wait(30) == expected
    assert not child.running
    assert ("ValueError: why" in (tmp_path / "child.log").read_text()) == ("why" in code)
    child.kill()


def test_terminate_and_kill_end_it(zygote: Zygote, tmp_path: Path) -> None:
    asked, killed = fork(zygote, tmp_path), fork(zygote, tmp_path)
    asked.wait_ready(30)
    killed.wait_ready(30)
    assert asked.running
    with pytest.raises(subprocess.TimeoutExpired):
        asked.process.wait(0.01)
    asked.terminate(grace_s=10)
    killed.kill()
    assert (asked.process.returncode, killed.process.returncode) == (-signal.SIGTERM, -signal.SIGKILL)


def test_children_end_with_their_zygote_and_another_takes_over(zygote: Zygote, tmp_path: Path) -> None:
    child = fork(zygote, tmp_path)
    parent = child.wait_ready(30)["parent"]
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: not child.running, what="the child's end")
    wait_until(lambda: not Path(f"/proc/{child.pid}").exists(), what="the process being gone")
    child.kill()
    again = fork(zygote, tmp_path)
    assert again.wait_ready(30)["parent"] != parent
    again.kill()


def test_what_cannot_be_imported_is_said(tmp_path: Path) -> None:
    broken = Zygote(["no_such_module"], env={}, log_path=tmp_path / "zygote.log")
    with pytest.raises(Unavailable, match="No module named 'no_such_module'"):
        broken.spawn(ChildSpec(module="x"))


def test_it_says_whether_it_answers(zygote: Zygote) -> None:
    assert not zygote.answers(1)
    pid = zygote.start()
    assert zygote.answers(10)
    os.kill(pid, signal.SIGSTOP)
    assert not zygote.answers(0.2)
    os.kill(pid, signal.SIGCONT)
    assert zygote.answers(10)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not zygote.answers(1), what="its end is seen")
    wait_until(lambda: zygote.start() != pid, what="another one")
