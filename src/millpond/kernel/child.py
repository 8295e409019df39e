"""The first code of each child process: take on limits and sandbox, then run a module.

`python -m millpond.kernel.child` is started by `kernel.process` with a JSON specification on the descriptor named in
`MILLPOND_CHILD_FD`. The child lives no longer than its parent: the kernel kills it (Linux), or it sees its standard
input close.
"""

import ctypes
import json
import os
import platform
import resource
import runpy
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from millpond.kernel import network, sandbox

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_READY_FD: list[int] = []  # filled once in main(): the descriptor on which report_ready() answers the parent


def report_ready(message: dict[str, Any]) -> None:
    """Tell the parent, once, that this process works; the parent's `wait_ready` returns the message."""
    if _READY_FD:
        descriptor = _READY_FD.pop()
        os.write(descriptor, json.dumps(message).encode() + b"\n")
        os.close(descriptor)


def main() -> None:
    """Read the specification, confine this process and run its module as `__main__`."""
    spec = _specification()
    # the module that runs must find *this* module under its real name, or its report_ready() would be another one
    sys.modules["millpond.kernel.child"] = sys.modules["__main__"]
    become(spec)


def become(spec: dict[str, Any]) -> None:
    """Confine this process as a specification says, and run its module as `__main__`."""
    # first, while there is one thread, and before the death signal, which a change of credentials clears
    in_own_network = spec["own_network"] and network.isolate()
    _die_with_parent(spec["parent_pid"])
    os.set_inheritable(spec["ready_fd"], False)
    _limit(spec)
    _confine(spec)
    spec["args"] = [*spec["args"], *(["--own-network"] if in_own_network else [])]
    if spec["python"] is None:
        _run(spec)
    else:
        _continue_in(spec["python"], spec)


def resume() -> None:
    """Run the module of the specification in a process that is confined already: that of another interpreter."""
    spec = _specification()
    _die_with_parent(spec["parent_pid"])
    os.set_inheritable(spec["ready_fd"], False)
    _run(spec)


def _specification() -> dict[str, Any]:
    with os.fdopen(int(os.environ.pop("MILLPOND_CHILD_FD"))) as stream:
        spec: dict[str, Any] = json.load(stream)
    return spec


def _run(spec: dict[str, Any]) -> None:
    # not before this process is confined: a thread keeps the rights that it began with
    threading.Thread(target=_watch_lifeline, name="lifeline", daemon=True).start()
    _READY_FD.append(spec["ready_fd"])
    _be_named(spec["module"])
    sys.argv = [spec["module"], *spec["args"]]
    runpy.run_module(spec["module"], run_name="__main__", alter_sys=True)


def _continue_in(python: str, spec: dict[str, Any]) -> None:
    """Become another interpreter, which has this package's modules but none of the packages beside it."""
    read, write = os.pipe()
    os.write(write, json.dumps(spec).encode())
    os.close(write)
    for descriptor in (read, spec["ready_fd"]):
        os.set_inheritable(descriptor, True)
    os.environ["MILLPOND_CHILD_FD"] = str(read)
    os.execv(python, [python, "-P", "-c", _RESUME, str(Path(__file__).parents[1])])  # noqa: S606 - no shell, our list


_RESUME = """
import sys, types
millpond = types.ModuleType("millpond")
millpond.__path__ = sys.argv[1:]
sys.modules["millpond"] = millpond
from millpond.kernel.child import resume
resume()
"""


def _confine(spec: dict[str, Any]) -> None:
    if spec["sandbox"]:
        places = {name: map(Path, spec[name]) for name in ("readable", "writable")}
        if not sandbox.restrict(**places, links=spec["links"], gpus=spec["gpus"]):
            print("millpond: this kernel has no Landlock; the process is not confined to its files", file=sys.stderr)
        if not spec["unix_sockets"] and not network.forbid_unix_sockets(but_packets=spec["gpus"]):
            print("millpond: this system has no filter of system calls; UNIX sockets can be reached", file=sys.stderr)


def _die_with_parent(parent_pid: int) -> None:
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _be_named(module: str) -> None:
    """Show in `top` and `ps -o comm` what this process is, in the 15 characters that Linux gives a name."""
    if platform.system() == "Linux":
        named = module.removeprefix("millpond.").removesuffix("_process").encode()
        ctypes.CDLL(None).prctl(_PR_SET_NAME, named)


def _watch_lifeline() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


def _limit(spec: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536, hard))
    if spec["memory_bytes"]:
        resource.setrlimit(resource.RLIMIT_DATA, (spec["memory_bytes"], spec["memory_bytes"]))
    if spec["nice"]:
        os.nice(spec["nice"])


if __name__ == "__main__":
    main()
