"""What may run at the other end of a context's line: a process that does there what it is told to."""

import os
import signal
import socket
import sys

from millpond.kernel.child import report_ready


def main() -> None:
    """`context_process LINE CODE`: run CODE with `line`, the socket, once a command has come."""
    with socket.socket(fileno=int(sys.argv[1])) as line:
        report_ready({})
        if sys.argv[2] == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        line.recv(1)
        exec(sys.argv[2], {"line": line})
        signal.pause()


if __name__ == "__main__":
    main()
