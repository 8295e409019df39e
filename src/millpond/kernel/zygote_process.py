"""The zygote's own process: import what it is told, then fork whoever is asked for. Started by `kernel.zygote`."""

import fcntl
import gc
import importlib
import json
import os
import select
import socket
import sys
import tempfile
import traceback
import warnings
from typing import Any

from millpond.kernel.child import become, report_ready

_MESSAGE_BYTES = 1 << 20
_MOST_DESCRIPTORS = 16


def main() -> None:
    """`zygote_process FD MODULE...`: serve until the other end of the socket is closed."""
    line = socket.socket(fileno=int(sys.argv[1]))
    line.set_inheritable(False)
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # or each collection in a child would copy all that is shared
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # one waits on stdin
    report_ready({})
    poll = select.epoll()
    poll.register(line, select.EPOLLIN)
    children: dict[int, int] = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == line.fileno():
                if not _serve(line, poll, children):
                    return
            else:
                _tell_end(line, poll, children.pop(descriptor), descriptor)


def _serve(line: socket.socket, poll: select.epoll, children: dict[int, int]) -> bool:
    """Fork whoever is asked for; False when nobody asks any more."""
    data, descriptors, _, _ = socket.recv_fds(line, _MESSAGE_BYTES, _MOST_DESCRIPTORS)
    if not data:
        return False
    order, parent = json.loads(data), os.getpid()
    if not order:  # somebody asks whether we answer
        line.send(b"{}")
        return True
    pid = os.fork()
    if pid == 0:
        poll.close()
        line.close()
        _take_on(order, descriptors, parent)
    for descriptor in descriptors:
        os.close(descriptor)
    watch = os.pidfd_open(pid)
    children[watch] = pid
    poll.register(watch, select.EPOLLIN)
    line.send(json.dumps({"forked": pid}).encode())
    return True


def _tell_end(line: socket.socket, poll: select.epoll, pid: int, watch: int) -> None:
    poll.unregister(watch)
    os.close(watch)
    _, status, used = os.wait4(pid, 0)
    code, processor_s = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
    line.send(json.dumps({"ended": pid, "code": code, "processor_s": processor_s}).encode())


def _take_on(order: dict[str, Any], descriptors: list[int], parent: int) -> None:
    """Become the child that was asked for. Never returns."""
    try:
        os.setsid()
        ready = _numbered(descriptors, order["pass_fds"])
        tempfile.tempdir = None  # some import may have looked it up for the zygote
        os.environ.clear()
        os.environ.update(order["env"])
        if order["cwd"]:
            os.chdir(order["cwd"])
        become({**order["spec"], "ready_fd": ready, "parent_pid": parent})
    except SystemExit as error:
        _leave(error.code if isinstance(error.code, int) else int(error.code is not None))
    except BaseException:
        traceback.print_exc()
        _leave(1)
    _leave(0)


def _numbered(descriptors: list[int], numbers: list[int]) -> int:
    """Give what was received (ready, stdin, output, and the rest) the numbers it has in the child; that of `ready`."""
    free = max([2, *numbers]) + 1
    ready, stdin, output, *passed = (fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, free) for each in descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, number in zip((stdin, output, output, *passed), (0, 1, 2, *numbers), strict=True):
        os.dup2(descriptor, number)
    for descriptor in (stdin, output, *passed):
        os.close(descriptor)
    return ready


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
