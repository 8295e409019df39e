"""Children that are confined, limited, and gone when their parent is."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from millpond.kernel.errors import Unavailable
from millpond.kernel.process import Child, ChildSpec, spawn
from millpond.kernel.sandbox import landlock_abi
from tests.servers import wait_until

confined = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock; `doctor` says so to users")

ATTEMPT = """
def attempt(act):
    try:
        return act()
    except OSError as error:
        return type(error).__name__
"""


def run_code(tmp_path: Path, code: str, more: Mapping[str, str] | None = None, **options: object) -> Child:
    """A child that runs a text of Python, as a module of its own."""
    module = tmp_path / "module"
    module.mkdir(exist_ok=True)
    (module / "child_code.py").write_text("from millpond.kernel.child import report_ready\n" + code)
    return spawn(
        ChildSpec(
            module="child_code",
            env={"PYTHONPATH": str(module), **(more or {})},
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process name itself")
def test_a_child_is_named_after_its_module(tmp_path: Path) -> None:
    """Whoever looks with `top` sees which of Millpond's processes it is."""
    child = run_code(tmp_path, "import time\nreport_ready({})\ntime.sleep(600)")
    child.wait_ready(30)
    shown = subprocess.run(["ps", "-o", "comm=", "-p", str(child.pid)], capture_output=True, text=True, check=True)
    child.kill()
    assert shown.stdout.strip() == "child_code"


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
def test_a_sandboxed_child_reads_and_writes_only_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files beside its own are denied, also where the server was started, as is writing to what it may read."""
    for name in ("secret", "input", "work"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    monkeypatch.chdir(tmp_path)
    code = f"""
{ATTEMPT}
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


@confined
def test_a_sandboxed_child_reads_the_certificates_that_this_process_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no file that its own environment names in their place."""
    for name in ("trusted", "secret"):
        (tmp_path / name).write_text(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted"))
    code = """
import os
def read(name):
    try:
        return open(os.environ[name]).read()
    except OSError as error:
        return type(error).__name__
report_ready({name: read(name) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")})
"""
    given = {"REQUESTS_CA_BUNDLE": str(tmp_path / "secret")}
    child = run_code(tmp_path, code, sandbox=True, readable=(tmp_path / "module",), more=given)
    assert child.wait_ready(30) == {"SSL_CERT_FILE": "trusted", "REQUESTS_CA_BUNDLE": "PermissionError"}
    child.kill()


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


def test_a_sandboxed_child_reaches_no_unix_socket(tmp_path: Path) -> None:
    """Those that others open to all, as databases do; what its own work needs still goes."""
    (tmp_path / "work").mkdir()
    code = f"""
import ctypes, json, multiprocessing, os, socket, sys, threading
from joblib import Parallel, delayed
{ATTEMPT}
def connect(family=socket.AF_UNIX, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as end:
        end.connect(path)
        return "reached"

def pair(kind):
    ends = socket.socketpair(socket.AF_UNIX, kind)
    ends[0].send(b"x")
    return ends[1].recv(1).decode()

def piped():
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(attempt(connect)))
    child.start()
    return ours.recv()

def in_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(attempt(connect)))
    thread.start()
    thread.join()
    return seen[0]

def io_uring():
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(425, 1, ctypes.create_string_buffer(120)) < 0
    return os.strerror(ctypes.get_errno())

path = {str(tmp_path / "peer")!r}
threads = [open(f"/proc/self/task/{{each}}/status").read() for each in os.listdir("/proc/self/task")]
report_ready({{
    "stream": attempt(connect),
    "datagrams": attempt(lambda: connect(kind=socket.SOCK_DGRAM)),
    "thread": in_thread(),
    "child": piped(),
    "vsock": attempt(lambda: socket.socket(socket.AF_VSOCK).close()),
    "io_uring": io_uring(),
    "pair": attempt(lambda: pair(socket.SOCK_STREAM)),
    "packets": attempt(lambda: pair(socket.SOCK_SEQPACKET)),
    "pair of datagrams": attempt(lambda: pair(socket.SOCK_DGRAM)),
    "internet": attempt(lambda: socket.create_server(("127.0.0.1", 0)).close()),
    "names": attempt(lambda: socket.getaddrinfo("localhost", 80) and "found"),
    "joblib": Parallel(n_jobs=2)(delayed(abs)(-number) for number in range(3)),
    "capable": [line for text in threads for line in text.splitlines() if line[:6] == "CapEff" and line[8:].strip("0")],
    "privileges": sorted({{line for text in threads for line in text.splitlines() if line.startswith("NoNewPrivs")}}),
}})
"""
    options = {"sandbox": True, "readable": (tmp_path,), "writable": (tmp_path / "work",), "cwd": tmp_path / "work"}
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(str(tmp_path / "peer"))
        peer.listen()
        child = run_code(tmp_path, code, **options)
        seen = child.wait_ready(60)
        child.kill()
        beginning = code.partition("threads = ")[0]
        child = run_code(tmp_path, beginning + "report_ready({'stream': connect()})", unix_sockets=True, **options)
        reached = child.wait_ready(60)["stream"]
        child.kill()
    refused = "PermissionError"
    assert seen == {
        "stream": refused,
        "datagrams": refused,
        "thread": refused,
        "child": refused,
        "vsock": refused,
        "io_uring": "Function not implemented",
        "pair": "x",
        "packets": "x",
        "pair of datagrams": refused,
        "internet": None,
        "names": "found",
        "joblib": [0, 1, 2],
        "capable": [],
        "privileges": ["NoNewPrivs:\t1"],
    }
    assert reached == "reached"


@pytest.mark.parametrize("python", [None, Path(sys.executable)])
def test_a_child_for_gpus_may_do_what_cuda_does_and_no_more(tmp_path: Path, python: Path | None) -> None:
    """It names its threads, listens for packets and reserves more addresses than it may have memory."""
    code = f"""
import mmap, os, socket, threading
{ATTEMPT}
def connect(kind):
    with socket.socket(socket.AF_UNIX, kind) as end:
        end.connect({str(tmp_path / "peer")!r})

def name_thread(owner):
    with open(f"/proc/{{owner}}/task/{{threading.get_native_id()}}/comm", "w") as stream:
        stream.write("cuda-thread")

def in_thread():
    thread = threading.Thread(target=lambda: seen.append(attempt(lambda: name_thread("self"))))
    thread.start()
    thread.join()

def listen():
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        end.bind("\\0cuda-uvmfd-" + str(os.getpid()))
        end.listen()

def reserve():
    mmap.mmap(-1, 1 << 40, mmap.MAP_PRIVATE | 0x4000, prot=0).close()  # MAP_NORESERVE

seen = [attempt(lambda: name_thread("self")), attempt(lambda: name_thread(os.getpid()))]
in_thread()
report_ready({{
    "names": seen,
    "listens": attempt(listen),
    "reserves": attempt(reserve),
    "stream": attempt(lambda: connect(socket.SOCK_STREAM)),
    "datagrams": attempt(lambda: connect(socket.SOCK_DGRAM)),
    "packets": attempt(lambda: connect(socket.SOCK_SEQPACKET)),
    "pairs": [attempt(lambda: socket.socketpair(socket.AF_UNIX, kind) and "made") for kind in
              (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)],
    "internet": attempt(lambda: socket.create_server(("127.0.0.1", 0)).close()),
    "other": attempt(lambda: open("/proc/{os.getpid()}/oom_score_adj", "w").close()),
}})
"""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(str(tmp_path / "peer"))
        peer.listen()
        child = run_code(
            tmp_path, code, gpus=True, sandbox=True, readable=(tmp_path,), memory_bytes=1 << 30, python=python
        )
        seen = child.wait_ready(60)
    child.kill()
    assert seen == {
        "names": [None, None, None],
        "listens": None,
        "reserves": None,
        "stream": "PermissionError",
        "datagrams": "PermissionError",
        "packets": "OSError",  # of another kind than the peer
        "pairs": ["made", "made", "PermissionError"],
        "internet": None,
        "other": "PermissionError",
    }


def test_a_child_in_a_network_of_its_own_may_have_the_port_of_a_server_at_80(tmp_path: Path) -> None:
    """A forwarder leads from there to the server; the ports of this machine stay as they are."""
    place = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    before = place.read_text()
    code = f"report_ready({{'first': open('{place}').read().strip()}})"
    child = run_code(tmp_path, code, own_network=True)
    assert child.wait_ready(30) == {"first": "0"}
    assert place.read_text() == before
    child.terminate(grace_s=5)
